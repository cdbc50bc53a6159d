"""List, check and pack the checkpoints of the zoo, on standard output; write the tables of MODEL_ZOO.md."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from slowfast.checkpoint.io import load_checkpoint, write_tensor_file
from slowfast.checkpoint.zoo.download import FileDigest
from slowfast.checkpoint.zoo.entries import DETECTOR, Entry, all_entries, cache_folder, find_entry
from slowfast.config import cfg_from_yaml, cfg_to_yaml, load_config
from slowfast.evaluation.report import read_class_names
from slowfast.utils.tables import replace_marked

_UNITS = {
    "top1": "top-1",
    "top5": "top-5",
    "top1_10view": "top-1 (10 views)",
    "top1_30view": "top-1 (30 views)",
    # Of weights that start the training of another model: what that one reaches.
    "top1_finetuned": "top-1 (fine-tuned)",
    "top1_linear": "top-1 (linear probe)",
    "top1_ucf101": "top-1 (UCF-101)",
    "top1_ssv2": "top-1 (Something-Something V2)",
    "mAP_ava": "mAP (AVA)",
    "mAP_coco": "mAP (all classes)",
}
_HEADER = re.compile(r"# [^,:]+, (?P<model>[^:]+): (?P<input>.+?)\.(?: Published (?P<figure>.+)\.)?")
_BLOCK = "<!-- {0}: written by tools/zoo.py page -->\n"


def list_entries(word: str = "") -> None:
    """Print one line for every entry that mentions `word`."""
    entries = [entry for entry in all_entries() if word.lower() in str(entry).lower()]
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        origin = "measured here" if entry.measured else "published"
        here = "here" if entry.file.is_file() else ""
        figure = f"{_figures(entry.metrics)} ({origin})" if entry.metrics else ""
        print(f"{entry.name:<{width}}  {entry.dataset:<22}  {entry.format:<7}  {here:<4}  {figure}")
    if not entries:
        print(f"nothing in the zoo mentions {word!r}")


def show_entry(name: str) -> None:
    """Print what is known about an entry, and its card; ValueError for an unknown name."""
    entry = find_entry(name)
    recorded = FileDigest.recorded(entry.file)
    for key, value in {
        "path": f"zoo://{entry.name}",
        "detector" if entry.format == DETECTOR else "setting": entry.config,
        "data": entry.dataset,
        "format": entry.format + ("" if entry.format == DETECTOR else " (TRAIN.CHECKPOINT_TYPE, TEST.CHECKPOINT_TYPE)"),
        "license": entry.license and f"{entry.license}, as its publisher states for the whole repository",
        "figures": _figures(entry.metrics),
        "they are": entry.measured or "published: other people's, not measured here",
        "address": entry.url,
        "file": f"{entry.file}{'' if entry.file.is_file() else ' (not here)'}",
        "size": f"{size} bytes" if (size := entry.size or recorded.size) else "",
        "sha256": entry.sha256 or recorded.sha256,
    }.items():
        if value:
            print(f"{key:<9} {value}")
    if entry.card:
        print("\n" + Path(entry.card).read_text(encoding="utf-8").rstrip())


def download_entries(names: Sequence[str]) -> None:
    """Download entries into the cache folder, and print the paths of their files."""
    for name in names:
        print(find_entry(name).fetch())


def verify_entries(names: Sequence[str] = ()) -> int:
    """Compare files with the known size and SHA-256; return how many are wrong or missing.

    Args:
        names: of entries; () for all whose file is here.
    """
    wrong = 0
    for entry in [find_entry(name) for name in names] or [entry for entry in all_entries() if entry.file.is_file()]:
        known = entry.sha256 or FileDigest.recorded(entry.file).sha256
        problem = entry.verify() if entry.file.is_file() else "it is not here"
        verdict = "as it should be" if known else "here; nothing is known to compare it with"
        print(f"{entry.name}: {problem or verdict}")
        wrong += problem is not None
    if not names:
        print(f"downloads are in {cache_folder()}")
    return wrong


def pack(
    source: str, target: str, cfg_file: str = "", overrides: Sequence[str] = (), ema: bool = False, classes: str = ""
) -> None:
    """Write weights, config and class names of a checkpoint as a safetensors file; print its size and SHA-256.

    Args:
        source: checkpoint file, or zoo://NAME.
        target: file to write.
        cfg_file: YAML file, for a checkpoint without a config.
        overrides: settings that differ from the checkpoint's own.
        ema: write the averaged weights.
        classes: file of class names, see `read_class_names`; "" for those of the checkpoint.

    Raises:
        ValueError: there is no config or no averaged weights, an override is wrong, or class names do not fit.
    """
    saved = load_checkpoint(source)
    if ema and "ema_state" not in saved:
        raise ValueError(f"{source} holds no averaged weights; leave out --ema")
    if cfg_file:
        cfg = load_config(cfg_file, overrides)
    elif saved.get("cfg"):
        cfg = cfg_from_yaml(saved["cfg"], f"the settings in {source}", overrides, foreign=True)
    else:
        raise ValueError(f"{source} holds no config; give the one it was trained with: --cfg FILE")
    weights = saved["ema_state"]["model_state"] if ema else saved["model_state"]
    names = read_class_names(classes) if classes else saved.get("class_names") or {}
    if classes and names.keys() != set(range(cfg.MODEL.NUM_CLASSES)):
        raise ValueError(f"{classes} names {len(names)} classes, and the model has {cfg.MODEL.NUM_CLASSES}")
    write_tensor_file(weights, target, cfg_to_yaml(cfg), int(saved.get("epoch", -1)), names)
    facts = FileDigest.of(Path(target))
    print(f'{target}: "size": {facts.size}, "sha256": "{facts.sha256}"')


def write_page(root: Path) -> None:
    """Write the tables of MODEL_ZOO.md in the checkout `root` anew."""
    page = root / "MODEL_ZOO.md"
    page.write_text(fill_page(page.read_text(encoding="utf-8"), root), encoding="utf-8")


def _figures(metrics: dict[str, float | str]) -> str:
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
    detectors = [entry for entry in all_entries() if entry.format == DETECTOR]
    entries = [entry for entry in all_entries() if entry.format != DETECTOR]
    tables = {
        "own entries": _own_table([entry for entry in entries if entry.measured], root),
        "published entries": _published_table([entry for entry in entries if not entry.measured], root),
        "detectors": _detectors_table(detectors),
        "settings": _settings_tables(root),
    }
    for name, table in tables.items():
        text = replace_marked(text, _BLOCK.format(name), table, "MODEL_ZOO.md")
    return text


def _own_table(entries: Iterable[Entry], root: Path) -> str:
    rows = [
        f"| `{entry.name}` | {_setting(entry, root)} | {entry.dataset} | {_figures(entry.metrics)} | {entry.measured} "
        f"| {entry.size / 2**20:.1f} MiB | {_link('card', entry.card, root) if entry.card else ''} |\n"
        for entry in entries
    ]
    return _table("name, setting, data, figures, measured, file, about it", rows)


def _published_table(entries: Iterable[Entry], root: Path) -> str:
    rows = [
        f"| `{entry.name}` | {_setting(entry, root)} | {entry.dataset} | {_figures(entry.metrics)} | {entry.format} "
        f"| <{entry.url}> |\n"
        for entry in entries
    ]
    return _table("name, setting, data, published, format, address", rows)


def _detectors_table(entries: Iterable[Entry]) -> str:
    rows = [
        f"| `{entry.name}` | {entry.config} | {entry.dataset} | {_figures(entry.metrics)} | {entry.license} "
        f"| <{entry.url}> |\n"
        for entry in entries
    ]
    return _table("name, detector, data, published, license, address", rows)


def _setting(entry: Entry, root: Path) -> str:
    """Return the entry's config, as a link if its file exists."""
    for path in (root / "configs" / f"{entry.config}.yaml", root / entry.config):
        if entry.config and path.is_file():
            name = Path(os.path.relpath(path, root)).with_suffix("").as_posix()
            return _link(name.removeprefix("configs/"), path, root)
    return entry.config


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
