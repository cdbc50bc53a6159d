"""List, download, check and pack checkpoints of the zoo. zoo://NAME works wherever a checkpoint's path does.

python tools/zoo.py list [WORD]                  one line an entry; with WORD those that mention it
python tools/zoo.py show NAME                    everything known about an entry
python tools/zoo.py download NAME [NAME ...]     into the cache folder (SLOWFAST_CACHE, else XDG_CACHE_HOME, ~/.cache)
python tools/zoo.py verify [NAME ...]            size and SHA-256 of the files that are here
python tools/zoo.py pack FILE OUT.safetensors [--cfg FILE] [--classes FILE] [--ema] [KEY VALUE ...]
python tools/zoo.py page                         write the tables of MODEL_ZOO.md anew

pack writes a safetensors file: weights of a checkpoint, its config with the overrides KEY VALUE, and class names.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from slowfast.apps import zoo
from slowfast.runtime.logging import setup_logging
from slowfast.utils.errors import exit_status

ROOT = Path(__file__).resolve().parents[1]


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list").add_argument("word", nargs="?", default="", metavar="WORD")
    commands.add_parser("show").add_argument("name", metavar="NAME")
    commands.add_parser("download").add_argument("names", nargs="+", metavar="NAME")
    commands.add_parser("verify").add_argument("names", nargs="*", metavar="NAME")
    commands.add_parser("page")
    pack = commands.add_parser("pack")
    pack.add_argument("source", metavar="FILE", help="checkpoint, or zoo://NAME")
    pack.add_argument("target", metavar="OUT.safetensors", help="file to write")
    pack.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the checkpoint's own")
    pack.add_argument("--cfg", default="", metavar="FILE", help="YAML file, for a checkpoint without a config")
    pack.add_argument("--classes", default="", metavar="FILE", help="class names, for a checkpoint without them")
    pack.add_argument("--ema", action="store_true", help="write the averaged weights")
    return parser.parse_args(argv)


def _run(args: argparse.Namespace) -> int:
    """Run a command; return its exit status."""
    if args.command == "list":
        zoo.list_entries(args.word)
    elif args.command == "show":
        zoo.show_entry(args.name)
    elif args.command == "download":
        zoo.download_entries(args.names)
    elif args.command == "verify":
        return 1 if zoo.verify_entries(args.names) else 0
    elif args.command == "pack":
        zoo.pack(args.source, args.target, args.cfg, args.overrides, args.ema, args.classes)
    else:
        zoo.write_page(ROOT)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    setup_logging()
    return exit_status(lambda: _run(args), resumes="the same command continues the download")


if __name__ == "__main__":
    sys.exit(main())
