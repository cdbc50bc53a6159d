"""The `sweep` videos as pixels: where the events lie, and how a video is drawn.

A video shows two events far apart in time; its label is their order. Everything is drawn from one random generator a
video, so the pixels of video `index` of a split depend on (seed, split, index, size) only, not on how many there are.

`frames` are (T, H, W, 3) uint8 RGB; centres are (x, y) in pixels, with the middle of the top left pixel at (0, 0).
"""

from dataclasses import dataclass

import cv2
import numpy as np

SPLITS = ("train", "val", "test")
DIRECTIONS = ("right", "left", "down")
# Class i is the ordered pair CLASSES[i] = (direction of the first event, direction of the second).
CLASSES = tuple((first, second) for first in range(3) for second in range(3) if first != second)
CLASS_NAMES = tuple(f"{DIRECTIONS[first]}-{DIRECTIONS[second]}" for first, second in CLASSES)

NUM_FRAMES = 36
EVENT_FRAMES = 4
EVENT_SPEED = 7.0  # pixels a frame
MIN_START_DISTANCE = 12  # leaves 8 empty frames between two events, so that no window of 8 touches both
END_MARGIN = 4  # empty frames before the first and after the second event
MIN_SIZE = 32  # the smallest frame in which four positions, 7 pixels apart, have room to vary

# At 32 pixels this margin makes the four positions of an event, taken together, uniform over the same interval as its
# cross coordinate: where a disc is in one frame then tells nothing about its direction.
EDGE_MARGIN = 1.5
DISC_COLOUR = (240.0, 220.0, 40.0)
DISC_RADIUS = (4.0, 5.5)

GRID_CELLS = 5
GRID_COLOUR = (60.0, 140.0)
SCROLL_SPEED = 1.5
NUM_SQUARES = 2
SQUARE_HALF_SIZE = (1.5, 3.0)
SQUARE_GREY = (20.0, 230.0)
SQUARE_SPEED = 2.5
NOISE_SIGMA = 10.0


@dataclass(frozen=True)
class Event:
    """A disc that crosses the frame: `centres` (EVENT_FRAMES, 2) pixels in frames `start`, `start + 1`, ..."""

    start: int
    direction: int
    radius: float
    centres: np.ndarray

    @property
    def frames(self) -> range:
        """Indices of the frames that show the disc."""
        return range(self.start, self.start + EVENT_FRAMES)


def video_generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random generator of one video; no two (seed, split, index) share one."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split), index])))


def label_of(index: int) -> int:
    """Class of video `index` of any split: the classes take turns, so every split is balanced."""
    return index % len(CLASSES)


def start_pairs() -> list[tuple[int, int]]:
    """All pairs of start frames that two events may have."""
    last = NUM_FRAMES - END_MARGIN - EVENT_FRAMES
    firsts = range(END_MARGIN, last - MIN_START_DISTANCE + 1)
    return [(first, second) for first in firsts for second in range(first + MIN_START_DISTANCE, last + 1)]


def sample_events(rng: np.random.Generator, label: int, size: int) -> tuple[Event, Event]:
    """Draw the two events of a video of class `label` with frames of `size` pixels, in order of time."""
    pairs = start_pairs()
    starts = pairs[rng.integers(len(pairs))]
    events = [_sample_event(rng, start, way, size) for start, way in zip(starts, CLASSES[label], strict=True)]
    return events[0], events[1]


def _sample_event(rng: np.random.Generator, start: int, direction: int, size: int) -> Event:
    travel = EVENT_SPEED * (EVENT_FRAMES - 1)
    far_edge = size - 1 - EDGE_MARGIN
    radius = rng.uniform(*DISC_RADIUS)
    along = rng.uniform(EDGE_MARGIN, far_edge - travel) + EVENT_SPEED * np.arange(EVENT_FRAMES)
    across = np.full(EVENT_FRAMES, rng.uniform(EDGE_MARGIN, far_edge))
    if DIRECTIONS[direction] == "left":
        along = size - 1 - along
    columns = (across, along) if DIRECTIONS[direction] == "down" else (along, across)
    return Event(start, direction, radius, np.stack(columns, axis=1))


