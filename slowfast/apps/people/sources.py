"""Where the boxes of persons come from: a file in AVA's format, or a detector that looks at the frames.

A second is one of the video, from 0. Boxes are (n, 4): x1, y1, x2, y2 as shares of the frame's width and height.
"""

from __future__ import annotations

import abc
import contextlib
import csv
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from slowfast.apps.people.detector import PersonDetector
from slowfast.apps.people.detectron2 import Detectron2Detector
from slowfast.apps.people.tracker import Person, PersonTracker
from slowfast.checkpoint.zoo.entries import detector_file
from slowfast.datasets.ava.key_frames import KeyFrameBoxes
from slowfast.datasets.video.reader import VideoReader
from slowfast.evaluation.ava_files import read_boxes
from slowfast.utils.errors import short

Detector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

DETECTRON2 = "detectron2"
_TRACK_RATE = 5  # frames a second, at least, in which a detector looks for persons: once a second is too rare to follow
_KEEP_S = 3  # seconds for which a person who is not seen is looked for
_LEAST_SCORE = 0.5  # of a person that a detector finds; those of published detectors are lower than of AVA's files
_LOW_SCORE = 0.1  # of a box that continues a person


class VideoPersons(abc.ABC):
    """The persons of one video, asked for in the order of time.

    Attributes:
        moments: seconds at which the actions of persons are asked for, in order.
    """

    moments: Iterable[float]

    @abc.abstractmethod
    def at(self, second: float) -> list[Person]:
        """Return the persons at a moment, or at an earlier second; [] where none is known."""

    @abc.abstractmethod
    def forget(self, second: float) -> None:
        """Forget what came before a second."""


class BoxSource(abc.ABC):
    """Boxes of persons in videos.

    Attributes:
        facts: what the boxes depend on, as plain values.
    """

    facts: dict[str, Any]

    @abc.abstractmethod
    def persons(self, name: str, open_video: Callable[[], VideoReader]) -> VideoPersons:
        """Return the persons of a video.

        Args:
            name: of the video in files of boxes.
            open_video: opens it at `AVA.FPS`.

        Raises:
            ValueError: a file has no boxes of the video, or at seconds that the video does not have.
        """


class BoxFile(BoxSource):
    """A file in AVA's format: detections of persons, or annotated boxes; told apart by the last column.

    Args:
        path: the file.
        num_classes: greatest class id.
        least_score: of a detection, 0 to 1.
        first_second: second of the file that is the start of a video.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong line, with file, line number and line.
    """

    def __init__(self, path: str, num_classes: int, least_score: float, first_second: int) -> None:
        self.path, self._first_second, self._num_classes = path, first_second, num_classes
        self.facts = {"boxes": path, "least_score": least_score, "first_second": first_second}
        self._table = read_boxes(path, num_classes, least_score if _has_scores(path) else None)

    def persons(self, name: str, open_video: Callable[[], VideoReader]) -> VideoPersons:
        """See `BoxSource.persons`."""
        table = self._table
        if name not in table.names and name not in {video for video, _ in table.empty}:
            raise ValueError(
                f"{self.path} has no box of a video {name}, with a score that counts; it names "
                f"{short(table.names)}. A video without persons has a line `{name},{self._first_second}`"
            )
        with open_video() as video:
            length, fps = video.num_frames, video.fps
        boxes = KeyFrameBoxes([table], [name], self._num_classes)
        seconds = (boxes.second - self._first_second).tolist()
        for second in seconds:
            if not 0 <= round(second * fps) < length:
                raise ValueError(
                    f"{self.path} has a box of {name} at second {second + self._first_second}, but the video shows "
                    f"seconds {self._first_second} to {self._first_second + (length - 1) / fps:.2f} "
                    f"(AVA.FIRST_SECOND {self._first_second} is its start); set AVA.FIRST_SECOND to the second of the "
                    "file at which the video starts"
                )
        scores = {}
        if table.scores is not None and name in table.names:
            rows = np.flatnonzero(table.videos == table.names.index(name))
            keys = zip(table.seconds[rows].tolist(), map(tuple, table.boxes[rows].tolist()), strict=True)
            for key, score in zip(keys, table.scores[rows].tolist(), strict=True):
                scores.setdefault(key, score)
        found = {}
        for number, (own, second) in enumerate(zip(boxes.second.tolist(), seconds, strict=True)):
            these = boxes.boxes_of(number)
            found[second] = these, np.array([scores.get((own, tuple(box)), 1.0) for box in these.tolist()])
        return _ListedPersons(found)


class _ListedPersons(VideoPersons):
    """Persons of boxes that are all known: second -> boxes and scores. All of them are persons."""

    def __init__(self, found: dict[float, tuple[np.ndarray, np.ndarray]]) -> None:
        self.moments = list(found)
        tracker = PersonTracker(high=0.0, low=0.0, keep=_KEEP_S)
        self._persons = {second: tracker.update(*found[second]) for second in found}

    def at(self, second: float) -> list[Person]:
        return self._persons.get(second, [])

    def forget(self, second: float) -> None:
        pass


