"""Compare the truncated gradient of a model that reads clips in steps with the full one.

python -m pgt.analysis --cfg FILE [KEY VALUE ...] [--steps N ...] [--batches N] [--checkpoint FILE]... [--plot FILE]

Both gradients are of training batches in train mode and full precision. The tables give cosine, norm ratio, bias and
noise by layer and number of steps, and the peak memory of each gradient. See docs/truncation.md.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pgt.analysis.compare import DEPTHS, compare_gradients
from pgt.analysis.truncation import RANDOM
from slowfast.apps.benchmark.run import ConfigSource
from slowfast.utils.errors import exit_status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(
        prog="python -m pgt.analysis", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cfg", required=True, metavar="FILE", help="YAML file")
    parser.add_argument("--steps", type=int, nargs="+", default=[], metavar="N", help="numbers of steps (default: all)")
    parser.add_argument("--batches", type=int, default=8, metavar="N", help="training batches to average over")
    parser.add_argument(
        "--checkpoint",
        action="append",
        metavar="FILE",
        help=f'weights, or "{RANDOM}"; repeat it for several (default: TRAIN.CHECKPOINT_FILE_PATH, or {RANDOM})',
    )
    parser.add_argument("--by", choices=DEPTHS, default="stage", help="parameters of a row (default: stage)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="processes of each measurement of memory")
    parser.add_argument("--output", type=Path, metavar="JSON", help="file to write the results to")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="picture: .png, .svg, .pdf (needs matplotlib)")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Measure, and write the results as JSON if asked to."""
    source = ConfigSource(args.cfg, args.overrides)
    measured = compare_gradients(source, args.steps, args.batches, args.checkpoint, args.by, args.repeats, args.plot)
    if args.output:
        args.output.write_text(json.dumps(measured, indent=2) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = parse_args(argv)
    return exit_status(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
