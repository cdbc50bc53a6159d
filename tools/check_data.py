"""Check the data of a configuration before hours are spent on it: every annotation is read, every video probed.

python tools/check_data.py --cfg FILE [--splits train,val,test] [--workers N] [--report JSON] [--sample N] [--thorough]
                           [--cache FILE] [--allow KIND,...] [KEY VALUE ...]

Exit status 0: passed. 1: something is wrong that must not be (the lines that begin with FAIL). 2: it could not be
checked, for instance for a mistake in the settings. What was found out about files is kept (in OUTPUT_DIR unless
--cache names a file), so that a second start is quick. See docs/data.md.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from slowfast.apps.prepare.check import CheckOptions, check
from slowfast.apps.prepare.check_report import KINDS
from slowfast.apps.prepare.file_pool import default_workers
from slowfast.config import activate_projects, load_config
from slowfast.runtime.logging import setup_logging
from slowfast.utils.errors import exit_status
from slowfast.utils.rng import SPLITS

CACHE_NAME = "check_data.jsonl"


def words_of(known: list[str]):
    """Reads a list with commas of words that must be among `known`."""

    def parse(text: str) -> list[str]:
        words = [word for word in text.split(",") if word]
        unknown = [word for word in words if word not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return words

    return parse


def parse_args() -> argparse.Namespace:
    failing = [kind for kind, fails in KINDS.items() if fails]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", required=True, metavar="FILE", help="YAML file of settings")
    parser.add_argument("--splits", type=words_of(list(SPLITS)), metavar="A,B", help="default: those that a run reads")
    parser.add_argument("--workers", type=int, default=default_workers(), help="processes (default: one a core)")
    parser.add_argument("--report", type=Path, metavar="JSON", help="file to write what was found to")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="probe N videos of a split, evenly spread")
    parser.add_argument("--thorough", action="store_true", help="decode every frame (default: three of a video)")
    parser.add_argument("--cache", metavar="FILE", help=f'default: OUTPUT_DIR/{CACHE_NAME}; "" for none')
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="wrong lines kept of a split")
    parser.add_argument(
        "--allow",
        type=words_of(failing),
        default=[],
        metavar="KIND,...",
        help=f"let the check pass with these: {', '.join(failing)}",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    return parser.parse_intermixed_args()


def splits_of(cfg) -> list[str]:
    """The splits that a run with these settings reads."""
    return (["train", "val"] if cfg.TRAIN.ENABLE else []) + (["test"] if cfg.TEST.ENABLE else [])


def run(args: argparse.Namespace) -> int:
    """Check and report; the exit status."""
    if args.workers < 0 or args.sample < 0 or args.limit < 1:
        raise ValueError(
            f"--workers {args.workers} and --sample {args.sample} must be at least 0, --limit {args.limit} at least 1"
        )
    cfg = load_config(args.cfg, args.overrides)
    activate_projects(cfg)
    splits = args.splits or splits_of(cfg)
    if not splits:
        raise ValueError("TRAIN.ENABLE and TEST.ENABLE are both False, so no split is read; name some with --splits")
    cache = os.path.join(cfg.OUTPUT_DIR, CACHE_NAME) if args.cache is None else args.cache
    options = CheckOptions(splits, args.workers, args.sample, args.thorough, cache, args.limit, args.allow)
    report = check(cfg, options)
    print("\n".join(report.lines()))
    if args.report:
        args.report.parent.mkdir(parents=True, exist_ok=True)
        args.report.write_text(json.dumps(report.values(), indent=2) + "\n")
    return 0 if report.passed else 1


def main() -> int:
    args = parse_args()
    setup_logging()
    return exit_status(lambda: run(args), args.debug, "the same command goes on with the videos that are left")


if __name__ == "__main__":
    sys.exit(main())
