"""Write features of videos, of clips or step by step, one file a video.

python tools/extract_features.py [--cfg FILE] [--checkpoint FILE] --output DIR [--csv FILE | --videos FILE ...]
                                 [--kind pooled|spatial] [--clips tile|N] [--crops N] [--format npz|parquet]
                                 [--one-file] [--half] [KEY VALUE ...]

Without --csv and --videos the videos are those of the configuration's test list. A second start with the same output
passes over the videos that are done. See docs/features.md.
"""

import argparse
import functools
import json
import sys

from slowfast.apps.features.extract import KINDS, FeatureOptions, extract
from slowfast.config import activate_projects
from slowfast.datasets.loading.unreadable import UnreadableError
from slowfast.engine.checkpoint_config import load_run_config
from slowfast.runtime.elastic import LostContactError, ProcessFailedError, RunStopped
from slowfast.runtime.launch import launch
from slowfast.runtime.logging import setup_logging

TILE = "tile"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", metavar="FILE", help="YAML file of settings; without it the checkpoint's own")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights (TEST.CHECKPOINT_FILE_PATH)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the files")
    videos = parser.add_mutually_exclusive_group()
    videos.add_argument("--csv", default="", metavar="FILE", help="list of videos, `path` or `path label` a line")
    videos.add_argument("--videos", nargs="+", default=[], metavar="FILE", help="the videos themselves")
    parser.add_argument("--kind", choices=KINDS, default="pooled", help="mean over time and space, or over time alone")
    parser.add_argument(
        "--clips",
        default=TILE,
        metavar="tile|N",
        help="clips that cover the video, or N evenly spread ones; a model that reads in steps covers it anyway",
    )
    parser.add_argument("--crops", type=int, default=1, metavar="N", help="crops of each: 1 (center) to 3")
    parser.add_argument("--format", choices=("npz", "parquet"), default="npz", dest="file_format")
    parser.add_argument("--one-file", action="store_true", help="write a file of all videos too")
    parser.add_argument("--half", action="store_true", help="write float16")
    parser.add_argument("--num_procs", type=int, metavar="N", help="with NUM_GPUS 0: processes that share the videos")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    return parser.parse_intermixed_args()


def settings(args: argparse.Namespace) -> list:
    """The overrides that the options stand for."""
    given: list = ["TEST.NUM_SPATIAL_CROPS", args.crops]
    if args.checkpoint:
        given += ["TEST.CHECKPOINT_FILE_PATH", args.checkpoint]
    if args.clips != TILE:
        if not args.clips.isdecimal():
            raise ValueError(f"--clips is {args.clips!r}; it must be {TILE} or a number of clips")
        given += ["TEST.NUM_ENSEMBLE_VIEWS", int(args.clips)]
    return [*given, *args.overrides]


def work(options: FeatureOptions, cfg: object) -> dict:
    """Extract in this process."""
    setup_logging(options.output)
    activate_projects(cfg)
    return extract(cfg, options)


def main() -> int:
    args = parse_args()
    try:
        setup_logging()
        cfg = load_run_config(args.cfg, settings(args))
        options = FeatureOptions(
            args.output,
            args.kind,
            args.clips == TILE,
            args.half,
            args.file_format,
            args.one_file,
            tuple(args.videos),
            args.csv,
        )
        summary = launch(functools.partial(work, options), cfg, args.num_procs)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on with the videos that are left", file=sys.stderr)
        return 130
    except (ValueError, OSError, UnreadableError, ProcessFailedError, LostContactError, RunStopped) as error:
        if args.debug:
            raise
        print(f"error: {error} (--debug shows where)", file=sys.stderr)
        return 2
    if summary is not None:
        print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
