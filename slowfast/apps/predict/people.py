"""Answers about persons: their actions at moments of a video, as a test on AVA scores them.

The clip around a moment, its boxes and those of its earlier steps are those of the data set `ava`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from slowfast.apps.people.sources import BoxSource, VideoPersons
from slowfast.apps.people.tracker import Person
from slowfast.apps.predict.scorer import Scorer, in_words
from slowfast.datasets.ava.footage import at_rate
from slowfast.datasets.ava.key_frames import Clock, clip_frames, seconds_of_clip
from slowfast.datasets.clips.clip_maker import ClipMaker
from slowfast.datasets.clips.temporal_sampling import SpanSampling
from slowfast.datasets.loading.batch import KeyFrame, Sample, collate
from slowfast.datasets.video.find import stem
from slowfast.datasets.video.reader import VideoReader
from slowfast.evaluation.prediction import Prediction


@dataclass(frozen=True)
class PersonAnswer:
    """Scores of a person at a moment.

    Attributes:
        identity: number of the person in the video, from 1.
        box: (4,) x1, y1, x2, y2 as shares of the frame's width and height.
        box_score: of the detector; 1 for annotated boxes.
        scores: (n,) float32, best first.
        names: n class names, in the same order. A person may do several things at once.
        all_scores: (classes,) float32, in the order of the model's outputs.
    """

    identity: int
    box: np.ndarray
    box_score: float
    scores: np.ndarray
    names: list[str]
    all_scores: np.ndarray = field(repr=False)

    def __str__(self) -> str:
        return f"person {self.identity}: {in_words(self.names, self.scores)}"


@dataclass(frozen=True)
class PeopleAnswer:
    """The persons at a moment.

    Attributes:
        start_s, end_s: start of the first frame of the clip and end of its last, in seconds of the video.
        key_s: the moment, whose frame has the boxes.
        persons: by identity; [] if there is nobody.
        all_scores: (classes,) float32, the highest score of any person; 0 of nobody, and of classes without a name.
    """

    start_s: float
    end_s: float
    key_s: float
    persons: list[PersonAnswer]
    all_scores: np.ndarray = field(repr=False)

    def __str__(self) -> str:
        return f"{self.key_s:.2f} s: " + ("; ".join(map(str, self.persons)) or "nobody")


@dataclass
class _Moment:
    """A moment whose boxes are scored: by its own clip, and with PGT.ALL_STEP_TEST by steps of later clips too.

    `scores` (n, classes) are joined over the `times` that they came; None before.
    """

    number: int
    second: float
    span: tuple[float, float]
    persons: list[Person]
    scores: Tensor | None = None
    times: int = 0

    def add(self, scores: Tensor, method: str) -> None:
        """Join scores (n, classes), as `BoxEvaluator` does."""
        if self.scores is not None:
            scores = torch.maximum(self.scores, scores) if method == "max" else self.scores + scores
        self.scores, self.times = scores, self.times + 1


def people_answers(
    scorer: Scorer, name: str, open_path: Callable[[str], VideoReader], source: BoxSource, top: int
) -> Iterator[PeopleAnswer]:
    """Yield the answers about a video, see `Predictor.people`.

    Args:
        name: path of the video; files of boxes name it without folder and suffix.
        open_path: opens the video, whatever path it is given.
        source: of the boxes.
        top: number of best classes of a person.
    """
    fps = scorer.cfg.AVA.FPS

    def open_video(_: str = "") -> VideoReader:
        return at_rate(open_path(name), fps)

    persons = source.persons(stem(name), open_video)
    return _answers(scorer, open_video, persons, top)


def _answers(
    scorer: Scorer, open_video: Callable[[str], VideoReader], persons: VideoPersons, top: int
) -> Iterator[PeopleAnswer]:
    ava, settings, method = scorer.cfg.AVA, scorer.settings, scorer.cfg.DATA.ENSEMBLE_METHOD
    clips, clock = ClipMaker(settings, open_video, SpanSampling()), Clock(ava.FPS, 0)
    with open_video("") as video:
        length = video.num_frames
    waiting: deque[_Moment] = deque()
    for number, second in enumerate(persons.moments):
        key = clock.frame_of(second)
        frames = clip_frames(key, settings.num_frames, settings.sampling_rate, length, ava.FRAMES_AFTER_KEY)
        seconds = seconds_of_clip(frames, ava.BOX_FRAMES, second, clock, ava.FRAMES_AFTER_KEY)
        while waiting and waiting[0].second < min(seconds):  # no later clip reads it
            yield _answer(scorer, waiting.popleft(), method, top)
        span = min(frames) / ava.FPS, (max(frames) + 1) / ava.FPS
        waiting.append(_Moment(number, second, span, persons.at(second)))
        persons.forget(min(seconds))
        if waiting[-1].persons:
            prediction = scorer.predict(collate([_sample(clips, frames, seconds, persons, waiting)]))
            _take_in(prediction, waiting, method)
    for moment in waiting:
        yield _answer(scorer, moment, method, top)


def _sample(
    clips: ClipMaker, frames: list[int], seconds: list[float], persons: VideoPersons, waiting: deque[_Moment]
) -> Sample:
    """Make the clip of the last moment, with the boxes of its steps' seconds.

    A second without persons gets the boxes of the clip's own moment.
    """
    own, numbers = waiting[-1], {moment.second: moment.number for moment in waiting}
    found = [persons.at(second) for second in seconds]
    boxes = [np.stack([person.box for person in these or own.persons]) for these in found]
    clip = clips.evaluation_clip_with_boxes("", frames, boxes)
    key_frames = [
        KeyFrame(torch.from_numpy(moved), torch.zeros(len(moved), 0), numbers.get(second, -1) if these else -1)
        for moved, second, these in zip(clip.boxes, seconds, found, strict=True)
    ]
    return Sample(clip.inputs, 0, own.number, 0, key_frames=key_frames)


def _take_in(prediction: Prediction, waiting: deque[_Moment], method: str) -> None:
    """Add the scores of a clip to the moments whose boxes they are of."""
    moments = {moment.number: moment for moment in waiting}
    boxes = prediction.boxes
    # Each key frame of a clip begins with its box 0; steps of one second repeat its boxes.
    starts = torch.nonzero(boxes.number == 0).flatten().tolist()
    for start, stop in zip(starts, [*starts[1:], len(boxes.number)], strict=True):
        number = int(boxes.key_frame[start])
        if number >= 0:
            moments[number].add(prediction.scores[start:stop], method)


def _answer(scorer: Scorer, moment: _Moment, method: str, top: int) -> PeopleAnswer:
    """Make the answer of a moment."""
    answers = []
    for row, person in enumerate(moment.persons):
        scores = moment.scores[row] / (moment.times if method == "sum" else 1)
        answer = scorer.answer(*moment.span, scores, top)
        answers.append(
            PersonAnswer(person.identity, person.box, person.score, answer.scores, answer.names, answer.all_scores)
        )
    highest = np.zeros(len(scorer.class_names), np.float32)
    for answer in answers:
        highest[scorer.scored] = np.maximum(highest, answer.all_scores)[scorer.scored]
    return PeopleAnswer(*moment.span, moment.second, answers, highest)
