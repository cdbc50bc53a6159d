"""Color augmentation of training clips, as color matrices (see `pixels.ColorMatrix`).

They apply to RGB from 0 to 255. Nothing is clamped, as published: values may leave 0 to 255.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Generator

from slowfast.datasets.transforms.pixels import ColorMatrix, compose
from slowfast.runtime.seed import bernoulli, uniform

GRAY_WEIGHTS = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class ColorJitter:
    """Color jitter, AlexNet lighting noise and random grayscale, the same for all frames of a clip.

    Attributes:
        jitter: greatest relative change of brightness, contrast and saturation, which come in random order; 0 for off.
        lighting_std: standard deviation of the lighting noise; 0 for off.
        eigvals, eigvecs: PCA of the training set's RGB values; eigenvectors are columns.
        gray: probability of a grayscale clip.

    Source of the lighting noise: Krizhevsky et al., ImageNet classification with deep convolutional neural networks,
    section 4.1.
    """

    jitter: float = 0.0
    lighting_std: float = 0.0
    eigvals: tuple[float, ...] = ()
    eigvecs: tuple[tuple[float, ...], ...] = ()
    gray: float = 0.0

    def sample(self, frames: np.ndarray, generator: Generator) -> ColorMatrix:
        """Sample the color matrix of frames (T, H, W, 3) uint8: (3, 4), or (T, 3, 4) where frames differ."""
        colors = np.eye(3, 4)
        if self.jitter:
            colors = _jitter(frames, self.jitter, generator)
        if self.lighting_std:
            amounts = torch.randn(3, generator=generator, dtype=torch.float64).numpy() * self.lighting_std
            offset = np.array(self.eigvecs) @ (amounts * self.eigvals)
            colors = compose(colors, np.concatenate([np.eye(3), 255 * offset[:, None]], axis=1))
        if self.gray and bernoulli(generator, self.gray):
            colors = compose(colors, _blend(0.0, _GRAY))
        return colors


_GRAY = np.array([[*GRAY_WEIGHTS, 0.0]] * 3)


def _blend(factor: float, other: ColorMatrix) -> ColorMatrix:
    """Blend: `factor` times the picture plus (1 - factor) times `other`."""
    return factor * np.eye(3, 4) + (1 - factor) * other


def _jitter(frames: np.ndarray, strength: float, generator: Generator) -> ColorMatrix:
    colors = np.broadcast_to(np.eye(3, 4), (len(frames), 3, 4))
    means = np.array([[*cv2.mean(frame)[:3], 1.0] for frame in frames])
    for kind in torch.randperm(3, generator=generator).tolist():
        factor = 1 + uniform(generator, -strength, strength)
        if kind == 0:
            other = np.zeros((3, 4))
        elif kind == 1:
            # Mean gray of each frame after the changes made so far.
            grays = np.einsum("c,tck,tk->t", GRAY_WEIGHTS, colors, means)
            other = np.zeros((len(frames), 3, 4))
            other[:, :, 3] = grays[:, None]
        else:
            other = _GRAY
        colors = compose(colors, _blend(factor, other))
    return colors
