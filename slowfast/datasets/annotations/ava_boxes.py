"""Reading AVA's annotation files: boxes of people with or without labels, and moments left out of scoring."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from slowfast.datasets.annotations.line_errors import LineError, note

# Coordinates may lie outside 0 to 1 by this much: published detections do by 0.004, less than a pixel or two.
ROUNDING = 0.005
NO_LABEL = -1
_CHUNK = 1 << 14  # lines taken apart at a time
_TRUTH_COLUMNS = "video,second,x1,y1,x2,y2,action_id[,person_id]"
_PREDICTED_COLUMNS = "video,second,x1,y1,x2,y2,action_id or nothing or -1,score"


@dataclass(frozen=True)
class BoxTable:
    """The rows of a file of boxes, in order.

    Attributes:
        path: of the file.
        names: of the videos, in order of first appearance.
        videos: (N,) int32 number of the video in `names`.
        seconds: (N,) int32.
        boxes: (N, 4) float64 x1, y1, x2, y2, relative to width and height of the picture, as they stand in the file.
        labels: (N,) int32 class ids from 1, or NO_LABEL.
        lines: (N,) int32 number of the line in the file, from 1.
    """

    path: str
    names: list[str]
    videos: np.ndarray
    seconds: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.videos)

    def rows(self, chosen: np.ndarray) -> BoxTable:
        """The chosen rows (mask or numbers) alone."""
        columns = (column[chosen] for column in (self.videos, self.seconds, self.boxes, self.labels, self.lines))
        return BoxTable(self.path, self.names, *columns)

    def places(self, rows: Iterable[int]) -> list[str]:
        """File, line number and line of rows, for messages."""
        numbers = [int(self.lines[row]) for row in rows]
        wanted = set(numbers)
        with _opened(self.path) as stream:
            lines = {number: line for number, line in enumerate(stream, start=1) if number in wanted}
        return [_place(self.path, number, lines[number]) for number in numbers]


def read_boxes(
    path: str, num_classes: int, least_score: float | None = None, wrong: LineError | None = None
) -> BoxTable:
    """Read a file of boxes in AVA's format, which has no header.

    Annotated ones: `video,second,x1,y1,x2,y2,action_id,person_id`, the last column may be missing. Predicted ones:
    `video,second,x1,y1,x2,y2,action_id,score`, action_id may be nothing or -1. A line stands for a label of a box, so
    boxes come several times.

    Args:
        path: of the file.
        num_classes: class ids are 1 to this.
        least_score: the boxes are predicted ones, of which those with a lower score are left out (whatever else is
            in their line); None for annotated ones.
        wrong: takes the messages about wrong lines, which are then left out; None raises the first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is wrong, with file, line number and line: columns, numbers that are none, a box with
            an edge outside the picture by more than rounding, or without area, a label outside the classes, a score
            outside 0 to 1.
    """
    names: dict[str, int] = {}
    parts = [_Rows([], *(np.zeros(shape) for shape in (0, (0, 4), 0, 0)))]
    lines = _lines(path)
    while chunk := list(itertools.islice(lines, _CHUNK)):
        rows = _whole(chunk, num_classes, least_score)
        parts.append(_one_by_one(path, chunk, num_classes, least_score, wrong) if rows is None else rows)
    videos = [names.setdefault(name, len(names)) for part in parts for name in part.videos]
    seconds, boxes, labels, numbers = (
        np.concatenate(columns) for columns in zip(*(part[1:] for part in parts), strict=True)
    )
    videos, seconds, labels, numbers = (np.asarray(column, np.int32) for column in (videos, seconds, labels, numbers))
    return BoxTable(path, list(names), videos, seconds, boxes, labels, numbers)


def read_moments(path: str, wrong: LineError | None = None) -> list[tuple[str, int]]:
    """Read a file of moments, `video,second` a line: those that AVA leaves out of scoring.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is wrong, unless `wrong` takes its message, with file, line number and line.
    """
    moments = []
    for number, line in _lines(path):
        try:
            fields = line.strip().split(",")
            if len(fields) != 2 or not fields[0].strip():
                raise ValueError("it is not video,second")
            moments.append((fields[0].strip(), _second(fields[1])))
        except ValueError as error:
            note(ValueError(f"{_place(path, number, line)}: {error}"), wrong)
    return moments


class _Rows(NamedTuple):
    """Columns as those of `BoxTable`, with the names of videos in place of numbers."""

    videos: list[str]
    seconds: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    lines: np.ndarray


def _whole(chunk: list[tuple[int, str]], num_classes: int, least_score: float | None) -> _Rows | None:
    """The rows of lines of which none is wrong, column by column, which takes an eighth of the time; otherwise None."""
    width = chunk[0][1].count(",") + 1
    if width not in ((7, 8) if least_score is None else (8,)) or any(line.count(",") != width - 1 for _, line in chunk):
        return None
    fields = ",".join(line for _, line in chunk).split(",")
    columns = [fields[i::width] for i in range(width)]
    try:
        names = {text: text.strip() for text in set(columns[0])}
        labels = {text: _label(text.strip(), num_classes, least_score is not None) for text in set(columns[6])}
        times = {text: _second(text) for text in set(columns[1])}
        boxes = np.array([list(map(float, column)) for column in columns[2:6]]).T
        scores = None if least_score is None else np.array(list(map(float, columns[7])))
    except ValueError:
        return None
    kept = np.arange(len(chunk))
    if scores is not None:
        if not ((scores >= 0) & (scores <= 1)).all():
            return None
        kept = np.flatnonzero(scores >= least_score)
    boxes = boxes[kept]
    inside = (boxes >= -ROUNDING).all() and (boxes <= 1 + ROUNDING).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    if not inside or "" in names.values():
        return None
    chosen = kept.tolist()
    return _Rows(
        [names[columns[0][i]] for i in chosen],
        np.array([times[columns[1][i]] for i in chosen], np.int32),
        boxes,
        np.array([labels[columns[6][i]] for i in chosen], np.int32),
        np.array([chunk[i][0] for i in chosen], np.int32),
    )


def _one_by_one(
    path: str, chunk: list[tuple[int, str]], num_classes: int, least_score: float | None, wrong: LineError | None
) -> _Rows:
    """The rows of lines that are right; the others' messages go to `wrong`, or the first is raised."""
    rows = []
    for number, line in chunk:
        try:
            row = _parse_box(line, num_classes, least_score)
        except ValueError as error:
            note(ValueError(f"{_place(path, number, line)}: {error}"), wrong)
            continue
        if row is not None:
            rows.append((*row, number))
    videos, seconds, boxes, labels, numbers = zip(*rows, strict=True) if rows else ([],) * 5
    columns = (np.array(column, np.int32) for column in (seconds, labels, numbers))
    seconds, labels, numbers = columns
    return _Rows(list(videos), seconds, np.array(boxes, np.float64).reshape(-1, 4), labels, numbers)


