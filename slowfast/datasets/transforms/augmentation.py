"""Augmentation of training clips besides scale, crop and flip; random erasing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from slowfast.datasets.transforms.color import ColorJitter
from slowfast.datasets.transforms.rand_augment import INTERPOLATIONS, RandAugment, parse_recipe
from slowfast.runtime.seed import bernoulli, randint, uniform
from slowfast.utils.errors import check_choice
from slowfast.utils.registry import CHOICES

LIGHTING_STD = 0.1
AVA_JITTER = 0.4
ASPECTS = (3 / 4, 4 / 3)
ERASING_MODES = ("pixel", "rand", "const")

CHOICES["AUG.INTERPOLATION"] = (*INTERPOLATIONS, "random")
CHOICES["AUG.RE_MODE"] = ERASING_MODES


@dataclass(frozen=True)
class Augmentation:
    """Augmentation settings of one split; nothing by default.

    Attributes:
        copies: clips made of the same frames, each augmented independently (repeated augmentation).
        areas, aspects: ranges of `random_resized_crop`, which replaces the random short side and crop; () for off.
        moving: the resized crop moves from one position to another over the clip.
        rand_augment: operations on whole frames before the crop; None for off.
        color_jitter: color noise of the crop.
        erasing: random erasing; None for off.
        erase_second_half: erase only in the second half of the copies.
    """

    copies: int = 1
    areas: tuple[float, ...] = ()
    aspects: tuple[float, ...] = ASPECTS
    moving: bool = False
    rand_augment: RandAugment | None = None
    color_jitter: ColorJitter = ColorJitter()
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
            copies=aug.NUM_SAMPLE if strong else 1,
            areas=tuple(data.TRAIN_JITTER_SCALES_RELATIVE),
            aspects=tuple(data.TRAIN_JITTER_ASPECT_RELATIVE) or ASPECTS,
            moving=data.TRAIN_JITTER_MOTION_SHIFT,
            rand_augment=_rand_augment(aug) if strong and aug.AA_TYPE else None,
            color_jitter=_color_jitter(cfg),
            erasing=_erasing(aug) if strong and aug.RE_PROB else None,
            erase_second_half=aug.RE_SPLIT,
        )


def _rand_augment(aug: Any) -> RandAugment:
    try:
        return RandAugment(parse_recipe(aug.AA_TYPE), aug.INTERPOLATION)
    except ValueError as error:
        raise ValueError(f"AUG.AA_TYPE {aug.AA_TYPE!r}, AUG.INTERPOLATION {aug.INTERPOLATION!r}: {error}") from error


def _erasing(aug: Any) -> RandomErasing:
    try:
        return RandomErasing(aug.RE_PROB, aug.RE_MODE, aug.RE_COUNT)
    except ValueError as error:
        raise ValueError(f"AUG.RE_MODE {aug.RE_MODE!r}, AUG.RE_COUNT {aug.RE_COUNT}: {error}") from error


def _color_jitter(cfg: Any) -> ColorJitter:
    """Build the color jitter: as published for AVA with boxes, else `AUG.COLOR_JITTER` unless AUG.AA_TYPE is set."""
    data, gray = cfg.DATA, cfg.DATA.COLOR_RND_GRAYSCALE
    if cfg.DETECTION.ENABLE:
        if not cfg.AVA.TRAIN_USE_COLOR_AUGMENTATION:
            return ColorJitter(gray=gray)
        eigvecs = tuple(tuple(row) for row in data.TRAIN_PCA_EIGVEC)
        jitter = 0.0 if cfg.AVA.TRAIN_PCA_JITTER_ONLY else AVA_JITTER
        return ColorJitter(jitter, LIGHTING_STD, tuple(data.TRAIN_PCA_EIGVAL), eigvecs, gray)
    jitters = cfg.AUG.ENABLE and not cfg.AUG.AA_TYPE
    return ColorJitter(jitter=(cfg.AUG.COLOR_JITTER or 0.0) if jitters else 0.0, gray=gray)


# Share of the frame that all rectangles of a clip cover together; height over width of each.
ERASED_AREAS = (0.02, 1 / 3)
ERASED_ASPECTS = (0.3, 1 / 0.3)
TRIES = 10


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
            for _ in range(TRIES):
                area = uniform(generator, *ERASED_AREAS) * height * width / count
                aspect = math.exp(uniform(generator, *map(math.log, ERASED_ASPECTS)))
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
