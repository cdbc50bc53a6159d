"""Predictions of a test: scores with all that is needed to compute every metric, to save them and to load them."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from slowfast.evaluation.ava import AVA_EVALUATIONS, DEFAULT_EVALUATION, BoxRows, evaluate_ava
from slowfast.evaluation.ava_files import second_column
from slowfast.evaluation.classification import NO_LABEL, class_values, classification_metrics, confusion_matrix
from slowfast.evaluation.prediction_tables import (
    check_format,
    check_names,
    check_shapes,
    checked_labels,
    key_frame_table,
    key_frames_of,
    read_tables,
    real_numbers,
    texts,
    whole_numbers,
    write_tables,
)
from slowfast.evaluation.results_pickle import read_pickle
from slowfast.runtime.distributed import atomic_write
from slowfast.utils.errors import first_line
from slowfast.utils.text import printable, spreadsheet_cell

if TYPE_CHECKING:  # imported where it is used: it takes a second
    import pandas

FORMAT_VERSION = 1
_VARIANT = "variants/"
# Number of best classes in the table for people.
_LISTED = 5


@dataclasses.dataclass
class ClassificationPredictions:
    """Class scores of V videos.

    Attributes:
        scores: (V, classes).
        labels: (V,) class numbers, or (V, classes) of 0 and 1; of videos without labels all `NO_LABEL`, or all 0.
        videos: names of the videos, V.
        steps: (V, S, classes) scores after each of S steps through the video, if it was read in steps.
        variants: (V, classes) scores joined in other ways, by name.
        class_names: name of each class, if known.
        meta: JSON values to keep with them: checkpoint, number of views, ...

    Raises:
        ValueError: types that are no numbers or names, or shapes that do not fit each other.
    """

    scores: np.ndarray
    labels: np.ndarray
    videos: list[str]
    steps: np.ndarray | None = None
    variants: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    class_names: list[str] | None = None
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scores, self.labels = real_numbers("scores", self.scores, 2), checked_labels(self.labels)
        self.variants = {name: real_numbers(f"variant {name}", values, 2) for name, values in self.variants.items()}
        self.steps = None if self.steps is None else real_numbers("steps", self.steps, 3)
        videos, classes = self.scores.shape
        if not classes:
            raise ValueError("scores have no column; they need one for each class")
        shapes = {"labels": (videos,) if self.labels.ndim == 1 else (videos, classes)}
        shapes.update({f"variant {name}": (videos, classes) for name in self.variants})
        given = {"labels": self.labels, **{f"variant {name}": values for name, values in self.variants.items()}}
        if self.steps is not None:
            given["steps"] = self.steps
            shapes["steps"] = (videos, *self.steps.shape[1:2], classes)
        check_shapes(given, shapes, self.scores)
        check_names("videos", self.videos, videos)
        check_names("class_names", self.class_names, classes)

    @property
    def labeled(self) -> bool:
        """Return False if no video has a label, so that there is nothing to measure."""
        return not len(self.labels) or bool((self.labels != (NO_LABEL if self.labels.ndim == 1 else 0)).any())

    def metrics(self) -> dict[str, float]:
        """Return all metrics by name.

        For one label a video those of `classification_metrics` in percent, else `map` (0 to 1). The same of a variant
        is `NAME/top1_acc`; of the steps, counted from 1, `step1/top1_acc` or `step1/map`.

        Raises:
            ValueError: no videos, no class with a video, no labels, a label outside the classes, or scores that are NaN
                or infinite, with the videos named.
        """
        if self.labels.ndim == 1 and not self.labeled:
            raise ValueError(f"the {len(self.labels)} videos have no labels, so there is nothing to measure")
        labels = torch.as_tensor(self.labels)
        values = classification_metrics(torch.as_tensor(self.scores), labels, self.videos)
        for name, scores in self.variants.items():
            metrics = classification_metrics(torch.as_tensor(scores), labels, self.videos)
            values |= {f"{name}/{key}": value for key, value in metrics.items()}
        key = self.main_metric
        return values | {f"step{step}/{key}": value for step, value in enumerate(self.step_values(), start=1)}

    @property
    def main_metric(self) -> str:
        """Name of the metric that is computed for each step."""
        return "top1_acc" if self.labels.ndim == 1 else "map"

    def step_values(self) -> list[float]:
        """Return top-1 accuracy in percent, or mAP (0 to 1), after each step; empty without steps."""
        if self.steps is None:
            return []
        labels = torch.as_tensor(self.labels)
        steps = (torch.as_tensor(self.steps[:, step]) for step in range(self.steps.shape[1]))
        return [classification_metrics(scores, labels, self.videos)[self.main_metric] for scores in steps]

    def class_table(self) -> pandas.DataFrame:
        """Return a row for each class: number, class (its name), samples and value (accuracy in percent, or AP)."""
        samples, values = class_values(torch.as_tensor(self.scores), torch.as_tensor(self.labels), self.videos)
        return _class_table(range(len(values)), self.class_names, samples, values)

    def confusion(self) -> np.ndarray | None:
        """Return (classes, classes) videos by label (row) and best score (column); None for several labels a video."""
        if self.labels.ndim == 2:
            return None
        return confusion_matrix(torch.as_tensor(self.scores), torch.as_tensor(self.labels), self.videos).numpy()

    def save(self, path: str | os.PathLike) -> None:
        """Write a .npz or .parquet file atomically, in the main process; `load` reads it.

        Raises:
            ValueError: another suffix, or Parquet without pyarrow.
            OSError: the file cannot be written.
        """
        columns = {"paths": np.array(self.videos, dtype=str), "labels": self.labels, "scores": self.scores}
        if self.steps is not None:
            columns["steps"] = self.steps
        columns.update({_VARIANT + name: values for name, values in self.variants.items()})
        write_tables(path, columns, {}, _about("classification", self.class_names, self.meta))

    def save_table(self, path: str | os.PathLike) -> None:
        """Write a CSV file for people atomically, in the main process: a row for each video, with its best classes.

        Columns: video, label (several are joined by "; "), correct (1 if the best class is a label, else 0), top1,
        score1, top2, ... up to 5. A video with a score that is NaN or infinite has no best class. Where no video has a
        label, `label` and `correct` are empty.

        Raises:
            OSError: the file cannot be written.
        """
        videos, classes = self.scores.shape
        names = self.class_names or [str(number) for number in range(classes)]
        cells = [spreadsheet_cell(printable(name)) for name in names]
        ranks = range(1, min(_LISTED, classes) + 1)
        # Of equal scores the same class as in the metrics.
        values, best = (part.tolist() for part in torch.as_tensor(self.scores).topk(len(ranks), dim=1))
        finite = np.isfinite(self.scores).all(axis=1)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["video", "label", "correct", *(f"{what}{rank}" for rank in ranks for what in ("top", "score"))]
        )
        for row in range(videos):
            labels = np.flatnonzero(self.labels[row]).tolist() if self.labels.ndim == 2 else [int(self.labels[row])]
            labels = labels if self.labeled else []
            # A label may be outside of the model's classes.
            shown = "; ".join(names[number] if 0 <= number < classes else str(number) for number in labels)
            label = spreadsheet_cell(printable(shown))
            found = [""] * (1 + 2 * len(ranks))
            if finite[row]:
                answers = zip(best[row], values[row], strict=True)
                pairs = [item for number, score in answers for item in (cells[number], f"{score:.6g}")]
                found = [int(best[row][0] in labels) if self.labeled else "", *pairs]
            writer.writerow([spreadsheet_cell(printable(self.videos[row])), label, *found])
        atomic_write(path, text.getvalue())


@dataclasses.dataclass
class BoxPredictions:
    """Class scores of N boxes at K key frames, with the annotated boxes.

    Attributes:
        key_frames: (video, second) of each key frame, K.
        key_frame: (N,) position of each box's key frame in `key_frames`.
        boxes: (N, 4) x1, y1, x2, y2 as shares of the frame's width and height.
        scores: (N, classes).
        class_ids: (classes,) class id of each column, counted from 1.
        groundtruth: the annotated boxes.
        excluded: (video, second) of the key frames that do not count.
        variants: (N, classes) scores joined in other ways, by name.
        class_names: name of each class, if known.
        meta: JSON values to keep with them: checkpoint, number of key frames, ...
        evaluation: name of the evaluation that measures them, see `slowfast.evaluation.ava`.

    Raises:
        ValueError: types that are no numbers or names, shapes that do not fit each other, or an unknown evaluation.
    """

    key_frames: list[tuple[str, float]]
    key_frame: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    groundtruth: BoxRows
    excluded: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    variants: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    class_names: list[str] | None = None
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)
    evaluation: str = DEFAULT_EVALUATION

    def __post_init__(self) -> None:
        AVA_EVALUATIONS.check(self.evaluation)
        self.key_frame = whole_numbers("key_frame", self.key_frame)
        self.class_ids = whole_numbers("class_ids", self.class_ids)
        self.boxes = real_numbers("boxes", self.boxes, 2).astype(np.float64, copy=False)
        self.scores = real_numbers("scores", self.scores, 2)
        self.variants = {name: real_numbers(f"variant {name}", values, 2) for name, values in self.variants.items()}
        boxes, classes = self.scores.shape
        given = {"key_frame": self.key_frame, "boxes": self.boxes, "class_ids": self.class_ids}
        shapes = {"key_frame": (boxes,), "boxes": (boxes, 4), "class_ids": (classes,)}
        for name, values in self.variants.items():
            given[f"variant {name}"], shapes[f"variant {name}"] = values, (boxes, classes)
        check_shapes(given, shapes, self.scores)
        check_names("class_names", self.class_names, classes)

    def detections(self, variant: str | None = None) -> BoxRows:
        """Return a row for each box and class, N x classes in all, as in AVA's files.

        Args:
            variant: name of the scores in `variants` to take.
        """
        boxes, classes = self.scores.shape
        scores = self.scores if variant is None else self.variants[variant]
        return BoxRows(
            self.key_frames,
            np.repeat(self.key_frame, classes),
            np.repeat(self.boxes, classes, axis=0),
            np.tile(self.class_ids, boxes),
            scores.reshape(-1),
        )

    def counted(self, rows: BoxRows) -> BoxRows:
        """Return those of `rows` that count: on key frames that are not excluded, of the classes of `class_ids`.

        Key frames without such a box stay only if they change the result of the evaluation.
        """
        excluded = set(self.excluded)
        counts = np.array([key not in excluded for key in rows.key_frames], dtype=bool)
        rows = rows.select(counts[rows.key_frame] & np.isin(rows.classes, self.class_ids))
        if not AVA_EVALUATIONS.fact(self.evaluation, "empty_key_frames"):
            counts[:] = np.isin(np.arange(len(counts)), rows.key_frame)
        key_frames = list(itertools.compress(rows.key_frames, counts))
        return dataclasses.replace(rows, key_frames=key_frames, key_frame=(np.cumsum(counts) - 1)[rows.key_frame])

    def metrics(self) -> dict[str, float]:
        """Return `ava_map` (frame mAP at IoU 0.5, 0 to 1), `ava_classes` (number of its classes) and `NAME/ava_map`.

        Raises:
            ValueError: no class has ground truth, or scores are NaN or infinite, with the key frames named.
        """
        counted = self._samples() > 0
        if not counted.any():
            raise ValueError("no class has a ground truth box on a key frame that counts, so there is no frame mAP")
        values = {"ava_map": float(np.mean(self._precisions()[counted])), "ava_classes": int(counted.sum())}
        for name in self.variants:
            values[f"{name}/ava_map"] = float(np.mean(self._precisions(name)[counted]))
        return values

    def class_table(self) -> pandas.DataFrame:
        """Return a row for each class: number (its id), class (its name), samples (boxes that count) and value (AP)."""
        return _class_table(self.class_ids.tolist(), self.class_names, self._samples(), self._precisions())

    def save(self, path: str | os.PathLike) -> None:
        """See `ClassificationPredictions.save`; person ids of the ground truth are left out."""
        columns = {"key_frame": self.key_frame, "boxes": self.boxes, "scores": self.scores}
        columns.update({_VARIANT + name: values for name, values in self.variants.items()})
        truth = self.groundtruth
        key_frames = {
            "key_frames": self.key_frames,
            "excluded": self.excluded,
            "groundtruth_key_frames": truth.key_frames,
        }
        # One type for all: in Parquet they share a column.
        seconds = second_column([second for keys in key_frames.values() for _, second in keys]).dtype
        others = {
            **{name: key_frame_table(keys, seconds) for name, keys in key_frames.items()},
            "groundtruth": {"key_frame": truth.key_frame, "boxes": truth.boxes, "class": truth.classes},
        }
        about = _about("boxes", self.class_names, self.meta)
        about |= {"class_ids": self.class_ids.tolist(), "evaluation": self.evaluation}
        write_tables(path, columns, others, about)

    def _samples(self) -> np.ndarray:
        """Return the ground truth boxes of each class that count, (classes,)."""
        labels = self.counted(self.groundtruth).classes
        return np.array([np.count_nonzero(labels == class_id) for class_id in self.class_ids])

    def _precisions(self, variant: str | None = None) -> np.ndarray:
        """Return the AP of each class, (classes,)."""
        detections, ids = self.detections(variant), self.class_ids.tolist()
        precisions = evaluate_ava(self.groundtruth, detections, self.excluded, ids, self.evaluation)["AP"]
        return np.array([precisions[class_id] for class_id in ids])


def load(path: str | os.PathLike) -> ClassificationPredictions | BoxPredictions:
    """Load the predictions that `save` wrote, or a pickle (.pkl) of PySlowFast's, of which nothing is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is of another kind or not whole, or Parquet without pyarrow.
    """
    if os.fspath(path).endswith(".pkl"):
        return load_pickle(os.fspath(path))
    check_format(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file of predictions {path}")
    try:
        return _from_tables(*read_tables(os.fspath(path)))
    except PermissionError:
        raise
    except Exception as error:  # NumPy, zipfile, zlib and pyarrow raise many types for damaged and foreign files
        cause = f"it has no {error}" if isinstance(error, KeyError) else first_line(error)
        raise ValueError(f"{path} is not a whole file of predictions: {cause}") from error


def load_pickle(path: str) -> ClassificationPredictions:
    """Load a file of PySlowFast's, or one that `write_pickle` wrote; nothing in it is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or holds something else.
    """
    try:
        scores, labels = read_pickle(path)
        return ClassificationPredictions(scores, labels, [str(number) for number in range(len(scores))])
    except ValueError as error:
        raise ValueError(
            f"{path} is no file of predictions: neither .npz or .parquet of a test, nor PySlowFast's pickle of "
            f"[scores, labels] ({error})"
        ) from error


def _from_tables(tables: dict[str, dict[str, np.ndarray]], about: Any) -> ClassificationPredictions | BoxPredictions:
    """Build predictions from the tables of a file; KeyError for what is missing, ValueError for what is wrong."""
    if not isinstance(about, dict) or about.get("version") != FORMAT_VERSION:
        version = about.get("version") if isinstance(about, dict) else None
        raise ValueError(f"it has predictions of version {version!r:.40}; this program reads {FORMAT_VERSION}")
    main, kind = tables[""], about["kind"]
    common = {
        "variants": {name.removeprefix(_VARIANT): main[name] for name in main if name.startswith(_VARIANT)},
        "class_names": about["class_names"],
        "meta": about["meta"],
    }
    if not isinstance(about["meta"], dict):
        raise ValueError(f"meta is {about['meta']!r:.40}, not JSON values by name")
    if kind == "classification":
        return ClassificationPredictions(
            main["scores"], main["labels"], texts("paths", main["paths"]), main.get("steps"), **common
        )
    if kind != "boxes":
        raise ValueError(f"predictions of kind {kind!r:.40} are neither classification nor boxes")
    truth = tables["groundtruth"]
    truth_boxes = real_numbers("boxes of the ground truth", truth["boxes"], 2)
    key_frame, classes = (whole_numbers(f"{name} of the ground truth", truth[name]) for name in ("key_frame", "class"))
    return BoxPredictions(
        key_frames_of(tables["key_frames"]),
        main["key_frame"],
        main["boxes"],
        main["scores"],
        about["class_ids"],
        BoxRows(key_frames_of(tables["groundtruth_key_frames"]), key_frame, truth_boxes, classes),
        key_frames_of(tables["excluded"]),
        **common,
        evaluation=about.get("evaluation", DEFAULT_EVALUATION),  # files of earlier versions do not say
    )


def _class_table(
    numbers: Iterable[int], names: list[str] | None, samples: np.ndarray, values: np.ndarray
) -> pandas.DataFrame:
    import pandas

    numbers = list(numbers)
    names = [str(number) for number in numbers] if names is None else names
    # As objects: names may hold bytes that are no text, which the text columns of pandas refuse.
    names = pandas.Series(names, dtype=object)
    return pandas.DataFrame({"number": numbers, "class": names, "samples": samples, "value": values})


def _about(kind: str, class_names: list[str] | None, meta: dict[str, Any]) -> dict[str, Any]:
    return {"version": FORMAT_VERSION, "kind": kind, "class_names": class_names, "meta": meta}
