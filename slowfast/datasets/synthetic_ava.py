"""A set in AVA's format, 30 frames a second, frame 0 at second 900; what its videos show and which boxes they have.

One or two discs stand in for persons. At every second each of them moves to and fro, sideways or up and down: an action
that a short clip tells. Every four or five seconds it also flashes in a color. In that second and the next three it
has a second action, which is its motion and the color of the flash. A model without memory of the flash can know this
action in its first second alone.

The second of the flash is labeled because PGT truncates gradients between steps. No loss of a later step reaches the
features of the step that sees the flash, so the loss of that step has to ask for the color.

`synthetic_ava_files` writes the files.
"""

from dataclasses import dataclass

import numpy as np

from slowfast.datasets import synthetic_render as render
from slowfast.datasets import synthetic_scenes as scenes
from slowfast.datasets.synthetic_scenes import Key

COUNTS = {"train": 80, "val": 30}
FPS = 30
FIRST_SECOND = 900  # of the film that the clip was cut out of
SECONDS = 12
NUM_FRAMES = SECONDS * FPS
# As in AVA, the first and the last two seconds have no annotations.
KEY_SECONDS = range(FIRST_SECOND + 2, FIRST_SECOND + SECONDS - 1)

MOTIONS = ("sway", "bob")
FLASHES = {"red": scenes.RED, "blue": scenes.BLUE, "green": scenes.GREEN}
# Numbers of the actions. AVA's have gaps; here number 3 is none.
MOTION_IDS = (1, 2)
FLASH_IDS = ((4, 5, 6), (7, 8, 9))  # by motion and flash
ACTIONS = dict(zip(MOTION_IDS, MOTIONS, strict=True)) | {
    FLASH_IDS[i][j]: f"{motion} since a {colour} flash"
    for i, motion in enumerate(MOTIONS)
    for j, colour in enumerate(FLASHES)
}
REMEMBERED = 3  # seconds after the flash
FLASH_FRAMES = 20
FLASH_GAPS = (4, 5)  # seconds from one flash to the next
SWING = 4.5  # pixels to either side
SWING_FRAMES = 20  # there and back
RADIUS = (4.0, 5.5)
PLACES = ((0.20, 0.32), (0.68, 0.80))  # of the middle of a person, left and right, in widths
HEIGHTS = (0.35, 0.65)


@dataclass(frozen=True)
class Person:
    """A disc: `centres` (NUM_FRAMES, 2) pixels; by second from FIRST_SECOND its motion and its flash (-1: none)."""

    radius: float
    centres: np.ndarray
    motions: np.ndarray
    flashes: np.ndarray

    def actions(self, second: int) -> list[int]:
        """Numbers of its actions at a second."""
        now = second - FIRST_SECOND
        motion = self.motions[now]
        recent = self.flashes[max(now - REMEMBERED, 0) : now + 1]
        flashed = recent[recent >= 0]
        return [MOTION_IDS[motion], *([FLASH_IDS[motion][flashed[-1]]] if len(flashed) else [])]

    def box(self, second: int, shape: tuple[int, int]) -> np.ndarray:
        """Its box x1, y1, x2, y2 at a second, as shares of a picture (height, width), inside it."""
        # A centre at 0 is the middle of the first pixel, half a pixel from the frame's edge.
        x, y = self.centres[(second - FIRST_SECOND) * FPS] + 0.5
        corners = np.array([x - self.radius, y - self.radius, x + self.radius, y + self.radius])
        return np.clip(corners / np.tile(shape[::-1], 2), 0, 1)


@dataclass(frozen=True)
class Facts:
    """A video of the set: its name, which is unlike others', and the persons in it."""

    name: str
    split: str
    shape: tuple[int, int]
    persons: tuple[Person, ...]


def name_of(key: Key) -> str:
    """Name of a video."""
    return key.name(scenes.YOUTUBE_LETTERS, 11)


def draw(key: Key) -> tuple[np.ndarray, Facts]:
    """Frames (NUM_FRAMES, H, W, 3) uint8 RGB of a video and its facts."""
    rng = key.generator
    shape = (key.size, key.size * 5 // 8 * 2)
    sides = [0, 1] if rng.random() < 0.8 else [int(rng.integers(2))]
    persons = tuple(_draw_person(rng, side, shape) for side in sides)
    # Squares and background at the pace of `sweep`, four of whose frames are a second.
    frames = render.background(rng, NUM_FRAMES, *shape, pace=4 / FPS)
    for person in persons:
        render.draw_disc(frames, person.centres, person.radius, _colours(person))
    return render.finish(rng, frames), Facts(name_of(key), key.split, shape, persons)


def _draw_person(rng: np.random.Generator, side: int, shape: tuple[int, int]) -> Person:
    height, width = shape
    middle = np.array([rng.uniform(*PLACES[side]) * width, rng.uniform(*HEIGHTS) * height])
    motions = rng.integers(len(MOTIONS), size=SECONDS + 1)
    flashes = np.full(SECONDS + 1, -1)
    second = int(rng.integers(FLASH_GAPS[0]))
    while second < len(flashes):
        flashes[second] = rng.integers(len(FLASHES))
        second += int(rng.choice(FLASH_GAPS))
    # Each second's doings are centred at it.
    motion = motions[np.rint(np.arange(NUM_FRAMES) / FPS).astype(int)]
    swing = SWING * np.sin(2 * np.pi * (np.arange(NUM_FRAMES) / SWING_FRAMES + rng.random()))
    centres = middle + swing[:, None] * np.stack([motion == 0, motion == 1], axis=1)
    return Person(rng.uniform(*RADIUS), centres, motions, flashes)


def _colours(person: Person) -> np.ndarray:
    """Colour of a person in each frame, (NUM_FRAMES, 1, 1, 3)."""
    colours = np.tile(np.array(scenes.YELLOW), (NUM_FRAMES, 1))
    for second, flash in enumerate(person.flashes):
        if flash >= 0:
            start = second * FPS - FLASH_FRAMES // 2
            colours[max(start, 0) : start + FLASH_FRAMES] = list(FLASHES.values())[flash]
    return colours[:, None, None]