def _parse_box(
    line: str, num_classes: int, least_score: float | None
) -> tuple[str, int, tuple[float, float, float, float], int] | None:
    """A line's video, second, box and label; None for a predicted box under the least score."""
    fields = line.strip().split(",")
    predicted = least_score is not None
    if len(fields) != 8 and (predicted or len(fields) != 7):
        columns = _PREDICTED_COLUMNS if predicted else _TRUTH_COLUMNS
        raise ValueError(
            f"it has {len(fields)} columns; {'predicted' if predicted else 'annotated'} boxes are {columns}"
        )
    if predicted:
        score = _number(fields[7], "score")
        if not 0 <= score <= 1:
            hint = (
                "annotated boxes, whose last column is a person, belong to AVA.TRAIN_GT_BOX_LISTS or GROUNDTRUTH_FILE"
            )
            raise ValueError(f"score {fields[7].strip()} is not from 0 to 1 ({hint})")
        if score < least_score:
            return None
    name = fields[0].strip()
    if not name:
        raise ValueError("it names no video")
    x1, y1, x2, y2 = box = tuple(_number(field, "edge") for field in fields[2:6])
    if not (-ROUNDING <= x1 and x2 <= 1 + ROUNDING and -ROUNDING <= y1 and y2 <= 1 + ROUNDING):
        raise ValueError("its box reaches out of the picture: edges are shares of width and height, 0 to 1")
    if not (x1 < x2 and y1 < y2):
        raise ValueError("its box has no area: x1 must be under x2, y1 under y2")
    return name, _second(fields[1]), box, _label(fields[6].strip(), num_classes, predicted)


def _label(text: str, num_classes: int, may_be_missing: bool) -> int:
    if may_be_missing and text in ("", "-1"):
        return NO_LABEL
    try:
        label = int(text)
    except ValueError:
        raise ValueError(f"action_id {text!r} is not a whole number") from None
    if not 1 <= label <= num_classes:
        raise ValueError(f"action_id {label} is outside 1 to {num_classes} (MODEL.NUM_CLASSES)")
    return label


def _second(text: str) -> int:
    try:
        second = int(text)
    except ValueError:
        raise ValueError(f"second {text.strip()!r} is not a whole number") from None
    if abs(second) >= 2**31:
        raise ValueError(f"second {second} is no time in a video")
    return second


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{what} {text.strip()!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{what} {text.strip()} is not finite")
    return number


def _opened(path: str):
    return open(path, encoding="utf-8-sig", errors="surrogateescape")


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    with _opened(path) as stream:
        yield from ((number, line) for number, line in enumerate(stream, start=1) if line.strip())


def _place(path: str, number: int, line: str) -> str:
    return f"{path}, line {number}: {line.rstrip()!r}"
