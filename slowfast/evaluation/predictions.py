"""Predictions of a test: scores with all that is needed to compute every metric, to save them and to load them.

A file of predictions holds a main table and others, in .npz or Parquet; a table has columns (N, ...). In .npz each
column is an array, named `COLUMN` in the main table and `TABLE.COLUMN` in the others. In Parquet the rows of all tables
follow each other, and the text column `table` names the table ("" is the main one). Columns of more dimensions are flat
lists.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from slowfast.evaluation.ava import AVA_EVALUATIONS, DEFAULT_EVALUATION, BoxRows, evaluate_ava
from slowfast.evaluation.ava_files import second_column
from slowfast.evaluation.classification import NO_LABEL, class_values, classification_metrics, confusion_matrix
from slowfast.utils.archives import read_npz
from slowfast.utils.errors import first_line
from slowfast.utils.files import atomic_write
from slowfast.utils.tables import arrow_table, numpy_column, read_parquet, require_parquet
from slowfast.utils.text import printable, spreadsheet_cell

if TYPE_CHECKING:  # imported where it is used: it takes a second
    import pandas

FORMAT_VERSION = 1
_VARIANT = "variants/"
_FORMATS = (".npz", ".parquet")
_ABOUT = "about"
# Number of best classes in the table for people.
_LISTED = 5
_Table = Mapping[str, np.ndarray]


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
        self.scores, self.labels = _real("scores", self.scores, 2), _labels(self.labels)
        self.variants = {name: _real(f"variant {name}", values, 2) for name, values in self.variants.items()}
        self.steps = None if self.steps is None else _real("steps", self.steps, 3)
        videos, classes = self.scores.shape
        if not classes:
            raise ValueError("scores have no column; they need one for each class")
        shapes = {"labels": (videos,) if self.labels.ndim == 1 else (videos, classes)}
        shapes.update({f"variant {name}": (videos, classes) for name in self.variants})
        given = {"labels": self.labels, **{f"variant {name}": values for name, values in self.variants.items()}}
        if self.steps is not None:
            given["steps"] = self.steps
            shapes["steps"] = (videos, *self.steps.shape[1:2], classes)
        _check_shapes(given, shapes, self.scores)
        _check_names("videos", self.videos, videos)
        _check_names("class_names", self.class_names, classes)

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
        about = _about("classification", self.class_names, self.meta)
        _write_tables(path, columns, {}, about)

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
            label = spreadsheet_cell(printable("; ".join(_name_of(number, names) for number in labels)))
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
        self.key_frame = _whole("key_frame", self.key_frame)
        self.class_ids = _whole("class_ids", self.class_ids)
        self.boxes = _real("boxes", self.boxes, 2).astype(np.float64, copy=False)
        self.scores = _real("scores", self.scores, 2)
        self.variants = {name: _real(f"variant {name}", values, 2) for name, values in self.variants.items()}
        boxes, classes = self.scores.shape
        given = {"key_frame": self.key_frame, "boxes": self.boxes, "class_ids": self.class_ids}
        shapes = {"key_frame": (boxes,), "boxes": (boxes, 4), "class_ids": (classes,)}
        for name, values in self.variants.items():
            given[f"variant {name}"], shapes[f"variant {name}"] = values, (boxes, classes)
        _check_shapes(given, shapes, self.scores)
        _check_names("class_names", self.class_names, classes)

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
            **{name: _key_frame_table(keys, seconds) for name, keys in key_frames.items()},
            "groundtruth": {"key_frame": truth.key_frame, "boxes": truth.boxes, "class": truth.classes},
        }
        about = _about("boxes", self.class_names, self.meta)
        about |= {"class_ids": self.class_ids.tolist(), "evaluation": self.evaluation}
        _write_tables(path, columns, others, about)

    def _samples(self) -> np.ndarray:
        """Return the ground truth boxes of each class that count, (classes,)."""
        labels = self.counted(self.groundtruth).classes
        return np.array([np.count_nonzero(labels == class_id) for class_id in self.class_ids])

    def _precisions(self, variant: str | None = None) -> np.ndarray:
        """Return the AP of each class, (classes,)."""
        detections, ids = self.detections(variant), self.class_ids.tolist()
        precisions = evaluate_ava(self.groundtruth, detections, self.excluded, ids, self.evaluation)["AP"]
        return np.array([precisions[class_id] for class_id in ids])


def _name_of(number: int, names: list[str]) -> str:
    """Return the name of a class; of one that the model does not have, its number."""
    return names[number] if 0 <= number < len(names) else str(number)


def load(path: str | os.PathLike) -> ClassificationPredictions | BoxPredictions:
    """Load the predictions that `save` wrote, or a pickle (.pkl) of PySlowFast's, of which nothing is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is of another kind or not whole, or Parquet without pyarrow.
    """
    if os.fspath(path).endswith(".pkl"):
        from slowfast.evaluation.results_pickle import load_pickle  # late: it builds predictions of this module

        return load_pickle(os.fspath(path))
    check_format(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file of predictions {path}")
    read = _read_parquet if os.fspath(path).endswith(".parquet") else _read_npz
    try:
        return _from_tables(*read(os.fspath(path)))
    except PermissionError:
        raise
    except Exception as error:  # NumPy, zipfile, zlib and pyarrow raise many types for damaged and foreign files
        cause = f"it has no {error}" if isinstance(error, KeyError) else first_line(error)
        raise ValueError(f"{path} is not a whole file of predictions: {cause}") from error


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
            main["scores"], main["labels"], _texts("paths", main["paths"]), main.get("steps"), **common
        )
    if kind != "boxes":
        raise ValueError(f"predictions of kind {kind!r:.40} are neither classification nor boxes")
    truth = tables["groundtruth"]
    truth_boxes = _real("boxes of the ground truth", truth["boxes"], 2)
    truth_places = (_whole(f"{name} of the ground truth", truth[name]) for name in ("key_frame", "class"))
    truth_key_frame, truth_class = truth_places
    return BoxPredictions(
        _keys(tables["key_frames"]),
        main["key_frame"],
        main["boxes"],
        main["scores"],
        about["class_ids"],
        BoxRows(_keys(tables["groundtruth_key_frames"]), truth_key_frame, truth_boxes, truth_class),
        _keys(tables["excluded"]),
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


def _key_frame_table(keys: list[tuple[str, float]], dtype: np.dtype) -> _Table:
    videos, seconds = zip(*keys, strict=True) if keys else ((), ())
    return {"video": np.array(videos, dtype=str), "second": np.array(seconds, dtype=dtype)}


def _keys(table: Mapping[str, np.ndarray]) -> list[tuple[str, float]]:
    return list(zip(_texts("video", table["video"]), _real("second", table["second"], 1).tolist(), strict=True))


def _real(name: str, values: Any, dims: int) -> np.ndarray:
    """Return an array of real numbers, in the byte order of this machine; ValueError for another type or shape."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or array.ndim != dims:
        raise ValueError(
            f"{name} are {array.dtype} of shape {array.shape}; they must be real numbers in {dims} dimension(s)"
        )
    native = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 and array.dtype.kind == "f" else None
    return array.astype(native or (np.float64 if array.dtype.kind == "f" else np.int64), copy=False)


