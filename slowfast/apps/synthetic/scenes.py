"""What the videos of the sets in published formats share: two things that cross a picture of any shape, and names.

They come at the times of the `sweep` set (`synthetic_render`), so that no short clip shows both. What a model has to
tell is the order of their directions, or of their colors.
"""

import string
from dataclasses import dataclass, replace

import numpy as np

from slowfast.apps.synthetic import render as render

YELLOW, RED, BLUE, GREEN = (240.0, 220.0, 40.0), (235.0, 45.0, 45.0), (50.0, 90.0, 245.0), (50.0, 225.0, 70.0)
YOUTUBE_LETTERS = string.ascii_letters + string.digits + "-_"
MAX_VIDEOS = 100_000  # of a split, so that names stay unique
_SCATTER = 11_400_714_785_074_694_791  # a prime: times it, numbers that follow each other look unlike


@dataclass(frozen=True)
class Key:
    """Which video: everything about it follows from this. `size` is the short side of its frames in pixels."""

    seed: int
    split: str
    index: int
    size: int

    @property
    def generator(self) -> np.random.Generator:
        """The random generator of this video."""
        return render.video_generator(self.seed, self.split, self.index)

    def name(self, letters: str, length: int) -> str:
        """A name of `length` of these letters, unlike that of any other video of the set."""
        number = self.number(len(letters) ** length)
        return "".join(letters[number // len(letters) ** place % len(letters)] for place in range(length))

    def number(self, end: int) -> int:
        """A number from 0 up to `end`, another for every video as long as there are fewer of them than `end`."""
        return (render.SPLITS.index(self.split) * MAX_VIDEOS + self.index + 1 + self.seed * 7919) * _SCATTER % end


def crossings(rng: np.random.Generator, label: int, shape: tuple[int, int], stretch: int = 1) -> list[render.Event]:
    """Two events in the middle square of a picture (height, width), in order, for a video of 36 * `stretch` frames.

    They go in the directions of class `label` of `sweep`.
    A picture not much longer than its square leaves them in sight of any square crop.
    """
    size = min(shape)
    middle = np.array([shape[1] - size, shape[0] - size]) / 2
    events = render.sample_events(rng, label, size, stretch)
    return [replace(event, centers=event.centers + middle) for event in events]


def draw_crossings(
    rng: np.random.Generator, events: list[render.Event], colors: tuple, shape: tuple[int, int], stretch: int = 1
) -> np.ndarray:
    """The video, a color an event, without noise as yet: (36 * stretch, height, width, 3) float32."""
    frames = render.background(rng, render.NUM_FRAMES * stretch, *shape, pace=1 / stretch)
    for event, color in zip(events, colors, strict=True):
        shown = frames[event.frames.start : event.frames.stop]
        render.draw_disc(shown, event.centers, event.radius, color)
    return frames


def lines(header: str, rows) -> str:
    """Text of a file: the header, if there is one, and the rows."""
    return "".join(f"{row}\n" for row in ([header] if header else []) + list(rows))
