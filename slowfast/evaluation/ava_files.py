"""Read, write and evaluate AVA's CSV files: boxes with classes, detections, excluded key frames. None has a header.

A line of boxes is `video,second,x1,y1,x2,y2,class[,last]`; `last` is the person in annotations, the score in
detections. A line of key frames is `video,second`; among boxes it is a key frame without a box, as in AVA-Kinetics. A
second may have a fraction. Seconds are equal if they agree to the microsecond, however they are written: 902, 0902.000.
Blank lines are skipped.

pandas reads a file of a million boxes in a third of the time of Python's csv module, or less. It does not say which
line is wrong and why, so a file with a wrong or unusual line is read again, line by line.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from slowfast.evaluation.ava import DEFAULT_EVALUATION, BoxRows, evaluate_ava
from slowfast.runtime.distributed import atomic_write
from slowfast.utils.errors import quote, record, short

# Coordinates may exceed 0 to 1 by this much: published detections do by 0.004, less than a pixel or two.
_ROUNDING = 0.005
NO_LABEL = -1
_LARGEST = 2**31 - 1
_EDGES = ("x1", "y1", "x2", "y2")
_COLUMNS = ("video", "second", *_EDGES, "class", "last")
_LINES_AT_A_TIME = 100_000


def second_text(second: float) -> str:
    """Format a second as AVA's files do: 0902; with a fraction, 0902.5."""
    whole, _, fraction = f"{second:.6f}".partition(".")
    return ".".join(filter(None, [whole.zfill(4), fraction.rstrip("0")]))


