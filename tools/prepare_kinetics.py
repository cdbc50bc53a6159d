"""Lists of videos for training on Kinetics (400, 600, 700, 200), from its annotation files and a folder of videos.

python tools/prepare_kinetics.py --annotations train.csv validate.csv [test.csv] --videos DIR --output DIR
                                 [--classes FILE] [--test auto|test|val] [--separator S] [--relative]
                                 [--frames T --rate R] [--no-probe] [--resize 256 [--resized DIR]] [--workers N]

Writes train.csv, val.csv, test.csv (`path label`), classes.txt (class of label i in line i) and coverage.json to the
output folder, and prints what is missing, unreadable, or shorter than a clip. --resize makes smaller copies (H.264,
without sound) and lists these; a second start goes on where the first was stopped. Without --annotations the videos are
resized and that is all. See docs/data.md.
"""

import argparse
import sys
from pathlib import Path

from slowfast.apps.prepare.file_pool import default_workers
from slowfast.apps.prepare.kinetics import FATES, KineticsOptions, prepare, resize_folder
from slowfast.apps.prepare.resize import ResizeOptions
from slowfast.utils.errors import exit_status

SHOWN = 5


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", nargs="+", default=[], metavar="FILE", help="CSV files as published")
    parser.add_argument("--videos", required=True, metavar="DIR", help="folder below which the videos lie")
    parser.add_argument("--output", default="", metavar="DIR", help="folder for the lists and the report")
    parser.add_argument("--classes", default="", metavar="FILE", help="use these classes alone, one a line")
    parser.add_argument(
        "--test",
        choices=("auto", "test", "val"),
        default="auto",
        help="videos of test.csv (default: those of the test split if their labels are known, else of validation)",
    )
    parser.add_argument("--separator", default=" ", help="between path and label (default: a space)")
    parser.add_argument("--relative", action="store_true", help="write paths relative to the folder of videos")
    parser.add_argument("--frames", type=int, default=8, metavar="T", help="frames of a clip (default: 8)")
    parser.add_argument(
        "--rate", type=int, default=8, metavar="R", help="distance of its frames at 30 fps (default: 8)"
    )
    parser.add_argument("--no-probe", action="store_true", help="do not look into the files")
    parser.add_argument("--resize", type=int, metavar="PIXELS", help="make copies with this short side")
    parser.add_argument("--resized", default="", metavar="DIR", help="folder for them (default: OUTPUT/videos_PIXELS)")
    parser.add_argument(
        "--quality", type=int, default=20, help="of copies: x264's rate factor, 0 is best (default: 20)"
    )
    parser.add_argument(
        "--key-frames", type=int, default=60, metavar="N", help="one in N frames of copies (default: 60)"
    )
    parser.add_argument("--workers", type=int, default=default_workers(), help="processes (default: one a core)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    return parser.parse_args()


def options_of(args: argparse.Namespace) -> KineticsOptions:
    """The options that the command line stands for.

    Raises:
        ValueError: they do not go together.
    """
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


def print_report(report: dict, options: KineticsOptions) -> None:
    """The table of splits, the first causes, and what to set."""
    columns = ["annotated", "found", *FATES, "short", "untrimmed"]
    print(f"{report['classes']} classes; {report['files_without_annotation']} video files have no annotation")
    print("".join(f"{word:>12}" for word in ["split", *columns]))
    for split, row in report["splits"].items():
        print("".join(f"{word:>12}" for word in [split, *(row[column] for column in columns)]))
    clip = report["clip"]
    print(
        f"short: under {clip['frames']} x {clip['rate']} frames at {clip['fps']:g} fps; untrimmed: over their segment"
    )
    for path, cause in list(report["unreadable"].items())[:SHOWN]:
        print(f"  unreadable: {path}: {cause}")
    for split in ("train", "val", "test"):
        origin = report["lists"].get(split)
        note = f" (the videos of {origin})" if origin and origin != split else ""
        print(
            f"{Path(options.output, f'{split}.csv')}: {'written' + note if origin else 'not written, it has no video'}"
        )
    prefix = f" DATA.PATH_PREFIX {options.root}" if options.relative else ""
    separator = f" DATA.PATH_LABEL_SEPARATOR {options.separator!r}" if options.separator != " " else ""
    print(f"DATA.PATH_TO_DATA_DIR {options.output}{prefix}{separator} MODEL.NUM_CLASSES {report['classes']}")


def run(args: argparse.Namespace) -> None:
    """Make lists, or, without annotations, smaller copies of a whole folder."""
    options = options_of(args)
    if args.annotations:
        print_report(prepare(options), options)
        return
    done = resize_folder(options)
    print(f"{done['resized']} of {done['videos']} videos are in {options.root}")
    for path, cause in done["unreadable"].items():
        print(f"  unreadable: {path}: {cause}")


def main() -> int:
    args = parse_args()
    return exit_status(lambda: run(args), args.debug, "the same command goes on with the files that are left")


if __name__ == "__main__":
    sys.exit(main())
