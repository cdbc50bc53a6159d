"""Read Kinetics' annotations as published, and find the annotated videos in a folder."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from slowfast.datasets.video.find import stem, video_files
from slowfast.runtime.seed import SPLITS
from slowfast.utils.errors import quote, record

# Names of the splits in the column `split`, and of the files, as they occur over the releases.
_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "validate": "val", "validation": "val"}
_SPLIT_NAMES |= {"test": "test", "testing": "test"}
_NEEDED = ("youtube_id", "time_start", "time_end")


@dataclass(frozen=True)
class Segment:
    """An annotated segment: seconds `start` to `end` of a YouTube video, and its class ("" without label)."""

    youtube_id: str
    start: float
    end: float
    split: str
    label: str

    @property
    def name(self) -> str:
        """Name of the file, as the usual downloaders write it."""
        return f"{self.youtube_id}_{int(self.start):06d}_{int(self.end):06d}"


def read_segments(path: str, split: str = "", errors: list[str] | None = None) -> list[Segment]:
    """Read an annotation CSV, whose header has `youtube_id`, `time_start`, `time_end`, mostly `label` and `split` too.

    Args:
        path: the file.
        split: split of rows without that column; "" derives it from the file name.
        errors: takes the messages about wrong lines, which are then skipped; None raises the first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no header, or no way to tell the split; a wrong line, unless `errors` takes it; nothing in the file.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no annotation file {path}")
    split = split or split_of_name(path)
    segments = []
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as stream:
        lines = stream.read().split("\n")  # a row is a line: a stray quote must not swallow the rows below
    try:
        header = [cell.strip().lower() for cell in _cells(lines[0])]
    except csv.Error as error:
        raise ValueError(f"{path}, line 1: {quote(lines[0])} is no line of a CSV file ({error})") from None
    lacking = [name for name in _NEEDED if name not in header]
    if lacking:
        raise ValueError(
            f"{path}, line 1: {quote(lines[0])} is no header of a Kinetics annotation file; it lacks "
            f"{', '.join(lacking)}"
        )
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            segments.append(_parse(line, header, split))
        except ValueError as error:
            record(ValueError(f"{path}, line {number}: {quote(line)} {error}"), errors)
    if not segments:
        raise ValueError(f"{path} lists no video")
    return segments


def split_of_name(path: str) -> str:
    """Return the split that the file name contains as a word; "" if none."""
    words = re.findall(r"[a-z]+", os.path.basename(path).lower())
    return next((_SPLIT_NAMES[word] for word in words if word in _SPLIT_NAMES), "")


def _cells(line: str) -> list[str]:
    return next(csv.reader([line]), [])


def _parse(line: str, header: list[str], split: str) -> Segment:
    """Parse a row; the message of a ValueError continues the quoted line."""
    try:
        cells = [cell.strip() for cell in _cells(line)]
    except csv.Error as error:
        raise ValueError(f"is no line of a CSV file ({error})") from None
    if len(cells) != len(header):
        raise ValueError(f"has {len(cells)} columns, where the header has {len(header)}: {', '.join(header)}")
    row = dict(zip(header, cells, strict=True))
    if not row["youtube_id"] or "/" in row["youtube_id"]:
        raise ValueError(f"has {quote(row['youtube_id'])} for a youtube_id")
    named = row.get("split", "")
    if named and named.lower() not in _SPLIT_NAMES:
        raise ValueError(f"has split {quote(named)}, which is not one of {', '.join(_SPLIT_NAMES)}")
    split = _SPLIT_NAMES[named.lower()] if named else split
    if not split:
        raise ValueError(
            f"has no split, and the file's name does not tell it; name the file {', '.join(f'{s}.csv' for s in SPLITS)}"
        )
    label = row.get("label", "")
    if not label and split != "test":
        raise ValueError(f"has no label, which only test lists may lack (its split is {split})")
    start, end = _seconds(row, "time_start"), _seconds(row, "time_end")
    if end <= start:
        raise ValueError(f"ends at {end:g} s, not after its start at {start:g} s")
    return Segment(row["youtube_id"], start, end, split, label)


def _seconds(row: dict[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e7:
        raise ValueError(f"has {quote(row[name])} for {name}, which is not a number of seconds")
    return value


def _normal_class(name: str) -> str:
    """Normalize a class name: case, punctuation and blanks differ between folders and lists."""
    return re.sub(r"[\W_]+", " ", name.lower()).strip()


class VideoFolder:
    """Index of the video files below a folder by the segment they show.

    A file is named `ID_START_END` (any number of leading zeros) or `ID`, plus a suffix, in any subfolder.

    Args:
        root, without: see `video_files`.

    Raises:
        FileNotFoundError: no such folder.
    """

    def __init__(self, root: str, without: str = "") -> None:
        self.root, self.num_files = root, 0
        self._by_name: dict[str, list[str]] = {}
        self._by_segment: dict[tuple[str, int, int], list[str]] = {}
        for path in video_files(root, without):
            self.num_files += 1
            name = stem(path)
            self._by_name.setdefault(name, []).append(path)
            parts = re.fullmatch(r"(.+)[_-](\d+)[_-](\d+)", name, re.ASCII | re.DOTALL)
            if parts:
                key = (parts[1], int(parts[2][-9:]), int(parts[3][-9:]))
                self._by_segment.setdefault(key, []).append(path)

    def find(self, segment: Segment) -> str:
        """Return the file of a segment, "" if none; of several, prefer folders named after its class and split."""
        exact = self._by_segment.get((segment.youtube_id, int(segment.start), int(segment.end)), [])
        paths = exact or self._by_name.get(segment.youtube_id, [])
        return min(paths, key=lambda path: (-self._fit(path, segment), path)) if paths else ""

    def _fit(self, path: str, segment: Segment) -> int:
        folders = os.path.relpath(os.path.dirname(path), self.root).split(os.sep)
        label = _normal_class(segment.label)
        return sum(
            2 * (bool(label) and _normal_class(folder) == label) + (_SPLIT_NAMES.get(folder.lower()) == segment.split)
            for folder in folders
        )


def chosen_classes(path: str, known: Sequence[str]) -> list[str]:
    """Read class names, one per line, and return them as the annotations write them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line names no class, or one that an earlier line names.
    """
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as stream:
        lines = [(number, line.strip()) for number, line in enumerate(stream, start=1) if line.strip()]
    by_name = {_normal_class(name): name for name in known} | {name: name for name in known}
    chosen: dict[str, int] = {}
    for number, line in lines:
        name = by_name.get(line) or by_name.get(_normal_class(line))
        if name is None:
            raise ValueError(
                f"{path}, line {number}: {quote(line)} is none of the {len(known)} classes of the annotations"
            )
        if name in chosen:
            raise ValueError(f"{path}, line {number}: {quote(line)} is the class of line {chosen[name]} again")
        chosen[name] = number
    if not chosen:
        raise ValueError(f"{path} names no class")
    return list(chosen)
