"""AVA's CSV files: `video,second,x1,y1,x2,y2,class[,number]` a line, and excluded key frames, `video,second`.

The eighth column is the score of a detection, or the number of the person in ground truth. Blank lines are passed over.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from slowfast.evaluation.ava import BoxRows, evaluate_ava
from slowfast.utils.files import atomic_write

_FORMAT = "video,second,x1,y1,x2,y2,class[,score]"
_COLUMNS = [("video", "O"), ("second", "i8"), ("x1", "f8"), ("y1", "f8"), ("x2", "f8"), ("y2", "f8"), ("class", "i8")]
_BOX = ["x1", "y1", "x2", "y2"]
_LARGEST_CLASS = 2**31 - 1
_LINES_AT_A_TIME = 100_000


def evaluate_ava_files(
    groundtruth: str | os.PathLike,
    detections: str | os.PathLike,
    excluded: str | os.PathLike | None = None,
    class_ids: Iterable[int] | None = None,
) -> dict:
    """`evaluate_ava` of files in AVA's format; detections without a score column have score 1.

    Args:
        groundtruth, detections: CSV files of boxes.
        excluded: CSV file of the key frames to leave out, if any.
        class_ids: of the classes to measure, as a label map lists them; without them all classes in the two files.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong line, with file, number and line; otherwise as `evaluate_ava`.
    """
    skipped = read_excluded(excluded) if excluded is not None else set()
    return evaluate_ava(read_groundtruth(groundtruth), read_detections(detections), skipped, class_ids)


def read_detections(path: str | os.PathLike) -> BoxRows:
    """The boxes of a file of detections, in its order; scores are 1 where it has none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong line, with file, number and line.
    """
    table = _read(path, "f8", _detection_wrong)
    return _rows(table, np.ascontiguousarray(table["last"]))


def read_groundtruth(path: str | os.PathLike) -> BoxRows:
    """The boxes of a file of annotations, in its order; its eighth column, the person, is passed over.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong line, with file, number and line; here also one whose box ends before it begins.
    """
    return _rows(_read(path, "O", _groundtruth_wrong), None)


def read_excluded(path: str | os.PathLike) -> set[tuple[str, int]]:
    """The key frames, (video, second), of a file of excluded ones.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong line, with file, number and line.
    """
    excluded = set()
    for number, row in _lines(path):
        try:
            video, second = row
            excluded.add((video, int(second)))
        except ValueError:
            raise ValueError(f"{path}, line {number}: {','.join(row)!r} is not video,second") from None
    return excluded


def write_detections(path: str | os.PathLike, rows: BoxRows) -> None:
    """Let the main process write detections, whole or not at all, with as many digits as the numbers have.

    Raises:
        ValueError: boxes without scores.
        OSError: the file cannot be written.
    """
    if rows.scores is None:
        raise ValueError(f"{path}: detections need a score for every box")
    # Nine digits give every float32 back.
    text = "{:.9g}".format if rows.scores.dtype == np.float32 else repr
    _write(path, rows, lambda part: map(text, rows.scores[part].tolist()))


def write_groundtruth(path: str | os.PathLike, rows: BoxRows) -> None:
    """Let the main process write annotated boxes, whole or not at all; the last column is the person's number, if any.

    Raises:
        OSError: the file cannot be written.
    """
    persons = rows.scores
    _write(path, rows, None if persons is None else lambda part: persons[part].astype(int).tolist())


def _rows(table: np.ndarray, scores: np.ndarray | None) -> BoxRows:
    numbers: dict[tuple[str, int], int] = {}
    keys = zip(table["video"].tolist(), table["second"].tolist(), strict=True)
    key_frame = [numbers.setdefault(key, len(numbers)) for key in keys]
    boxes = np.stack([table[name] for name in _BOX], axis=1)
    return BoxRows(list(numbers), key_frame, boxes, table["class"], scores)


def _read(path: str | os.PathLike, last: str, wrong: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The columns of a file: all lines at once if they are plain, one by one if not, to say which is wrong.

    Args:
        last: NumPy's name for the type of the eighth column, named `last` in the result, and 1 where there is none.
        wrong: gives (N,) whether a line cannot be what is meant, though it reads.
    """
    table = _table_at_once(path, last)
    return _table_by_line(path, last, wrong) if table is None or wrong(table).any() else table


