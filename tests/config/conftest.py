"""Share the published settings as files."""

from pathlib import Path

import pytest

from tests.config.published import write_published


@pytest.fixture(scope="session")
def published_files(tmp_path_factory) -> Path:
    """Folder of the published settings, see `write_published`."""
    folder = tmp_path_factory.mktemp("published")
    write_published(folder)
    return folder
