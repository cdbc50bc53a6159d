"""Listing, checking and packing the checkpoints of the zoo, on standard output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slowfast.checkpoint.formats.tensor_file import write_tensor_file
from slowfast.checkpoint.io import load_checkpoint
from slowfast.checkpoint.zoo.download import digest_of, recorded_digest
from slowfast.checkpoint.zoo.entries import all_entries, cache_folder, fetch, find_entry, verify
from slowfast.checkpoint.zoo.page import figures, fill_page
from slowfast.config import cfg_from_yaml, cfg_to_yaml, load_config


def list_entries(word: str = "") -> None:
    """Print one line for every entry that mentions `word`."""
    entries = [entry for entry in all_entries() if word.lower() in str(entry).lower()]
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        origin = "measured here" if entry.measured else "published"
        here = "here" if entry.file.is_file() else ""
        figure = f"{figures(entry.metrics)} ({origin})" if entry.metrics else ""
        print(f"{entry.name:<{width}}  {entry.dataset:<22}  {entry.format:<7}  {here:<4}  {figure}")
    if not entries:
        print(f"nothing in the zoo mentions {word!r}")


def show_entry(name: str) -> None:
    """Print what is known about an entry, and its card; ValueError for an unknown name."""
    entry = find_entry(name)
    size, digest = entry.size or recorded_digest(entry.file).size, entry.sha256 or recorded_digest(entry.file).sha256
    for key, value in {
        "path": f"zoo://{entry.name}",
        "setting": entry.config,
        "data": entry.dataset,
        "format": f"{entry.format} (TRAIN.CHECKPOINT_TYPE, TEST.CHECKPOINT_TYPE)",
        "figures": figures(entry.metrics),
        "they are": entry.measured or "published: other people's, not measured here",
        "address": entry.url,
        "file": f"{entry.file}{'' if entry.file.is_file() else ' (not here)'}",
        "size": f"{size} bytes" if size else "",
        "sha256": digest,
    }.items():
        if value:
            print(f"{key:<9} {value}")
    if entry.card:
        print("\n" + Path(entry.card).read_text(encoding="utf-8").rstrip())


def download_entries(names: Sequence[str]) -> None:
    """Download entries into the cache folder, and print the paths of their files."""
    for name in names:
        print(fetch(find_entry(name)))


def verify_entries(names: Sequence[str] = ()) -> int:
    """Compare files with the known size and SHA-256; return how many are wrong or missing.

    Args:
        names: of entries; () for all whose file is here.
    """
    wrong = 0
    for entry in [find_entry(name) for name in names] or [entry for entry in all_entries() if entry.file.is_file()]:
        known = entry.sha256 or recorded_digest(entry.file).sha256
        problem = verify(entry) if entry.file.is_file() else "it is not here"
        verdict = "as it should be" if known else "here; nothing is known to compare it with"
        print(f"{entry.name}: {problem or verdict}")
        wrong += problem is not None
    if not names:
        print(f"downloads are in {cache_folder()}")
    return wrong


def pack(source: str, target: str, cfg_file: str = "", overrides: Sequence[str] = (), ema: bool = False) -> None:
    """Write the weights and the config of a checkpoint as a safetensors file; print its size and SHA-256.

    Args:
        source: checkpoint file, or zoo://NAME.
        target: file to write.
        cfg_file: YAML file, for a checkpoint without a config.
        overrides: settings that differ from the checkpoint's own.
        ema: write the averaged weights.

    Raises:
        ValueError: there is no config or no averaged weights, or an override is wrong.
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
    write_tensor_file(weights, target, cfg_to_yaml(cfg), int(saved.get("epoch", -1)))
    facts = digest_of(Path(target))
    print(f'{target}: "size": {facts.size}, "sha256": "{facts.sha256}"')


def write_page(root: Path) -> None:
    """Write the tables of MODEL_ZOO.md in the checkout `root` anew."""
    page = root / "MODEL_ZOO.md"
    page.write_text(fill_page(page.read_text(encoding="utf-8"), root), encoding="utf-8")
