"""RandAugment for video: random image operations, the same for all frames of a clip.

Frames are (T, H, W, 3) uint8 RGB; an operation returns new frames. Results equal Pillow's, which the published code
uses, up to rounding. Exceptions are the bicubic kernel and the blending at the border, which are OpenCV's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from torch import Generator

from slowfast.runtime.seed import bernoulli, normal, randint
from slowfast.utils.errors import check_choice

_GREATEST_MAGNITUDE = 10
_FORM = "rand-mMAGNITUDE-nNUMBER-mstdSTD-incORDER-wWEIGHTS, such as rand-m7-n4-mstd0.5-inc1; only rand is required"
# Color of pixels from outside the picture.
FILL = (128, 128, 128)
GRAY_WEIGHTS = (0.299, 0.587, 0.114)

_VALUES = np.arange(256)
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float64) / 13


def shear_x(frames: np.ndarray, factor: float, interpolation: int) -> np.ndarray:
    """Shift each row to the left by `factor` times its index."""
    return _warp(frames, [[1, factor, 0], [0, 1, 0]], interpolation)


def shear_y(frames: np.ndarray, factor: float, interpolation: int) -> np.ndarray:
    """Shift each column up by `factor` times its index."""
    return _warp(frames, [[1, 0, 0], [factor, 1, 0]], interpolation)


def translate_x(frames: np.ndarray, share: float, interpolation: int) -> np.ndarray:
    """Shift to the left by a share of the width."""
    return _warp(frames, [[1, 0, share * frames.shape[2]], [0, 1, 0]], interpolation)


def translate_y(frames: np.ndarray, share: float, interpolation: int) -> np.ndarray:
    """Shift up by a share of the height."""
    return _warp(frames, [[1, 0, 0], [0, 1, share * frames.shape[1]]], interpolation)


def rotate(frames: np.ndarray, degrees: float, interpolation: int) -> np.ndarray:
    """Rotate counter-clockwise about the center, keeping the size."""
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    x, y = frames.shape[2] / 2, frames.shape[1] / 2
    return _warp(frames, [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]], interpolation)


def auto_contrast(frames: np.ndarray) -> np.ndarray:
    """Stretch each channel of each frame to the full range."""
    return _by_tables(frames, [[_stretching(counts) for counts in _histograms(frame)] for frame in frames])


def equalize(frames: np.ndarray) -> np.ndarray:
    """Equalize the histogram of each channel of each frame."""
    return _by_tables(frames, [[_equalizing(counts) for counts in _histograms(frame)] for frame in frames])


def invert(frames: np.ndarray) -> np.ndarray:
    """Invert all values."""
    return _by_table(frames, 255 - _VALUES)


def posterize(frames: np.ndarray, bits: int) -> np.ndarray:
    """Keep only the highest `bits` bits of each value."""
    return _by_table(frames, _VALUES & ~(2 ** (8 - bits) - 1))


def solarize(frames: np.ndarray, threshold: int) -> np.ndarray:
    """Invert values of at least `threshold`."""
    return _by_table(frames, np.where(_VALUES < threshold, _VALUES, 255 - _VALUES))


def solarize_add(frames: np.ndarray, amount: int) -> np.ndarray:
    """Add `amount` to values under 128."""
    return _by_table(frames, np.where(_VALUES < 128, _VALUES + amount, _VALUES))


def brightness(frames: np.ndarray, factor: float) -> np.ndarray:
    """Multiply by `factor`."""
    return _by_table(frames, _VALUES * factor)


def contrast(frames: np.ndarray, factor: float) -> np.ndarray:
    """Scale differences from the frame's mean gray by `factor`."""
    grays = [int(np.dot(cv2.mean(frame)[:3], GRAY_WEIGHTS) + 0.5) for frame in frames]
    return _by_tables(frames, [[gray + factor * (_VALUES - gray)] * 3 for gray in grays])


def color(frames: np.ndarray, factor: float) -> np.ndarray:
    """Scale differences from gray by `factor` (saturation); 0 gives a gray picture."""
    matrix = factor * np.eye(3) + (1 - factor) * np.array([GRAY_WEIGHTS] * 3)
    return cv2.transform(_one_picture(frames), matrix).reshape(frames.shape)


