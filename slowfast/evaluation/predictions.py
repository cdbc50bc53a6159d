"""The predictions of a test, as a file from which every metric can be computed again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from slowfast.evaluation.ava import BoxRows, evaluate_ava
from slowfast.evaluation.class_table import ClassRow, class_table, confusion_matrix, macro_accuracy
from slowfast.evaluation.classification import classification_metrics
from slowfast.evaluation.prediction_files import Table, read_tables, write_tables

FORMAT_VERSION = 1
_VARIANT = "variants/"


@dataclasses.dataclass
class ClassificationPredictions:
    """Class scores of V videos.

    Attributes:
        scores: (V, classes).
        labels: (V,) class numbers, or (V, classes) of 0 and 1.
        videos: their names, V.
        steps: (V, S, classes) scores after each of S steps through the video, if it was read in steps.
        variants: further ways to join the same predictions: (V, classes) by name.
        class_names: of each class, if known.
        meta: anything that JSON holds: how the predictions came to be.

    Raises:
        ValueError: shapes that do not belong together.
    """

    scores: np.ndarray
    labels: np.ndarray
    videos: list[str]
    steps: np.ndarray | None = None
    variants: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    class_names: list[str] | None = None
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        videos, classes = self.scores.shape
        shapes = {"labels": (videos,) if self.labels.ndim == 1 else (videos, classes)}
        shapes.update({f"variant {name}": (videos, classes) for name in self.variants})
        given = {"labels": self.labels, **{f"variant {name}": values for name, values in self.variants.items()}}
        if self.steps is not None:
            given["steps"] = self.steps
            shapes["steps"] = (videos, *self.steps.shape[1:2], classes)
        _check_shapes(given, shapes, self.scores)
        _check_length("videos", self.videos, videos)
        _check_length("class_names", self.class_names, classes)

    def metrics(self) -> dict[str, float]:
        """Every measure by name.

        `top1_acc`, `top5_acc`, `top1_err`, `top5_err` and `macro_acc` (mean accuracy of the classes) in percent; with
        several labels a video `map` in 0..1. The same of a variant as `NAME/top1_acc`, and of the steps, counted
        from 1, `step1/top1_acc` or `step1/map`.

        Raises:
            ValueError: no videos, or no class with a video.
        """
        values = self._metrics(self.scores)
        for name, scores in self.variants.items():
            values.update({f"{name}/{key}": value for key, value in self._metrics(scores).items()})
        key = self.main_metric
        values.update({f"step{step}/{key}": value for step, value in enumerate(self.step_values(), start=1)})
        return values

    @property
    def main_metric(self) -> str:
        """The name of the measure that is taken of every step."""
        return "top1_acc" if self.labels.ndim == 1 else "map"

    def step_values(self) -> list[float]:
        """Top-1 accuracy in percent, or mAP in 0..1, after each step; empty without steps."""
        if self.steps is None:
            return []
        labels = torch.as_tensor(self.labels)
        steps = (torch.as_tensor(self.steps[:, step]) for step in range(self.steps.shape[1]))
        return [classification_metrics(scores, labels)[self.main_metric] for scores in steps]

    def class_rows(self) -> list[ClassRow]:
        """A line for every class: samples and accuracy, or average precision."""
        return class_table(torch.as_tensor(self.scores), torch.as_tensor(self.labels), self.class_names)

    def confusion(self) -> np.ndarray:
        """(classes, classes) videos by label (row) and best score (column); ValueError with several labels a video."""
        return confusion_matrix(torch.as_tensor(self.scores), torch.as_tensor(self.labels)).numpy()

    def save(self, path: str | os.PathLike) -> None:
        """Let the main process write .npz or .parquet, whole or not at all; `load` reads it.

        Raises:
            ValueError: another suffix, or Parquet without the package for it.
            OSError: the file cannot be written.
        """
        columns = {"paths": np.array(self.videos, dtype=str), "labels": self.labels, "scores": self.scores}
        if self.steps is not None:
            columns["steps"] = self.steps
        columns.update({_VARIANT + name: values for name, values in self.variants.items()})
        about = _about("classification", self.class_names, self.meta)
        write_tables(path, columns, {}, about)

    def _metrics(self, scores: np.ndarray) -> dict[str, float]:
        scores, labels = torch.as_tensor(scores), torch.as_tensor(self.labels)
        values = classification_metrics(scores, labels)
        return values if labels.dim() == 2 else {**values, "macro_acc": macro_accuracy(scores, labels)}


@dataclasses.dataclass
class BoxPredictions:
    """Class scores of N boxes at K key frames, and what is annotated there.

    Attributes:
        key_frames: (video, second) of each, K.
        key_frame: (N,) position of each box's key frame in `key_frames`.
        boxes: (N, 4) x1, y1, x2, y2 as shares of the picture's width and height.
        scores: (N, classes).
        class_ids: (classes,) id, counted from 1, of the class of each column.
        groundtruth: the annotated boxes.
        excluded: key frames, (video, second), that do not count.
        variants: further ways to join the same predictions: (N, classes) by name.
        class_names: of each class, if known.
        meta: anything that JSON holds: how the predictions came to be.

    Raises:
        ValueError: shapes that do not belong together.
    """

    key_frames: list[tuple[str, int]]
    key_frame: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    groundtruth: BoxRows
    excluded: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    variants: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    class_names: list[str] | None = None
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.key_frame, self.class_ids = np.asarray(self.key_frame, np.int64), np.asarray(self.class_ids, np.int64)
        self.boxes = np.asarray(self.boxes, np.float64)
        boxes, classes = self.scores.shape
        given = {"key_frame": self.key_frame, "boxes": self.boxes, "class_ids": self.class_ids}
        shapes = {"key_frame": (boxes,), "boxes": (boxes, 4), "class_ids": (classes,)}
        for name, values in self.variants.items():
            given[f"variant {name}"], shapes[f"variant {name}"] = values, (boxes, classes)
        _check_shapes(given, shapes, self.scores)
        _check_length("class_names", self.class_names, classes)

    def detections(self, variant: str | None = None) -> BoxRows:
        """A row for every box and class, N x classes in all, as AVA's files have them.

        Args:
            variant: name of another way to join the predictions.
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
        """Those of `rows` that count: on key frames that are not excluded, of the classes of `class_ids`."""
        excluded = set(self.excluded)
        counts = np.array([key not in excluded for key in rows.key_frames], dtype=bool)
        return rows.select(counts[rows.key_frame] & np.isin(rows.classes, self.class_ids))

    def metrics(self) -> dict[str, float]:
        """`ava_map`, the frame mAP at IoU 0.5 in 0..1, and `ava_classes`, over how many classes; `NAME/ava_map` too.

        Raises:
            ValueError: no class has ground truth.
        """
        counted = [row.value for row in self.class_rows() if row.samples]
        if not counted:
            raise ValueError("no class has a ground truth box on a key frame that counts, so there is no frame mAP")
        values = {"ava_map": float(np.mean(counted)), "ava_classes": len(counted)}
        values.update({f"{name}/ava_map": self._evaluate(name)["mAP@0.5"] for name in self.variants})
        return values

    def class_rows(self) -> list[ClassRow]:
        """A line for every class: boxes of ground truth that count, and average precision."""
        labels = self.counted(self.groundtruth).classes
        precisions = self._evaluate()["AP"]
        names = self.class_names or [str(class_id) for class_id in self.class_ids]
        return [
            ClassRow(int(class_id), name, int(np.count_nonzero(labels == class_id)), precisions[int(class_id)])
            for class_id, name in zip(self.class_ids, names, strict=True)
        ]

    def save(self, path: str | os.PathLike) -> None:
        """As `ClassificationPredictions.save`; numbers of persons in the ground truth are left out."""
        columns = {"key_frame": self.key_frame, "boxes": self.boxes, "scores": self.scores}
        columns.update({_VARIANT + name: values for name, values in self.variants.items()})
        truth = self.groundtruth
        others = {
            "key_frames": _moments(self.key_frames),
            "excluded": _moments(self.excluded),
            "groundtruth_key_frames": _moments(truth.key_frames),
            "groundtruth": {"key_frame": truth.key_frame, "boxes": truth.boxes, "class": truth.classes},
        }
        about = {**_about("boxes", self.class_names, self.meta), "class_ids": self.class_ids.tolist()}
        write_tables(path, columns, others, about)

    def _evaluate(self, variant: str | None = None) -> dict:
        return evaluate_ava(self.groundtruth, self.detections(variant), self.excluded, self.class_ids.tolist())


