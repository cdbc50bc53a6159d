"""RandAugment: operations drawn by a recipe, the same for all frames of a clip.

Operations of RandAugment on the frames of a clip, all frames alike.

Frames are (T, H, W, 3) uint8, red, green, blue; an operation gives new frames. The pictures are those of Pillow, which
the published code uses, to rounding, but for the bicubic kernel and the blend into what lies outside (OpenCV's).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from torch import Generator

from slowfast.config.augment_recipe import GREATEST_MAGNITUDE, Recipe
from slowfast.utils.rng import chance, normal, whole

# What comes into the picture from outside of it.
FILL = (128, 128, 128)
GRAY_WEIGHTS = (0.299, 0.587, 0.114)

_VALUES = np.arange(256)
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float64) / 13


def shear_x(frames: np.ndarray, factor: float, interpolation: int) -> np.ndarray:
    """Rows moved to the left by `factor` times their number."""
    return _warp(frames, [[1, factor, 0], [0, 1, 0]], interpolation)


def shear_y(frames: np.ndarray, factor: float, interpolation: int) -> np.ndarray:
    """Columns moved up by `factor` times their number."""
    return _warp(frames, [[1, 0, 0], [factor, 1, 0]], interpolation)


def translate_x(frames: np.ndarray, share: float, interpolation: int) -> np.ndarray:
    """Moved to the left by a share of the width."""
    return _warp(frames, [[1, 0, share * frames.shape[2]], [0, 1, 0]], interpolation)


def translate_y(frames: np.ndarray, share: float, interpolation: int) -> np.ndarray:
    """Moved up by a share of the height."""
    return _warp(frames, [[1, 0, 0], [0, 1, share * frames.shape[1]]], interpolation)


def rotate(frames: np.ndarray, degrees: float, interpolation: int) -> np.ndarray:
    """Turned counter-clockwise about the middle, in a frame of the same size."""
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    x, y = frames.shape[2] / 2, frames.shape[1] / 2
    return _warp(frames, [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]], interpolation)


def auto_contrast(frames: np.ndarray) -> np.ndarray:
    """Each channel of each frame stretched to the full range."""
    return _by_tables(frames, [[_stretching(counts) for counts in _histograms(frame)] for frame in frames])


def equalize(frames: np.ndarray) -> np.ndarray:
    """Each channel of each frame with all values about as often as each other."""
    return _by_tables(frames, [[_equalizing(counts) for counts in _histograms(frame)] for frame in frames])


def invert(frames: np.ndarray) -> np.ndarray:
    """The negative."""
    return _by_table(frames, 255 - _VALUES)


def posterize(frames: np.ndarray, bits: int) -> np.ndarray:
    """With the highest `bits` bits of each value only."""
    return _by_table(frames, _VALUES & ~(2 ** (8 - bits) - 1))


def solarize(frames: np.ndarray, threshold: int) -> np.ndarray:
    """Values from `threshold` on inverted."""
    return _by_table(frames, np.where(_VALUES < threshold, _VALUES, 255 - _VALUES))


def solarize_add(frames: np.ndarray, amount: int) -> np.ndarray:
    """The darker half of the values raised by `amount`."""
    return _by_table(frames, np.where(_VALUES < 128, _VALUES + amount, _VALUES))


def brightness(frames: np.ndarray, factor: float) -> np.ndarray:
    """Times `factor`."""
    return _by_table(frames, _VALUES * factor)


def contrast(frames: np.ndarray, factor: float) -> np.ndarray:
    """Distances from a frame's mean gray times `factor`."""
    grays = [int(np.dot(cv2.mean(frame)[:3], GRAY_WEIGHTS) + 0.5) for frame in frames]
    return _by_tables(frames, [[gray + factor * (_VALUES - gray)] * 3 for gray in grays])


def color(frames: np.ndarray, factor: float) -> np.ndarray:
    """Distances of the channels from gray times `factor`; 0 leaves none of the color."""
    matrix = factor * np.eye(3) + (1 - factor) * np.array([GRAY_WEIGHTS] * 3)
    return cv2.transform(_one_picture(frames), matrix).reshape(frames.shape)


def sharpness(frames: np.ndarray, factor: float) -> np.ndarray:
    """Differences from the smoothed frame times `factor`; pixels on the frame's edge stay as they are."""
    kernel = (1 - factor) * _SMOOTH
    kernel[1, 1] += factor
    sharp = frames.copy()
    if min(frames.shape[1:3]) > 2:
        for frame, out in zip(frames, sharp, strict=True):
            out[1:-1, 1:-1] = cv2.filter2D(frame, -1, kernel)[1:-1, 1:-1]
    return sharp


def _warp(frames: np.ndarray, matrix: Sequence[Sequence[float]], interpolation: int) -> np.ndarray:
    """`matrix` leads from a place of the result to one of `frames`, where (0, 0) is a corner of the first pixel."""
    matrix = np.array(matrix, np.float64)
    # OpenCV counts from the middle of the first pixel.
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
    size, flags = (frames.shape[2], frames.shape[1]), interpolation | cv2.WARP_INVERSE_MAP
    moved = [
        cv2.warpAffine(f, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=FILL) for f in frames
    ]
    return np.stack(moved)


def _by_table(frames: np.ndarray, table: np.ndarray) -> np.ndarray:
    return cv2.LUT(_one_picture(frames), _bytes(table)).reshape(frames.shape)


