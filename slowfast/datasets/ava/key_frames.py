"""Which frames make the clip of an annotated second: pure index arithmetic, as published for AVA.

Which rows of AVA's annotation files can be used: those whose second has a frame.

The boxes of all key frames of a data set, merged and indexed, in a few arrays that processes share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slowfast.datasets.annotations.ava_boxes import NO_LABEL, BoxTable
from slowfast.datasets.annotations.line_errors import LineError, note
from slowfast.runtime.logging import get_logger


@dataclass(frozen=True)
class Clock:
    """Seconds of annotations and numbers of frames; the frame of a second is its key frame.

    Attributes:
        fps: frames a second (`AVA.FPS`).
        first_second: that of the first frame (`AVA.FIRST_SECOND`).
    """

    fps: float = 30.0
    first_second: int = 900

    def frame_of(self, second: int) -> int:
        """The key frame of a second; under 0 for one before the first."""
        return round((second - self.first_second) * self.fps)

    def second_of(self, frame: int) -> int:
        """The second whose key frame is nearest; the even one of two as near."""
        return round(frame / self.fps) + self.first_second


def clip_frames(key: int, num_frames: int, rate: int, length: int, after: int = -1) -> list[int]:
    """Numbers of a clip's frames, clamped to the video: its first and last frame repeat.

    Args:
        key: number of the key frame.
        num_frames: of the clip.
        rate: distance of neighboring frames.
        length: frames of the video.
        after: frames of the clip from the key frame on, that one included (more than `num_frames` count as so many);
            -1 puts the key frame in the middle as published: the clip starts half its span, rounded down, before it.
    """
    start = key - (num_frames * rate // 2 if after < 0 else (num_frames - min(after, num_frames)) * rate)
    return [min(max(start + i * rate, 0), length - 1) for i in range(num_frames)]


def moments_of(frames: Sequence[int], positions: Sequence[int], own: int, clock: Clock, after: int = -1) -> list[int]:
    """The seconds whose boxes a clip needs, in order.

    Args:
        frames: numbers of the clip's frames.
        positions: of the frames in the clip to whose nearest seconds the boxes belong; those past the clip's key frame,
            as of longer clips, do not count. The last that does stands for the clip's own second, as does an empty
            list.
        own: second of the clip's key frame.
        clock: of the video.
        after: as of `clip_frames`; with -1 those past the clip's end do not count.
    """
    last = len(frames) - (1 if after < 0 else after)
    inside = [position for position in positions if position <= last]
    return [clock.second_of(frames[position]) for position in inside[:-1]] + [own]


logger = get_logger(__name__)


@dataclass(frozen=True)
class KeySeconds:
    """Which seconds can be key frames.

    Attributes:
        clock: seconds and frames.
        lengths: frames of each video, by its name; of a video whose length is not known, None.
        bounds: first and last second that count, or () for all that have a frame.
    """

    clock: Clock
    lengths: Mapping[str, int | None]
    bounds: Sequence[int] = ()

    def of(self, table: BoxTable, wrong: LineError | None = None) -> BoxTable:
        """The rows that can be used. The log says which ones are left out.

        Raises:
            ValueError: as `existing`.
        """
        missing = [name for name in table.names if not self._there(name)]
        if missing:
            logger.warning(
                "%s: %d of %d videos have no frames, such as %s; their boxes are left out",
                table.path, len(missing), len(table.names), missing[0],
            )  # fmt: skip
        outside = np.flatnonzero(~self._within(table))
        if len(outside):
            logger.warning(
                "%d of %d boxes lie outside AVA.KEY_SECONDS %s and are left out, the first is %s; for data of your "
                "own set that key to their first and last second, or to [] for all that have a frame",
                len(outside), len(table), list(self.bounds), table.places(outside[:1])[0],
            )  # fmt: skip
        return self.existing(table.rows(self.usable(table)), wrong)

    def usable(self, table: BoxTable) -> np.ndarray:
        """(N,) bool: rows of videos that are there, within the bounds."""
        there = np.array([self._there(name) for name in table.names], bool)
        return self._within(table) & there[table.videos] if len(table) else np.zeros(0, bool)

    def existing(self, table: BoxTable, wrong: LineError | None = None) -> BoxTable:
        """The rows whose second has a frame; of a video that is not there, all.

        Raises:
            ValueError: a row within the bounds whose second has none, unless `wrong` takes the message; with file, line
                number and line.
        """
        unbounded = np.iinfo(np.int64).max
        limits = np.array([self.lengths.get(name) or unbounded for name in table.names] or [0], np.int64)[table.videos]
        frames = np.rint((table.seconds.astype(np.float64) - self.clock.first_second) * self.clock.fps)
        lost = ~((frames >= 0) & (frames < limits)) & self._within(table)
        rows = np.flatnonzero(lost)
        if len(rows) and wrong is None:
            more = f" (and {len(rows) - 1} rows more)" if len(rows) > 1 else ""
            raise ValueError(self._no_frame(table, rows[:1])[0] + more)
        for message in self._no_frame(table, rows):
            note(ValueError(message), wrong)
        return table.rows(~lost)

    def _no_frame(self, table: BoxTable, rows: np.ndarray) -> list[str]:
        messages: list[str] = []
        if not len(rows):
            return messages
        for row, place in zip(rows, table.places(rows), strict=True):
            second, name, clock = int(table.seconds[row]), table.names[table.videos[row]], self.clock
            messages.append(
                f"{place}: second {second} is frame {clock.frame_of(second)} (AVA.FPS {clock.fps:g}, AVA.FIRST_SECOND "
                f"{clock.first_second}), but {name} has frames 0 to {self._last(name)}"
            )
        return messages

    def _last(self, name: str) -> str:
        length = self.lengths.get(name)
        return str(length - 1) if length else "its end"

    def _there(self, name: str) -> bool:
        return self.lengths.get(name, 0) != 0

    def _within(self, table: BoxTable) -> np.ndarray:
        if not self.bounds:
            return np.ones(len(table), bool)
        return (table.seconds >= self.bounds[0]) & (table.seconds <= self.bounds[1])


class KeyFrameBoxes:
    """Key frames, their boxes and the labels of these, from the rows of annotation files.

    A key frame is a second of a video with at least one box; they stand in order of video and second. Rows with equal
    coordinates are one box, which has all their labels; a key frame's boxes stand in the order of their first rows.

    Args:
        tables: rows of boxes, from one file or several.
        videos: names of the videos; rows of others do not count.
        num_classes: labels are 1 to this; label c becomes column c - 1.

    Attributes:
        video, second: (K,) int32 of each key frame; the video's number in `videos`.
        boxes: (n, 4) float64, relative, of all key frames one after the other.
    """

    def __init__(self, tables: Sequence[BoxTable], videos: Sequence[str], num_classes: int) -> None:
        self.num_classes = num_classes
        numbers = {name: i for i, name in enumerate(videos)}
        video = np.concatenate([_numbers_of(table, numbers) for table in tables])
        known = video >= 0
        video = video[known]
        second, boxes, labels = (
            np.concatenate([getattr(table, column) for table in tables])[known]
            for column in ("seconds", "boxes", "labels")
        )
        first, box_of_row = _distinct(np.column_stack([video, second, boxes]))
        # Boxes by video, second and first row.
        order = np.lexsort((first, second[first], video[first]))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        first, box_of_row = first[order], place[box_of_row]
        self.boxes = boxes[first]
        starts = _starts_of_runs(video[first], second[first])
        self.video, self.second = video[first][starts], second[first][starts]
        self._box_start = np.append(starts, len(first))
        labeled = labels != NO_LABEL
        pairs = np.unique(np.column_stack([box_of_row[labeled], labels[labeled]]), axis=0)
        self._label_start = np.searchsorted(pairs[:, 0], np.arange(len(first) + 1))
        self._column = (pairs[:, 1] - 1).astype(np.int32)
        self._video_start = np.searchsorted(self.video, np.arange(len(videos) + 1))

    def __len__(self) -> int:
        return len(self.video)

    @property
    def num_labels(self) -> int:
        """Labels of all boxes."""
        return len(self._column)

    @property
    def classes(self) -> set[int]:
        """Columns of the labels that occur."""
        return set(np.unique(self._column).tolist())

    @property
    def counts(self) -> np.ndarray:
        """(K,) boxes of each key frame."""
        return np.diff(self._box_start)

    def of(self, key_frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4) float64 of a key frame, relative, and their labels (n, classes) float32 of 0 and 1."""
        start, stop = self._box_start[key_frame : key_frame + 2]
        edges = self._label_start[start : stop + 1]
        labels = np.zeros((stop - start, self.num_classes), np.float32)
        labels[np.repeat(np.arange(stop - start), np.diff(edges)), self._column[edges[0] : edges[-1]]] = 1
        return self.boxes[start:stop], labels

    def boxes_of(self, key_frame: int) -> np.ndarray:
        """The boxes of `of` alone."""
        start, stop = self._box_start[key_frame : key_frame + 2]
        return self.boxes[start:stop]

    def find(self, video: int, second: int) -> int:
        """Number of the key frame of that second; -1 where the second has no box."""
        start, stop = self._video_start[video : video + 2]
        place = start + int(np.searchsorted(self.second[start:stop], second))
        return int(place) if place < stop and self.second[place] == second else -1


def _numbers_of(table: BoxTable, numbers: dict[str, int]) -> np.ndarray:
    """Number of each row's video, -1 for one that is not among them."""
    return np.array([numbers.get(name, -1) for name in table.names] or [-1], np.int64)[table.videos]


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first one of each set of equal rows, and for every row the number of its set."""
    order = np.lexsort(rows.T[::-1])  # stable, so the first of equal rows stays first
    ordered = rows[order]
    new = np.ones(len(rows), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    number = np.empty(len(rows), np.int64)
    number[order] = np.cumsum(new) - 1
    return order[new], number


def _starts_of_runs(*columns: np.ndarray) -> np.ndarray:
    """Where a row differs from the one before, the first row included."""
    new = np.zeros(len(columns[0]), bool)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(new)
