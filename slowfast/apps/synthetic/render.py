"""Drawing of synthetic videos: two events far apart in time over a moving background.

In `sweep` the label is the order of the two events. Every video has its own random generator, so its pixels depend on
(seed, split, index, size) alone, not on the number of videos.

`frames` are (T, H, W, 3) uint8 RGB. Centers are (x, y) in pixels; (0, 0) is the middle of the top left pixel.
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
_EVENT_SPEED = 7.0  # pixels a frame
_MIN_START_DISTANCE = 12  # leaves 8 empty frames between two events, so that no window of 8 touches both
_END_MARGIN = 4  # empty frames before the first and after the second event
MIN_SIZE = 32  # the smallest frame in which four positions, 7 pixels apart, have room to vary

# With this margin at 32 pixels the four positions of an event are, together, as uniform as its cross coordinate. So the
# position of a disc in one frame tells nothing about its direction.
_EDGE_MARGIN = 1.5
_DISC_COLOR = (240.0, 220.0, 40.0)
_DISC_RADIUS = (4.0, 5.5)

_GRID_CELLS = 5
_GRID_COLOR = (60.0, 140.0)
_SCROLL_SPEED = 1.5
_NUM_SQUARES = 2
_SQUARE_HALF_SIZE = (1.5, 3.0)
_SQUARE_GRAY = (20.0, 230.0)
_SQUARE_SPEED = 2.5
_NOISE_SIGMA = 10.0
_MAX_PICTURE_ROWS = 32000


@dataclass(frozen=True)
class Event:
    """A disc that crosses the frame; its center in frame `start + t` is `centers[t]` (T, 2), in pixels."""

    start: int
    direction: int
    radius: float
    centers: np.ndarray

    @property
    def frames(self) -> range:
        """Return the indices of the frames that show the disc."""
        return range(self.start, self.start + len(self.centers))


def check_size(size: int) -> None:
    """Raise ValueError unless videos can have frames of `size` pixels."""
    if size < MIN_SIZE or size % 2:
        raise ValueError(f"size {size}: frames must be even (4:2:0 video) and at least {MIN_SIZE} pixels")


def video_generator(seed: int, split: str, index: int) -> np.random.Generator:
    """Return the random generator of a video; every (seed, split, index) has its own."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split), index])))


def label_of(index: int) -> int:
    """Return the class of video `index` of a split. Classes take turns, so every split is balanced."""
    return index % len(CLASSES)


@dataclass(frozen=True)
class StepGrid:
    """Videos of whole steps, as a model with PGT.STEP_LEN and OVERLAP reads them, with each event within one step.

    Attributes:
        steps: number of steps of a video.
        min_gap, max_gap: limits of the gap. The step with the second event is the gap-th one after the step with the
            first. All gaps are as likely, and so are all places of a gap in the video.
        step_len: frames of the first step.
        overlap: frames that a later step has less.
        lead: steps before the first event, at least.

    Raises:
        ValueError: an event does not fit in a step, or no such gap in the steps.
    """

    steps: int
    min_gap: int
    max_gap: int
    step_len: int = 8
    overlap: int = 1
    lead: int = 0

    def __post_init__(self) -> None:
        if self.overlap < 1 or self.step_len - self.overlap < EVENT_FRAMES:
            raise ValueError(
                f"steps of {self.step_len} frames that overlap by {self.overlap}: the overlap is at least 1, and a "
                f"later step needs the {EVENT_FRAMES} frames of an event"
            )
        if self.lead < 0 or not 1 <= self.min_gap <= self.max_gap < self.steps - self.lead:
            raise ValueError(
                f"gaps of {self.min_gap} to {self.max_gap} steps in videos of {self.steps} steps, {self.lead} of them "
                "before the first event: a gap is at least 1 and less than the steps from the first event on"
            )

    @property
    def num_frames(self) -> int:
        """Number of frames of a video."""
        return self.frames(self.steps - 1).stop

    def frames(self, step: int) -> range:
        """Return the frames of a step, counted from 0."""
        stop = self.step_len + step * (self.step_len - self.overlap)
        return range(stop - self.step_len + (self.overlap if step else 0), stop)

    def sample_starts(self, rng: np.random.Generator) -> tuple[int, int]:
        """Sample the start frames of the two events."""
        gap = int(rng.integers(self.min_gap, self.max_gap + 1))
        first = int(rng.integers(self.lead, self.steps - gap))
        frames = self.frames(first), self.frames(first + gap)
        starts = [int(rng.integers(part.start, part.stop - EVENT_FRAMES + 1)) for part in frames]
        return starts[0], starts[1]