def sharpness(frames: np.ndarray, factor: float) -> np.ndarray:
    """Scale differences from the smoothed frame by `factor`; edge pixels do not change."""
    kernel = (1 - factor) * _SMOOTH
    kernel[1, 1] += factor
    sharp = frames.copy()
    if min(frames.shape[1:3]) > 2:
        for frame, out in zip(frames, sharp, strict=True):
            out[1:-1, 1:-1] = cv2.filter2D(frame, -1, kernel)[1:-1, 1:-1]
    return sharp


def _warp(frames: np.ndarray, matrix: Sequence[Sequence[float]], interpolation: int) -> np.ndarray:
    """Warp by the inverse map `matrix`, from result to source; (0, 0) is the corner of the first pixel."""
    matrix = np.array(matrix, np.float64)
    # OpenCV's origin is the center of the first pixel.
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
    size, flags = (frames.shape[2], frames.shape[1]), interpolation | cv2.WARP_INVERSE_MAP
    moved = [
        cv2.warpAffine(f, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=FILL) for f in frames
    ]
    return np.stack(moved)


def _by_table(frames: np.ndarray, table: np.ndarray) -> np.ndarray:
    return cv2.LUT(_one_picture(frames), _bytes(table)).reshape(frames.shape)


def _by_tables(frames: np.ndarray, tables: list[list[np.ndarray]]) -> np.ndarray:
    """Apply a lookup table to each channel of each frame."""
    return np.stack([cv2.LUT(f, _bytes(np.stack(own, axis=-1)[None])) for f, own in zip(frames, tables, strict=True)])


def _bytes(table: np.ndarray) -> np.ndarray:
    """Clamp and truncate to uint8, as Pillow does."""
    return table.clip(0, 255).astype(np.uint8)


def _one_picture(frames: np.ndarray) -> np.ndarray:
    """Stack all frames vertically, for per-pixel operations."""
    return frames.reshape(-1, *frames.shape[2:])


def _histograms(frame: np.ndarray) -> list[np.ndarray]:
    return [cv2.calcHist([frame], [channel], None, [256], [0, 256]).ravel().astype(np.int64) for channel in range(3)]


def _stretching(counts: np.ndarray) -> np.ndarray:
    present = np.flatnonzero(counts)
    low, high = present[0], present[-1]
    if high <= low:
        return _VALUES
    factor = 255.0 / (high - low)
    return _VALUES * factor - low * factor  # this order of operations decides the rounding


def _equalizing(counts: np.ndarray) -> np.ndarray:
    present = counts[counts > 0]
    step = (present.sum() - present[-1]) // 255
    if len(present) < 2 or step == 0:
        return _VALUES
    before = np.concatenate([[0], counts.cumsum()[:-1]])
    return (before + step // 2) // step


# By the name in AUG.INTERPOLATION; "random" samples one of the last two.
INTERPOLATIONS = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}

_APPLIED = 0.5  # probability that a sampled operation is applied

Frames = np.ndarray
Level = float  # magnitude of an operation over the greatest one, 0 to 1
Apply = Callable[[Frames, Level, Generator, int], Frames]


def _plain(operation: Callable[[Frames], Frames]) -> Apply:
    return lambda frames, level, generator, interpolation: operation(frames)


def _by_value(operation: Callable[[Frames, float], Frames], value: Callable[[Level], float]) -> Apply:
    return lambda frames, level, generator, interpolation: operation(frames, value(level))


def _enhancing(operation: Callable[[Frames, float], Frames]) -> Apply:
    """Use a factor 1 + 0.9 level or 1 - 0.9 level, at random."""
    return lambda frames, level, generator, interpolation: operation(frames, 1 + _either(0.9 * level, generator))


def _moving(operation: Callable[[Frames, float, int], Frames], greatest: float) -> Apply:
    """Use greatest * level, with a random sign."""
    return lambda frames, level, generator, interpolation: operation(
        frames, _either(greatest * level, generator), interpolation
    )


def _either(value: float, generator: Generator) -> float:
    return -value if bernoulli(generator, 0.5) else value


