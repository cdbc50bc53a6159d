"""Sizes of frames and positions of crops in whole pixels, and boxes in a crop, as published for AVA.

Boxes are (n, 4) float arrays of x1, y1, x2, y2. The last column of a picture is width - 1, as is the greatest x of a
box. All randomness comes from the `torch.Generator` that the caller passes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from torch import Generator

from slowfast.runtime.seed import randint, uniform

CENTER = 1  # position of a crop between the start (0) and the end (2) of the longer side

# Attempts of `Crop.random_resized` before it falls back to a center crop.
_TRIES = 10


class Crop(NamedTuple):
    """Rectangle of a frame: upper left pixel and size."""

    top: int
    left: int
    height: int
    width: int

    def of(self, frames: np.ndarray) -> np.ndarray:
        """Crop frames (..., H, W, C); a view."""
        return frames[..., self.top : self.top + self.height, self.left : self.left + self.width, :]

    @classmethod
    def square_at(cls, height: int, width: int, size: int, position: int) -> Crop:
        """Return a square at the start (0), center (1) or end (2) of the longer side, centered on the other.

        Raises:
            ValueError: the frame is smaller than the crop, or there is no such position.
        """
        _check_room(height, width, size)
        if position not in (0, CENTER, 2):
            raise ValueError(f"crop position {position} is not 0, 1 or 2")
        top, left = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
        if height > width:
            top = (0, top, height - size)[position]
        else:
            left = (0, left, width - size)[position]
        return cls(top, left, size, size)

    @classmethod
    def random_square(cls, height: int, width: int, size: int, generator: Generator) -> Crop:
        """Sample a square at a uniform position; ValueError if the frame is smaller."""
        _check_room(height, width, size)
        return cls(randint(generator, height - size + 1), randint(generator, width - size + 1), size, size)

    @classmethod
    def random_resized(
        cls, height: int, width: int, areas: tuple[float, float], aspects: tuple[float, float], generator: Generator
    ) -> Crop:
        """Sample a crop of random area and aspect ratio (Inception style).

        A crop that does not fit in the frame is sampled again, up to `_TRIES` times. Then the largest center crop with
        an allowed aspect ratio is taken.

        Args:
            areas: range of the crop's share of the area, sampled uniformly.
            aspects: range of width over height, sampled log-uniformly.

        Source: Szegedy et al., Going deeper with convolutions, section 6.
        """
        for _ in range(_TRIES):
            area = uniform(generator, *areas) * height * width
            aspect = math.exp(uniform(generator, *map(math.log, aspects)))
            wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < wide <= width and 0 < high <= height:
                return cls(randint(generator, height - high + 1), randint(generator, width - wide + 1), high, wide)
        wide, high = min(width, round(height * aspects[1])), min(height, round(width / aspects[0]))
        return cls((height - high) // 2, (width - wide) // 2, high, wide)

    def moving_to(self, last: Crop, steps: int) -> list[Crop]:
        """Interpolate from this crop to `last` in `steps` steps, rounded down to whole pixels."""
        return [Crop(*row) for row in np.linspace(self, last, steps).astype(int).tolist()]


def size_by_short_side(height: int, width: int, short: int) -> tuple[int, int]:
    """Return (height, width) scaled to a short side of `short` pixels; the long side is rounded down."""
    if width < height:
        return math.floor(height / width * short), short
    return short, math.floor(width / height * short)


def random_short_side(smallest: int, largest: int, inverse: bool, generator: Generator) -> int:
    """Sample a short side from `smallest` to `largest` pixels, uniform in it, or in 1 / side with `inverse`."""
    draw = uniform(generator)
    if inverse:
        return round(1.0 / (1.0 / largest + draw * (1.0 / smallest - 1.0 / largest)))
    return round(smallest + draw * (largest - smallest))


def _check_room(height: int, width: int, size: int) -> None:
    if min(height, width) < size:
        raise ValueError(f"a crop of {size} pixels does not fit in frames of {height}x{width}")


def transform_boxes(
    boxes: np.ndarray, full: tuple[int, int], size: tuple[int, int], crop: Crop, flip: bool = False
) -> np.ndarray:
    """Map boxes of the original frame to a clip: scale, crop, flip, clip to the picture.

    Args:
        boxes: relative to the frame, 0 to 1.
        full, size: (height, width) of the frame before and after resizing.
        crop: part of the resized frame that the clip shows.
        flip: the clip is mirrored left and right.

    Returns:
        (n, 4) float32 in pixels of the clip. Boxes outside the crop have no area.
    """
    boxes = _shift(_scale(_to_pixels(boxes, *full), full, size), crop.top, crop.left)
    boxes = _flip(boxes, crop.width) if flip else boxes
    return _clip(boxes, crop.height, crop.width).astype(np.float32)


def _to_pixels(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Convert relative boxes (0 to 1) to pixels, clipped to the frame."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4) * (width, height, width, height)
    return _clip(boxes, height, width)


def _scale(boxes: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Scale boxes from a frame of `old` (height, width) to one of `new`.

    As published, both axes use the factor of the longer side. Since sides are whole pixels, this differs from the
    exact factors by less than a pixel.
    """
    longer = int(old[1] >= old[0])
    return boxes * (new[longer] / old[longer])


def _shift(boxes: np.ndarray, top: int, left: int) -> np.ndarray:
    """Move boxes into a crop that begins at row `top` and column `left`."""
    return boxes - np.array([left, top, left, top], boxes.dtype)


def _flip(boxes: np.ndarray, width: int) -> np.ndarray:
    """Mirror boxes left and right."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([width - 1 - x2, y1, width - 1 - x1, y2], axis=1)


def _clip(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Clip boxes to a frame; a box outside ends up on its edge, without area."""
    return np.clip(boxes, 0, np.array([width - 1, height - 1, width - 1, height - 1], boxes.dtype))


def has_area(boxes: np.ndarray) -> np.ndarray:
    """Return (n,) bool: x2 > x1 and y2 > y1."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
