"""Show what a trained model saw in a video: in which frames, and where in them, the evidence for an answer lies.

python tools/visualize.py --memory --checkpoint FILE|zoo://NAME --source VIDEO --output DIR [--class NAME] [--step N]
                          [--gradient | --points N] [--most-steps N] [--wipe N ...]
python tools/visualize.py --checkpoint FILE|zoo://NAME --source VIDEO --output DIR [--class NAME] [--step N]
                          [--layer NAME ...]

With --memory, a model that reads a video in steps is explained through its memory by integrated gradients: the evidence
for its answer at a step lies in the frames of this step and of the steps before. Of a clip model it lies in the frames
of the clip. Without --memory a clip model is explained by Grad-CAM. DIR gets evidence.json, evidence.csv, evidence.png
and evidence.mp4. See docs/visualization.md.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from slowfast.apps.predict.predictor import load
from slowfast.apps.predict.run import find_sources
from slowfast.apps.visualize.evidence import EvidenceSettings, evidence
from slowfast.apps.visualize.evidence_files import write_evidence
from slowfast.datasets.video.reader import VideoError
from slowfast.runtime.logging import setup_logging
from slowfast.utils.errors import exit_status


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, metavar="FILE", help="checkpoint, or zoo://NAME")
    parser.add_argument("--source", required=True, metavar="VIDEO", help="a video file, or a folder of images")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--memory", action="store_true", help="attribution through memory, by integrated gradients")
    parser.add_argument("--class", dest="label", metavar="NAME", help="class to explain (default: the best there)")
    parser.add_argument("--step", type=int, default=-1, metavar="N", help="step, from 0, or from the end (default: -1)")
    parser.add_argument("--gradient", action="store_true", help="the gradient at the video alone: fast, less exact")
    parser.add_argument("--layer", nargs="+", default=[], metavar="NAME", help="of Grad-CAM (default: s5)")
    parser.add_argument("--points", type=int, default=32, metavar="N", help="points of the integral (default: 32)")
    parser.add_argument(
        "--most-steps", type=int, default=64, metavar="N", help="last steps that are explained (default: 64)"
    )
    parser.add_argument(
        "--wipe", type=int, nargs="+", default=[], metavar="N", help="steps before which the memory is emptied"
    )
    parser.add_argument("--fps", type=float, metavar="N", help="rate of a folder of images")
    parser.add_argument("--classes", metavar="FILE", help="class names, for checkpoints that hold none")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")
    parser.add_argument("--dtype", metavar="NAME", help="fp32, bf16 or fp16 (default: as in training)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the checkpoint's")
    return parser.parse_intermixed_args(argv)


def _run(args: argparse.Namespace) -> None:
    """Find the evidence, write its files, and print a summary."""
    setup_logging()
    videos = find_sources([args.source])
    if len(videos) != 1:
        raise ValueError(f"{args.source} holds {len(videos)} videos; name one of them")
    if args.memory and args.layer:
        raise ValueError("--layer is for Grad-CAM, which explains clip models without --memory; leave one of them out")
    if not args.memory and (args.gradient or args.wipe):
        raise ValueError("--gradient and --wipe are for attribution through memory; add --memory")
    method = ("gradient" if args.gradient else "integrated") if args.memory else "grad-cam"
    settings = EvidenceSettings(method, args.points, args.layer, args.most_steps, args.wipe)
    predictor = load(args.checkpoint, args.device, args.dtype, args.classes, args.overrides)
    found = evidence(predictor, videos[0], args.label, args.step, args.fps, settings)
    paths = write_evidence(found, args.output, {"checkpoint": args.checkpoint, "video": os.path.abspath(videos[0])})
    shares = [round(step.value, 4) for step in found.steps]
    print(json.dumps({"class": found.name, "step": found.step, "score": found.score, "steps": shares, "files": paths}))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    return exit_status(lambda: _run(args), args.debug, "", (ValueError, OSError, FloatingPointError, VideoError))


if __name__ == "__main__":
    sys.exit(main())
