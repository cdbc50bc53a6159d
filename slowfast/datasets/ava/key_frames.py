"""Key frames of AVA: their times, which annotated rows have one, and their boxes in a few shared arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from slowfast.evaluation.ava_files import BoxTable
from slowfast.evaluation.ava_lines import NO_LABEL
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import record

logger = get_logger(__name__)


@dataclass(frozen=True)
class Clock:
    """Conversion between annotated seconds and frame numbers; the frame of a second is its key frame.

    Attributes:
        fps: frames per second (`AVA.FPS`).
        first_second: second of frame 0 (`AVA.FIRST_SECOND`).
        others: second of frame 0 of the videos where it is another, by name.
    """

    fps: float = 30.0
    first_second: int = 900
    others: Mapping[str, int] = field(default_factory=dict)

    def of(self, video: str) -> Clock:
        """Return the clock of a video."""
        return Clock(self.fps, self.others[video]) if video in self.others else self

    def frame_of(self, second: float) -> int:
        """Return the key frame of a second, the frame nearest to it; negative before the first."""
        return round((second - self.first_second) * self.fps)

    def second_of(self, frame: int, fraction: float = 0.0) -> float:
        """Return the second with that fraction whose key frame is nearest; of two as near, the even one."""
        return round(round(frame / self.fps - fraction) + self.first_second + fraction, 6)


def clip_frames(key: int, num_frames: int, rate: int, length: int, after: int = -1) -> list[int]:
    """Return the frames of the clip around a key frame, clamped to the video.

    Args:
        key: number of the key frame.
        num_frames: frames of the clip.
        rate: distance of neighboring frames.
        length: frames of the video.
        after: frames of the clip from the key frame on, included (at most `num_frames`). -1: the key frame is in the
            middle, as published; the clip starts half its span, rounded down, before it.
    """
    start = key - (num_frames * rate // 2 if after < 0 else (num_frames - min(after, num_frames)) * rate)
    return [min(max(start + i * rate, 0), length - 1) for i in range(num_frames)]


def seconds_of_clip(
    frames: Sequence[int], positions: Sequence[int], own: float, clock: Clock, after: int = -1
) -> list[float]:
    """Return the annotated seconds whose boxes a clip needs, in order; the last is the clip's own.

    A video is annotated once a second, so the others are whole seconds from it.

    Args:
        frames: numbers of the clip's frames.
        positions: positions in the clip; the boxes of the second nearest to each frame are needed. Positions past the
            clip's key frame, as in settings of longer clips, are ignored. The last one left stands for the clip's own
            second.
        own: second of the clip's key frame.
        clock: of the video.
        after: see `clip_frames`; with -1 positions past the clip's end are ignored.
    """
    last = len(frames) - (1 if after < 0 else after)
    inside = [position for position in positions if position <= last]
    return [clock.second_of(frames[position], own % 1) for position in inside[:-1]] + [own]


@dataclass(frozen=True)
class KeyFrameFilter:
    """Filter of annotated rows: keep those whose second can be a key frame.

    Attributes:
        clock: seconds and frames.
        lengths: frames of each video by name; None for a video of unknown length.
        bounds: first and last second to keep; () for all that have a frame, as for the other videos of the clock.
    """

    clock: Clock
    lengths: Mapping[str, int | None]
    bounds: Sequence[int] = ()

    def select(self, table: BoxTable, errors: list[str] | None = None) -> BoxTable:
        """Keep the usable rows, and log which are dropped; raises as `with_frame`."""
        missing = [name for name in table.names if not self._has_frames(name)]
        if missing:
            logger.warning(
                "%s: %d of %d videos have no frames, such as %s; their boxes are left out",
                table.path, len(missing), len(table.names), missing[0],
            )  # fmt: skip
        outside = np.flatnonzero(~self._within(table))
        if len(outside):
            logger.warning(
                "%d of %d boxes lie outside AVA.KEY_SECONDS %s and are left out, the first is %s; for your own data "
                "set that key to its first and last second, or to [] for all that have a frame",
                len(outside), len(table), list(self.bounds), table.places(outside[:1])[0],
            )  # fmt: skip
        return self.with_frame(table.rows(self.usable(table)), errors)

    def usable(self, table: BoxTable) -> np.ndarray:
        """Return (N,) bool: rows within the bounds whose video has frames."""
        has_frames = np.array([self._has_frames(name) for name in table.names], bool)
        return self._within(table) & has_frames[table.videos] if len(table) else np.zeros(0, bool)

    def with_frame(self, table: BoxTable, errors: list[str] | None = None) -> BoxTable:
        """Keep the rows whose second has a frame; all rows of videos of unknown length.

        Args:
            table: rows.
            errors: takes the messages about rows within the bounds without a frame; None raises the first.

        Raises:
            ValueError: a row within the bounds has no frame; with file, line number and line.
        """
        unbounded = np.iinfo(np.int64).max
        limits = np.array([self.lengths.get(name) or unbounded for name in table.names] or [0], np.int64)[table.videos]
        starts = np.array([self.clock.of(name).first_second for name in table.names] or [0])[table.videos]
        frames = np.rint((table.seconds.astype(np.float64) - starts) * self.clock.fps)
        lost = ~((frames >= 0) & (frames < limits)) & self._within(table)
        rows = np.flatnonzero(lost)
        more = f" (and {len(rows) - 1} rows more)" if len(rows) > 1 else ""
        for row, place in zip(rows, table.places(rows) if len(rows) else [], strict=True):
            record(ValueError(f"{place}: {self._no_frame(table, row)}{more}"), errors)
            more = ""
        return table.rows(~lost)

    def _no_frame(self, table: BoxTable, row: int) -> str:
        second, name = table.seconds[row].item(), table.names[table.videos[row]]
        length, clock = self.lengths.get(name), self.clock.of(name)
        source = "as its name says" if name in self.clock.others else "AVA.FIRST_SECOND"
        return (
            f"second {second} is frame {clock.frame_of(second)} (AVA.FPS {clock.fps:g}, frame 0 is second "
            f"{clock.first_second}, {source}), but {name} has frames 0 to {length - 1 if length else 'its end'}"
        )

    def _has_frames(self, name: str) -> bool:
        return self.lengths.get(name, 0) != 0

    def _within(self, table: BoxTable) -> np.ndarray:
        if not self.bounds:
            return np.ones(len(table), bool)
        unbounded = np.array([name in self.clock.others for name in table.names] or [False])[table.videos]
        return unbounded | (table.seconds >= self.bounds[0]) & (table.seconds <= self.bounds[1])


class KeyFrameBoxes:
    """Key frames with their boxes and labels, merged from annotation rows.

    A key frame is a second of a video with at least one box. Key frames are ordered by video and second, boxes of a key
    frame by their first row. Rows with equal coordinates are one box that has all their labels.

    Args:
        tables: rows of one file or several.
        videos: names of the videos; rows of other videos are ignored.
        num_classes: labels are 1 to this; label c becomes column c - 1.

    Attributes:
        video, second: (K,) of each key frame; the video as position in `videos`, the second as in a `BoxTable`.
        boxes: (n, 4) float64, relative, of all key frames one after the other.
    """

    def __init__(self, tables: Sequence[BoxTable], videos: Sequence[str], num_classes: int) -> None:
        self.num_classes = num_classes
        numbers = {name: i for i, name in enumerate(videos)}
        video = np.concatenate([_video_numbers(table, numbers) for table in tables])
        known = video >= 0
        video = video[known]
        second = np.concatenate([table.seconds for table in tables])[known]
        boxes = np.concatenate([table.boxes for table in tables])[known]
        labels = np.concatenate([table.labels for table in tables])[known]
        first, box_of_row = _unique_rows(np.column_stack([video, second, boxes]))
        # Order boxes by video, second and first row.
        order = np.lexsort((first, second[first], video[first]))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        first, box_of_row = first[order], place[box_of_row]
        self.boxes = boxes[first]
        starts = _starts_of_runs(video[first], second[first])
        self.video, self.second = video[first][starts], second[first][starts]
        self._box_start = np.append(starts, len(first))
        labeled = labels != NO_LABEL
        # A box and its label as one number, since NumPy sorts rows of two numbers slowly.
        pairs = np.unique(box_of_row[labeled] * num_classes + labels[labeled] - 1)
        box_of_label, column = np.divmod(pairs, num_classes)
        self._label_start = np.searchsorted(box_of_label, np.arange(len(first) + 1))
        self._column = column.astype(np.int32)
        self._video_start = np.searchsorted(self.video, np.arange(len(videos) + 1))

    def __len__(self) -> int:
        return len(self.video)

    @property
    def num_labels(self) -> int:
        """Number of labels of all boxes."""
        return len(self._column)

    @property
    def classes(self) -> set[int]:
        """Columns of the labels that occur."""
        return set(np.unique(self._column).tolist())

    @property
    def counts(self) -> np.ndarray:
        """(K,) number of boxes of each key frame."""
        return np.diff(self._box_start)

    def of(self, key_frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a key frame's boxes (n, 4) float64, relative, and their labels (n, classes) float32 of 0 and 1."""
        start, stop = self._box_start[key_frame : key_frame + 2]
        edges = self._label_start[start : stop + 1]
        labels = np.zeros((stop - start, self.num_classes), np.float32)
        labels[np.repeat(np.arange(stop - start), np.diff(edges)), self._column[edges[0] : edges[-1]]] = 1
        return self.boxes[start:stop], labels

    def boxes_of(self, key_frame: int) -> np.ndarray:
        """Return the boxes of `of` alone."""
        start, stop = self._box_start[key_frame : key_frame + 2]
        return self.boxes[start:stop]

    def find(self, video: int, second: float) -> int:
        """Return the number of the key frame at that second; -1 if the second has no box."""
        start, stop = self._video_start[video : video + 2]
        place = start + int(np.searchsorted(self.second[start:stop], second))
        return int(place) if place < stop and self.second[place] == second else -1


def _video_numbers(table: BoxTable, numbers: dict[str, int]) -> np.ndarray:
    """Return the number of each row's video, -1 for unknown videos."""
    return np.array([numbers.get(name, -1) for name in table.names] or [-1], np.int64)[table.videos]


def _unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each set of equal rows, and for every row the number of its set."""
    order = np.lexsort(rows.T[::-1])  # stable, so the first of equal rows stays first
    ordered = rows[order]
    new = np.ones(len(rows), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    number = np.empty(len(rows), np.int64)
    number[order] = np.cumsum(new) - 1
    return order[new], number


def _starts_of_runs(*columns: np.ndarray) -> np.ndarray:
    """Return the rows that differ from the row before, including row 0."""
    new = np.zeros(len(columns[0]), bool)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(new)
