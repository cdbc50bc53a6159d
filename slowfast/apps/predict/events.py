"""Events: spans of time in which a class is there, found in answers as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slowfast.apps.predict.scorer import Answer


@dataclass(frozen=True)
class Event:
    """A span of a video in which a class is there.

    Attributes:
        name: of the class.
        start_s, end_s: start of the first and end of the last of its answers, in seconds.
        score: highest smoothed score.
    """

    name: str
    start_s: float
    end_s: float
    score: float

    def __str__(self) -> str:
        return f"{self.start_s:.2f} to {self.end_s:.2f} s: {self.name} {self.score:.3f}"


@dataclass(frozen=True)
class EventRule:
    """Thresholds with hysteresis, on smoothed scores.

    A class's score is s = (1 - smooth) * score + smooth * (s before), from the first answer's score on. An event begins
    with the first answer where s >= `on`, and ends before the first later one where s < `off`.

    Attributes:
        on, off: thresholds, 0 < off <= on.
        smooth: weight of the past, 0 (none) to less than 1.

    Raises:
        ValueError: values out of range.
    """

    on: float = 0.5
    off: float = 0.3
    smooth: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.off <= self.on or not 0 <= self.smooth < 1:
            raise ValueError(
                f"events that begin at {self.on:g}, end below {self.off:g} and keep {self.smooth:g} of the past are "
                "impossible; it must be 0 < off <= on, and 0 <= smooth < 1"
            )


class EventFinder:
    """Events of one stream of answers, by a rule; answers that overlap belong to one event.

    Args:
        rule: see `EventRule`.
        class_names: one name per class.
    """

    def __init__(self, rule: EventRule, class_names: Sequence[str]) -> None:
        self._rule, self._names = rule, class_names
        self._smoothed: np.ndarray | None = None
        self._open: dict[int, Event] = {}

    def push(self, answer: Answer) -> list[Event]:
        """Take in the next answer; return the events that have ended before it, in the order of the classes."""
        rule, scores = self._rule, answer.all_scores
        past = scores if self._smoothed is None else self._smoothed
        self._smoothed = (1 - rule.smooth) * scores + rule.smooth * past
        there = self._smoothed >= np.where([number in self._open for number in range(len(scores))], rule.off, rule.on)
        ended = [self._open.pop(number) for number in sorted(self._open) if not there[number]]
        for number in np.flatnonzero(there).tolist():
            score = float(self._smoothed[number])
            event = self._open.get(number, Event(self._names[number], answer.start_s, answer.end_s, score))
            self._open[number] = Event(event.name, event.start_s, answer.end_s, max(event.score, score))
        return ended

    def finish(self) -> list[Event]:
        """Return the events that last to the end of the stream."""
        rest, self._open = [self._open[number] for number in sorted(self._open)], {}
        return rest
