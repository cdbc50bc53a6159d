"""Extract features of videos, by clips or by steps, to one file a video.

python tools/extract_features.py [--cfg FILE] [--checkpoint FILE] --output DIR [--csv FILE | --videos FILE ...]
                                 [--kind pooled|spatial] [--clips tile|N] [--crops N] [--format npz|parquet]
                                 [--one-file] [--half] [KEY VALUE ...]

Without --csv and --videos the videos are those of the config's test list. A second start with the same output skips
the videos that are done. See docs/features.md.
"""

import argparse
import functools
import json
import sys
from collections.abc import Sequence

from slowfast.apps.features.extract import KINDS, FeatureOptions, extract
from slowfast.config import activate_projects
from slowfast.datasets.loading.unreadable import UnreadableError
from slowfast.engine.resume import load_run_config
from slowfast.runtime.elastic import LostContactError, ProcessFailedError, RunStopped
from slowfast.runtime.launch import launch
from slowfast.runtime.logging import setup_logging
from slowfast.utils.errors import exit_status

TILE = "tile"


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", metavar="FILE", help="YAML file (default: the config in the checkpoint)")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights (TEST.CHECKPOINT_FILE_PATH)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the files")
    videos = parser.add_mutually_exclusive_group()
    videos.add_argument("--csv", default="", metavar="FILE", help="list of videos: lines `path` or `path label`")
    videos.add_argument("--videos", nargs="+", default=[], metavar="FILE", help="video files")
    parser.add_argument("--kind", choices=KINDS, default="pooled", help="mean over time and space, or over time")
    parser.add_argument(
        "--clips",
        default=TILE,
        metavar="tile|N",
        help="tile: clips cover the video; N: evenly spaced clips (no effect on a model that reads in steps)",
    )
    parser.add_argument("--crops", type=int, default=1, metavar="N", help="crops of each clip: 1 (center) to 3")
    parser.add_argument("--format", choices=("npz", "parquet"), default="npz", dest="file_format")
    parser.add_argument("--one-file", action="store_true", help="also write one file of all videos")
    parser.add_argument("--half", action="store_true", help="write float16")
    parser.add_argument("--num_procs", type=int, metavar="N", help="with NUM_GPUS 0: number of processes")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the file's")
    return parser.parse_intermixed_args(argv)


def _overrides_of(args: argparse.Namespace) -> list:
    """Return the settings that the options stand for; ValueError for a wrong --clips."""
    overrides: list = ["TEST.NUM_SPATIAL_CROPS", args.crops]
    if args.checkpoint:
        overrides += ["TEST.CHECKPOINT_FILE_PATH", args.checkpoint]
    if args.clips != TILE:
        if not args.clips.isdecimal():
            raise ValueError(f"--clips is {args.clips!r}; it must be {TILE} or a number of clips")
        overrides += ["TEST.NUM_ENSEMBLE_VIEWS", int(args.clips)]
    return [*overrides, *args.overrides]


def _work(options: FeatureOptions, cfg: object) -> dict:
    """Extract the features in one process of the run."""
    setup_logging(options.output)
    activate_projects(cfg)
    return extract(cfg, options)


def _run(args: argparse.Namespace) -> None:
    """Extract the features, and print a summary as JSON."""
    setup_logging()
    cfg = load_run_config(args.cfg, _overrides_of(args))
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
    summary = launch(functools.partial(_work, options), cfg, args.num_procs)
    if summary is not None:
        print(json.dumps(summary))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    mistakes = (ValueError, OSError, UnreadableError, ProcessFailedError, LostContactError, RunStopped)
    return exit_status(lambda: _run(args), args.debug, "the same command continues with the remaining videos", mistakes)


if __name__ == "__main__":
    sys.exit(main())
