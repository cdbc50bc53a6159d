"""Read lists of frames, in which Charades, AVA and similar sets name the images of their videos.

A line is `original_vido_id video_id frame_id path labels`, separated by spaces; labels are a quoted comma list. Nearly
all of the millions of lines follow from the line before by counting up. So they are read and kept as runs, which takes
a third of the time of pandas, a few bytes per video, and names a wrong line.
"""

from __future__ import annotations

import bisect
import csv
import itertools
import operator
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from slowfast.utils.errors import quote, record, short

COLUMNS = ["original_vido_id", "video_id", "frame_id", "path", "labels"]
_MAX_DIGITS = 18  # longer digit strings are part of a name

# Text before the last number of a path, that number, and text after it; numbers in the suffix do not count.
_NUMBERED = re.compile(rf"(.*?)([0-9]{{1,{_MAX_DIGITS}}})([^0-9]*(?:\.[^./]*)?)", re.DOTALL)
_NOWHERE = "\n"  # begins no line


class FrameList:
    """Frame paths and labels of videos; a few bytes per video, so sending it to workers is cheap.

    Attributes:
        videos: names of the videos, in order of first appearance.
    """

    def __init__(self, videos: dict[str, _Video]) -> None:
        self.videos = list(videos)
        self._paths = [video.paths for video in videos.values()]
        self._gaps = [video.gaps for video in videos.values()]
        spans = [video.spans for video in videos.values()]
        self._spans = np.array(list(itertools.chain(*spans)), np.int32).reshape(-1, 3)
        self._ends = np.cumsum([len(rows) for rows in spans])

    def __len__(self) -> int:
        return len(self.videos)

    def paths(self, video: int) -> FramePaths:
        """Return the frame paths of video number `video`, ordered by `frame_id`."""
        return self._paths[video]

    def paths_by_name(self) -> dict[str, FramePaths]:
        """Return the frame paths of each video by its name."""
        return dict(zip(self.videos, self._paths, strict=True))

    def spans(self, video: int) -> np.ndarray:
        """Return (n, 3) int32 labels of the video: class, first and last frame, from 0, both included."""
        return self._spans[self._ends[video - 1] if video else 0 : self._ends[video]]

    def gaps(self, video: int) -> int:
        """Return how many `frame_id`s are missing between the first and the last of the video."""
        return self._gaps[video]


def read_frame_list(
    files: str | Sequence[str], prefix: str = "", num_classes: int | None = None, errors: list[str] | None = None
) -> FrameList:
    """Read one list of frames or several that belong together.

    The frames of a video may be in any order and place. Blank lines are skipped.

    Args:
        files: the lists (UTF-8; other bytes in paths are preserved).
        prefix: folder that relative paths start from.
        num_classes: labels are 0 to this, exclusive; None ignores labels.
        errors: takes the messages about wrong lines, which are then skipped; None raises the first.

    Raises:
        FileNotFoundError: no such list.
        ValueError: a line that does not parse, a label outside the classes, a frame twice (with file, line number and
            line), or no frame at all.
    """
    files = [files] if isinstance(files, str) else list(files)
    runs: dict[str, list[_Run]] = {}
    for path in files:
        _Reader(path, num_classes, errors).read_into(runs)
    if not runs:
        raise ValueError(f"{', '.join(files)} list no frame")
    return FrameList({name: _video(name, of_video, prefix, errors) for name, of_video in runs.items()})


@dataclass(slots=True)
class _Run:
    """Consecutive lines whose frames and paths count up together and whose labels are the same."""

    place: str  # file, line number and text of the first line
    frame: int  # id of the first frame
    path: _PathRun
    classes: tuple[int, ...]
    count: int = 1


@dataclass(slots=True)
class _Video:
    """Frame paths, label spans and number of missing frames of a video."""

    paths: FramePaths
    spans: list[tuple[int, int, int]]
    gaps: int


class _Digits(dict[int, str]):
    """Cache of numbers as zero-padded text."""

    LARGEST = 100_000

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def __missing__(self, number: int) -> str:
        text = f"{number:0{self._width}d}"
        if number < self.LARGEST:
            self[number] = text
        return text