def _start_pairs() -> list[tuple[int, int]]:
    """Return all pairs of start frames that two events may have."""
    last = NUM_FRAMES - _END_MARGIN - EVENT_FRAMES
    firsts = range(_END_MARGIN, last - _MIN_START_DISTANCE + 1)
    return [(first, second) for first in firsts for second in range(first + _MIN_START_DISTANCE, last + 1)]


def sample_events(
    rng: np.random.Generator, label: int, size: int, stretch: int = 1, grid: StepGrid | None = None
) -> tuple[Event, Event]:
    """Sample the two events, in order of time, of a video of class `label` with frames of `size` pixels.

    A video with `stretch` times as many frames shows the same, more slowly. With a grid, its gaps say when.
    """
    if grid is None:
        pairs = _start_pairs()
        starts = pairs[rng.integers(len(pairs))]
    else:
        starts = grid.sample_starts(rng)
    ways = CLASSES[label]
    events = [sample_event(rng, start, way, size, stretch) for start, way in zip(starts, ways, strict=True)]
    return events[0], events[1]


def sample_event(rng: np.random.Generator, start: int, direction: int, size: int, stretch: int = 1) -> Event:
    """Sample an event that starts in frame `start` and moves in `DIRECTIONS[direction]`."""
    travel = _EVENT_SPEED * (EVENT_FRAMES - 1)
    count = EVENT_FRAMES * stretch
    far_edge = size - 1 - _EDGE_MARGIN
    radius = rng.uniform(*_DISC_RADIUS)
    along = rng.uniform(_EDGE_MARGIN, far_edge - travel) + travel / (count - 1) * np.arange(count)
    across = np.full(count, rng.uniform(_EDGE_MARGIN, far_edge))
    if DIRECTIONS[direction] == "left":
        along = size - 1 - along
    columns = (across, along) if DIRECTIONS[direction] == "down" else (along, across)
    return Event(start * stretch, direction, radius, np.stack(columns, axis=1))


def render_video(
    seed: int, split: str, index: int, size: int, grid: StepGrid | None = None
) -> tuple[np.ndarray, tuple[Event, Event]]:
    """Draw a video; return frames (T, size, size, 3) uint8 RGB and the two events.

    T is NUM_FRAMES, or that of the grid.
    """
    rng = video_generator(seed, split, index)
    events = sample_events(rng, label_of(index), size, grid=grid)
    frames = background(rng, grid.num_frames if grid else NUM_FRAMES, size, size)
    for event in events:
        draw_event(frames, event)
    return finish(rng, frames), events


def draw_event(frames: np.ndarray, event: Event, first: int = 0) -> None:
    """Draw an event of `sweep` in place into frames (T, H, W, 3) float32, the first of which is number `first`."""
    start = event.start - first
    draw_disc(frames[start : start + EVENT_FRAMES], event.centers, event.radius, _DISC_COLOR)


def background(rng: np.random.Generator, count: int, height: int, width: int, pace: float = 1.0) -> np.ndarray:
    """Draw the background, scrolling colors and gray squares: (count, height, width, 3) float32.

    `pace` scales the motion between frames.
    """
    return Background(rng, height, width, pace).draw(0, count)