def render_video(seed: int, split: str, index: int, size: int) -> tuple[np.ndarray, tuple[Event, Event]]:
    """Draw one video: frames (NUM_FRAMES, size, size, 3) uint8 RGB and its two events."""
    rng = video_generator(seed, split, index)
    events = sample_events(rng, label_of(index), size)
    frames = _background(rng, size)
    for _ in range(NUM_SQUARES):
        _draw_square(rng, frames)
    for event in events:
        _draw_disc(frames, event)
    frames += rng.normal(0.0, NOISE_SIGMA, frames.shape).astype(np.float32)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8), events


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Random colours, enlarged smoothly to twice the frame and mirrored without end, scrolling under it; float32."""
    grid = rng.uniform(*GRID_COLOUR, (GRID_CELLS, GRID_CELLS, 3)).astype(np.float32)
    picture = cv2.resize(grid, (2 * size, 2 * size), interpolation=cv2.INTER_CUBIC)
    offset = rng.uniform(0, 2 * size, 2)
    velocity = rng.uniform(-SCROLL_SPEED, SCROLL_SPEED, 2)
    time, row, column = np.meshgrid(np.arange(NUM_FRAMES), np.arange(size), np.arange(size), indexing="ij")
    # One tall picture of all frames: one remap draws the video.
    x, y = (
        (offset[axis] + velocity[axis] * time + place).reshape(-1, size).astype(np.float32)
        for axis, place in enumerate((column, row))
    )
    frames = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return frames.reshape(NUM_FRAMES, size, size, 3)


def _bounce(position: np.ndarray, limit: float) -> np.ndarray:
    """Fold positions on a line into [0, limit], as a ball that bounces off both ends."""
    folded = np.mod(position, 2 * limit)
    return np.minimum(folded, 2 * limit - folded)


def _draw_square(rng: np.random.Generator, frames: np.ndarray) -> None:
    """Draw a grey square that bounces between the edges in all frames, in place."""
    size = frames.shape[1]
    half = rng.uniform(*SQUARE_HALF_SIZE)
    grey = rng.uniform(*SQUARE_GREY)
    start, velocity = rng.uniform(0, size - 1, 2), rng.uniform(-SQUARE_SPEED, SQUARE_SPEED, 2)
    centres = _bounce(start + velocity * np.arange(NUM_FRAMES)[:, None], size - 1)
    # Coverage of a pixel falls from 1 to 0 over the pixel at the edge, so slow squares move smoothly.
    cover = np.clip(half + 0.5 - np.abs(np.arange(size) - centres[:, :, None]), 0, 1)
    _blend(frames, cover[:, 1, :, None] * cover[:, 0, None, :], np.full(3, grey))


def _draw_disc(frames: np.ndarray, event: Event) -> None:
    """Draw the disc of an event into its frames, in place."""
    place = np.arange(frames.shape[1])
    x, y = event.centres[:, 0, None, None], event.centres[:, 1, None, None]
    distance = np.hypot(place[None, None, :] - x, place[None, :, None] - y)
    _blend(frames[event.start : event.start + EVENT_FRAMES], np.clip(event.radius + 0.5 - distance, 0, 1), DISC_COLOUR)


def _blend(frames: np.ndarray, cover: np.ndarray, colour) -> None:
    """frames (T, H, W, 3) towards `colour` by `cover` (T, H, W) in [0, 1], in place."""
    frames += cover[..., None].astype(np.float32) * (np.asarray(colour, np.float32) - frames)


def disc_box(event: Event, frame: int, size: int) -> tuple[float, float, float, float]:
    """Box (x1, y1, x2, y2) of the disc in a frame of its event, clipped to the frame and divided by its size."""
    # A centre at 0 is the middle of the first pixel, half a pixel from the frame's edge.
    x, y = event.centres[frame - event.start] + 0.5
    corners = (x - event.radius, y - event.radius, x + event.radius, y + event.radius)
    return tuple(float(np.clip(corner / size, 0, 1)) for corner in corners)


def contact_sheet(videos: list[np.ndarray], scale: int = 2) -> np.ndarray:
    """One row a video, its frames side by side with a gap: (rows, columns, 3) uint8 RGB, each pixel `scale` wide."""
    rows = [np.concatenate([np.pad(frame, ((0, 1), (0, 1), (0, 0))) for frame in video], axis=1) for video in videos]
    return np.concatenate(rows, axis=0).repeat(scale, axis=0).repeat(scale, axis=1)
