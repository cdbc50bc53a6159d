"""Answer with a trained model about videos: which classes, when.

python tools/predict.py --checkpoint FILE|zoo://NAME --source PATH ... [--output DIR] [--mode stream|clips|video]
                        [--events [--on S] [--off S] [--smooth W]] [--video] [--classes FILE] [--top N]
                        [--boxes FILE.csv|FILE.onnx|zoo://NAME|detectron2 [--every S] [--box-score S]]
                        [--shard I/N] [--device NAME] [--dtype fp32|bf16|fp16] [KEY VALUE ...]

A source is a video file, a folder of images (one video), a folder of videos, or a list of paths (.txt, .csv). A
model of images answers about each picture, of a folder too. Without --output the answers are printed. With it, each
video gets its answers (JSON Lines), subtitles (WebVTT) and a picture in DIR/videos, with --video also a copy (mp4) with
the answers drawn in; when all are done, DIR gets answers.jsonl and answers.csv, and with --events events.jsonl and
events.csv. With --boxes, a model that scores boxes answers about each person; detections.csv has all scores in AVA's
format. The same command goes on after a stop. Under torchrun, or with --shard I/N on several machines, each process
takes its share, and the last one to finish writes the tables.

A source may also be live, one at a time: standard input (-), a camera (/dev/video0, or 0), or an address (rtsp://...,
http://...). Its answers are printed, or written, as they come, until it ends or Ctrl-C. See docs/predict.md.
"""

import argparse
import dataclasses
import json
import os
import re
import sys
from collections.abc import Sequence

from slowfast.apps.people.sources import box_source
from slowfast.apps.predict.events import EventRule
from slowfast.apps.predict.live_address import is_live
from slowfast.apps.predict.live_run import predict_live
from slowfast.apps.predict.predictor import Predictor, load
from slowfast.apps.predict.run import (
    MODES,
    PredictOptions,
    answers_about,
    event_finder,
    find_sources,
    opener_of,
    predict_videos,
)
from slowfast.apps.predict.unreadable import unreadable_parts
from slowfast.datasets.video.reader import VideoError
from slowfast.runtime.logging import setup_logging
from slowfast.utils.errors import exit_status

_KEY = r"PROJECTS|[A-Z][A-Z0-9_]*(\.[A-Z][A-Z0-9_]*)+"  # of the config


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    rule = EventRule()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, metavar="FILE", help="checkpoint, or zoo://NAME")
    parser.add_argument("--source", required=True, nargs="+", metavar="PATH", help="videos, folders, or lists")
    parser.add_argument("--output", default="", metavar="DIR", help="folder for the files; default: print the answers")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="stream",
        help="stream: from start to end, with memory; clips: each on its own; video: one answer",
    )
    parser.add_argument("--classes", metavar="FILE", help="class names, for checkpoints that hold none")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="best classes of an answer (default: 5)")
    parser.add_argument("--events", action="store_true", help="find the spans in which a class is there")
    parser.add_argument("--on", type=float, default=rule.on, metavar="S", help=f"score to begin (default: {rule.on})")
    parser.add_argument("--off", type=float, default=rule.off, metavar="S", help=f"score to end (default: {rule.off})")
    parser.add_argument("--smooth", type=float, default=rule.smooth, metavar="W", help="weight of the past, 0 to < 1")
    parser.add_argument(
        "--boxes",
        metavar="FILE",
        help="for models that score boxes of persons: a .csv file in AVA's format, a .onnx file or zoo://NAME of a "
        "detector, or detectron2",
    )
    parser.add_argument(
        "--every", type=float, metavar="S", help="seconds between answers, with a detector (default: 1)"
    )
    parser.add_argument("--box-score", type=float, metavar="S", help="least score of a box, 0 to 1")
    parser.add_argument("--fps", type=float, metavar="N", help="rate of folders of images, and for live sources")
    parser.add_argument("--stride", type=float, default=0.0, metavar="N", help="live clip models: frames to the next")
    parser.add_argument("--no-pictures", action="store_true", help="draw no pictures")
    parser.add_argument("--video", action="store_true", help="write videos with the answers drawn in, sound kept")
    parser.add_argument("--shard", default="", metavar="I/N", help="share of this process, from 0/N to N-1/N")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")
    parser.add_argument("--dtype", metavar="NAME", help="fp32, bf16 or fp16 (default: as in training)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the checkpoint's")
    return parser.parse_intermixed_args(argv)


def _shard(text: str) -> tuple[int, int]:
    """Return (number, count) of this process's share: of --shard, else of torchrun, else (0, 1)."""
    if not text:
        return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not match:
        raise ValueError(f"--shard is {text!r}; it must be like 0/4, the first of four shares")
    return int(match[1]), int(match[2])


def _run(args: argparse.Namespace) -> int:
    """Answer, and return the exit status: 1 if a video, or a part of one, cannot be read."""
    setup_logging()
    rule = EventRule(args.on, args.off, args.smooth) if args.events else None
    options = PredictOptions(
        args.output, args.mode, args.top, rule, *_shard(args.shard), not args.no_pictures, args.fps, args.video
    )
    settings = [source for source in args.source if re.fullmatch(_KEY, source) and not os.path.exists(source)]
    if settings:
        raise ValueError(f"there is no video {settings[0]}; if it is a setting, write KEY VALUE before --source")
    live = [source for source in args.source if is_live(source)]
    if live and len(args.source) > 1:
        raise ValueError(f"{len(args.source)} sources are named; a live one, such as {live[0]}, has to be the only one")
    if args.stride and not live:
        raise ValueError(f"--stride is {args.stride:g}, and is for live sources of clip models; leave it out")
    if not args.boxes and (args.every, args.box_score) != (None, None):
        raise ValueError("--every and --box-score are for boxes of persons; name them with --boxes, or leave it out")
    predictor = load(args.checkpoint, args.device, args.dtype, args.classes, args.overrides)
    videos = [] if live else find_sources(args.source, args.output, predictor.of_images)
    if args.boxes:
        boxes = box_source(args.boxes, predictor.cfg, args.every, args.box_score)
        options = dataclasses.replace(options, boxes=boxes)
    if live:
        summary = predict_live(predictor, live[0], options, args.stride)
        print(json.dumps(summary))
        return 0
    if not args.output:
        return _print(predictor, videos[options.shard :: options.num_shards], options)
    summary = predict_videos(predictor, videos, options)
    print(json.dumps(summary))
    return 1 if summary["unreadable"] or summary["unreadable_parts"] else 0


def _print(predictor: Predictor, videos: Sequence[str], options: PredictOptions) -> int:
    """Print answers, or events, as they come; return the exit status."""
    status = 0
    for video in videos:
        print(video, flush=True)
        finder, fault, end = event_finder(predictor, options), None, 0.0
        try:
            for answer in answers_about(predictor, video, options):
                end = max(end, answer.end_s)
                for found in finder.push(answer) if finder else [answer]:
                    print(f"  {found}", flush=True)
        except VideoError as error:
            if not end:
                print(f"  unreadable: {error.cause}", flush=True)
                status = 1
                continue
            fault = end, error.cause
        for found in finder.finish() if finder else []:
            print(f"  {found}", flush=True)
        for part in unreadable_parts(video, opener_of(predictor, options), fault):
            print(f"  {part}", flush=True)
            status = 1
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    resumes = "the same command goes on with the remaining videos"
    return exit_status(lambda: _run(args), args.debug, resumes, (ValueError, OSError, FloatingPointError, VideoError))


if __name__ == "__main__":
    sys.exit(main())
