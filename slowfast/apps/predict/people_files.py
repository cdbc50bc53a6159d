"""Answers about persons in files: lines, tables, subtitles, captions, events, and detections in AVA's format."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from slowfast.apps.predict.events import Event, EventFinder, EventRule
from slowfast.apps.predict.painter import Box, Caption
from slowfast.apps.predict.people import PeopleAnswer
from slowfast.apps.predict.predictor import Predictor
from slowfast.apps.predict.scorer import Answer
from slowfast.datasets.video.find import stem
from slowfast.evaluation.ava_files import second_text
from slowfast.utils.text import printable, spreadsheet_cell

COLUMNS = ("video", "key_s", "person", "x1", "y1", "x2", "y2", "box_score", "rank", "name", "score")
EVENT_COLUMNS = ("video", "person", "start_s", "end_s", "name", "score")
_SHOWN_S = 0.5  # seconds before and after a moment in which its boxes are shown, at most


@dataclass(frozen=True)
class PersonEvent:
    """An event (see `Event`) of one person, by identity."""

    person: int
    name: str
    start_s: float
    end_s: float
    score: float

    def __str__(self) -> str:
        return f"{self.start_s:.2f} to {self.end_s:.2f} s: person {self.person}: {self.name} {self.score:.3f}"


class PersonEventFinder:
    """Events of each person; those of a person end where the person is not there.

    Args:
        rule: see `EventRule`.
        predictor: of the answers.
    """

    def __init__(self, rule: EventRule, predictor: Predictor) -> None:
        self._rule, self._names = rule, predictor.class_names
        self._named = np.isin(np.arange(len(self._names)), predictor.scored)
        self._finders: dict[int, EventFinder] = {}

    def push(self, answer: PeopleAnswer) -> list[PersonEvent]:
        """Take in the next answer; return the events that have ended before it."""
        there = {person.identity for person in answer.persons}
        ended = [event for gone in sorted(self._finders.keys() - there) for event in self._end(gone)]
        for person in answer.persons:
            finder = self._finders.setdefault(person.identity, EventFinder(self._rule, self._names))
            scores = np.where(self._named, person.all_scores, 0)
            one = Answer(answer.start_s, answer.end_s, person.scores, person.names, scores)
            ended += [_of_person(person.identity, event) for event in finder.push(one)]
        return ended

    def finish(self) -> list[PersonEvent]:
        """Return the events that last to the end of the video."""
        return [event for identity in sorted(self._finders) for event in self._end(identity)]

    def _end(self, identity: int) -> list[PersonEvent]:
        return [_of_person(identity, event) for event in self._finders.pop(identity).finish()]


def _of_person(identity: int, event: Event) -> PersonEvent:
    return PersonEvent(identity, event.name, event.start_s, event.end_s, event.score)


def line_of(answer: PeopleAnswer) -> dict[str, Any]:
    """Return an answer as the plain values of a line of `answers.jsonl`, without the video."""
    persons = [
        {
            "person": person.identity,
            "box": [round(float(edge), 6) for edge in person.box],
            "box_score": round(float(person.box_score), 6),
            "names": person.names,
            "scores": [float(score) for score in person.scores],
        }
        for person in answer.persons
    ]
    times = {"start_s": answer.start_s, "end_s": answer.end_s, "key_s": answer.key_s}
    return {**{name: round(value, 6) for name, value in times.items()}, "persons": persons}


def rows_of(line: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the rows of the table, see `COLUMNS`, for a line."""
    start = [spreadsheet_cell(printable(line["video"])), line["key_s"]]
    for person in line["persons"]:
        head = [*start, person["person"], *person["box"], person["box_score"]]
        for rank, (name, score) in enumerate(zip(person["names"], person["scores"], strict=True), start=1):
            yield [*head, rank, spreadsheet_cell(printable(name)), score]


def write_detections(stream: TextIO, video: str, answer: PeopleAnswer, predictor: Predictor) -> None:
    """Write a row of AVA's format for each person and class: what `evaluate_ava_files` scores."""
    second = second_text(answer.key_s + predictor.cfg.AVA.FIRST_SECOND)
    writer = csv.writer(stream, lineterminator="\n")
    for person in answer.persons:
        for number in predictor.scored:
            score = f"{person.all_scores[number]:.9g}"  # nine digits represent every float32 exactly
            writer.writerow([stem(video), second, *map(float, person.box), number + 1, score])


def cues_of(path: str) -> Iterator[tuple[float, float, str]]:
    """Yield start, end and text of the subtitles for a file of lines: the best class of each person."""
    for start, end, persons in _shown(_moments(path)):
        texts = [f"{p['person']}: {p['names'][0]} {p['scores'][0]:.2f}" for p in persons if p["names"]]
        if texts:
            yield start, end, "; ".join(texts)


def captions_of(path: str) -> Iterator[Caption]:
    """Yield what is drawn of a file of lines, see `captions`."""
    return captions(_moments(path))


def captions(moments: Iterable[tuple[float, list[dict[str, Any]]]]) -> Iterator[Caption]:
    """Yield what is drawn of moments (second, persons of a line): boxes with the person's number and best classes."""
    for start, end, persons in _shown(moments):
        yield Caption(start, boxes=boxes(persons))
        yield Caption(end)


def boxes(persons: Iterable[dict[str, Any]]) -> list[Box]:
    """Return the boxes of the persons of a line, with labels."""
    return [
        Box(
            *person["box"],
            [f"person {person['person']}", *map("{} {:.2f}".format, person["names"], person["scores"])],
            person["person"],
        )
        for person in persons
    ]


def _moments(path: str) -> Iterator[tuple[float, list[dict[str, Any]]]]:
    with open(path, encoding="utf-8") as stream:
        for text in stream:
            line = json.loads(text)
            yield line["key_s"], line["persons"]


def _shown(moments: Iterable[tuple[float, Any]]) -> Iterator[tuple[float, float, Any]]:
    """Yield from when to when a moment is shown: halfway to its neighbors, and half a second at most."""
    end, current = 0.0, None
    for following in itertools.chain(moments, [None]):
        if current is not None:
            start = max(end, current[0] - _SHOWN_S)
            end = current[0] + _SHOWN_S
            if following is not None:
                end = min(end, (current[0] + following[0]) / 2)
            yield start, end, current[1]
        current = following
