"""Color noise of training clips, as matrices that the pass to a clip applies (`transforms.Colors`).

All are for red, green, blue from 0 to 255, and cut nothing off: a clip may go past black and white, as published.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Generator

from slowfast.datasets.transforms.pixels import Colors, after
from slowfast.utils.rng import chance, uniform

GRAY_WEIGHTS = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class ColorJitter:
    """What may happen to the colors of a clip, the same to all of its frames.

    Attributes:
        jitter: brightness, contrast and saturation, in random order, go up or down by up to this share each; 0 for off.
        spread: of the lighting noise; 0 for off.
        values, directions: of the training set's colors along their main directions, one a column; what is added to a
            clip is a random amount of each.
        gray: chance of a clip without color.

    Source of the lighting noise: Krizhevsky et al., ImageNet classification with deep convolutional neural networks,
    section 4.1.
    """

    jitter: float = 0.0
    spread: float = 0.0
    values: tuple[float, ...] = ()
    directions: tuple[tuple[float, ...], ...] = ()
    gray: float = 0.0

    def draw(self, frames: np.ndarray, generator: Generator) -> Colors:
        """What happens to these frames (T, H, W, 3) uint8: (3, 4), or (T, 3, 4) where frames differ."""
        colors = np.eye(3, 4)
        if self.jitter:
            colors = _jitter(frames, self.jitter, generator)
        if self.spread:
            amounts = torch.randn(3, generator=generator, dtype=torch.float64).numpy() * self.spread
            offset = np.array(self.directions) @ (amounts * self.values)
            colors = after(colors, np.concatenate([np.eye(3), 255 * offset[:, None]], axis=1))
        if self.gray and chance(generator, self.gray):
            colors = after(colors, _toward(0.0, _GRAY))
        return colors


_GRAY = np.array([[*GRAY_WEIGHTS, 0.0]] * 3)


def _toward(factor: float, other: Colors) -> Colors:
    """`factor` times the picture, and the rest of another."""
    return factor * np.eye(3, 4) + (1 - factor) * other


def _jitter(frames: np.ndarray, strength: float, generator: Generator) -> Colors:
    colors = np.broadcast_to(np.eye(3, 4), (len(frames), 3, 4))
    means = np.array([[*cv2.mean(frame)[:3], 1.0] for frame in frames])
    for kind in torch.randperm(3, generator=generator).tolist():
        factor = 1 + uniform(generator, -strength, strength)
        if kind == 0:
            other = np.zeros((3, 4))
        elif kind == 1:
            # The mean gray of each frame as it is by now.
            grays = np.einsum("c,tck,tk->t", GRAY_WEIGHTS, colors, means)
            other = np.zeros((len(frames), 3, 4))
            other[:, :, 3] = grays[:, None]
        else:
            other = _GRAY
        colors = after(colors, _toward(factor, other))
    return colors