class _Reader:
    """Reader of one file. A line that continues the run is only compared; others are parsed."""

    def __init__(self, file: str, num_classes: int | None, errors: list[str] | None) -> None:
        self._file, self._errors, self._num_classes = file, errors, num_classes
        self._digits = {width: _Digits(width) for width in range(1, _MAX_DIGITS + 1)}
        self._known_labels: dict[str, tuple[int, ...]] = {}

    def read_into(self, runs: dict[str, list[_Run]]) -> None:
        """Add the runs of the file to those of each video."""
        if not os.path.isfile(self._file):
            raise FileNotFoundError(f"there is no list of frames {self._file}")
        with open(self._file, encoding="utf-8-sig", errors="surrogateescape") as stream:
            header = stream.readline()
            if header.split() != COLUMNS:
                raise ValueError(
                    f"{self._file}, line 1: {quote(header.rstrip())} is not the header {' '.join(COLUMNS)!r}"
                )
            frames = self._digits[1]
            # Parts of the line that would continue the run: front, frame, middle, number, back.
            run, frame, number, numbers, (front, middle, back) = None, 0, 0, frames, (_NOWHERE, "", "")
            for place, line in enumerate(stream, start=2):
                frame += 1
                number += 1
                if line == f"{front}{frames[frame]}{middle}{numbers[number]}{back}":
                    run.count += 1
                    continue
                front = _NOWHERE
                if not line.strip():
                    continue
                try:
                    video, run, (front, middle, back) = self._parse(line, place)
                except ValueError as error:
                    record(error, self._errors)
                    continue
                runs.setdefault(video, []).append(run)
                frame, number, numbers = run.frame, run.path.number, self._digits[max(run.path.width, 1)]

    def _parse(self, line: str, place: int) -> tuple[str, _Run, tuple[str, str, str]]:
        """Parse a line to its video, its run, and the text around the two numbers that count up."""
        where = f"{self._file}, line {place}: {quote(line.rstrip())}"
        fields = line.rstrip("\r\n").split(" ")
        plain = len(fields) == 5 and '"' not in "".join(fields[:4])
        if not plain:
            fields = _quoted_fields(line, where)
        video, video_id, frame, path, labels = fields
        if not video or not path or "\0" in path:
            raise ValueError(f"{where} names no video or no path")
        if not (frame.isascii() and frame.isdigit() and len(frame) <= _MAX_DIGITS):
            raise ValueError(f"{where} has frame_id {quote(frame)}, which is not a whole number from 0 on")
        run = _Run(where, int(frame), _path_run(path), self._classes(labels, where))
        if not plain or frame != str(run.frame) or not run.path.width:
            return video, run, (_NOWHERE, "", "")
        ending = line[len(line.rstrip("\r\n")) :]
        return video, run, (f"{video} {video_id} ", f" {run.path.head}", f"{run.path.tail} {labels}{ending}")

    def _classes(self, labels: str, where: str) -> tuple[int, ...]:
        if self._num_classes is None:
            return ()
        if labels not in self._known_labels:
            self._known_labels[labels] = _parse_labels(labels, self._num_classes, where)
        return self._known_labels[labels]


def _quoted_fields(line: str, where: str) -> list[str]:
    try:
        fields = next(csv.reader([line.rstrip("\r\n")], delimiter=" ", strict=True))
    except csv.Error as error:
        raise ValueError(f"{where} does not parse: {error}") from None
    if len(fields) != len(COLUMNS):
        raise ValueError(f"{where} has {len(fields)} fields, not the {len(COLUMNS)} {' '.join(COLUMNS)!r}")
    return fields


def _parse_labels(labels: str, num_classes: int, where: str) -> tuple[int, ...]:
    text = labels[1:-1] if len(labels) > 1 and labels[0] == labels[-1] == '"' else labels
    classes = []
    for part in text.split(",") if text.strip() else []:
        digits = part.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
            raise ValueError(
                f"{where} has labels {short(labels)}, which are not whole numbers from 0 on, apart by commas"
            )
        if int(digits) >= num_classes:
            raise ValueError(f"{where} has label {int(digits)}, outside 0 to {num_classes - 1}")
        classes.append(int(digits))
    return tuple(classes)


