"""Tables of MODEL_ZOO.md, made from the zoo's entries and the first line of each YAML file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from slowfast.checkpoint.zoo.entries import Entry, all_entries

_UNITS = {"top1": "top-1", "top5": "top-5", "top1_10view": "top-1 (10 views)", "top1_30view": "top-1 (30 views)"}
_HEADER = re.compile(r"# [^,:]+, (?P<model>[^:]+): (?P<input>.+?)\.(?: Published (?P<figure>.+)\.)?")
_BLOCK = "<!-- {0}: written by tools/zoo.py page -->\n"


def figures(metrics: dict[str, float | str]) -> str:
    """Format metrics: `74.8 top-1, 91.6 top-5`."""
    return ", ".join(f"{value} {_UNITS.get(name, name)}" for name, value in metrics.items())


def fill_page(text: str, root: Path) -> str:
    """Return the text of MODEL_ZOO.md with new tables.

    Args:
        text: the file, with a marker line before and after each table.
        root: folder of the repository; links are relative to it.

    Raises:
        ValueError: a marker line is missing.
    """
    entries = all_entries()
    tables = {
        "own entries": _own_table([entry for entry in entries if entry.measured], root),
        "published entries": _published_table([entry for entry in entries if not entry.measured], root),
        "settings": _settings_tables(root),
    }
    for name, table in tables.items():
        mark = _BLOCK.format(name)
        if text.count(mark) != 2:
            raise ValueError(f"MODEL_ZOO.md needs the line {mark.strip()!r} before and after the table")
        before, _, after = text.split(mark)
        text = before + mark + table + mark + after
    return text


def _own_table(entries: Iterable[Entry], root: Path) -> str:
    rows = [
        f"| `{entry.name}` | {_setting(entry, root)} | {entry.dataset} | {figures(entry.metrics)} | {entry.measured} "
        f"| {entry.size / 2**20:.1f} MiB | {_link('card', entry.card, root) if entry.card else ''} |\n"
        for entry in entries
    ]
    return _table("name, setting, data, figures, measured, file, about it", rows)


def _published_table(entries: Iterable[Entry], root: Path) -> str:
    rows = [
        f"| `{entry.name}` | {_setting(entry, root)} | {entry.dataset} | {figures(entry.metrics)} | {entry.format} "
        f"| <{entry.url}> |\n"
        for entry in entries
    ]
    return _table("name, setting, data, published, format, address", rows)


def _setting(entry: Entry, root: Path) -> str:
    """Return the entry's config, as a link if its file exists."""
    for path in (root / "configs" / f"{entry.config}.yaml", root / entry.config):
        if entry.config and path.is_file():
            name = Path(os.path.relpath(path, root)).with_suffix("").as_posix()
            return _link(name.removeprefix("configs/"), path, root)
    return f"{entry.config} (no file here)" if entry.config else ""


def _settings_tables(root: Path) -> str:
    """Return a table for each folder of YAML files."""
    lines = []
    for configs in sorted([root / "configs", *root.glob("projects/*/configs")], reverse=True):
        lines.append(f"### `{configs.relative_to(root).as_posix()}`\n\n")
        for folder in sorted(path for path in configs.iterdir() if path.is_dir() and path.name != "Synthetic"):
            files = sorted(folder.rglob("*.yaml"))
            lines.append(f"#### {folder.name}\n\n")
            lines.append(_table("file, model, input, published", [_settings_row(file, folder, root) for file in files]))
            lines.append("\n")
    return "".join(lines).rstrip("\n") + "\n"


def _settings_row(file: Path, folder: Path, root: Path) -> str:
    with open(file, encoding="utf-8") as stream:
        match = _HEADER.fullmatch(stream.readline().rstrip("\n"))
    if match is None:
        raise ValueError(
            f"{file}: the first line is to read '# DATA, MODEL: INPUT.' or with 'Published FIGURES.' after"
        )
    name = file.relative_to(folder).with_suffix("").as_posix()
    return f"| {_link(name, file, root)} | {match['model']} | {match['input']} | {match['figure'] or ''} |\n"


def _table(columns: str, rows: list[str]) -> str:
    names = columns.split(", ")
    return f"| {' | '.join(names)} |\n|{' --- |' * len(names)}\n{''.join(rows)}"


def _link(text: str, path: str | Path, root: Path) -> str:
    return f"[{text}]({Path(os.path.relpath(path, root)).as_posix()})"
