"""Read Charades' annotations as published: `Charades_v1_train.csv`, `Charades_v1_test.csv`."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from slowfast.utils.line_errors import line_of, record

_COLUMNS = ("id", "actions", "length")
_ACTION = re.compile(r"c([0-9]{1,6}) ([0-9]+(?:\.[0-9]+)?) ([0-9]+(?:\.[0-9]+)?)")


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video and its actions.

    Attributes:
        name: id of the video, the name of its file or folder.
        actions: (n, 3) float64: class, start and end in seconds.
        length: in seconds.
    """

    name: str
    actions: np.ndarray
    length: float

    def spans(self, fps: float) -> np.ndarray:
        """Return (n, 3) int32: class, first and last frame of each action; frame i is at i / `fps` seconds.

        Actions between two frames are dropped.
        """
        classes, start, end = self.actions.T
        first, last = np.ceil(start * fps), np.floor(end * fps)
        # The products above are rounded, so compare the quotients.
        first += first / fps < start
        first -= (first - 1) / fps >= start
        last -= last / fps > end
        last += (last + 1) / fps <= end
        return np.stack([classes, first, last], axis=1).astype(np.int32)[first <= last]


def read_annotations(path: str, num_classes: int, errors: list[str] | None = None) -> list[AnnotatedVideo]:
    """Read the videos of an annotation file, whose first line names its columns.

    `id` is the video, `actions` holds `c092 11.90 21.20;c147 0.00 12.60` (class, start, end), `length` seconds.

    Args:
        path: the file (UTF-8).
        num_classes: classes are 0 to this, exclusive.
        errors: takes the messages about wrong lines, which are then skipped; None raises the first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing, a line does not parse, a class does not exist, a video comes twice (with
            file, line number and line), or there is no video.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no annotation file {path}")
    videos: dict[str, AnnotatedVideo] = {}
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        rows = csv.reader(stream, strict=True)
        columns = _columns(path, rows)
        for line, row in _numbered(path, rows, errors):
            where = f"{path}, line {line}: {','.join(row)!r}"
            try:
                video = _parse(row, columns, num_classes, where)
                if video.name in videos:
                    raise ValueError(f"{where} has video {video.name}, which an earlier line has too")
                videos[video.name] = video
            except ValueError as error:
                record(error, errors)
    if not videos:
        raise ValueError(f"{path} lists no video")
    return list(videos.values())


def _columns(path: str, rows: Iterator[list[str]]) -> dict[str, int]:
    try:
        header = next(rows, [])
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: {line_of(path, 1)!r} does not parse: {error}") from None
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise ValueError(f"{path}, line 1: {','.join(header)!r} names no column {', '.join(missing)}")
    return {name: header.index(name) for name in _COLUMNS}


def _numbered(path: str, rows: Any, errors: list[str] | None) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, with the number of their first line."""
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            record(ValueError(f"{path}, line {line}: {line_of(path, line)!r} does not parse: {error}"), errors)
            continue
        if row:
            yield line, row


def _parse(row: list[str], columns: dict[str, int], num_classes: int, where: str) -> AnnotatedVideo:
    if len(row) <= max(columns.values()):
        raise ValueError(f"{where} has {len(row)} fields, too few for the columns of line 1")
    name, actions, length = (row[columns[column]].strip() for column in _COLUMNS)
    if not name or "/" in name or "\0" in name:
        raise ValueError(f"{where} has id {name!r}, which names no video")
    seconds = _number(length)
    if not 0 < seconds < math.inf:
        raise ValueError(f"{where} has length {length!r}, which is not a number of seconds over 0")
    table = [_parse_action(text.strip(), num_classes, where) for text in actions.split(";") if text.strip()]
    return AnnotatedVideo(name, np.array(table, np.float64).reshape(-1, 3), seconds)


def _parse_action(text: str, num_classes: int, where: str) -> tuple[int, float, float]:
    match = _ACTION.fullmatch(text)
    if match is None:
        raise ValueError(f"{where} has action {text!r}, which is not like 'c092 11.90 21.20'")
    number, start, end = int(match[1]), float(match[2]), float(match[3])
    if number >= num_classes:
        raise ValueError(f"{where} has class {number}, outside 0 to {num_classes - 1} (MODEL.NUM_CLASSES)")
    if end < start:
        raise ValueError(f"{where} has action {text!r}, which ends before it starts")
    return number, start, end


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
