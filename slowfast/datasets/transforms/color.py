"""Colour noise of training clips, as matrices that the pass to a clip applies (`transforms.Colours`).

All are for red, green, blue from 0 to 255, and cut nothing off: a clip may go past black and white, as published.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Generator

from slowfast.datasets.transforms.pixels import Colours, after
from slowfast.utils.rng import chance, uniform

GREY_WEIGHTS = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class ColourNoise:
    """What may happen to the colours of a clip, the same to all of its frames.

    Attributes:
        jitter: brightness, contrast and saturation, in random order, go up or down by up to this share each; 0 for off.
        spread: of the lighting noise; 0 for off.
        values, directions: of the training set's colours along their main directions, one a column; what is added to a
            clip is a random amount of each.
        grey: chance of a clip without colour.

    Source of the lighting noise: Krizhevsky et al., ImageNet classification with deep convolutional neural networks,
    section 4.1.
    """

    jitter: float = 0.0
    spread: float = 0.0
    values: tuple[float, ...] = ()
    directions: tuple[tuple[float, ...], ...] = ()
    grey: float = 0.0

    def draw(self, frames: np.ndarray, generator: Generator) -> Colours:
        """What happens to these frames (T, H, W, 3) uint8: (3, 4), or (T, 3, 4) where frames differ."""
        colours = np.eye(3, 4)
        if self.jitter:
            colours = _jitter(frames, self.jitter, generator)
        if self.spread:
            amounts = torch.randn(3, generator=generator, dtype=torch.float64).numpy() * self.spread
            offset = np.array(self.directions) @ (amounts * self.values)
            colours = after(colours, np.concatenate([np.eye(3), 255 * offset[:, None]], axis=1))
        if self.grey and chance(generator, self.grey):
            colours = after(colours, _towards(0.0, _GREY))
        return colours


_GREY = np.array([[*GREY_WEIGHTS, 0.0]] * 3)


def _towards(factor: float, other: Colours) -> Colours:
    """`factor` times the picture, and the rest of another."""
    return factor * np.eye(3, 4) + (1 - factor) * other


def _jitter(frames: np.ndarray, strength: float, generator: Generator) -> Colours:
    colours = np.broadcast_to(np.eye(3, 4), (len(frames), 3, 4))
    means = np.array([[*cv2.mean(frame)[:3], 1.0] for frame in frames])
    for kind in torch.randperm(3, generator=generator).tolist():
        factor = 1 + uniform(generator, -strength, strength)
        if kind == 0:
            other = np.zeros((3, 4))
        elif kind == 1:
            # The mean grey of each frame as it is by now.
            greys = np.einsum("c,tck,tk->t", GREY_WEIGHTS, colours, means)
            other = np.zeros((len(frames), 3, 4))
            other[:, :, 3] = greys[:, None]
        else:
            other = _GREY
        colours = after(colours, _towards(factor, other))
    return colours
