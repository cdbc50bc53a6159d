"""Follow persons over frames, in the manner of ByteTrack (Zhang et al., ECCV 2022): boxes of low scores count too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slowfast.utils.boxes import iou

_NEW_SPEED = 0.5  # share of the newest motion in the speed
_LOW_IOU = 0.5  # least overlap of a box with a low score, which is less sure to be a person, as published


@dataclass(frozen=True)
class Person:
    """A person in a frame.

    Attributes:
        identity: number of the person, from 1 in order of appearance; never given twice.
        box: (4,) x1, y1, x2, y2 as it was detected.
        score: of the detector.
    """

    identity: int
    box: np.ndarray
    score: float


@dataclass
class _Track:
    """A person that is followed: the last box, its motion (4,) per frame, and the frames since it was seen."""

    identity: int
    box: np.ndarray
    speed: np.ndarray
    unseen: int = 0
    sightings: int = 1

    def predicted(self) -> np.ndarray:
        """Return the box in the present frame, at constant speed and size."""
        return self.box + self.unseen * self.speed

    def see(self, box: np.ndarray) -> None:
        """Take in the box in the present frame."""
        moved = (box - self.box) / self.unseen
        # The same for x1 and x2, and for y1 and y2: a size that changes while a person is hidden would run away.
        moved = np.tile((moved[:2] + moved[2:]) / 2, 2)
        self.speed = moved if self.sightings == 1 else self.speed + _NEW_SPEED * (moved - self.speed)
        self.box, self.unseen, self.sightings = box, 0, self.sightings + 1


class PersonTracker:
    """Gives boxes of consecutive frames identities.

    In each frame, boxes with a high score are matched to all persons, then boxes with a low score to the persons seen
    in the frame before that are left. A match is the greatest overlap with the box that is predicted at constant
    speed, greedily. A box with a high score that is left over is a new person.

    Args:
        high: least score of a new person.
        low: least score of a box that continues a person.
        least_iou: least overlap of a box with a person's predicted one.
        keep: frames for which a person who is not seen is kept.

    Raises:
        ValueError: numbers out of range.
    """

    def __init__(self, high: float = 0.5, low: float = 0.1, least_iou: float = 0.2, keep: int = 30) -> None:
        if not 0 <= low <= high <= 1:
            raise ValueError(f"the low score is {low}, the high one {high}; they must be 0 <= low <= high <= 1")
        if not 0 < least_iou <= 1 or keep < 0:
            raise ValueError(
                f"the least IoU is {least_iou}, to be over 0 and up to 1; frames to keep {keep}, 0 or more"
            )
        self._high, self._low, self._least_iou, self._keep = high, low, least_iou, keep
        self._tracks: list[_Track] = []
        self._count = 0  # of persons so far

    def update(self, boxes: np.ndarray, scores: np.ndarray) -> list[Person]:
        """Take in the boxes (n, 4) and scores (n,) of the next frame; return the persons seen in it, by identity."""
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        scores = np.asarray(scores, np.float64)
        for track in self._tracks:
            track.unseen += 1
        seen: list[Person] = []

        def match(tracks: list[_Track], numbers: np.ndarray, least: float) -> list[int]:
            """Continue tracks with boxes; return the numbers of the boxes that are left."""
            pairs = _matches(np.array([track.predicted() for track in tracks]).reshape(-1, 4), boxes[numbers], least)
            for row, column in pairs:
                tracks[row].see(boxes[numbers[column]])
                seen.append(Person(tracks[row].identity, boxes[numbers[column]], float(scores[numbers[column]])))
            return np.delete(numbers, [column for _, column in pairs]).tolist()

        high = np.flatnonzero(scores >= self._high)
        low = np.flatnonzero((scores >= self._low) & (scores < self._high))
        new = match(self._tracks, high, self._least_iou)
        match([track for track in self._tracks if track.unseen == 1], low, _LOW_IOU)
        self._tracks = [track for track in self._tracks if track.unseen <= self._keep]
        for number in new:
            self._count += 1
            self._tracks.append(_Track(self._count, boxes[number], np.zeros(4)))
            seen.append(Person(self._count, boxes[number], float(scores[number])))
        return sorted(seen, key=lambda person: person.identity)


def _matches(boxes: np.ndarray, others: np.ndarray, least: float) -> list[tuple[int, int]]:
    """Return pairs of numbers (of a box, of another) by falling IoU down to `least`, each box at most once."""
    overlaps, pairs = iou(boxes[:, None], others), []
    while overlaps.size and overlaps.max() >= least:
        row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
        pairs.append((int(row), int(column)))
        overlaps[row], overlaps[:, column] = 0, 0
    return pairs
