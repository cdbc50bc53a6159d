"""Reports of predictions: metrics and a table of classes, as text and files."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from slowfast.evaluation.ava import DEFAULT_EVALUATION, BoxRows, evaluate_ava
from slowfast.evaluation.predictions import BoxPredictions, ClassificationPredictions
from slowfast.runtime.distributed import atomic_write
from slowfast.utils.json_file import read_json, read_text
from slowfast.utils.label_map import read_label_map
from slowfast.utils.text import one_line, spreadsheet_cell

if TYPE_CHECKING:
    import pandas  # imported where it is needed: it starts threads, which processes should not have that are forked


@dataclasses.dataclass
class Report:
    """Metrics, and a table of classes.

    Attributes:
        metrics: metrics by name; of boxes also `ava_evaluation`, the name of the evaluation.
        classes: a row for each class: number, class (its name), samples, value.
        measure: name of `value`.
        step_measure: name of the values in `steps`.
        confusion: (classes, classes) counts by label and best score; None for several labels a video, and for boxes.
        steps: `step_measure` after each step; empty without steps.
        joined: `step_measure` of the scores that are joined over the steps, by the name of the way.
    """

    metrics: dict[str, float | str]
    classes: pandas.DataFrame
    measure: str = "AP"
    step_measure: str = ""
    confusion: np.ndarray | None = None
    steps: list[float] = dataclasses.field(default_factory=list)
    joined: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_predictions(
        cls, predictions: ClassificationPredictions | BoxPredictions, names: Mapping[int, str] | None = None
    ) -> Report:
        """Measure predictions.

        Args:
            names: class names by number, in place of the predictions' own.

        Raises:
            ValueError: there is nothing to measure, or a class has no name in `names`.
        """
        metrics, classes = predictions.metrics(), predictions.class_table()
        if names is not None:
            classes["class"] = _objects(
                _renamed(classes["number"].tolist(), names, isinstance(predictions, BoxPredictions))
            )
        if isinstance(predictions, BoxPredictions):
            return cls({**metrics, "ava_evaluation": predictions.evaluation}, classes)
        one_label, key = predictions.labels.ndim == 1, predictions.main_metric
        return cls(
            metrics,
            classes,
            "accuracy in percent" if one_label else "AP",
            "top-1 accuracy in percent" if one_label else "mAP",
            predictions.confusion(),
            predictions.step_values(),
            {"all together": metrics[key], **{name: metrics[f"{name}/{key}"] for name in predictions.variants}},
        )

    @classmethod
    def from_ava(
        cls,
        groundtruth: BoxRows,
        detections: BoxRows,
        excluded: set[tuple[str, float]],
        names: Mapping[int, str] | None = None,
        evaluation: str = DEFAULT_EVALUATION,
    ) -> Report:
        """Measure detections read from AVA's files.

        Args:
            excluded: (video, second) of the key frames to leave out.
            names: names by id of the classes to measure, as in a label map; None for all classes of the two lists.
            evaluation: name of the evaluation, see `slowfast.evaluation.ava`.

        Raises:
            ValueError: see `evaluate_ava`; or no class has ground truth.
        """
        import pandas

        result = evaluate_ava(groundtruth, detections, excluded, names, evaluation)
        ids = list(result["AP"])
        counts = np.array([key not in excluded for key in groundtruth.key_frames], dtype=bool)[groundtruth.key_frame]
        labels = groundtruth.classes[counts]
        samples = np.array([np.count_nonzero(labels == i) for i in ids])
        if not samples.any():
            raise ValueError("no class has a ground truth box on a key frame that counts, so there is no frame mAP")
        table = {
            "number": ids,
            "class": _objects([names[i] if names else str(i) for i in ids]),
            "samples": samples,
            "value": list(result["AP"].values()),
        }
        metrics = {"ava_map": result["mAP@0.5"], "ava_classes": int((samples > 0).sum())}
        return cls({**metrics, "ava_evaluation": evaluation}, pandas.DataFrame(table))

    def format(self, per_class: bool = False) -> str:
        """Format the metrics as a table, and with `per_class` the table of classes below it."""
        width = max(map(len, self.metrics))
        lines = [f"{name:<{width}}  {_text(value):>9}" for name, value in self.metrics.items()]
        if per_class:
            table = self.classes.rename(columns={"value": self.measure})
            table["class"] = [one_line(name) for name in table["class"]]
            lines += ["", table.to_string(index=False, float_format="{:.4f}".format, na_rep="nan")]
        return "\n".join(lines)

    def write(self, folder: str) -> list[str]:
        """Write `metrics.json`, `classes.csv` and, with one label a video, `confusion.csv`; return their paths.

        A row of `confusion.csv` is a label, a column the class of the best score. Class names pass `spreadsheet_cell`.

        Raises:
            NotADirectoryError: `folder` is a file.
            OSError: a file cannot be written.
        """
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise NotADirectoryError(f"{folder} is a file; --output takes a folder")
        classes = self.classes.rename(columns={"value": self.measure})
        classes["class"] = _objects(map(spreadsheet_cell, classes["class"]))
        files = {
            "metrics.json": json.dumps(self.metrics, indent=2) + "\n",
            "classes.csv": classes.to_csv(index=False, na_rep="nan", lineterminator="\n"),
        }
        if self.confusion is not None:
            import pandas

            names = classes["class"]
            matrix = pandas.DataFrame(self.confusion, index=names, columns=names)
            files["confusion.csv"] = matrix.to_csv(index_label="label", lineterminator="\n")
        for name, text in files.items():
            atomic_write(os.path.join(folder, name), text)
        return [os.path.join(folder, name) for name in files]


def _objects(names: Iterable[str]) -> pandas.Series:
    """Return a column that keeps any text; text columns of pandas refuse bytes that are no text."""
    import pandas

    return pandas.Series(list(names), dtype=object)


def _renamed(numbers: list[int], names: Mapping[int, str], some: bool) -> list[str]:
    """Return the name of each class; `some`: there may be names of classes that are not measured."""
    missing = [number for number in numbers if number not in names]
    if missing or (len(names) > len(numbers) and not some):
        lacking = f"; class number {missing[0]} has none" if missing else ""
        raise ValueError(
            f"there are {len(names)} class names for {len(numbers)} classes{lacking}. Give one name a class"
        )
    return [names[number] for number in numbers]


def read_class_names(path: str) -> dict[int, str]:
    """Read class names by number from a label map (.pbtxt), JSON, or text with one name a line.

    JSON is `{"name": number, ...}` or a list of names. Lists and lines are counted from 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file has another format.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file of class names {path}")
    if path.endswith((".pbtxt", ".prototxt")):
        return read_label_map(path)
    if not path.endswith(".json"):
        return dict(enumerate(line.strip() for line in read_text(path).split("\n") if line.strip()))
    form = '{"name": number, ...} or a list of names'
    values = read_json(path, (dict, list), form)
    pairs = enumerate(values) if isinstance(values, list) else ((number, name) for name, number in values.items())
    names: dict[int, str] = {}
    for number, name in pairs:
        digits = str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)
        if not re.fullmatch("[0-9]{1,9}", digits) or not isinstance(name, str | int | float):
            raise ValueError(f"{path} is not like {form}: it has {number!r:.40} for the number of {name!r:.40}")
        if int(digits) in names:
            raise ValueError(f"{path} gives the number {digits} to {names[int(digits)]!r} and to {name!r}")
        names[int(digits)] = str(name)
    return names


def _text(value: float | str) -> str:
    return str(value) if isinstance(value, int | str) else f"{value:.4f}"
