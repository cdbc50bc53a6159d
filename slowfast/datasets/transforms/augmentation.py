"""Augmentation of training clips besides scale, crop and flip: color, RandAugment, random erasing.

Color changes are color matrices (see `pixels.ColorMatrix`) of RGB from 0 to 255. Nothing is clamped, as published:
values may leave 0 to 255.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Generator, Tensor

from slowfast.datasets.transforms.pixels import ColorMatrix, compose
from slowfast.datasets.transforms.rand_augment import GRAY_WEIGHTS, INTERPOLATIONS, RandAugment, Recipe
from slowfast.datasets.transforms.view_color import ViewColor
from slowfast.runtime.seed import bernoulli, randint, uniform
from slowfast.utils.errors import check_choice, naming_keys
from slowfast.utils.registry import CHOICES

_LIGHTING_STD = 0.1
_AVA_JITTER = 0.4
_ASPECTS = (3 / 4, 4 / 3)
ERASING_MODES = ("pixel", "rand", "const")
# Share of the frame that all rectangles of a clip cover together; height over width of each.
_ERASED_AREAS = (0.02, 1 / 3)
_ERASED_ASPECTS = (0.3, 1 / 0.3)
_TRIES = 10
_GRAY = np.array([[*GRAY_WEIGHTS, 0.0]] * 3)

CHOICES["AUG.INTERPOLATION"] = (*INTERPOLATIONS, "random")
CHOICES["AUG.RE_MODE"] = ERASING_MODES


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


@dataclass(frozen=True)
class RandomErasing:
    """Erase rectangles of a clip, at the same position in all frames.

    Attributes:
        probability: probability that anything is erased.
        mode: fill: "pixel" (normal noise per pixel), "rand" (a normal color per frame), "const" (the mean color).
        max_count: the number of rectangles is sampled from 1 to this; they share the area.

    Source: Zhong et al., Random erasing data augmentation; modes and numbers as in timm.
    """

    probability: float
    mode: str
    max_count: int

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, ERASING_MODES)
        if self.max_count < 1:
            raise ValueError(f"max_count is {self.max_count}; it must be at least 1")

    def __call__(self, clip: Tensor, generator: Generator) -> None:
        """Erase rectangles of a normalized clip (3, T, H, W) in place."""
        if not bernoulli(generator, self.probability):
            return
        height, width = clip.shape[-2:]
        count = 1 + randint(generator, self.max_count)
        for _ in range(count):
            for _ in range(_TRIES):
                area = uniform(generator, *_ERASED_AREAS) * height * width / count
                aspect = math.exp(uniform(generator, *map(math.log, _ERASED_ASPECTS)))
                high, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
                if high < height and wide < width:
                    top, left = randint(generator, height - high + 1), randint(generator, width - wide + 1)
                    self._fill(clip[..., top : top + high, left : left + wide], generator)
                    break

    def _fill(self, part: Tensor, generator: Generator) -> None:
        if self.mode == "pixel":
            part.copy_(torch.randn(part.shape, generator=generator))
        elif self.mode == "rand":
            part.copy_(torch.randn(*part.shape[:2], 1, 1, generator=generator))
        else:
            part.zero_()


@dataclass(frozen=True)
class Augmentation:
    """Augmentation settings of one split; nothing by default.

    Attributes:
        copies: clips made of the same frames, each augmented independently (repeated augmentation, spatial crops).
        areas, aspects: ranges of `Crop.random_resized`, which replaces the random short side and crop; () for off.
        moving: the resized crop moves from one position to another over the clip.
        rand_augment: operations on whole frames before the crop; None for off.
        view_color: color augmentation of self-supervised learning, of the crop; None for off.
        color_jitter: color noise of the crop.
        time_differences: probability that a clip shows the changes between its frames, see `frame_differences`.
        erasing: random erasing; None for off.
        erase_second_half: erase only in the second half of the copies.
    """

    copies: int = 1
    areas: tuple[float, ...] = ()
    aspects: tuple[float, ...] = _ASPECTS
    moving: bool = False
    rand_augment: RandAugment | None = None
    view_color: ViewColor | None = None
    color_jitter: ColorJitter = ColorJitter()
    time_differences: float = 0.0
    erasing: RandomErasing | None = None
    erase_second_half: bool = False

    @staticmethod
    def from_config(cfg: Any) -> Augmentation:
        """Read the augmentation of training.

        Raises:
            ValueError: a setting of AUG that RandAugment or random erasing refuses.
        """
        data, aug = cfg.DATA, cfg.AUG
        strong = aug.ENABLE
        return Augmentation(
            copies=data.TRAIN_CROP_NUM_SPATIAL * (aug.NUM_SAMPLE if strong else 1),
            areas=tuple(data.TRAIN_JITTER_SCALES_RELATIVE),
            aspects=tuple(data.TRAIN_JITTER_ASPECT_RELATIVE) or _ASPECTS,
            moving=data.TRAIN_JITTER_MOTION_SHIFT,
            rand_augment=_rand_augment(cfg) if strong and aug.AA_TYPE else None,
            view_color=ViewColor.from_config(cfg),
            color_jitter=_color_jitter(cfg),
            time_differences=data.TIME_DIFF_PROB,
            erasing=_erasing(cfg) if strong and aug.RE_PROB else None,
            erase_second_half=aug.RE_SPLIT,
        )


def frame_differences(clip: Tensor) -> Tensor:
    """Return what changes from each frame of a normalized clip (3, T, H, W) to the next; the last change comes twice.

    T is at least 2.
    """
    changes = clip[:, 1:] - clip[:, :-1]
    return torch.cat([changes, changes[:, -1:]], dim=1)


def _rand_augment(cfg: Any) -> RandAugment:
    with naming_keys(cfg, "AUG.AA_TYPE"):
        return RandAugment(Recipe.parse(cfg.AUG.AA_TYPE), cfg.AUG.INTERPOLATION)


def _erasing(cfg: Any) -> RandomErasing:
    with naming_keys(cfg, "AUG.RE_COUNT"):
        return RandomErasing(cfg.AUG.RE_PROB, cfg.AUG.RE_MODE, cfg.AUG.RE_COUNT)


def image_lighting(cfg: Any) -> ColorJitter:
    """Build the lighting noise of images, by DATA.TRAIN_PCA_*."""
    data = cfg.DATA
    eigvecs = tuple(tuple(row) for row in data.TRAIN_PCA_EIGVEC)
    return ColorJitter(0.0, _LIGHTING_STD, tuple(data.TRAIN_PCA_EIGVAL), eigvecs, data.COLOR_RND_GRAYSCALE)


def _color_jitter(cfg: Any) -> ColorJitter:
    """Build the color jitter: as published for AVA with boxes, else `AUG.COLOR_JITTER` unless AUG.AA_TYPE is set."""
    # `ViewColor` has a grayscale of its own.
    gray = 0.0 if cfg.DATA.SSL_COLOR_JITTER else cfg.DATA.COLOR_RND_GRAYSCALE
    if cfg.DETECTION.ENABLE:
        if not cfg.AVA.TRAIN_USE_COLOR_AUGMENTATION:
            return ColorJitter(gray=gray)
        return replace(image_lighting(cfg), jitter=0.0 if cfg.AVA.TRAIN_PCA_JITTER_ONLY else _AVA_JITTER)
    jitters = cfg.AUG.ENABLE and not cfg.AUG.AA_TYPE
    return ColorJitter(jitter=(cfg.AUG.COLOR_JITTER or 0.0) if jitters else 0.0, gray=gray)
