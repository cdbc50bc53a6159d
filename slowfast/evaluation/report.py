"""What predictions come to: tables to read, and files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Mapping

import numpy as np

from slowfast.evaluation.ava import BoxRows, evaluate_ava
from slowfast.evaluation.class_table import ClassRow
from slowfast.evaluation.predictions import BoxPredictions, ClassificationPredictions
from slowfast.utils.files import atomic_write
from slowfast.utils.label_map import read_label_map


@dataclasses.dataclass
class Report:
    """Everything that can be said of predictions.

    Attributes:
        metrics: measures by name.
        rows: a line for every class.
        measure: what the value of a line is.
        step_measure: what the values of the steps are.
        confusion: (classes, classes) by label and best score, where videos have one label.
        steps: the measure after each step, where there are steps.
        whole: the same measure of the joined predictions, by their name, to stand beside the steps.
    """

    metrics: dict[str, float]
    rows: list[ClassRow]
    measure: str
    step_measure: str = ""
    confusion: np.ndarray | None = None
    steps: list[float] = dataclasses.field(default_factory=list)
    whole: dict[str, float] = dataclasses.field(default_factory=dict)


def report_of(
    predictions: ClassificationPredictions | BoxPredictions, names: Mapping[int, str] | None = None
) -> Report:
    """Measure predictions.

    Args:
        names: of classes by their number, instead of the predictions' own.

    Raises:
        ValueError: there is nothing to measure, or `names` are not those of the classes.
    """
    metrics, rows = predictions.metrics(), predictions.class_rows()
    if names is not None:
        _check_names(names, rows, exact=isinstance(predictions, ClassificationPredictions))
        rows = [dataclasses.replace(row, name=names[row.number]) for row in rows]
    if isinstance(predictions, BoxPredictions):
        return Report(metrics, rows, "AP")
    one_label, key = predictions.labels.ndim == 1, predictions.main_metric
    return Report(
        metrics,
        rows,
        "accuracy in percent" if one_label else "AP",
        "top-1 accuracy in percent" if one_label else "mAP",
        predictions.confusion() if one_label else None,
        predictions.step_values(),
        {"all together": metrics[key], **{name: metrics[f"{name}/{key}"] for name in predictions.variants}},
    )


def report_of_ava(
    groundtruth: BoxRows, detections: BoxRows, excluded: set[tuple[str, int]], names: Mapping[int, str] | None = None
) -> Report:
    """Measure detections in AVA's form.

    Args:
        names: of the classes that count, by id, as a label map has them; all in the two lists without it.

    Raises:
        ValueError: as `evaluate_ava`, or no class has ground truth.
    """
    result = evaluate_ava(groundtruth, detections, excluded, names)
    counts = np.array([key not in excluded for key in groundtruth.key_frames], dtype=bool)[groundtruth.key_frame]
    samples = {i: int(np.count_nonzero(groundtruth.classes[counts] == i)) for i in result["AP"]}
    rows = [ClassRow(i, names[i] if names else str(i), samples[i], value) for i, value in result["AP"].items()]
    counted = sum(row.samples > 0 for row in rows)
    if not counted:
        raise ValueError("no class has a ground truth box on a key frame that counts, so there is no frame mAP")
    return Report({"ava_map": result["mAP@0.5"], "ava_classes": counted}, rows, "AP")


def _check_names(names: Mapping[int, str], rows: list[ClassRow], exact: bool) -> None:
    """Every class has a name; with `exact` there are no further names (a label map may list classes not scored)."""
    missing = [row.number for row in rows if row.number not in names]
    if missing or (exact and len(names) != len(rows)):
        lacking = f"; class number {missing[0]} has none" if missing else ""
        raise ValueError(f"there are {len(names)} class names for {len(rows)} classes{lacking}. Give one name a class")


def read_class_names(path: str) -> dict[int, str]:
    """Names of classes by number.

    The file is a label map (.pbtxt), JSON (`{"name": number, ...}`, or a list of names), or text with a name a line;
    lists and lines are counted from 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file does not read so.
    """
    if path.endswith((".pbtxt", ".prototxt")):
        return read_label_map(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file of class names {path}")
    with open(path, encoding="utf-8-sig") as stream:
        text = stream.read()
    if not path.endswith(".json"):
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    try:
        values = json.loads(text)
        if isinstance(values, dict):
            return {int(number): name for name, number in values.items()}
        return dict(enumerate(map(str, values)))
    except (ValueError, TypeError) as error:
        raise ValueError(f'{path} is neither {{"name": number, ...}} nor a list of names: {error}') from None


def format_report(report: Report, per_class: bool = False) -> str:
    """The measures as a table, and those of each class below if asked for."""
    width = max(map(len, report.metrics))
    lines = [f"{name:<{width}}  {_text(value):>9}" for name, value in report.metrics.items()]
    if per_class:
        width = max(len("class"), *(len(row.name) for row in report.rows))
        lines += ["", f"{'number':>6}  {'class':<{width}}  {'samples':>8}  {report.measure}"]
        lines += [f"{row.number:>6}  {row.name:<{width}}  {row.samples:>8}  {_text(row.value)}" for row in report.rows]
    return "\n".join(lines)


def write_report(report: Report, folder: str) -> list[str]:
    """Write `metrics.json`, `classes.csv` and, with one label a video, `confusion.csv`; their paths.

    A line of `confusion.csv` is a label, a column a best score.

    Raises:
        NotADirectoryError: there is a file of that name.
        OSError: a file cannot be written.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise NotADirectoryError(f"{folder} is a file; --output takes a folder")
    head = ["number", "class", "samples", report.measure]
    files = {
        "metrics.json": json.dumps(report.metrics, indent=2) + "\n",
        "classes.csv": _csv([head, *map(dataclasses.astuple, report.rows)]),
    }
    if report.confusion is not None:
        names = [row.name for row in report.rows]
        counts = zip(names, report.confusion.tolist(), strict=True)
        files["confusion.csv"] = _csv([["label", *names], *([name, *line] for name, line in counts)])
    for name, text in files.items():
        atomic_write(os.path.join(os.path.abspath(folder), name), text)
    return [os.path.join(folder, name) for name in files]


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _csv(rows: list) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
