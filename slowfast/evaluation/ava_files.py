"""Evaluate and write AVA's CSV files, whose format and readers are in `slowfast.datasets.annotations.ava`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from slowfast.datasets.annotations.ava import read_detections, read_excluded, read_groundtruth
from slowfast.evaluation.ava import BoxRows, evaluate_ava
from slowfast.utils.files import atomic_write

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
    skipped = read_excluded(excluded) if excluded is not None else ()
    return evaluate_ava(read_groundtruth(groundtruth), read_detections(detections), skipped, class_ids)


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