def _path_run(path: str) -> _PathRun:
    match = _NUMBERED.fullmatch(path)
    if match is None:
        return _PathRun(path, 0, 0, "")
    head, digits, tail = match.groups()
    return _PathRun(head, int(digits), len(digits), tail)


def _video(name: str, runs: list[_Run], prefix: str, errors: list[str] | None) -> _Video:
    """Sort the runs of a video and join them."""
    runs.sort(key=lambda run: run.frame)
    runs = _without_repeats(name, runs, errors)
    counts = [run.count for run in runs]
    total, ids = sum(counts), runs[-1].frame + runs[-1].count - runs[0].frame
    return _Video(FramePaths.joined(prefix, [run.path for run in runs], counts), _spans(runs), ids - total)


def _without_repeats(name: str, runs: list[_Run], errors: list[str] | None) -> list[_Run]:
    kept: list[_Run] = []
    end = runs[0].frame
    for run in runs:
        twice = min(end - run.frame, run.count)
        if twice > 0:
            record(ValueError(f"{run.place} has frame_id {run.frame} of {name}, which another line has too"), errors)
            path = run.path._replace(number=run.path.number + twice)
            run = _Run(run.place, run.frame + twice, path, run.classes, run.count - twice)
        if run.count:
            kept.append(run)
            end = run.frame + run.count
    return kept


def _spans(runs: list[_Run]) -> list[tuple[int, int, int]]:
    """Return (class, first, last frame) of every contiguous span of a label, sorted by first frame and class."""
    spans: list[tuple[int, int, int]] = []
    since: dict[int, int] = {}
    position = 0
    for run in [*runs, None]:
        classes = set(run.classes) if run is not None else set()
        for ended in since.keys() - classes:
            spans.append((ended, since.pop(ended), position - 1))
        for begun in classes - since.keys():
            since[begun] = position
        position += run.count if run is not None else 0
    return sorted(spans, key=lambda span: (span[1], span[0]))


# A video with at most _FEW_RUNS runs, or runs of _LONG_RUN paths on average, is kept as runs.
_FEW_RUNS, _LONG_RUN = 16, 4


class _PathRun(NamedTuple):
    """Paths that count up: `head`, `number` of the first, zero-padded to `width` digits (0: no number), `tail`."""

    head: str
    number: int
    width: int
    tail: str

    def path(self, step: int = 0) -> str:
        """Return the path `step` after the first."""
        digits = f"{self.number + step:0{self.width}d}" if self.width else ""
        return f"{self.head}{digits}{self.tail}"


class FramePaths(Sequence[str]):
    """Lazy sequence of the frame paths of a video.

    Args:
        prefix: folder that relative paths start from.
        runs: consecutive runs, none of them empty.
        counts: number of paths of each run.
    """

    def __init__(self, prefix: str, runs: Sequence[_PathRun], counts: Sequence[int]) -> None:
        self._prefix, self._runs = prefix, tuple(runs)
        self._starts = (0, *itertools.accumulate(counts))
        self._names: np.ndarray | None = None
        if len(self._runs) > max(_FEW_RUNS, len(self) / _LONG_RUN):
            # Irregular names: bytes of equal length take a fraction of the memory of strings.
            self._names = np.array([os.fsencode(self._name(i)) for i in range(len(self))])
            self._runs, self._starts = (), (0, len(self))

    @staticmethod
    def joined(prefix: str, runs: Sequence[_PathRun], counts: Sequence[int]) -> FramePaths:
        """Make the paths of runs after merging adjacent runs that continue each other."""
        whole: list[_PathRun] = []
        lengths: list[int] = []
        for run, count in zip(runs, counts, strict=True):
            if whole and run.width and whole[-1].path(lengths[-1]) == run.path() and whole[-1].head == run.head:
                lengths[-1] += count
            else:
                whole.append(run)
                lengths.append(count)
        return FramePaths(prefix, whole, lengths)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = operator.index(index)
        number += len(self) if number < 0 else 0
        if not 0 <= number < len(self):
            raise IndexError(f"path {index} of {len(self)}")
        return os.path.join(self._prefix, self._name(number))

    def _name(self, number: int) -> str:
        if self._names is not None:
            return os.fsdecode(self._names[number])
        run = bisect.bisect_right(self._starts, number) - 1
        return self._runs[run].path(number - self._starts[run])