def _table_at_once(path: str | os.PathLike, last: str) -> np.ndarray | None:
    """The columns of a file; None if there is a line that NumPy's reader does not take."""
    columns = [*_COLUMNS, ("last", last)]
    first = next(_lines(path), None)
    if first is None:
        return np.empty(0, dtype=columns)
    given = columns[: max(7, len(first[1]))]
    try:
        with _open(path) as stream:
            table = np.loadtxt(stream, dtype=given, delimiter=",", quotechar='"', comments=None, ndmin=1)
    except ValueError:
        return None
    if given == columns:
        return table
    whole = np.ones(len(table), dtype=columns)
    for name, _ in given:
        whole[name] = table[name]
    return whole


def _table_by_line(path: str | os.PathLike, last: str, wrong: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """As `_table_at_once`, with a ValueError for the first wrong line."""
    parsed = []
    for number, row in _lines(path):
        line = f"{path}, line {number}: {','.join(row)!r}"
        if len(row) not in (7, 8):
            raise ValueError(f"{line} has {len(row)} columns; a line is {_FORMAT}")
        video, second, x1, y1, x2, y2, class_id, score = row if len(row) == 8 else [*row, "1"]
        try:
            values = (video, int(second), float(x1), float(y1), float(x2), float(y2), int(class_id), score)
            parsed.append(np.array([values], dtype=[*_COLUMNS, ("last", last)]))
        except (ValueError, OverflowError):
            raise ValueError(f"{line}: second and class must be whole numbers, box and score numbers") from None
        if wrong(parsed[-1]).any():
            raise ValueError(
                f"{line}: a box must be four finite numbers (in ground truth with x1 <= x2 and y1 <= y2), a class at "
                f"most {_LARGEST_CLASS}, a score a number"
            )
    return np.concatenate(parsed)


def _box_wrong(table: np.ndarray) -> np.ndarray:
    wrong = np.abs(table["class"]) > _LARGEST_CLASS
    for name in _BOX:
        wrong |= ~np.isfinite(table[name])
    return wrong


def _detection_wrong(table: np.ndarray) -> np.ndarray:
    return _box_wrong(table) | np.isnan(table["last"])


def _groundtruth_wrong(table: np.ndarray) -> np.ndarray:
    return _box_wrong(table) | (table["x1"] > table["x2"]) | (table["y1"] > table["y2"])


def _lines(path: str | os.PathLike) -> Iterator[tuple[int, list[str]]]:
    """Numbers and columns of the lines that are not blank."""
    with _open(path) as stream:
        reader = csv.reader(stream)
        try:
            for row in reader:
                if len(row) > 1 or (row and row[0].strip()):
                    yield reader.line_num, row
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from None


def _open(path: str | os.PathLike) -> Any:
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _write(path: str | os.PathLike, rows: BoxRows, last: Callable[[slice], Iterable[object]] | None) -> None:
    """Write a line for each row; `last` gives the eighth column of some rows."""
    places = [f"{_quoted(video)},{second:04d}" for video, second in rows.key_frames]

    def fill(stream: Any) -> None:
        for start in range(0, len(rows), _LINES_AT_A_TIME):
            part = slice(start, start + _LINES_AT_A_TIME)
            heads = _heads(places, rows.key_frame[part], rows.boxes[part])
            columns = (rows.classes[part].tolist(),) if last is None else (rows.classes[part].tolist(), last(part))
            lines = (",".join([head, *map(str, values)]) for head, *values in zip(heads, *columns, strict=True))
            stream.write("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))

    atomic_write(os.path.abspath(path), fill)


def _heads(places: list[str], key_frame: np.ndarray, boxes: np.ndarray) -> list[str]:
    """The text of each line as far as the box. Lines of one box for several classes stand together: it is made once."""
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
