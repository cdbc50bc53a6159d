"""The published settings, as `fixtures/published_settings` holds them, and the YAML files here.

`slowfast.json` holds those of PySlowFast, `pgt.json` those of the PGT code, word for word: file name -> keys.
"""

import ast
import json
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PUBLISHED = {
    owner: json.loads((ROOT / f"tests/fixtures/published_settings/{owner}.json").read_text())
    for owner in ("slowfast", "pgt")
}
FOLDERS = {"slowfast": ROOT / "configs", "pgt": ROOT / "projects/pgt/configs"}

FILES = [f"{owner}/{name}" for owner, files in PUBLISHED.items() for name in files]
FOUND = {f"{owner}/{path.relative_to(folder)}" for owner, folder in FOLDERS.items() for path in folder.rglob("*.yaml")}
# Rows that vary a published setting; tests/apps/paper/test_paper_rows.py checks them.
ABLATIONS = {file for file in FOUND if "/ablations/" in file}
OWN = sorted(FOUND - set(FILES) - ABLATIONS)


def path_of(file: str) -> Path:
    owner, _, name = file.partition("/")
    return FOLDERS[owner] / name


def flatten(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def plain(value):
    """Numbers as numbers, so that 1, 1.0 and the texts 1e-4 and (3, 7, 7) of a published file compare by value."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        try:
            return plain(ast.literal_eval(value)) if value.startswith("(") else float(value)
        except ValueError:
            return value
    return value


def published_chain(owner: str, name: str) -> dict:
    """Return a published setting on top of its base's, flat."""
    own = dict(PUBLISHED[owner][name])
    base = own.pop("_BASE_", None) or own.pop("BASE_", None)
    below = published_chain(owner, f"{name.rpartition('/')[0]}/{base}") if base else {}
    return {**below, **flatten(own)}


def yaml_chain(path: Path) -> dict:
    """Return one of our files on top of its base's, flat, read without the project's loader."""
    own = yaml.safe_load(path.read_text())
    base = own.pop("_BASE_", None)
    return {**(yaml_chain(path.parent / base) if base else {}), **flatten(own)}


def write_published(folder: Path) -> None:
    """Write the published settings as a user has them: YAML files, without PROJECTS, with LOGS.DIR."""
    for owner, files in PUBLISHED.items():
        for name, settings in files.items():
            path = folder / owner / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(settings, sort_keys=False))
