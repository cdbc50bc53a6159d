"""JPEG frames and lists of frames, in the published form, from the videos of Charades, AVA or Something-Something V2.

python tools/prepare_frames.py --format charades|ava|ssv2 --videos DIR --output DIR --lists DIR [--annotations FILE ...]
                               [--fps F] [--seconds FROM TO] [--short-side PIXELS] [--quality Q] [--workers N]

The annotation files are the authors' own (Charades_v1_train.csv and _test.csv, ava_train_v2.2.csv and ava_val_v2.2.csv,
something-something-v2-train.json and -validation.json); each gives a list, train.csv or val.csv, in --lists, whose
paths are relative to --output. Without --annotations all videos are taken, and frames.csv lists them. A second start
goes on where the first was stopped. Exit status 1: some videos have no frames, or an odd number. See docs/data.md.
"""

import argparse
import sys

from slowfast.apps.prepare.file_pool import default_workers
from slowfast.apps.prepare.frames import FORMATS, FrameReport, prepare_frames, with_overrides
from slowfast.utils.errors import exit_status

SHOWN = 20


def parse_args() -> argparse.Namespace:
    rates = ", ".join(f"{name} {form.options.fps:g}" for name, form in FORMATS.items())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=list(FORMATS), required=True)
    parser.add_argument("--annotations", nargs="+", default=[], metavar="FILE", help="the authors' files, one a split")
    parser.add_argument("--videos", required=True, metavar="DIR", help="folder below which the videos lie")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the frames, a folder a video")
    parser.add_argument("--lists", required=True, metavar="DIR", help="folder for train.csv and val.csv")
    parser.add_argument("--fps", type=float, help=f"images a second, 0 for every frame (default: {rates})")
    parser.add_argument(
        "--seconds",
        type=float,
        nargs=2,
        metavar=("FROM", "TO"),
        help="part of each video (default: all of it; ava 900 1801)",
    )
    parser.add_argument("--short-side", type=int, metavar="PIXELS", help="scale frames to it (default: as they are)")
    parser.add_argument("--quality", type=int, metavar="Q", help="of the JPEG files, 1 to 100 (default: 95)")
    parser.add_argument("--workers", type=int, default=default_workers(), help="processes (default: one a core)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return parser.parse_args()


def run(args: argparse.Namespace) -> FrameReport:
    """Extract and write the lists."""
    if args.workers < 0:
        raise ValueError(f"--workers is {args.workers}; it must be at least 0")
    start, end = args.seconds or (None, None)
    options = with_overrides(
        args.format, fps=args.fps, start=start, end=end, short_side=args.short_side, quality=args.quality
    )
    return prepare_frames(args.format, options, args.annotations, args.videos, args.output, args.lists, args.workers)


def print_report(report: FrameReport, lists: str) -> None:
    """Counts, and the first of what is wrong."""
    print(f"{len(report.images)} videos have {sum(report.images.values())} images")
    for split, count in report.lists.items():
        print(f"{lists}/{split}.csv: {count} videos")
    for title, causes in (("no frames", report.failed), ("odd number of frames", report.odd)):
        if causes:
            print(f"{title}: {len(causes)} videos")
        for video, cause in list(causes.items())[:SHOWN]:
            print(f"    {video}: {cause}")


def main() -> int:
    args = parse_args()

    def work() -> int:
        report = run(args)
        print_report(report, args.lists)
        return 1 if report.failed or report.odd else 0

    return exit_status(work, args.debug, "the same command goes on with the videos that are left")


if __name__ == "__main__":
    sys.exit(main())
