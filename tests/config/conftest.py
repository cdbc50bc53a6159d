"""Share the published settings as files."""

import json
from pathlib import Path

import pytest
import yaml


@pytest.fixture(scope="session")
def published_files(repo, tmp_path_factory) -> Path:
    """Write the published settings as a user has them: YAML files, without PROJECTS, with LOGS.DIR."""
    top = tmp_path_factory.mktemp("published")
    for owner in ("slowfast", "pgt"):
        files = json.loads((repo / f"tests/fixtures/published_settings/{owner}.json").read_text())
        for name, settings in files.items():
            path = top / owner / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return top
