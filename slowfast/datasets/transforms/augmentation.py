"""What training does to clips besides scaling, cropping and mirroring them.

Random erasing: rectangles of a clip in place of which it shows noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from slowfast.config.augment_recipe import parse_recipe
from slowfast.datasets.transforms.color import ColorJitter
from slowfast.datasets.transforms.rand_augment import RandAugment
from slowfast.utils.rng import chance, uniform, whole

LIGHTING_SPREAD = 0.1
AVA_JITTER = 0.4
ASPECTS = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Augmentation:
    """What training does to a clip besides scaling, cropping and mirroring it; nothing by default.

    Attributes:
        copies: clips of the same frames, each with random draws of its own.
        areas, aspects: of a crop by area (see `transforms_crops.random_area_crop`), in place of one from frames of a
            random short side; no areas for that.
        moving: crops by area wander from one place to another in the course of a clip.
        operations: on whole frames, before they are cropped; None for none.
        color: noise of the colors of the crop.
        erasing: of rectangles; None for none.
        erase_later: only in the second half of the copies.
    """

    copies: int = 1
    areas: tuple[float, ...] = ()
    aspects: tuple[float, ...] = ASPECTS
    moving: bool = False
    operations: RandAugment | None = None
    color: ColorJitter = ColorJitter()
    erasing: RandomErasing | None = None
    erase_later: bool = False

    @staticmethod
    def from_config(cfg: Any) -> Augmentation:
        """That of training, from a validated configuration."""
        data, aug = cfg.DATA, cfg.AUG
        strong = aug.ENABLE
        return Augmentation(
            copies=aug.NUM_SAMPLE if strong else 1,
            areas=tuple(data.TRAIN_JITTER_SCALES_RELATIVE),
            aspects=tuple(data.TRAIN_JITTER_ASPECT_RELATIVE) or ASPECTS,
            moving=data.TRAIN_JITTER_MOTION_SHIFT,
            operations=RandAugment(parse_recipe(aug.AA_TYPE), aug.INTERPOLATION) if strong and aug.AA_TYPE else None,
            color=_color_noise(cfg),
            erasing=RandomErasing(aug.RE_PROB, aug.RE_MODE, aug.RE_COUNT) if strong and aug.RE_PROB else None,
            erase_later=aug.RE_SPLIT,
        )


def _color_noise(cfg: Any) -> ColorJitter:
    """With boxes as published for AVA; otherwise the jitter of AUG, where it has no recipe of operations."""
    data, gray = cfg.DATA, cfg.DATA.COLOR_RND_GRAYSCALE
    if cfg.DETECTION.ENABLE:
        if not cfg.AVA.TRAIN_USE_COLOR_AUGMENTATION:
            return ColorJitter(gray=gray)
        directions = tuple(tuple(row) for row in data.TRAIN_PCA_EIGVEC)
        jitter = 0.0 if cfg.AVA.TRAIN_PCA_JITTER_ONLY else AVA_JITTER
        return ColorJitter(jitter, LIGHTING_SPREAD, tuple(data.TRAIN_PCA_EIGVAL), directions, gray)
    jitters = cfg.AUG.ENABLE and not cfg.AUG.AA_TYPE
    return ColorJitter(jitter=(cfg.AUG.COLOR_JITTER or 0.0) if jitters else 0.0, gray=gray)


# Of all rectangles of a clip together, as a share of the frame; and of each, height over width.
ERASED_AREAS = (0.02, 1 / 3)
ERASED_ASPECTS = (0.3, 1 / 0.3)
TRIES = 10


@dataclass(frozen=True)
class RandomErasing:
    """Rectangles at the same place of all frames of a clip.

    Attributes:
        probability: that anything is erased.
        mode: what comes there: "pixel" normal noise, "rand" one color a frame, of the same noise, "const" the mean
            color.
        most: rectangles; their number is drawn from 1 to this, and they share the area.

    Source: Zhong et al., Random erasing data augmentation; modes and numbers as in timm.
    """

    probability: float
    mode: str
    most: int

    def __call__(self, clip: Tensor, generator: Generator) -> None:
        """Erases in a normalized clip (3, T, H, W), in place."""
        if not chance(generator, self.probability):
            return
        height, width = clip.shape[-2:]
        count = 1 + whole(generator, self.most)
        for _ in range(count):
            for _ in range(TRIES):
                area = uniform(generator, *ERASED_AREAS) * height * width / count
                aspect = math.exp(uniform(generator, *map(math.log, ERASED_ASPECTS)))
                high, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
                if high < height and wide < width:
                    top, left = whole(generator, height - high + 1), whole(generator, width - wide + 1)
                    self._fill(clip[..., top : top + high, left : left + wide], generator)
                    break

    def _fill(self, part: Tensor, generator: Generator) -> None:
        if self.mode == "pixel":
            part.copy_(torch.randn(part.shape, generator=generator))
        elif self.mode == "rand":
            part.copy_(torch.randn(*part.shape[:2], 1, 1, generator=generator))
        else:
            part.zero_()
