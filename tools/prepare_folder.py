"""Write video lists, class names and configurations ready to train, from a folder with one sub folder per class.

python tools/prepare_folder.py VIDEOS [--val 0.1] [--test 0.1] [--output DIR] [--seed N] [--overwrite] [--workers N]

Writes train.csv, val.csv, test.csv (`path label`), classes.txt (class of label i in line i), clip.yaml (a clip model)
and pgt.yaml (the same with PGT), sized by the videos. Parts of one video stay in one split where names show them.
Unreadable videos are named and left out. See docs/own_videos.md.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from slowfast.apps.prepare.folder import FolderOptions, prepare_folder, report_lines
from slowfast.runtime.device import available_cores
from slowfast.utils.errors import exit_status


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", metavar="VIDEOS", help="folder with one sub folder per class")
    parser.add_argument("--val", type=float, default=0.1, metavar="SHARE", help="share for validation (default: 0.1)")
    parser.add_argument("--test", type=float, default=0.1, metavar="SHARE", help="share for testing (default: 0.1)")
    parser.add_argument("--output", default="", metavar="DIR", help="folder for the files (default: VIDEOS_lists)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the split (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace the files of an earlier start")
    parser.add_argument("--workers", type=int, default=available_cores(), help="processes (default: one a core)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return parser.parse_args(argv)


def _run(args: argparse.Namespace) -> None:
    """Write the files and print what they hold."""
    output = args.output or f"{os.path.abspath(args.videos)}_lists"
    options = FolderOptions(args.videos, output, args.val, args.test, args.seed, args.overwrite, args.workers)
    print("\n".join(report_lines(prepare_folder(options), options)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    return exit_status(lambda: _run(args), args.debug, "nothing is written; the same command starts again")


if __name__ == "__main__":
    sys.exit(main())
