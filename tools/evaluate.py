"""Compute the metrics of saved predictions, or the frame mAP of files in AVA's CSV format.

python tools/evaluate.py PREDICTIONS [--classes FILE] [--evaluation NAME] [--per-class] [--output DIR] [--plot FILE]
python tools/evaluate.py --ava GROUNDTRUTH DETECTIONS [--excluded FILE] [--label-map FILE] [--evaluation NAME] [...]

PREDICTIONS is a file that a test wrote, .npz or .parquet, or PySlowFast's .pkl. The metrics are printed. --output
writes metrics.json, classes.csv and, for single-label data sets, confusion.csv. --plot draws the confusion matrix or
the average precision of classes, and for a model that reads in steps the accuracy after each step (needs matplotlib,
the extra `plot`).
tools/plot.py draws these and more, for papers.

In the CSV files a class name that a spreadsheet would take for a formula has an apostrophe in front, and so has one
that begins with an apostrophe. Programs drop one leading apostrophe.

With --label-map only its classes are measured, as in the published tools; without it all classes of the two files. The
mean is over the classes with ground truth.

--evaluation chooses which published evaluation of AVA measures boxes. `pyslowfast` is the copy that PySlowFast ships:
all detections count. `activitynet` is the current official script of the ActivityNet challenge: on each key frame the
50 rows (box and class) of best score count, and key frames that GROUNDTRUTH does not name are ignored. The default is
`pyslowfast`, or for PREDICTIONS the one that the test used (AVA.EVALUATION).
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from slowfast.apps.plot.report import draw_report
from slowfast.apps.plot.style import check_ending, save
from slowfast.evaluation.ava import AVA_EVALUATIONS, DEFAULT_EVALUATION
from slowfast.evaluation.ava_files import read_detections, read_excluded, read_groundtruth
from slowfast.evaluation.predictions import BoxPredictions, load
from slowfast.evaluation.report import Report, read_class_names
from slowfast.utils.errors import exit_status
from slowfast.utils.label_map import read_label_map


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; None reads that of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", nargs="?", metavar="PREDICTIONS", help="file of a test, .npz or .parquet")
    parser.add_argument("--ava", nargs=2, metavar=("GROUNDTRUTH", "DETECTIONS"), help="CSV files to measure instead")
    parser.add_argument("--excluded", metavar="FILE", help="CSV file of key frames to leave out (with --ava)")
    parser.add_argument("--label-map", metavar="FILE", help="classes to measure, .pbtxt (with --ava)")
    parser.add_argument("--evaluation", choices=sorted(AVA_EVALUATIONS), help="published evaluation of AVA to follow")
    parser.add_argument("--classes", metavar="FILE", help="class names: .pbtxt, .json, or text with one name a line")
    parser.add_argument("--per-class", action="store_true", help="print the table of classes too")
    parser.add_argument("--output", metavar="DIR", help="folder for metrics.json, classes.csv, confusion.csv")
    parser.add_argument("--plot", metavar="FILE", help="picture to draw: .png, .svg or .pdf")
    parser.add_argument("--debug", action="store_true", help="show the traceback of every error")
    args = parser.parse_args(argv)
    if (args.predictions is None) == (args.ava is None):
        parser.error("give either a file of predictions or --ava GROUNDTRUTH DETECTIONS")
    if args.ava is None and (args.excluded or args.label_map):
        parser.error("--excluded and --label-map belong to --ava; predictions hold both")
    if args.ava and args.classes:
        parser.error("with --ava the classes and their names come from --label-map")
    return args


def _measure(args: argparse.Namespace) -> Report:
    """Read the files and compute the metrics."""
    if args.ava is None:
        predictions = load(args.predictions)
        if args.evaluation:
            if not isinstance(predictions, BoxPredictions):
                raise ValueError(f"--evaluation is for boxes, but {args.predictions} has scores of whole videos")
            predictions = dataclasses.replace(predictions, evaluation=args.evaluation)
        return Report.from_predictions(predictions, read_class_names(args.classes) if args.classes else None)
    groundtruth, detections = args.ava
    return Report.from_ava(
        read_groundtruth(groundtruth),
        read_detections(detections),
        read_excluded(args.excluded) if args.excluded else set(),
        read_label_map(args.label_map) if args.label_map else None,
        args.evaluation or DEFAULT_EVALUATION,
    )


def _run(args: argparse.Namespace) -> None:
    """Measure; print and write the report."""
    if args.plot:
        check_ending(args.plot)
    report = _measure(args)
    print(report.format(args.per_class))
    written = report.write(args.output) if args.output else []
    if args.plot:
        save(draw_report(report), args.plot)
        written.append(args.plot)
    print("".join(f"wrote {path}\n" for path in written), end="")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parse_args(argv)
    return exit_status(lambda: _run(args), args.debug)


if __name__ == "__main__":
    sys.exit(main())
