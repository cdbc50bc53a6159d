"""Extract JPEG frames and write frame lists, as published, from videos of Charades, AVA or Something-Something V2.

python tools/prepare_frames.py --format charades|ava|ava_kinetics|ssv2 --videos DIR --output DIR --lists DIR
                               [--annotations FILE ...] [--fps F] [--seconds FROM TO] [--short-side PIXELS]
                               [--quality Q] [--workers N]

Annotation files are the published ones (Charades_v1_train.csv and _test.csv, ava_train_v2.2.csv and ava_val_v2.2.csv,
something-something-v2-train.json and -validation.json). Each gives a list, train.csv or val.csv, in --lists, with paths
relative to --output. With ava_kinetics the files are kinetics_train_v1.0.csv and kinetics_val_v1.0.csv; the videos are
Kinetics' clips, ID_000084_000094.mp4, and are extracted whole. Without --annotations all videos are extracted, and
frames.csv lists them. A second start continues where the first was stopped. Exit status 1: videos have no frames, or an
unexpected number. See docs/data.md.
"""

import argparse
import sys
from collections.abc import Sequence

from slowfast.apps.prepare.frames import FORMATS, prepare_frames, with_overrides
from slowfast.runtime.device import available_cores
from slowfast.utils.errors import exit_status


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    rates = ", ".join(f"{name} {form.options.fps:g}" for name, form in FORMATS.items())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=list(FORMATS), required=True)
    parser.add_argument("--annotations", nargs="+", default=[], metavar="FILE", help="published files, one a split")
    parser.add_argument("--videos", required=True, metavar="DIR", help="folder of the videos and subfolders")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the frames, one folder a video")
    parser.add_argument("--lists", required=True, metavar="DIR", help="folder for train.csv and val.csv")
    parser.add_argument("--fps", type=float, help=f"images per second, 0 for every frame (default: {rates})")
    parser.add_argument(
        "--seconds",
        type=float,
        nargs=2,
        metavar=("FROM", "TO"),
        help="part of each video (default: all; ava 900 1801)",
    )
    parser.add_argument(
        "--short-side", type=int, metavar="PIXELS", help="scale frames to this short side (default: no scaling)"
    )
    parser.add_argument("--quality", type=int, metavar="Q", help="JPEG quality, 1 to 100 (default: 95)")
    parser.add_argument("--workers", type=int, default=available_cores(), help="processes (default: one a core)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return parser.parse_args(argv)


def _run(args: argparse.Namespace) -> int:
    """Extract the frames, write the lists and print the report; return the exit status."""
    if args.workers < 0:
        raise ValueError(f"--workers is {args.workers}; it must be at least 0")
    start, end = args.seconds or (None, None)
    options = with_overrides(
        args.format, fps=args.fps, start=start, end=end, short_side=args.short_side, quality=args.quality
    )
    report = prepare_frames(args.format, options, args.annotations, args.videos, args.output, args.lists, args.workers)
    print("\n".join(report.lines(args.lists)))
    return 1 if report.failed or report.odd else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    return exit_status(lambda: _run(args), args.debug, "the same command continues with the remaining videos")


if __name__ == "__main__":
    sys.exit(main())