def _operations(increasing: bool) -> list[tuple[Apply, float]]:
    """List the operations of the paper except Cutout, each with its weight."""
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
class Recipe:
    """RandAugment recipe, as timm writes it.

    Attributes:
        magnitude: mean magnitude of an operation, 0 to 10.
        spread: standard deviation of the magnitude.
        number: number of operations drawn; each is applied with probability 0.5.
        increasing: use the operations whose effect increases with the magnitude.
        weighted: draw by weights that favor mild operations, without replacement.

    Source: Cubuk et al., RandAugment: Practical automated data augmentation with a reduced search space.
    """

    magnitude: int = _GREATEST_MAGNITUDE
    spread: float = 0.0
    number: int = 2
    increasing: bool = False
    weighted: bool = False

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Parse a recipe in timm's form.

        Raises:
            ValueError: not of this form; names the wrong part.
        """
        kind, *parts = text.split("-")
        if kind != "rand":
            raise ValueError(f"recipe {text!r} is not of the form {_FORM}")
        values: dict[str, float] = {}
        for part in parts:
            found = re.fullmatch(r"(mstd|inc|m|n|w)(\d+(?:\.\d+)?)", part)
            whole = found and (found[1] == "mstd" or float(found[2]).is_integer())
            if not whole or found[1] in values:
                raise ValueError(f"recipe {text!r} has an unknown or repeated part {part!r}; it is {_FORM}")
            values[found[1]] = float(found[2])
        _check_ranges(text, values)
        return cls(
            magnitude=int(values.get("m", _GREATEST_MAGNITUDE)),
            spread=values.get("mstd", 0.0),
            number=int(values.get("n", 2)),
            increasing="inc" in values,  # also inc0, as in timm
            weighted="w" in values,
        )


def _check_ranges(text: str, values: dict[str, float]) -> None:
    if values.get("m", 0) > _GREATEST_MAGNITUDE:
        raise ValueError(f"recipe {text!r}: the magnitude m is 0 to {_GREATEST_MAGNITUDE}")
    if values.get("n", 1) < 1:
        raise ValueError(f"recipe {text!r}: the number n of operations is at least 1; '' is for none")
    if values.get("w", 0) != 0:
        raise ValueError(f"recipe {text!r}: there is one set of weights, w0")
    if "w" in values and values.get("n", 2) > 13:
        raise ValueError(f"recipe {text!r}: w0 draws each of 13 operations at most once, so n is up to 13")


@dataclass(frozen=True)
class RandAugment:
    """RandAugment with a given recipe.

    Args:
        recipe: number and magnitude of the operations.
        interpolation: a name in `INTERPOLATIONS`, or "random".
    """

    recipe: Recipe
    interpolation: str

    def __post_init__(self) -> None:
        check_choice("interpolation", self.interpolation, (*INTERPOLATIONS, "random"))

    def __call__(self, frames: np.ndarray, generator: Generator) -> np.ndarray:
        """Apply random operations to frames (T, H, W, 3) uint8."""
        operations = _INCREASING if self.recipe.increasing else _PLAIN
        for number in self._numbers(len(operations), generator):
            if bernoulli(generator, _APPLIED):
                apply = operations[number][0]
                frames = apply(frames, self._level(generator), generator, self._interpolation(generator))
        return frames

    def _numbers(self, count: int, generator: Generator) -> list[int]:
        if not self.recipe.weighted:
            return [randint(generator, count) for _ in range(self.recipe.number)]
        weights = torch.tensor([weight for _, weight in _PLAIN])
        return torch.multinomial(weights, self.recipe.number, generator=generator).tolist()

    def _level(self, generator: Generator) -> Level:
        magnitude: float = self.recipe.magnitude
        if self.recipe.spread:
            magnitude = normal(generator, magnitude, self.recipe.spread)
        return min(max(magnitude / _GREATEST_MAGNITUDE, 0.0), 1.0)

    def _interpolation(self, generator: Generator) -> int:
        if self.interpolation == "random":
            return (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[randint(generator, 2)]
        return INTERPOLATIONS[self.interpolation]