def _by_tables(frames: np.ndarray, tables: list[list[np.ndarray]]) -> np.ndarray:
    """A table for each channel of each frame."""
    return np.stack([cv2.LUT(f, _bytes(np.stack(own, axis=-1)[None])) for f, own in zip(frames, tables, strict=True)])


def _bytes(table: np.ndarray) -> np.ndarray:
    """Cut to whole numbers, as Pillow does."""
    return table.clip(0, 255).astype(np.uint8)


def _one_picture(frames: np.ndarray) -> np.ndarray:
    """All frames one below the other, for what knows no neighbors."""
    return frames.reshape(-1, *frames.shape[2:])


def _histograms(frame: np.ndarray) -> list[np.ndarray]:
    return [cv2.calcHist([frame], [channel], None, [256], [0, 256]).ravel().astype(np.int64) for channel in range(3)]


def _stretching(counts: np.ndarray) -> np.ndarray:
    present = np.flatnonzero(counts)
    low, high = present[0], present[-1]
    if high <= low:
        return _VALUES
    factor = 255.0 / (high - low)
    return _VALUES * factor - low * factor  # in this order, which decides what is cut to which whole number


def _equalizing(counts: np.ndarray) -> np.ndarray:
    present = counts[counts > 0]
    step = (present.sum() - present[-1]) // 255
    if len(present) < 2 or step == 0:
        return _VALUES
    before = np.concatenate([[0], counts.cumsum()[:-1]])
    return (before + step // 2) // step


# Ways to find a value between pixels, by the name in AUG.INTERPOLATION; with "random" one of the last two is drawn.
INTERPOLATIONS = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}

_APPLIED = 0.5  # chance that an operation that was drawn is applied

Frames = np.ndarray
Level = float  # of an operation: its magnitude as a share of the greatest, 0 to 1
Apply = Callable[[Frames, Level, Generator, int], Frames]


def _plain(operation: Callable[[Frames], Frames]) -> Apply:
    return lambda frames, level, generator, interpolation: operation(frames)


def _by_value(operation: Callable[[Frames, float], Frames], value: Callable[[Level], float]) -> Apply:
    return lambda frames, level, generator, interpolation: operation(frames, value(level))


def _enhancing(operation: Callable[[Frames, float], Frames]) -> Apply:
    """Away from 1, which changes nothing, to either side."""
    return lambda frames, level, generator, interpolation: operation(frames, 1 + _either(0.9 * level, generator))


def _moving(operation: Callable[[Frames, float, int], Frames], greatest: float) -> Apply:
    """To either side."""
    return lambda frames, level, generator, interpolation: operation(
        frames, _either(greatest * level, generator), interpolation
    )


def _either(value: float, generator: Generator) -> float:
    return -value if chance(generator, 0.5) else value


def _operations(increasing: bool) -> list[tuple[Apply, float]]:
    """Each operation with its weight, of all that the paper has but cutting out."""
    enhancing = _enhancing if increasing else partial(_by_value, value=lambda level: 0.1 + 1.8 * level)

    def up_to(greatest: int) -> Callable[[Level], int]:
        return lambda level: greatest - int(greatest * level) if increasing else int(greatest * level)

    return [
        (_plain(auto_contrast), 0.025),
        (_plain(equalize), 0.005),
        (_plain(invert), 0.0),
        (_moving(rotate, 30.0), 0.3),
        (_by_value(posterize, up_to(4)), 0.0),
        (_by_value(solarize, up_to(256)), 0.005),
        (_by_value(solarize_add, lambda level: int(110 * level)), 0.005),
        (enhancing(color), 0.025),
        (enhancing(contrast), 0.005),
        (enhancing(brightness), 0.005),
        (enhancing(sharpness), 0.025),
        (_moving(shear_x, 0.3), 0.2),
        (_moving(shear_y, 0.3), 0.2),
        (_moving(translate_x, 0.45), 0.1),
        (_moving(translate_y, 0.45), 0.1),
    ]


_PLAIN, _INCREASING = _operations(False), _operations(True)


@dataclass(frozen=True)
class RandAugment:
    """Operations as a recipe draws them.

    Args:
        recipe: how many, and how strong.
        interpolation: a name in `INTERPOLATIONS`, or "random".
    """

    recipe: Recipe
    interpolation: str

    def __call__(self, frames: np.ndarray, generator: Generator) -> np.ndarray:
        """Frames (T, H, W, 3) uint8 after the operations that are drawn for them."""
        operations = _INCREASING if self.recipe.increasing else _PLAIN
        for number in self._numbers(len(operations), generator):
            if chance(generator, _APPLIED):
                apply = operations[number][0]
                frames = apply(frames, self._level(generator), generator, self._interpolation(generator))
        return frames

    def _numbers(self, count: int, generator: Generator) -> list[int]:
        if not self.recipe.weighted:
            return [whole(generator, count) for _ in range(self.recipe.number)]
        weights = torch.tensor([weight for _, weight in _PLAIN])
        return torch.multinomial(weights, self.recipe.number, generator=generator).tolist()

    def _level(self, generator: Generator) -> Level:
        magnitude: float = self.recipe.magnitude
        if self.recipe.spread:
            magnitude = normal(generator, magnitude, self.recipe.spread)
        return min(max(magnitude / GREATEST_MAGNITUDE, 0.0), 1.0)

    def _interpolation(self, generator: Generator) -> int:
        if self.interpolation == "random":
            return (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[whole(generator, 2)]
        return INTERPOLATIONS[self.interpolation]
