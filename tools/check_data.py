"""Check the data sets of a config before training: read every annotation, probe every video.

python tools/check_data.py --cfg FILE [--splits train,val,test] [--workers N] [--report JSON] [--sample N] [--thorough]
                           [--cache FILE] [--allow KIND,...] [KEY VALUE ...]

Exit status 0: passed. 1: failed (see the lines that begin with FAIL). 2: the check could not run, for instance because
of a wrong setting. Facts about files are cached (in OUTPUT_DIR unless --cache names a file), so that a second start is
quick. See docs/data.md.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from slowfast.apps.prepare.check import KINDS, CheckOptions, check
from slowfast.config import activate_projects, load_config
from slowfast.runtime.device import available_cores
from slowfast.runtime.distributed import atomic_write
from slowfast.runtime.logging import setup_logging
from slowfast.runtime.seed import SPLITS
from slowfast.utils.errors import exit_status, names_among

CACHE_NAME = "check_data.jsonl"


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    failing = [kind for kind, fails in KINDS.items() if fails]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", required=True, metavar="FILE", help="YAML file")
    parser.add_argument(
        "--splits",
        type=names_among(list(SPLITS)),
        metavar="A,B",
        help="default: those that a run reads",
    )
    parser.add_argument("--workers", type=int, default=available_cores(), help="processes (default: one a core)")
    parser.add_argument("--report", type=Path, metavar="JSON", help="file to write the report to")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="probe N evenly spaced videos of each split")
    parser.add_argument("--thorough", action="store_true", help="decode every frame (default: three per video)")
    parser.add_argument("--cache", metavar="FILE", help=f'default: OUTPUT_DIR/{CACHE_NAME}; "" for none')
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="wrong lines to report of a split")
    parser.add_argument(
        "--allow",
        type=names_among(failing),
        default=[],
        metavar="KIND,...",
        help=f"findings with which the check still passes: {', '.join(failing)}",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    return parser.parse_intermixed_args(argv)


def _run(args: argparse.Namespace) -> int:
    """Check, print and write the report; return the exit status."""
    if args.workers < 0 or args.sample < 0 or args.limit < 1:
        raise ValueError(
            f"--workers {args.workers} and --sample {args.sample} must be at least 0, --limit {args.limit} at least 1"
        )
    cfg = load_config(args.cfg, args.overrides)
    activate_projects(cfg)
    splits = args.splits or [*(["train", "val"] if cfg.TRAIN.ENABLE else []), *(["test"] if cfg.TEST.ENABLE else [])]
    if not splits:
        raise ValueError("TRAIN.ENABLE and TEST.ENABLE are both False, so no split is read; name splits with --splits")
    cache = os.path.join(cfg.OUTPUT_DIR, CACHE_NAME) if args.cache is None else args.cache
    options = CheckOptions(splits, args.workers, args.sample, args.thorough, cache, args.limit, args.allow)
    report = check(cfg, options)
    print("\n".join(report.lines()))
    if args.report:
        atomic_write(args.report, json.dumps(report.values(), indent=2) + "\n")
    return 0 if report.passed else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    setup_logging()
    return exit_status(lambda: _run(args), args.debug, "the same command continues with the remaining videos")


if __name__ == "__main__":
    sys.exit(main())