def _whole(name: str, values: Any) -> np.ndarray:
    """Return (N,) int64; ValueError for another type or shape."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} are {array.dtype} of shape {array.shape}; they must be a row of whole numbers")
    return array.astype(np.int64, copy=False)


def _labels(values: Any) -> np.ndarray:
    """Return class numbers (V,), or (V, classes) of 0 and 1; ValueError for another type or shape, or other values."""
    array = np.asarray(values)
    if array.ndim == 1:
        return _whole("labels", array)
    if array.ndim != 2 or array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ValueError(
            f"labels are {array.dtype} of shape {array.shape}; they must be a class number for each video, or 0 and 1 "
            "for each video and class"
        )
    return array


def _texts(name: str, column: np.ndarray) -> list[str]:
    if column.ndim != 1 or (column.size and column.dtype.kind != "U"):
        raise ValueError(f"{name} are {column.dtype} of shape {column.shape}; they must be a row of texts")
    return column.tolist()


def _check_shapes(given: Mapping[str, np.ndarray], shapes: Mapping[str, tuple], scores: np.ndarray) -> None:
    wrong = [f"{name} {values.shape}" for name, values in given.items() if values.shape != shapes[name]]
    if wrong:
        raise ValueError(f"scores {scores.shape} do not go with {', '.join(wrong)}")


def _check_names(name: str, values: Any, length: int) -> None:
    if values is None:
        return
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} are {values!r:.40}, not a list of texts")
    if len(values) != length:
        raise ValueError(f"there are {len(values)} {name} for {length}")


def check_format(path: str | os.PathLike) -> None:
    """Raise ValueError if `path` does not end in .npz or .parquet, or if pyarrow is missing for Parquet."""
    suffix = os.path.splitext(path)[1]
    if suffix not in _FORMATS:
        raise ValueError(f"{path}: predictions are written to files that end in {' or '.join(_FORMATS)}")
    if suffix == ".parquet":
        require_parquet()


def _write_tables(path: str | os.PathLike, main: _Table, others: Mapping[str, _Table], about: dict[str, Any]) -> None:
    """Write tables to a file atomically, in the main process.

    Args:
        main: columns of the main table.
        others: other tables by name.
        about: JSON values to keep beside the tables.

    Raises:
        ValueError: see `check_format`.
        OSError: the file cannot be written.
    """
    check_format(path)
    fill = _fill_parquet if os.fspath(path).endswith(".parquet") else _fill_npz
    atomic_write(os.path.abspath(path), lambda stream: fill(stream, {"": main, **others}, about))


def _fill_npz(stream: Any, tables: Mapping[str, _Table], about: dict[str, Any]) -> None:
    arrays = {
        f"{table}.{name}" if table else name: column
        for table, columns in tables.items()
        for name, column in columns.items()
    }
    np.savez(stream, **arrays, **{_ABOUT: json.dumps(about)})


def _read_npz(path: str) -> tuple[dict[str, dict[str, np.ndarray]], Any]:
    """Read the tables of a file by name ("" is the main one), and the JSON values beside them."""
    tables: dict[str, dict[str, np.ndarray]] = {}
    arrays = read_npz(path)
    about = json.loads(arrays.pop(_ABOUT).item())
    for key, column in arrays.items():
        table, _, name = key.rpartition(".")
        tables.setdefault(table, {})[name] = column
    return tables, about


def _fill_parquet(stream: Any, tables: Mapping[str, _Table], about: dict[str, Any]) -> None:
    import pyarrow

    shapes = {table: {name: list(c.shape[1:]) for name, c in columns.items()} for table, columns in tables.items()}
    parts = [arrow_table({"table": _names(table, columns), **columns}) for table, columns in tables.items()]
    whole = pyarrow.concat_tables(parts, promote_options="default")
    metadata = {_ABOUT: json.dumps(about), "shapes": json.dumps(shapes)}
    pyarrow.parquet.write_table(whole.replace_schema_metadata(metadata), stream, write_page_checksum=True)


def _names(table: str, columns: _Table) -> np.ndarray:
    return np.full(len(next(iter(columns.values()))), table, dtype=f"U{max(len(table), 1)}")


def _read_parquet(path: str) -> tuple[dict[str, dict[str, np.ndarray]], Any]:
    """See `_read_npz`."""
    import pyarrow

    whole, metadata = read_parquet(path)
    about, shapes = json.loads(metadata[_ABOUT]), json.loads(metadata["shapes"])
    table_of = whole.column("table").to_numpy()
    tables: dict[str, dict[str, np.ndarray]] = {}
    for table, columns in shapes.items():
        rows = whole.filter(pyarrow.array(table_of == table))
        tables[table] = {name: numpy_column(rows.column(name), shape) for name, shape in columns.items()}
    return tables, about
