"""Color augmentation of the views of self-supervised learning: jitter, grayscale and blur.

Frames are (T, H, W, 3) RGB uint8. One draw holds for all frames of a clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Generator

from slowfast.datasets.transforms.rand_augment import GRAY_WEIGHTS
from slowfast.runtime.seed import bernoulli, uniform

_JITTERED, _BLURRED = 0.8, 0.5


@dataclass(frozen=True)
class ViewColor:
    """Color augmentation of MoCo v2, or the older one of MoCo.

    MoCo v2: jitter with probability 0.8, grayscale, blur with probability 0.5. MoCo: grayscale, then jitter always.
    Jitter changes brightness, contrast, saturation and hue, in random order, as torchvision's ColorJitter.

    Attributes:
        strengths: greatest relative changes of brightness, contrast and saturation.
        hue: greatest change of the hue, as a part of the color circle, up to 0.5.
        gray: probability of grayscale.
        sigmas: [min, max] of the standard deviation of the blur, pixels; () for the augmentation of MoCo.

    Source: "Improved Baselines with Momentum Contrastive Learning" (arXiv 2003.04297).
    """

    strengths: tuple[float, float, float]
    hue: float
    gray: float
    sigmas: tuple[float, float] | tuple[()]

    @staticmethod
    def from_config(cfg: Any) -> ViewColor | None:
        """Read DATA.SSL_*; None if DATA.SSL_COLOR_JITTER is off."""
        data = cfg.DATA
        if not data.SSL_COLOR_JITTER:
            return None
        sigmas = (data.SSL_BLUR_SIGMA_MIN[1], data.SSL_BLUR_SIGMA_MAX[1]) if data.SSL_MOCOV2_AUG else ()
        return ViewColor(tuple(data.SSL_COLOR_BRI_CON_SAT), data.SSL_COLOR_HUE, data.COLOR_RND_GRAYSCALE, sigmas)

    def __call__(self, frames: np.ndarray, generator: Generator) -> np.ndarray:
        """Return augmented frames."""
        # One tall image, as published: contrast is that of the whole clip.
        image = np.ascontiguousarray(frames).reshape(-1, *frames.shape[2:]).astype(np.float32)
        if not self.sigmas:
            image = self._jitter(self._grayed(image, generator), generator)
        else:
            if bernoulli(generator, _JITTERED):
                image = self._jitter(image, generator)
            image = self._grayed(image, generator)
        result = image.round().astype(np.uint8).reshape(frames.shape)
        if self.sigmas and bernoulli(generator, _BLURRED):
            sigma = uniform(generator, *self.sigmas)
            result = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in result]) if sigma else result
        return result

    def _grayed(self, image: np.ndarray, generator: Generator) -> np.ndarray:
        return _gray(image).repeat(3, axis=2) if bernoulli(generator, self.gray) else image

    def _jitter(self, image: np.ndarray, generator: Generator) -> np.ndarray:
        factors = [uniform(generator, max(0.0, 1 - strength), 1 + strength) for strength in self.strengths]
        turn = uniform(generator, -self.hue, self.hue)
        for kind in torch.randperm(4, generator=generator).tolist():
            image = turn_hue(image, turn) if kind == 3 else blend(image, kind, factors[kind])
        return image


def blend(image: np.ndarray, kind: int, factor: float) -> np.ndarray:
    """Change brightness (0), contrast (1) or saturation (2) of an image (H, W, 3) float32 of 0 to 255 by a factor."""
    gray = _gray(image)
    other = (np.float32(0), gray.mean(), gray)[kind]
    return np.clip(other + np.float32(factor) * (image - other), 0, 255)


def turn_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turn the hue of an image (H, W, 3) float32 of 0 to 255 by this part of the color circle."""
    hsv = cv2.cvtColor(image / np.float32(255), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + np.float32(360 * turn)) % 360
    return np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255, 0, 255)


def _gray(image: np.ndarray) -> np.ndarray:
    return (image @ np.asarray(GRAY_WEIGHTS, np.float32))[..., None]