def second_column(seconds: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return seconds (N,) as int64, or as float64 if one has a fraction."""
    column = np.asarray(seconds, np.float64)
    whole = column.astype(np.int64)
    return whole if (whole == column).all() else column


@dataclass(frozen=True)
class BoxTable:
    """The rows of a file of boxes, in order.

    Attributes:
        path: of the file.
        names: of the videos, in order of first appearance.
        videos: (N,) int32 position of the row's video in `names`.
        seconds: (N,) int64, or float64 if one has a fraction.
        boxes: (N, 4) float64 x1, y1, x2, y2, relative to width and height of the picture, as in the file.
        labels: (N,) int32 class ids from 1, or NO_LABEL.
        lines: (N,) int32 line number in the file, from 1.
        scores: (N,) float64 of detections, 1 where the file has none; None for annotations.
        empty: (video, second) of the key frames that the file names without a box.
    """

    path: str
    names: list[str]
    videos: np.ndarray
    seconds: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    lines: np.ndarray
    scores: np.ndarray | None = None
    empty: list[tuple[str, float]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.videos)

    def rows(self, chosen: np.ndarray) -> BoxTable:
        """Return the chosen rows (mask or numbers), with the key frames that have no box."""
        columns = (column[chosen] for column in (self.videos, self.seconds, self.boxes, self.labels, self.lines))
        scores = None if self.scores is None else self.scores[chosen]
        return BoxTable(self.path, self.names, *columns, scores, self.empty)

    def places(self, rows: Iterable[int]) -> list[str]:
        """Return file, line number and line of rows, for messages."""
        numbers = [int(self.lines[row]) for row in rows]
        wanted, lines = set(numbers), {}
        with _open(self.path) as stream:
            for number, line in enumerate(stream, start=1):
                if number in wanted:
                    lines[number] = line.rstrip()
        return [f"{self.path}, line {number}: {quote(lines[number])}" for number in numbers]

    def box_rows(self) -> BoxRows:
        """Return the rows as the evaluation takes them."""
        distinct, second = np.unique(self.seconds, return_inverse=True)
        keys = self.videos.astype(np.int64) * len(distinct) + second
        _, first, key_frame = np.unique(keys, return_index=True, return_inverse=True)
        order = np.argsort(first)  # key frames by first appearance, on which ties of the published evaluation depend
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        rows = first[order]
        names = (self.names[video] for video in self.videos[rows].tolist())
        key_frames = list(zip(names, self.seconds[rows].tolist(), strict=True))
        key_frames = list(dict.fromkeys([*key_frames, *self.empty]))
        return BoxRows(key_frames, rank[key_frame], self.boxes, self.labels, self.scores)


def read_boxes(
    path: str, num_classes: int, least_score: float | None = None, errors: list[str] | None = None
) -> BoxTable:
    """Read boxes for a data set: annotated ones, or detections of persons.

    Annotations: `video,second,x1,y1,x2,y2,action_id[,person_id]`. Detections:
    `video,second,x1,y1,x2,y2,action_id,score`, where action_id may be empty or -1. A box with several labels has
    several lines. A key frame without a box may have a line, `video,second`.

    Args:
        path: the file.
        num_classes: class ids are 1 to this.
        least_score: the file has detections, of which those with a lower score are dropped (unchecked). None for
            annotations.
        errors: takes the messages about wrong lines, which are then skipped; None raises the first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong line, with file, line number and line: wrong columns, text that is no number, an edge more
            than `_ROUNDING` outside the picture, a box without area, a class or a score out of range.
    """
    return _read(path, _Rules(num_classes, least_score), errors)


def read_detections(path: str | os.PathLike) -> BoxRows:
    """Read the boxes of a file of detections for evaluation, in its order; scores are 1 if it has none.

    Boxes and scores may be any finite numbers, as in the published evaluation.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong line, with file, line number and line.
    """
    return _read(path, _Rules(None, -math.inf), None).box_rows()


def read_groundtruth(path: str | os.PathLike) -> BoxRows:
    """Read the boxes of a file of annotations for evaluation, in its order; the person is ignored.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong line, with file, line number and line; also a box with x1 > x2 or y1 > y2.
    """
    return _read(path, _Rules(None, None), None).box_rows()


def read_excluded(path: str | os.PathLike, errors: list[str] | None = None) -> list[tuple[str, float]]:
    """Read key frames that are excluded from scoring, as (video, second).

    Args:
        path: the file.
        errors: takes the messages about wrong lines, which are then skipped; None raises the first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong line, with file, line number and line.
    """
    excluded = []
    for number, line in _lines(path):
        try:
            fields = _fields(line)
            if len(fields) != 2:
                raise ValueError("it is not video,second")
            excluded.append(_key(fields))
        except ValueError as error:
            record(ValueError(f"{path}, line {number}: {quote(line.rstrip())}: {error}"), errors)
    return excluded


def evaluate_ava_files(
    groundtruth: str | os.PathLike,
    detections: str | os.PathLike,
    excluded: str | os.PathLike | None = None,
    class_ids: Iterable[int] | None = None,
    evaluation: str = DEFAULT_EVALUATION,
) -> dict:
    """Run `evaluate_ava` on files in AVA's format; detections without a score column have score 1.

    Args:
        groundtruth, detections: CSV files of boxes.
        excluded: CSV file of the key frames to leave out, if any.
        class_ids: ids of the classes to measure, as in a label map; None for all classes in the two files.
        evaluation: `pyslowfast` or `activitynet`, see `slowfast.evaluation.ava`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong line, with file, line number and line; see also `evaluate_ava`.
    """
    skipped = read_excluded(excluded) if excluded is not None else ()
    return evaluate_ava(read_groundtruth(groundtruth), read_detections(detections), skipped, class_ids, evaluation)


def write_detections(path: str | os.PathLike, rows: BoxRows) -> None:
    """Write detections atomically in the main process, with all significant digits.

    Raises:
        ValueError: boxes without scores.
        OSError: the file cannot be written.
    """
    if rows.scores is None:
        raise ValueError(f"{path}: detections need a score for every box")
    # Nine digits represent every float32 exactly.
    text = "{:.9g}".format if rows.scores.dtype == np.float32 else repr
    _write_rows(path, rows, lambda part: map(text, rows.scores[part].tolist()))


def write_groundtruth(path: str | os.PathLike, rows: BoxRows) -> None:
    """Write annotated boxes atomically in the main process; the last column is the person id, if known.

    Key frames without a box come last, as lines `video,second`.

    Raises:
        OSError: the file cannot be written.
    """
    persons = rows.scores
    last = None if persons is None else lambda part: persons[part].astype(int).tolist()
    _write_rows(path, rows, last, sorted(set(range(len(rows.key_frames))) - set(rows.key_frame.tolist())))


@dataclass(frozen=True)
class _Rules:
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
        if not ((boxes >= -_ROUNDING) & (boxes <= 1 + _ROUNDING)).all():
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
        return *_key(fields), box, self.label(fields[6]), score


class _Columns(NamedTuple):
    names: list[str]
    videos: np.ndarray
    seconds: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    lines: np.ndarray
    scores: np.ndarray
    empty: list[tuple[str, float]]


def _read(path: str | os.PathLike, rules: _Rules, errors: list[str] | None) -> BoxTable:
    path = os.fspath(path)
    columns = _read_at_once(path, next(_lines(path), (0, ""))[1], rules)
    columns = columns or _read_but_empty(path, rules) or _read_by_line(path, rules, errors)
    names, videos, seconds, boxes, labels, lines, scores, empty = columns
    videos, labels, lines = (column.astype(np.int32) for column in (videos, labels, lines))
    if rules.least_score is None:
        scores = None
    return BoxTable(path, names, videos, second_column(seconds), boxes, labels, lines, scores, empty)


def _read_but_empty(path: str, rules: _Rules) -> _Columns | None:
    """Read a file with pandas, but for its lines of key frames without a box; None also if it has no such line."""
    numbers, lines, empty = [], [], []
    for number, line in _lines(path):
        if line.count(",") != 1:
            numbers.append(number)
            lines.append(line)
            continue
        try:
            empty.append(_key(_fields(line)))
        except ValueError:
            return None
    if not empty or not lines:
        return None
    columns = _read_at_once(io.StringIO("".join(lines)), lines[0], rules)
    return columns and columns._replace(lines=np.array(numbers)[columns.lines - 1], empty=empty)


def _read_at_once(source: str | io.StringIO, first: str, rules: _Rules) -> _Columns | None:
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
    return _Columns(names, videos, seconds, boxes, labels, lines, scores, [])


def _mapped(column, parse) -> np.ndarray:
    """Parse each category of a column once, as text; (N,) numbers."""
    values = np.array([parse(str(text)) for text in column.cat.categories] or [0])
    codes = column.cat.codes.to_numpy()
    if (codes < 0).any():
        raise ValueError("a value is missing")
    return values[codes]


def _read_by_line(path: str, rules: _Rules, errors: list[str] | None) -> _Columns:
    """Read a file line by line, so that a wrong line is named."""
    rows, empty = [], []
    for number, line in _lines(path):
        try:
            fields = _fields(line)
            if len(fields) == 2:
                empty.append(_key(fields))
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
    return _Columns(list(names), videos, np.array(seconds), boxes, labels, lines, np.array(scores, np.float64), empty)


def _lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    with _open(path) as stream:
        yield from ((number, line) for number, line in enumerate(stream, start=1) if line.strip())


def _open(path: str | os.PathLike):
    return open(path, encoding="utf-8-sig", errors="surrogateescape")


def _fields(line: str) -> list[str]:
    """Split a line at its commas; a field may be quoted."""
    line = line.rstrip("\r\n")
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise ValueError(f"it does not parse ({error})") from None


def _key(fields: list[str]) -> tuple[str, float]:
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


def _write_rows(
    path: str | os.PathLike,
    rows: BoxRows,
    last: Callable[[slice], Iterable[object]] | None,
    empty: Sequence[int] = (),
) -> None:
    """Write a line for each row, and for each key frame in `empty`; `last` returns the eighth column of a slice."""
    places = [f"{_quoted(video)},{second_text(second)}" for video, second in rows.key_frames]

    def fill(stream: Any) -> None:
        for start in range(0, len(rows), _LINES_AT_A_TIME):
            part = slice(start, start + _LINES_AT_A_TIME)
            heads = _heads(places, rows.key_frame[part], rows.boxes[part])
            columns = (rows.classes[part].tolist(),) if last is None else (rows.classes[part].tolist(), last(part))
            lines = (",".join([head, *map(str, values)]) for head, *values in zip(heads, *columns, strict=True))
            stream.write("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
        stream.write("".join(f"{places[number]}\n" for number in empty).encode(errors="surrogateescape"))

    atomic_write(os.path.abspath(path), fill)


def _heads(places: list[str], key_frame: np.ndarray, boxes: np.ndarray) -> list[str]:
    """Return the text of each line up to the box, formatted once for consecutive lines of the same box."""
    keyed = np.column_stack([key_frame, boxes])
    starts = np.flatnonzero(np.append(True, (keyed[1:] != keyed[:-1]).any(axis=1)))
    runs = zip(key_frame[starts].tolist(), boxes[starts].tolist(), strict=True)
    texts = [",".join([places[place], *map(repr, box)]) for place, box in runs]
    lengths = np.diff(np.append(starts, len(boxes))).tolist()
    return [text for text, length in zip(texts, lengths, strict=True) for _ in range(length)]


def _quoted(video: str) -> str:
    if any(letter in video for letter in ',"\r\n'):
        return '"' + video.replace('"', '""') + '"'
    return video
