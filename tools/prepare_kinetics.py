"""Write video lists for training on Kinetics (400, 600, 700, 200) from its annotation files and a folder of videos.

python tools/prepare_kinetics.py --annotations train.csv validate.csv [test.csv] --videos DIR --output DIR
                                 [--classes FILE] [--test auto|test|val] [--separator S] [--relative]
                                 [--frames T --rate R] [--no-probe] [--resize 256 [--resized DIR]] [--workers N]

Writes train.csv, val.csv, test.csv (`path label`), classes.txt (class of label i in line i) and coverage.json to the
output folder. Prints which videos are missing, unreadable, or shorter than a clip. --resize makes smaller copies
(H.264, no sound) and lists these; a second start continues where the first was stopped. Without --annotations videos
are only resized. See docs/data.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from slowfast.apps.prepare.kinetics import KineticsOptions, prepare, report_lines, resize_folder
from slowfast.apps.prepare.resize import ResizeOptions
from slowfast.runtime.device import available_cores
from slowfast.utils.errors import exit_status


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", nargs="+", default=[], metavar="FILE", help="published CSV files")
    parser.add_argument("--videos", required=True, metavar="DIR", help="folder of the videos and subfolders")
    parser.add_argument("--output", default="", metavar="DIR", help="folder for the lists and the report")
    parser.add_argument("--classes", default="", metavar="FILE", help="file of classes to use, one a line")
    parser.add_argument(
        "--test",
        choices=("auto", "test", "val"),
        default="auto",
        help="split of test.csv (default: test if its labels are known, else val)",
    )
    parser.add_argument("--separator", default=" ", help="between path and label (default: a space)")
    parser.add_argument("--relative", action="store_true", help="write paths relative to the folder of videos")
    parser.add_argument("--frames", type=int, default=8, metavar="T", help="frames of a clip (default: 8)")
    parser.add_argument(
        "--rate", type=int, default=8, metavar="R", help="distance of its frames at 30 fps (default: 8)"
    )
    parser.add_argument("--no-probe", action="store_true", help="do not open the videos")
    parser.add_argument("--resize", type=int, metavar="PIXELS", help="resize to this short side")
    parser.add_argument("--resized", default="", metavar="DIR", help="folder of copies (default: OUTPUT/videos_PIXELS)")
    parser.add_argument("--quality", type=int, default=20, help="x264 rate factor of copies, 0 is best (default: 20)")
    parser.add_argument(
        *("--key-frames", "--gop"),
        type=int,
        default=60,
        metavar="N",
        help="key frame interval of copies; a smaller one takes more disk and decodes faster (default: 60)",
    )
    parser.add_argument("--workers", type=int, default=available_cores(), help="processes (default: one a core)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return parser.parse_args(argv)


def _options_of(args: argparse.Namespace) -> KineticsOptions:
    """Return the options; ValueError for a combination that makes no sense."""
    if not args.annotations and not args.resize:
        raise ValueError("--annotations names no file, and --resize is not given, so there is nothing to do")
    if args.annotations and not args.output:
        raise ValueError("--output is missing: the folder for the lists")
    if args.resize and not (args.resized or args.output):
        raise ValueError("--resized is missing: the folder for the copies")
    if args.frames < 1 or args.rate < 1 or args.workers < 0:
        raise ValueError(f"--frames {args.frames} and --rate {args.rate} must be at least 1, --workers at least 0")
    return KineticsOptions(
        annotations=tuple(args.annotations),
        videos=args.videos,
        output=args.output,
        classes=args.classes,
        test=args.test,
        separator=args.separator,
        relative=args.relative,
        frames=args.frames,
        rate=args.rate,
        probe=not args.no_probe,
        resize=ResizeOptions(args.resize, args.quality, args.key_frames) if args.resize else None,
        resized=args.resized or str(Path(args.output, f"videos_{args.resize}")),
        workers=args.workers,
    )


def _run(args: argparse.Namespace) -> None:
    """Write the lists or, without annotations, resize a folder."""
    options = _options_of(args)
    if args.annotations:
        print("\n".join(report_lines(prepare(options), options)))
        return
    done = resize_folder(options)
    print(f"{done['resized']} of {done['videos']} videos are in {options.root}")
    for path, cause in done["unreadable"].items():
        print(f"  unreadable: {path}: {cause}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    return exit_status(lambda: _run(args), args.debug, "the same command continues with the remaining files")


if __name__ == "__main__":
    sys.exit(main())
