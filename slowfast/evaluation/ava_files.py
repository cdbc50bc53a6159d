"""Read, write and evaluate AVA's CSV files: boxes with classes, detections, excluded key frames. None has a header.

A line of boxes is `video,second,x1,y1,x2,y2,class[,last]`; `last` is the person in annotations, the score in
detections. A line of key frames is `video,second`; among boxes it is a key frame without a box, as in AVA-Kinetics. A
second may have a fraction. Seconds are equal if they agree to the microsecond, however they are written: 902, 0902.000.
Blank lines are skipped.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slowfast.evaluation.ava import DEFAULT_EVALUATION, BoxRows, evaluate_ava
from slowfast.evaluation.ava_lines import Rules, fields_of, key_of, lines_of, open_text, read_columns
from slowfast.runtime.distributed import atomic_write
from slowfast.utils.errors import quote, record

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
        with open_text(self.path) as stream:
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
            than `ROUNDING` outside the picture, a box without area, a class or a score out of range.
    """
    return _read(path, Rules(num_classes, least_score), errors)


def read_detections(path: str | os.PathLike) -> BoxRows:
    """Read the boxes of a file of detections for evaluation, in its order; scores are 1 if it has none.

    Boxes and scores may be any finite numbers, as in the published evaluation.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong line, with file, line number and line.
    """
    return _read(path, Rules(None, -math.inf), None).box_rows()


def read_groundtruth(path: str | os.PathLike) -> BoxRows:
    """Read the boxes of a file of annotations for evaluation, in its order; the person is ignored.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong line, with file, line number and line; also a box with x1 > x2 or y1 > y2.
    """
    return _read(path, Rules(None, None), None).box_rows()


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
    for number, line in lines_of(path):
        try:
            fields = fields_of(line)
            if len(fields) != 2:
                raise ValueError("it is not video,second")
            excluded.append(key_of(fields))
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


def _read(path: str | os.PathLike, rules: Rules, errors: list[str] | None) -> BoxTable:
    path = os.fspath(path)
    names, videos, seconds, boxes, labels, lines, scores, empty = read_columns(path, rules, errors)
    videos, labels, lines = (column.astype(np.int32) for column in (videos, labels, lines))
    if rules.least_score is None:
        scores = None
    return BoxTable(path, names, videos, second_column(seconds), boxes, labels, lines, scores, empty)


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