class Background:
    """A background of any length, sampled once and drawn piece by piece; arguments as of `background`."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, pace: float = 1.0):
        self._height, self._width = height, width
        grid = rng.uniform(*_GRID_COLOR, (_GRID_CELLS, _GRID_CELLS, 3)).astype(np.float32)
        self._picture = cv2.resize(grid, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
        self._offset = rng.uniform(0, (2 * width, 2 * height))
        self._velocity = pace * rng.uniform(-_SCROLL_SPEED, _SCROLL_SPEED, 2)
        self._squares = [_Square.sample(rng, height, width, pace) for _ in range(_NUM_SQUARES)]

    def draw(self, first: int, count: int) -> np.ndarray:
        """Draw the frames `first` to `first + count - 1`: (count, height, width, 3) float32."""
        times = np.arange(first, first + count)
        frames = self._scroll(times)
        for square in self._squares:
            square.draw(frames, times)
        return frames

    def _scroll(self, times: np.ndarray) -> np.ndarray:
        """Draw a smooth random picture of twice the frame, mirrored at its edges, that scrolls; float32."""
        height, width = self._height, self._width
        time, row, column = np.meshgrid(times, np.arange(height), np.arange(width), indexing="ij")
        # One remap draws many frames as one tall picture. OpenCV takes pictures of less than 32768 rows.
        parts = []
        for part in np.array_split(np.arange(len(times)), -(-len(times) * height // _MAX_PICTURE_ROWS)):
            x, y = (
                (self._offset[axis] + self._velocity[axis] * time[part] + place[part])
                .reshape(-1, width)
                .astype(np.float32)
                for axis, place in enumerate((column, row))
            )
            drawn = cv2.remap(self._picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            parts.append(drawn.reshape(len(part), height, width, 3))
        return np.concatenate(parts)


def finish(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """Add camera noise to `frames` in place, and return them as uint8."""
    frames += rng.normal(0.0, _NOISE_SIGMA, frames.shape).astype(np.float32)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def _bounce(position: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Fold positions into [0, limit], as of a ball that bounces off both ends."""
    folded = np.mod(position, 2 * limits)
    return np.minimum(folded, 2 * limits - folded)


@dataclass(frozen=True)
class _Square:
    """A gray square that bounces between the edges: half its side, its start and its motion a frame, in pixels."""

    half: float
    gray: float
    start: np.ndarray
    velocity: np.ndarray

    @classmethod
    def sample(cls, rng: np.random.Generator, height: int, width: int, pace: float) -> "_Square":
        half = rng.uniform(*_SQUARE_HALF_SIZE)
        gray = rng.uniform(*_SQUARE_GRAY)
        start = rng.uniform(0, (width - 1, height - 1))
        return cls(half, gray, start, pace * rng.uniform(-_SQUARE_SPEED, _SQUARE_SPEED, 2))

    def draw(self, frames: np.ndarray, times: np.ndarray) -> None:
        """Draw the square at `times` (T,) into frames (T, H, W, 3), in place."""
        height, width = frames.shape[1:3]
        centers = _bounce(self.start + self.velocity * times[:, None], np.array([width - 1, height - 1]))
        # Coverage of a pixel falls from 1 to 0 over the pixel at the edge, so slow squares move smoothly.
        column, row = (
            np.clip(self.half + 0.5 - np.abs(np.arange(length) - centers[:, axis, None]), 0, 1)
            for axis, length in enumerate((width, height))
        )
        _blend(frames, row[:, :, None] * column[:, None, :], np.full(3, self.gray))


def draw_disc(frames: np.ndarray, centers: np.ndarray, radius: float, color) -> None:
    """Draw a disc at `centers` (T, 2) into `frames` (T, H, W, 3), in place."""
    x, y = centers[:, 0, None, None], centers[:, 1, None, None]
    distance = np.hypot(np.arange(frames.shape[2])[None, None, :] - x, np.arange(frames.shape[1])[None, :, None] - y)
    _blend(frames, np.clip(radius + 0.5 - distance, 0, 1), color)


def _blend(frames: np.ndarray, cover: np.ndarray, color) -> None:
    """Blend frames (T, H, W, 3) in place with `color`, (3,) or (T, 1, 1, 3), by `cover` (T, H, W) in [0, 1]."""
    frames += cover[..., None].astype(np.float32) * (np.asarray(color, np.float32) - frames)


def disc_box(event: Event, frame: int, size: int) -> tuple[float, float, float, float]:
    """Return the box (x1, y1, x2, y2) of the disc in a frame, clipped to the frame, relative to its size."""
    # A center at 0 is the middle of the first pixel, half a pixel from the frame's edge.
    x, y = event.centers[frame - event.start] + 0.5
    corners = (x - event.radius, y - event.radius, x + event.radius, y + event.radius)
    return tuple(float(np.clip(corner / size, 0, 1)) for corner in corners)


def contact_sheet(videos: list[np.ndarray], scale: int = 2) -> np.ndarray:
    """Tile videos, one a row, their frames side by side: (rows, columns, 3) uint8 RGB, enlarged `scale` times."""
    rows = [np.concatenate([np.pad(frame, ((0, 1), (0, 1), (0, 0))) for frame in video], axis=1) for video in videos]
    return np.concatenate(rows, axis=0).repeat(scale, axis=0).repeat(scale, axis=1)
