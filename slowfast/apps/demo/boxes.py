"""Persons in the demo: boxes by detectron2 or from a file (`PREDS_BOXES`), and ground truth (`GT_BOXES`)."""

from __future__ import annotations

import bisect
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slowfast.apps.demo.clips import DemoClip, Source
from slowfast.apps.demo.drawing import Layer, Mark, around
from slowfast.apps.demo.labels import LabelRule
from slowfast.apps.people.detectron2 import Detectron2Detector
from slowfast.apps.people.sources import BoxSource, VideoPersons, shares
from slowfast.apps.people.tracker import Person
from slowfast.apps.predict.people import PeopleAnswer
from slowfast.apps.predict.predictor import Predictor
from slowfast.datasets.ava.key_frames import KeyFrameBoxes
from slowfast.datasets.video.find import stem
from slowfast.datasets.video.reader import VideoReader
from slowfast.evaluation.ava_files import read_boxes
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import short
from slowfast.utils.text import one_line

logger = get_logger(__name__)


@dataclass
class _Persons(BoxSource, VideoPersons):
    """Boxes of one video that are all known: second from its start -> boxes (n, 4), as shares, and their scores."""

    found: dict[float, tuple[np.ndarray, np.ndarray]]
    moments: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.moments = sorted(self.found)

    def persons(self, name: str, open_video: Callable[[], VideoReader]) -> VideoPersons:
        return self

    def at(self, second: float) -> list[Person]:
        boxes, scores = self.found.get(second, ([], []))
        return [Person(number + 1, box, score) for number, (box, score) in enumerate(zip(boxes, scores, strict=True))]

    def forget(self, second: float) -> None:
        pass


def key_position(cfg: Any) -> int:
    """Return the position of the key frame in a clip, which has the boxes: the middle, or by `AVA.FRAMES_AFTER_KEY`."""
    length, after = cfg.DATA.NUM_FRAMES * cfg.DATA.SAMPLING_RATE, cfg.AVA.FRAMES_AFTER_KEY
    if not cfg.DETECTION.ENABLE or after < 0:
        return length // 2
    return min(length - after * cfg.DATA.SAMPLING_RATE, length - 1)


def boxes_answerer(cfg: Any, predictor: Predictor, rule: LabelRule) -> Callable[[DemoClip], list[Mark]]:
    """Return a function that answers about the persons whom detectron2 finds in the key frame of a clip.

    Raises:
        ValueError: detectron2 is not installed, or cannot build the detector.
    """
    swapped, fps = cfg.DEMO.INPUT_FORMAT == "RGB", cfg.AVA.FPS
    detector = Detectron2Detector.from_config(cfg, cfg.DEMO.DETECTRON2_THRESH, str(predictor.device))

    def answer(clip: DemoClip) -> list[Mark]:
        key = clip.frames[clip.key]
        persons = _Persons({clip.key / fps: shares(*detector(key[..., ::-1] if swapped else key), key)})
        # At this rate, a clip of the model reads exactly these frames.
        (answered,) = predictor.people(np.stack(clip.frames), persons, top=0, fps=fps)
        return _marks(answered, rule)

    return answer


def answers_at_boxes(
    cfg: Any, predictor: Predictor, source: Source, rule: LabelRule
) -> Iterator[tuple[DemoClip, Layer]]:
    """Return an iterator over all frames of a video in pieces, with the answers about persons of `DEMO.PREDS_BOXES`.

    Raises:
        ValueError: the model scores no boxes, the source is a camera, or the file does not fit the video.
    """
    if not cfg.DETECTION.ENABLE:
        raise ValueError(
            f"DEMO.PREDS_BOXES is {cfg.DEMO.PREDS_BOXES}, and the model scores whole clips (DETECTION.ENABLE False); "
            "leave it empty, or take a model that was trained on boxes"
        )
    listed = _boxes_of(cfg, "PREDS_BOXES", source, cfg.AVA.DETECTION_SCORE_THRESH)
    persons = _Persons({second: (boxes, np.ones(len(boxes))) for second, (boxes, _) in listed.items()})
    answers = (
        (round(answer.key_s * source.fps), _marks(answer, rule))
        for answer in predictor.people(source.name, persons, top=0, fps=source.fps)
    )
    return _pieces(source, answers, cfg.DEMO.CLIP_VIS_SIZE, cfg.DATA.NUM_FRAMES * cfg.DATA.SAMPLING_RATE)


