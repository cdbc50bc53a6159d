"""RandAugment: operations drawn by a recipe, the same for all frames of a clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from torch import Generator

from slowfast.config.augment_recipe import GREATEST_MAGNITUDE, Recipe
from slowfast.datasets.augment import ops
from slowfast.datasets.draws import chance, normal, whole

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
        (_plain(ops.auto_contrast), 0.025),
        (_plain(ops.equalize), 0.005),
        (_plain(ops.invert), 0.0),
        (_moving(ops.rotate, 30.0), 0.3),
        (_by_value(ops.posterize, up_to(4)), 0.0),
        (_by_value(ops.solarize, up_to(256)), 0.005),
        (_by_value(ops.solarize_add, lambda level: int(110 * level)), 0.005),
        (enhancing(ops.colour), 0.025),
        (enhancing(ops.contrast), 0.005),
        (enhancing(ops.brightness), 0.005),
        (enhancing(ops.sharpness), 0.025),
        (_moving(ops.shear_x, 0.3), 0.2),
        (_moving(ops.shear_y, 0.3), 0.2),
        (_moving(ops.translate_x, 0.45), 0.1),
        (_moving(ops.translate_y, 0.45), 0.1),
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
