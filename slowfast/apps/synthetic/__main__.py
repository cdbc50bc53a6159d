"""Make a small set of videos whose labels need what was seen long before.

    python -m slowfast.apps.synthetic --output DIR

makes the `sweep` set (`sweep.py`). Add --annotations for frames, their labels, and boxes of the moving disc; --steps
and --gap for videos of any length with a known gap between the two events.

    python -m slowfast.apps.synthetic --format kinetics|charades|ava|ssv2 --output DIR

makes a set with the folders, names and files that the authors of that data set publish (`formats.py`).

    python -m slowfast.apps.synthetic --format cater --scale tiny|small|still|full --output DIR

makes the set after CATER: rendered scenes in which cones hide what has to be found at the end (`cater/dataset.py`).

A complete set made with the same parameters is kept.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from slowfast.apps.synthetic import formats, render, sweep
from slowfast.apps.synthetic.cater import dataset as cater
from slowfast.runtime.device import available_cores

SWEEP, CATER = "sweep", "cater"


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(
        prog="python -m slowfast.apps.synthetic",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the set")
    choices = [SWEEP, *formats.FORMATS, CATER]
    parser.add_argument("--format", choices=choices, default=SWEEP, help="format of the files (default: sweep)")
    sizes = ", ".join(f"cater {name} {scale.size}" for name, scale in cater.SCALES.items())
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help=f"short side of the frames (default: {render.MIN_SIZE}, {sizes})"
    )
    usual = {SWEEP: sweep.SweepSpec().counts} | {name: form.counts for name, form in formats.FORMATS.items()}
    usual |= {f"cater {name}": scale.counts for name, scale in cater.SCALES.items()}
    for split in render.SPLITS:
        counts = ", ".join(f"{name} {counts[split]}" for name, counts in usual.items() if split in counts)
        parser.add_argument(f"--{split}", type=int, metavar="N", help=f"number of {split} videos (default: {counts})")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other videos (default: 0)")
    parser.add_argument(
        "--workers", type=int, default=available_cores(), metavar="N", help="processes (default: one a core; 0: none)"
    )
    parser.add_argument("--annotations", action="store_true", help="sweep only: add frames, their labels, and boxes")
    parser.add_argument(
        "--scale", choices=list(cater.SCALES), help="cater only: amount and difficulty (default: small)"
    )
    parser.add_argument("--moving-camera", action="store_true", help="cater only: let the camera move")
    group = parser.add_argument_group("sweep with a known gap between the events")
    group.add_argument("--steps", type=int, default=0, metavar="N", help="steps of a video, as PGT reads it")
    group.add_argument(
        "--gap",
        type=int,
        nargs=2,
        default=(0, 0),
        metavar=("MIN", "MAX"),
        help="steps from the one with the first event to the one with the second (default: all that fit)",
    )
    for option, default, words in (
        ("--step-len", 8, "frames of the first step"),
        ("--overlap", 1, "frames of memory, which a later step has less"),
        ("--lead", 0, "steps before the first event, at least"),
    ):
        group.add_argument(option, type=int, default=default, metavar="N", help=f"{words} (default: {default})")
    parser.add_argument("--preview", type=Path, metavar="PNG", help="picture of some videos to write")
    return parser.parse_args(argv)


def _make(args: argparse.Namespace) -> tuple[bool, list[int], np.ndarray | None]:
    """Make the set; return whether it is new, the number of videos of each split, and the preview."""
    counts = {split: count for split in render.SPLITS if (count := vars(args)[split]) is not None}
    settings = {"seed": args.seed, **counts}
    if args.size is not None:
        settings["size"] = args.size
    if args.annotations and args.format != SWEEP:
        raise ValueError(f"--annotations belongs to sweep; the format {args.format} always has its own")
    if args.format != SWEEP and (args.steps or any(args.gap)):
        raise ValueError(f"--steps and --gap belong to sweep; videos of the format {args.format} have one length")
    if args.format == CATER:
        spec = cater.CaterSpec(args.scale or "small", moving=args.moving_camera, **settings)
        made = cater.make_cater(args.output, spec, args.workers)
        return made, list(spec.counts.values()), cater.preview(spec) if args.preview else None
    if args.scale or args.moving_camera:
        raise ValueError(f"--scale and --moving-camera belong to cater, not to {args.format}")
    if args.format == SWEEP:
        steps = {"steps": args.steps, "min_gap": args.gap[0], "max_gap": args.gap[1]}
        steps |= {"step_len": args.step_len, "overlap": args.overlap, "lead": args.lead}
        spec = sweep.SweepSpec(**settings, annotations=args.annotations, **steps)
        made = sweep.make_sweep(args.output, spec, args.workers)
        return made, list(spec.counts.values()), sweep.preview(spec) if args.preview else None
    spec = formats.SetSpec(args.format, **settings)
    made = formats.make_set(args.output, spec, args.workers)
    return made, list(spec.counts.values()), formats.preview(spec) if args.preview else None


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake ends it with one line."""
    args = _parse_args(argv)
    try:
        made, counts, picture = _make(args)
        if picture is not None and not cv2.imwrite(str(args.preview), picture[..., ::-1]):
            raise OSError(f"{args.preview} cannot be written")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{'made' if made else 'kept'} {' + '.join(map(str, counts))} videos in {args.output.resolve()}")


if __name__ == "__main__":
    main()
