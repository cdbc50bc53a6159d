"""Checkpoints by name: zoo://NAME works wherever a checkpoint's path does.

python tools/zoo.py list [WORD]                  names, data, figures; with WORD those that mention it
python tools/zoo.py show NAME                    all that is known of one
python tools/zoo.py download NAME [NAME ...]     into the cache folder (SLOWFAST_CACHE, else XDG_CACHE_HOME, ~/.cache)
python tools/zoo.py verify [NAME ...]            size and SHA-256 of the files that are here
python tools/zoo.py pack FILE OUT.safetensors [--cfg FILE] [--ema] [KEY VALUE ...]
python tools/zoo.py page                         write the tables of MODEL_ZOO.md anew

pack writes the weights of any checkpoint, and its settings with the overrides KEY VALUE, as a safetensors file.
"""

import argparse
import sys
from pathlib import Path

from slowfast.checkpoint.formats.tensor_file import write_tensor_file
from slowfast.checkpoint.io import load_checkpoint
from slowfast.checkpoint.zoo.download import digest_of, recorded_digest
from slowfast.checkpoint.zoo.entries import all_entries, cache_folder, fetch, find_entry, verify
from slowfast.checkpoint.zoo.page import figures, fill_page
from slowfast.config import cfg_from_yaml, cfg_to_yaml, load_config
from slowfast.runtime.logging import setup_logging
from slowfast.utils.errors import exit_status

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list").add_argument("word", nargs="?", default="", metavar="WORD")
    commands.add_parser("show").add_argument("name", metavar="NAME")
    commands.add_parser("download").add_argument("names", nargs="+", metavar="NAME")
    commands.add_parser("verify").add_argument("names", nargs="*", metavar="NAME")
    commands.add_parser("page")
    pack = commands.add_parser("pack")
    pack.add_argument("source", metavar="FILE", help="checkpoint, or zoo://NAME")
    pack.add_argument("target", metavar="OUT.safetensors")
    pack.add_argument(
        "overrides", nargs="*", metavar="KEY VALUE", help="settings that differ from the checkpoint's own"
    )
    pack.add_argument("--cfg", metavar="FILE", help="settings of a checkpoint that brings none")
    pack.add_argument("--ema", action="store_true", help="the averaged weights")
    return parser.parse_args()


def list_entries(word: str) -> None:
    """A line an entry."""
    entries = [entry for entry in all_entries() if word.lower() in str(entry).lower()]
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        origin = "published" if not entry.measured else "measured here"
        here = "here" if entry.file.is_file() else ""
        figure = f"{figures(entry.metrics)} ({origin})" if entry.metrics else ""
        print(f"{entry.name:<{width}}  {entry.dataset:<22}  {entry.format:<7}  {here:<4}  {figure}")
    if not entries:
        print(f"nothing in the zoo mentions {word!r}")


def show_entry(name: str) -> None:
    """All that is known of an entry, and its card."""
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


def verify_entries(names: list[str]) -> int:
    """Checks the files of entries, or all that are here; how many are wrong or, if asked for, missing."""
    wrong = 0
    for entry in [find_entry(name) for name in names] or [entry for entry in all_entries() if entry.file.is_file()]:
        known = entry.sha256 or recorded_digest(entry.file).sha256
        problem = verify(entry) if entry.file.is_file() else "it is not here"
        print(
            f"{entry.name}: {problem or ('as it should be' if known else 'here; nothing is known to compare it with')}"
        )
        wrong += problem is not None
    if not names:
        print(f"downloads are in {cache_folder()}")
    return wrong


def pack(args: argparse.Namespace) -> None:
    """Writes the safetensors file and prints what an entry says of it.

    Raises:
        ValueError: there are no settings, no averaged weights, or an override is wrong.
    """
    saved = load_checkpoint(args.source)
    if args.ema and "ema_state" not in saved:
        raise ValueError(f"{args.source} holds no averaged weights; leave out --ema")
    if args.cfg:
        cfg = load_config(args.cfg, args.overrides)
    elif saved.get("cfg"):
        cfg = cfg_from_yaml(saved["cfg"], f"the settings in {args.source}", args.overrides, foreign=True)
    else:
        raise ValueError(f"{args.source} brings no settings; give those it was trained with: --cfg FILE")
    weights = saved["ema_state"]["model_state"] if args.ema else saved["model_state"]
    write_tensor_file(weights, args.target, cfg_to_yaml(cfg), int(saved.get("epoch", -1)))
    facts = digest_of(Path(args.target))
    print(f'{args.target}: "size": {facts.size}, "sha256": "{facts.sha256}"')


def run(args: argparse.Namespace) -> int:
    """The exit status of a command."""
    if args.command == "list":
        list_entries(args.word)
    elif args.command == "show":
        show_entry(args.name)
    elif args.command == "download":
        for name in args.names:
            print(fetch(find_entry(name)))
    elif args.command == "verify":
        return 1 if verify_entries(args.names) else 0
    elif args.command == "pack":
        pack(args)
    else:
        page = ROOT / "MODEL_ZOO.md"
        page.write_text(fill_page(page.read_text(encoding="utf-8"), ROOT), encoding="utf-8")
    return 0


def main() -> int:
    args = parse_args()
    setup_logging()
    return exit_status(lambda: run(args), resumes="a download goes on from here with the same command")


if __name__ == "__main__":
    sys.exit(main())
