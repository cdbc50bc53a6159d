"""The boxes of all key frames of a data set, merged and indexed, in a few arrays that processes share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slowfast.datasets.annotations.ava_boxes import NO_LABEL, BoxTable


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
        labelled = labels != NO_LABEL
        pairs = np.unique(np.column_stack([box_of_row[labelled], labels[labelled]]), axis=0)
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