def truth_layer(cfg: Any, source: Source, names: Sequence[str]) -> Layer:
    """Return the boxes of `DEMO.GT_BOXES` with the names of their classes, around the frames that they are of.

    Raises:
        ValueError: the source is a camera, or the file does not fit the video.
    """
    listed = _boxes_of(cfg, "GT_BOXES", source, None)
    keys = [round(second * source.fps) for second in listed]
    marks = [
        [
            Mark([one_line(names[number]) for number in np.flatnonzero(row)], box, is_truth=True)
            for box, row in zip(boxes, labels, strict=True)
        ]
        for boxes, labels in listed.values()
    ]

    def layer(number: int) -> list[Mark] | None:
        after = bisect.bisect_left(keys, number)
        nearest = min(range(max(after - 1, 0), min(after + 1, len(keys))), key=lambda place: abs(keys[place] - number))
        return marks[nearest] if abs(keys[nearest] - number) <= cfg.DEMO.CLIP_VIS_SIZE else None

    return layer


def _boxes_of(
    cfg: Any, key: str, source: Source, least_score: float | None
) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """Read the boxes (n, 4) and labels (n, classes) of a video from the file of a key, by second of the video.

    Raises:
        ValueError: see the functions above.
    """
    path, start = cfg.DEMO[key], cfg.DEMO.STARTING_SECOND
    if source.num_frames is None:
        raise ValueError(
            f"DEMO.{key} {path} has boxes of a video, and the source is {source.name}; set DEMO.INPUT_VIDEO"
        )
    name, seconds = stem(os.path.normpath(source.name)), source.num_frames / source.fps
    table = read_boxes(path, cfg.MODEL.NUM_CLASSES, least_score)
    boxes = KeyFrameBoxes([table], [name], cfg.MODEL.NUM_CLASSES)
    if not len(boxes):
        least = f" with a score of {least_score:g} (AVA.DETECTION_SCORE_THRESH)" if least_score else ""
        raise ValueError(f"DEMO.{key} {path} has no box{least} of a video {name}; it names {short(table.names)}")
    found = {
        float(second) - start: boxes.of(number)
        for number, second in enumerate(boxes.second)
        if 0 <= round((float(second) - start) * source.fps) < source.num_frames
    }
    if not found:
        raise ValueError(
            f"DEMO.{key} {path} has boxes of {name} at seconds {boxes.second.min():g} to {boxes.second.max():g}, and "
            f"the video shows {start} to {start + seconds:.2f}; set DEMO.STARTING_SECOND (now {start}) to the second "
            "of the file at which the video starts"
        )
    if len(found) < len(boxes):
        logger.warning(
            "%s: %d of %d seconds with boxes of %s are outside the video, which shows %d to %.2f "
            "(DEMO.STARTING_SECOND %d)", path, len(boxes) - len(found), len(boxes), name, start, start + seconds, start
        )  # fmt: skip
    return found


def _pieces(
    source: Source, answers: Iterator[tuple[int, list[Mark]]], size: int, longest: int
) -> Iterator[tuple[DemoClip, Layer]]:
    """Yield the frames of a source in pieces of at most `longest` frames, each with the answer that is nearest.

    Args:
        answers: number of a key frame, and its marks; in order, at least one.
        size: number of frames around a key frame that show its answer.
    """
    (key, marks), coming, first, held = next(answers), next(answers, None), 0, []
    for number, frame in enumerate(source.frames):
        while coming is not None and abs(coming[0] - number) < abs(key - number):
            if held:
                yield DemoClip(first, held, key - first), around(key, marks, size)
            first, held, (key, marks), coming = number, [], coming, next(answers, None)
        held.append(frame)
        if len(held) == longest:
            yield DemoClip(first, held, key - first), around(key, marks, size)
            first, held = number + 1, []
    if held:
        yield DemoClip(first, held, key - first), around(key, marks, size)


def _marks(answer: PeopleAnswer, rule: LabelRule) -> list[Mark]:
    return [Mark(rule(person.all_scores), person.box) for person in answer.persons]
