"""Draw pictures for a paper from saved results: PNG, SVG and PDF (needs matplotlib, the extra `plot`).

python tools/plot.py curves --run PGT runs/pgt_0 runs/pgt_1 --run "clip model" runs/clip --key loss --output loss.pdf
python tools/plot.py confusion test_predictions.npz [--groups FILE.json] [--pairs N] --output confusion.pdf
python tools/plot.py classes --run "clip model" a.npz --run PGT b.npz --output classes.pdf
python tools/plot.py steps|length --run PGT runs/pgt_0 runs/pgt_1 --output steps.pdf
python tools/plot.py cost benchmark.json --output cost.pdf
python tools/plot.py ava --run PGT test_predictions.npz --output ava.pdf

--output names the picture, in the format of its ending; --format png,pdf writes several beside it. --width is that of a
column (3.25 inches) or of the text (6.875), or a number of inches. A run is named by --run NAME, with one file or
folder for each seed. Without --run, each file or folder is a run of its own. docs/plots.md describes every picture.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slowfast.apps.plot.ava import Detections, curve_lines, draw_precision_recall
from slowfast.apps.plot.classes import MOST, draw_classes, read_classes
from slowfast.apps.plot.confusion import draw_confusion, join_groups, read_confusion
from slowfast.apps.plot.cost import draw_cost, read_cost
from slowfast.apps.plot.curves import KINDS, draw_curves, read_curves
from slowfast.apps.plot.runs import Runs, name_of
from slowfast.apps.plot.steps import draw_steps, read_lengths, read_steps
from slowfast.apps.plot.style import FORMATS, check_ending, save, width_of
from slowfast.evaluation.ava import AVA_EVALUATIONS
from slowfast.evaluation.class_plots import read_groups
from slowfast.utils.errors import exit_status, names_among

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMAT_HELP = f"formats to write in place of that of --output's ending: {', '.join(FORMATS)}"


def _positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or not 1 <= int(text) < 10**6:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 999999")
    return int(text)


def _width(text: str) -> float:
    try:
        return width_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures = parser.add_subparsers(dest="picture", required=True, metavar="PICTURE")

    def add(name: str, about: str, files: str, runs: bool = True) -> argparse.ArgumentParser:
        picture = pictures.add_parser(name, help=about, description=f"Draw {about}.")
        picture.add_argument("files", nargs="*" if runs else None, metavar="FILE", help=files)
        if runs:
            named = {"action": "append", "nargs": "+", "default": [], "metavar": ("NAME", "FILE")}
            picture.add_argument("--run", **named, help="a run, its name and a file for each seed")
        picture.add_argument("--output", required=True, metavar="FILE", help="picture: .png, .svg or .pdf")
        picture.add_argument("--format", type=names_among(FORMATS), default=[], metavar="NAME,...", help=_FORMAT_HELP)
        picture.add_argument("--width", type=_width, default=_width("column"), metavar="W", help="column, text, inches")
        picture.add_argument("--title", metavar="TEXT", help='title; "" for none')
        picture.add_argument("--debug", action="store_true", help="show the traceback of every error")
        return picture

    curves = add("curves", "training curves", "json_stats.jsonl, or its folder")
    curves.add_argument("--key", default="loss", help="what to draw, as json_stats.jsonl names it (default: loss)")
    curves.add_argument("--type", type=names_among(list(KINDS)), default=[], metavar="NAME,...", help=", ".join(KINDS))
    curves.add_argument("--smooth", type=_positive, default=1, metavar="N", help="points of a moving mean")
    curves.add_argument("--log", action="store_true", help="have a logarithmic axis")
    confusion = add("confusion", "a confusion matrix", "predictions, or confusion.csv of evaluate.py", runs=False)
    confusion.add_argument("--groups", metavar="FILE", help='JSON {"group": ["class", ...]}: draw groups of classes')
    confusion.add_argument("--pairs", type=_positive, default=0, metavar="N", help="name the N worst pairs")
    classes = add("classes", "bars of classes of one or two methods", "predictions, or classes.csv of evaluate.py")
    classes.add_argument("--most", type=_positive, default=MOST, metavar="N", help=f"classes at most (default: {MOST})")
    for name, about in (("steps", "accuracy over steps"), ("length", "accuracy over length")):
        picture = add(name, about, "test_results.json, or its folder")
        picture.add_argument("--metric", default="", metavar="NAME", help="of the results; default: accuracy or mAP")
    add("cost", "memory and time by length", "JSON of tools/benchmark.py, or results.json of the demo")
    ava = add("ava", "precision-recall curves of boxes", "predictions, or CSV of detections")
    ava.add_argument("--groundtruth", default="", metavar="FILE", help="CSV of the ground truth, for CSV of detections")
    ava.add_argument("--excluded", default="", metavar="FILE", help="CSV of key frames to leave out")
    ava.add_argument("--label-map", default="", metavar="FILE", help="classes to measure, .pbtxt")
    ava.add_argument("--evaluation", default="", choices=sorted(AVA_EVALUATIONS), help="published evaluation to follow")
    ava.add_argument("--class", action="append", default=[], dest="classes", metavar="NAME", help="a class to draw")
    return parser.parse_args(argv)


def _runs(args: argparse.Namespace) -> Runs:
    """Return the runs of the command line; ValueError if there is none, or one without files."""
    runs = [(name_of(path), [path]) for path in args.files] + [(name, paths) for name, *paths in args.run]
    for name, paths in runs:
        if not paths:
            raise ValueError(f"--run {name} names no file; write --run NAME FILE ...")
    if not runs:
        raise ValueError(f"{args.picture} takes at least one FILE, or --run NAME FILE ...")
    return runs


def _single(runs: Runs) -> list[tuple[str, str]]:
    """Return name and file of each run; ValueError if one has several."""
    for name, paths in runs:
        if len(paths) > 1:
            raise ValueError(f"--run {name} has {len(paths)} files, and this picture takes one for each run")
    return [(name, paths[0]) for name, paths in runs]


def _draw(args: argparse.Namespace) -> "Figure":
    """Read the files and draw the picture."""
    look = {"width": args.width, "title": args.title}
    if args.picture == "confusion":
        names, counts = read_confusion(args.files)
        if args.groups:
            names, counts = join_groups(names, counts, read_groups(args.groups))
        return draw_confusion(names, counts, pairs=args.pairs, **look)
    runs = _runs(args)
    if args.picture == "curves":
        return draw_curves(read_curves(runs, args.key, args.type, args.smooth), args.key, log=args.log, **look)
    if args.picture == "classes":
        if len(runs) > 2:
            raise ValueError(f"classes compares one or two methods, and {len(runs)} are named")
        return draw_classes([read_classes(*run) for run in _single(runs)], most=args.most, **look)
    if args.picture == "steps":
        return draw_steps(*read_steps(runs, args.metric), **look)
    if args.picture == "length":
        lines, metric, along = read_lengths(runs, args.metric)
        return draw_steps(lines, metric, along=along, **look)
    if args.picture == "cost":
        return draw_cost(read_cost(runs), **look)
    given = (args.groundtruth, args.excluded, args.label_map, args.evaluation)
    detections = [(name, Detections.read(path, *given)) for name, path in _single(runs)]
    return draw_precision_recall(curve_lines(detections, args.classes), **look)


def _run(args: argparse.Namespace) -> None:
    """Draw the picture and write its files."""
    stem, ending = os.path.splitext(args.output)
    stem = stem if ending.removeprefix(".") in FORMATS else args.output
    paths = [f"{stem}.{form}" for form in args.format] or [args.output]
    for path in paths:
        check_ending(path)
    figure = _draw(args)
    for path in paths:
        save(figure, path)
        print(f"wrote {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    return exit_status(lambda: _run(args), args.debug)


if __name__ == "__main__":
    sys.exit(main())
