"""Parse the lines of AVA's files of boxes by their rules.

pandas reads a file of a million boxes in a third of the time of Python's csv module, or less. It does not say which
line is wrong and why, so a file with a wrong or unusual line is read again, line by line.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TextIO

import numpy as np

from slowfast.utils.errors import quote, record, short

# Coordinates may exceed 0 to 1 by this much: published detections do by 0.004, less than a pixel or two.
ROUNDING = 0.005
NO_LABEL = -1
_LARGEST = 2**31 - 1
_EDGES = ("x1", "y1", "x2", "y2")
_COLUMNS = ("video", "second", *_EDGES, "class", "last")


@dataclass(frozen=True)
class Rules:
    """Rules for the lines of one kind of file.

    Attributes:
        num_classes: class ids are 1 to this, and boxes lie in the picture and have area. None for evaluation, which
            takes any class from 1 on and any finite box.
        least_score: None for annotations, whose last column is ignored.
    """

    num_classes: int | None
    least_score: float | None

    @property
    def widths(self) -> tuple[int, ...]:
        """Allowed numbers of columns."""
        return (8,) if self.num_classes is not None and self.least_score is not None else (7, 8)

    def label(self, text: str) -> int:
        """Parse a class id; ValueError with the cause."""
        if self.num_classes is None:
            label = _integer(text, "class")
            if label < 1:
                raise ValueError(f"class {label}: classes are counted from 1")
            return label
        if self.least_score is not None and text.strip() in ("", "-1"):
            return NO_LABEL
        label = _integer(text, "action_id")
        if not 1 <= label <= self.num_classes:
            raise ValueError(f"action_id {label} is outside 1 to {self.num_classes}")
        return label

    def score(self, text: str) -> float:
        """Parse a score; ValueError with the cause."""
        score = _float(text, "score")
        if self.num_classes is not None and not 0 <= score <= 1:
            hint = (
                "annotated boxes, whose last column is a person, belong to AVA.TRAIN_GT_BOX_LISTS or GROUNDTRUTH_FILE"
            )
            raise ValueError(f"score {short(text.strip())} is not from 0 to 1 ({hint})")
        if not math.isfinite(score):
            raise ValueError(f"score {short(text.strip())} is not finite")
        return score

    def check_boxes(self, boxes: np.ndarray) -> None:
        """Check (N, 4) boxes; ValueError with the cause."""
        if not np.isfinite(boxes).all():
            raise ValueError(f"edge {boxes[~np.isfinite(boxes)][0]} is not finite")
        if self.num_classes is None:
            if self.least_score is None and not (boxes[:, :2] <= boxes[:, 2:]).all():
                raise ValueError("annotated boxes need x1 <= x2 and y1 <= y2")
            return
        if not ((boxes >= -ROUNDING) & (boxes <= 1 + ROUNDING)).all():
            raise ValueError("its box reaches out of the picture: edges are shares of width and height, 0 to 1")
        if not (boxes[:, :2] < boxes[:, 2:]).all():
            raise ValueError("its box has no area: x1 must be under x2, y1 under y2")

    def parse(self, fields: list[str]) -> tuple[str, float, list[float], int, float] | None:
        """Parse the columns of a line to video, second, box, class and score; None for a score under the least.

        Raises:
            ValueError: with the cause.
        """
        if len(fields) not in self.widths:
            kind = "annotated" if self.least_score is None else "predicted"
            last = "[,person_id]" if self.least_score is None else ",score"
            raise ValueError(
                f"it has {len(fields)} columns; {kind} boxes are video,second,x1,y1,x2,y2,action_id{last}, key "
                "frames without a box video,second"
            )
        score = 1.0 if self.least_score is None or len(fields) == 7 else self.score(fields[7])
        if self.least_score is not None and score < self.least_score:
            return None
        box = [_float(field, "edge") for field in fields[2:6]]
        self.check_boxes(np.array([box]))
        return *key_of(fields), box, self.label(fields[6]), score


class Columns(NamedTuple):
    """Columns of a file of boxes, see `BoxTable`, and its key frames without a box."""

    names: list[str]
    videos: np.ndarray
    seconds: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    lines: np.ndarray
    scores: np.ndarray
    empty: list[tuple[str, float]]


def read_columns(path: str, rules: Rules, errors: list[str] | None) -> Columns:
    """Read the columns of a file of boxes; `errors` takes the messages about wrong lines, None raises the first."""
    columns = _read_at_once(path, next(lines_of(path), (0, ""))[1], rules)
    return columns or _read_but_empty(path, rules) or _read_by_line(path, rules, errors)


def _read_but_empty(path: str, rules: Rules) -> Columns | None:
    """Read a file with pandas, but for its lines of key frames without a box; None also if it has no such line."""
    numbers, lines, empty = [], [], []
    for number, line in lines_of(path):
        if line.count(",") != 1:
            numbers.append(number)
            lines.append(line)
            continue
        try:
            empty.append(key_of(fields_of(line)))
        except ValueError:
            return None
    if not empty or not lines:
        return None
    columns = _read_at_once(io.StringIO("".join(lines)), lines[0], rules)
    return columns and columns._replace(lines=np.array(numbers)[columns.lines - 1], empty=empty)


def _read_at_once(source: str | io.StringIO, first: str, rules: Rules) -> Columns | None:
    """Read a file, whose first line is given, with pandas; None if it has a line that is wrong, blank or unusual."""
    import pandas as pd  # takes 0.2 s, and few runs need it

    width = first.count(",") + 1
    if width not in rules.widths:
        return None
    types = dict.fromkeys((*_EDGES, "last"), "float64") | {"video": object, "second": "category", "class": "category"}
    if rules.least_score is None:
        types["last"] = object  # a person, ignored
    # From version 3.1 on the default is exact, and the argument deprecated.
    exact = {"float_precision": "round_trip"} if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1) else {}
    try:
        fields = first.split(",")
        for text in (*fields[2:6], *(fields[7:] if rules.least_score is not None else ())):
            float(text)  # pandas takes a column of True for numbers
        table = pd.read_csv(
            source,
            header=None,
            names=list(_COLUMNS[:width]),  # a longer line is an error
            dtype=types,
            keep_default_na=False,
            skip_blank_lines=False,
            quoting=csv.QUOTE_NONE,  # a stray quote must not swallow the lines below
            encoding="utf-8-sig",
            encoding_errors="surrogateescape",
            **exact,
        )
        lines = np.arange(1, len(table) + 1)
        scores = np.ones(len(table)) if rules.least_score is None or width == 7 else table["last"].to_numpy()
        if not np.isfinite(scores).all() or (
            rules.num_classes is not None and not ((scores >= 0) & (scores <= 1)).all()
        ):
            return None
        seconds = _mapped(table["second"], _second)
        labels = _mapped(table["class"], rules.label)
        if rules.least_score is not None:
            kept = scores >= rules.least_score
            table, lines, scores, seconds, labels = table[kept], lines[kept], scores[kept], seconds[kept], labels[kept]
        boxes = np.stack([table[edge].to_numpy() for edge in _EDGES], axis=1)
        rules.check_boxes(boxes)
        videos, names = pd.factorize(table["video"])
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError):
        return None
    names = [name.strip() for name in names]
    if len(set(names)) < len(names) or any(not name or '"' in name for name in names):
        return None
    return Columns(names, videos, seconds, boxes, labels, lines, scores, [])


def _mapped(column, parse) -> np.ndarray:
    """Parse each category of a column once, as text; (N,) numbers."""
    values = np.array([parse(str(text)) for text in column.cat.categories] or [0])
    codes = column.cat.codes.to_numpy()
    if (codes < 0).any():
        raise ValueError("a value is missing")
    return values[codes]


def _read_by_line(path: str, rules: Rules, errors: list[str] | None) -> Columns:
    """Read a file line by line, so that a wrong line is named."""
    rows, empty = [], []
    for number, line in lines_of(path):
        try:
            fields = fields_of(line)
            if len(fields) == 2:
                empty.append(key_of(fields))
                continue
            row = rules.parse(fields)
        except ValueError as error:
            record(ValueError(f"{path}, line {number}: {quote(line.rstrip())}: {error}"), errors)
            continue
        if row is not None:
            rows.append((*row, number))
    names: dict[str, int] = {}
    videos = np.array([names.setdefault(row[0], len(names)) for row in rows], np.int64)
    _, seconds, boxes, labels, scores, lines = zip(*rows, strict=True) if rows else ((),) * 6
    labels, lines = np.array(labels, np.int64), np.array(lines, np.int64)
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    return Columns(list(names), videos, np.array(seconds), boxes, labels, lines, np.array(scores, np.float64), empty)


def lines_of(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    with open_text(path) as stream:
        yield from ((number, line) for number, line in enumerate(stream, start=1) if line.strip())


def open_text(path: str | os.PathLike) -> TextIO:
    """Open a file as text; bytes that are no text stay."""
    return open(path, encoding="utf-8-sig", errors="surrogateescape")


def fields_of(line: str) -> list[str]:
    """Split a line at its commas; a field may be quoted."""
    line = line.rstrip("\r\n")
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise ValueError(f"it does not parse ({error})") from None


def key_of(fields: list[str]) -> tuple[str, float]:
    """Return the key frame of a line's columns, as (video, second)."""
    name = fields[0].strip()
    if not name:
        raise ValueError("it names no video")
    return name, _second(fields[1])


def _second(text: str) -> float:
    """Parse a second to the microsecond; an int where it is whole."""
    second = _float(text, "second")
    if math.isnan(second):
        raise ValueError("second nan is not a number")
    if abs(second) > _LARGEST:
        raise ValueError(f"second {short(text.strip())} is beyond {_LARGEST}")
    second = round(second, 6)
    return int(second) if second.is_integer() else second


def _integer(text: str, what: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{what} {quote(text.strip())} is not a whole number") from None
    if abs(number) > _LARGEST:
        raise ValueError(f"{what} {short(text.strip())} is beyond {_LARGEST}")
    return number


def _float(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{what} {quote(text.strip())} is not a number") from None
