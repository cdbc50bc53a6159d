"""Shared parts of the sets in published formats: base class, video names, and two discs that cross a picture.

The discs come at the times of the `sweep` set (`render.py`), so no short clip shows both. A model has to tell the order
of their directions, or of their colors.
"""

import string
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slowfast.apps.synthetic import render

YELLOW, RED, BLUE, GREEN = (240.0, 220.0, 40.0), (235.0, 45.0, 45.0), (50.0, 90.0, 245.0), (50.0, 225.0, 70.0)
YOUTUBE_LETTERS = string.ascii_letters + string.digits + "-_"
MAX_VIDEOS = 100_000  # of a split; more would repeat names
_SCATTER = 11_400_714_785_074_694_791  # a prime; multiplied by it, consecutive numbers look unrelated


@dataclass(frozen=True)
class Key:
    """Identity of a video, from which all of it follows. `size` is the short side of its frames in pixels."""

    seed: int
    split: str
    index: int
    size: int

    @property
    def generator(self) -> np.random.Generator:
        """Return a new random generator of this video."""
        return render.video_generator(self.seed, self.split, self.index)

    def name(self, letters: str, length: int) -> str:
        """Return a name of `length` letters, unique in the set."""
        number = self.number(len(letters) ** length)
        return "".join(letters[number // len(letters) ** place % len(letters)] for place in range(length))

    def number(self, end: int) -> int:
        """Return a number from 0 to `end` - 1, unique in the set if it has fewer than `end` videos."""
        return (render.SPLITS.index(self.split) * MAX_VIDEOS + self.index + 1 + self.seed * 7919) * _SCATTER % end


class Format(ABC):
    """A set with the folders, names and files that the authors of a data set publish.

    Attributes:
        counts: default number of videos of each split.
    """

    counts: dict[str, int]

    @abstractmethod
    def draw(self, key: Key) -> tuple[np.ndarray, Any]:
        """Draw frames (T, H, W, 3) uint8 RGB of a video; return them, and the facts that the lists need."""

    @abstractmethod
    def write_video(self, root: Path, frames: np.ndarray, facts: Any) -> None:
        """Write one video below `root`."""

    @abstractmethod
    def last_file(self, key: Key) -> str:
        """Return the path below the root of the file that `write_video` writes last."""

    @abstractmethod
    def write_lists(self, root: Path, split: str, videos: list[Any]) -> None:
        """Write the lists and annotations of a split, from the facts of all its videos."""


def crossings(rng: np.random.Generator, label: int, shape: tuple[int, int], stretch: int = 1) -> list[render.Event]:
    """Sample two events, in order of time, in the middle square of a picture (height, width).

    The video has 36 * `stretch` frames. Directions are those of class `label` of `sweep`. In a picture that is nearly
    square every square crop shows the events.
    """
    size = min(shape)
    middle = np.array([shape[1] - size, shape[0] - size]) / 2
    events = render.sample_events(rng, label, size, stretch)
    return [replace(event, centers=event.centers + middle) for event in events]


def draw_crossings(
    rng: np.random.Generator, events: list[render.Event], colors: tuple, shape: tuple[int, int], stretch: int = 1
) -> np.ndarray:
    """Draw the video without noise, one color an event: (36 * stretch, height, width, 3) float32."""
    frames = render.background(rng, render.NUM_FRAMES * stretch, *shape, pace=1 / stretch)
    for event, color in zip(events, colors, strict=True):
        shown = frames[event.frames.start : event.frames.stop]
        render.draw_disc(shown, event.centers, event.radius, color)
    return frames


def lines(header: str, rows) -> str:
    """Join a header (\"\" for none) and rows to the text of a file."""
    return "".join(f"{row}\n" for row in ([header] if header else []) + list(rows))