def load(path: str | os.PathLike) -> ClassificationPredictions | BoxPredictions:
    """The predictions of a file that one of the two wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is none of ours, or not whole, or Parquet without the package for it.
    """
    tables, about = read_tables(path)
    if about.get("version") != FORMAT_VERSION:
        raise ValueError(f"{path} has predictions of version {about.get('version')}; this program reads 1")
    main = tables[""]
    common = {
        "variants": {name.removeprefix(_VARIANT): main[name] for name in main if name.startswith(_VARIANT)},
        "class_names": about["class_names"],
        "meta": about["meta"],
    }
    if about["kind"] == "classification":
        return ClassificationPredictions(
            main["scores"], main["labels"], main["paths"].tolist(), main.get("steps"), **common
        )
    truth = tables["groundtruth"]
    return BoxPredictions(
        _keys(tables["key_frames"]),
        main["key_frame"],
        main["boxes"],
        main["scores"],
        np.array(about["class_ids"], dtype=np.int64),
        BoxRows(_keys(tables["groundtruth_key_frames"]), truth["key_frame"], truth["boxes"], truth["class"]),
        _keys(tables["excluded"]),
        **common,
    )


def _about(kind: str, class_names: list[str] | None, meta: dict[str, Any]) -> dict[str, Any]:
    return {"version": FORMAT_VERSION, "kind": kind, "class_names": class_names, "meta": meta}


def _moments(keys: list[tuple[str, int]]) -> Table:
    videos, seconds = zip(*keys, strict=True) if keys else ((), ())
    return {"video": np.array(videos, dtype=str), "second": np.array(seconds, dtype=np.int64)}


def _keys(moments: Mapping[str, np.ndarray]) -> list[tuple[str, int]]:
    return list(zip(moments["video"].tolist(), moments["second"].tolist(), strict=True))


def _check_shapes(given: Mapping[str, np.ndarray], shapes: Mapping[str, tuple], scores: np.ndarray) -> None:
    wrong = [f"{name} {values.shape}" for name, values in given.items() if values.shape != shapes[name]]
    if wrong:
        raise ValueError(f"scores {scores.shape} do not go with {', '.join(wrong)}")


def _check_length(name: str, values: list | None, length: int) -> None:
    if values is not None and len(values) != length:
        raise ValueError(f"there are {len(values)} {name} for {length}")