class DetectedBoxes(BoxSource):
    """Persons whom a detector finds and a tracker follows.

    The detector looks at each moment, and in between so often that a person can be followed.

    Args:
        detector: frame (H, W, 3) uint8 RGB -> boxes (n, 4) in pixels and scores (n,), such as a `PersonDetector`.
        every: seconds between moments.
        least_score: of a box that begins a person; one that continues a person may have less.
        name: of the detector.

    Raises:
        ValueError: numbers out of range.
    """

    def __init__(self, detector: Detector, every: float, least_score: float, name: str = "function") -> None:
        if not every > 0:
            raise ValueError(f"a moment every {every:g} seconds is impossible; give a number over 0, such as 1")
        self.detector, self._every = detector, every
        self.facts = {"boxes": name, "least_score": least_score, "every": every}
        self._scores = (least_score, min(least_score, _LOW_SCORE))
        PersonTracker(*self._scores)  # checks them

    def persons(self, name: str, open_video: Callable[[], VideoReader]) -> VideoPersons:
        """See `BoxSource.persons`."""
        parts = math.ceil(self._every * _TRACK_RATE)
        keep = math.ceil(_KEEP_S * parts / self._every)
        return _DetectedPersons(self.detector, PersonTracker(*self._scores, keep=keep), open_video, self._every, parts)


class _DetectedPersons(VideoPersons):
    """Persons of one video that are found as it is read: `parts` times in the `every` seconds between moments."""

    def __init__(
        self,
        detector: Detector,
        tracker: PersonTracker,
        open_video: Callable[[], VideoReader],
        every: float,
        parts: int,
    ) -> None:
        self._detector, self._tracker, self._open = detector, tracker, open_video
        self._every, self._parts = every, parts
        self._persons: dict[float, list[Person]] = {}
        self._next = 0  # part that is looked at next

    @property
    def moments(self) -> Iterator[float]:
        """Yield the seconds that have a frame."""
        with self._open() as video:
            length, fps = video.num_frames, video.fps
        number = 0
        while round((second := self._second(number * self._parts)) * fps) < length:
            yield second
            number += 1

    def at(self, second: float) -> list[Person]:
        while self._second(self._next) <= second:
            self._look(second)
        return self._persons.get(second, [])

    def forget(self, second: float) -> None:
        self._persons = {known: persons for known, persons in self._persons.items() if known >= second}

    def _second(self, part: int) -> float:
        return round(part * self._every / self._parts, 6)

    def _look(self, second: float) -> None:
        """Find the persons up to a second, in a few frames at once."""
        parts = [part for part in range(self._next, self._next + _TRACK_RATE) if self._second(part) <= second]
        with self._open() as video:
            frames = video.frames([round(self._second(part) * video.fps) for part in parts])
        for part, frame in zip(parts, frames, strict=True):
            boxes, scores = self._detector(frame)
            self._persons[self._second(part)] = self._tracker.update(*shares(boxes, scores, frame))
        self._next = parts[-1] + 1


def shares(boxes: np.ndarray, scores: np.ndarray, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (n, 4) in pixels of a frame (H, W, 3) as shares of it, cut to it, and their scores.

    Boxes outside the frame are left out.
    """
    height, width = frame.shape[:2]
    relative = (boxes / np.array([width, height, width, height])).clip(0, 1)
    inside = (relative[:, 2:] > relative[:, :2]).all(1)
    return relative[inside], scores[inside]


def box_source(
    boxes: str | os.PathLike | Detector | BoxSource,
    cfg: Any,
    every: float | None = None,
    least_score: float | None = None,
) -> BoxSource:
    """Return the source of boxes that a user names.

    Args:
        boxes: a `.csv` file in AVA's format, a `.onnx` file or `zoo://NAME` of a detector, "detectron2" (its model is
            that of `DEMO.DETECTRON2_CFG` and `DETECTRON2_WEIGHTS`), a function as `DetectedBoxes` takes, or a source.
        cfg: of the model that scores the boxes.
        every: seconds between the moments of a detector; None for 1. A file has its own.
        least_score: of a box, 0 to 1; None for `AVA.DETECTION_SCORE_THRESH` with a file, `DEMO.DETECTRON2_THRESH` with
            detectron2, and 0.5 with other detectors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that cannot be read, something else than these, or numbers out of range.
        DownloadError: a file of the zoo cannot be downloaded.
    """
    if least_score is not None and not 0 <= least_score <= 1:
        raise ValueError(f"the least score of a box is {least_score}; it must be 0 to 1")
    if isinstance(boxes, BoxSource):
        return boxes
    seconds = 1.0 if every is None else every
    if callable(boxes):
        return DetectedBoxes(boxes, seconds, _LEAST_SCORE if least_score is None else least_score)
    name = os.fspath(boxes)
    if name == DETECTRON2:
        least = cfg.DEMO.DETECTRON2_THRESH if least_score is None else least_score
        return DetectedBoxes(Detectron2Detector.from_config(cfg, least), seconds, least, name)
    path = detector_file(name)
    if path.lower().endswith(".onnx"):
        least = _LEAST_SCORE if least_score is None else least_score
        return DetectedBoxes(PersonDetector(path, min(least, _LOW_SCORE)), seconds, least, name)
    if not path.lower().endswith(".csv"):
        raise ValueError(
            f"boxes {name!r} are none of: a .csv file in AVA's format, a .onnx file or zoo://NAME of a person "
            f"detector, {DETECTRON2!r}"
        )
    if every is not None:
        raise ValueError(
            f"{name} names the seconds of its boxes; every {every:g} seconds is for detectors: leave it out"
        )
    least = cfg.AVA.DETECTION_SCORE_THRESH if least_score is None else least_score
    return BoxFile(path, cfg.MODEL.NUM_CLASSES, least, cfg.AVA.FIRST_SECOND)


def _has_scores(path: str) -> bool:
    """Return True for a file of detections: a box has no class, or its last column is no whole number."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file of boxes {path}")
    with (
        contextlib.suppress(csv.Error),  # `read_boxes` says what is wrong
        open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream,
    ):
        for row in csv.reader(stream):
            if len(row) == 8 and (row[6].strip() in ("", "-1") or not row[7].strip().isdigit()):
                return True
    return False
