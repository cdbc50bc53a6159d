"""What training does to clips besides scaling, cropping and mirroring them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slowfast.config.augment_recipe import parse_recipe
from slowfast.datasets.augment.colour import ColourNoise
from slowfast.datasets.augment.erase import RandomErasing
from slowfast.datasets.augment.random_augment import RandAugment

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
        colour: noise of the colours of the crop.
        erasing: of rectangles; None for none.
        erase_later: only in the second half of the copies.
    """

    copies: int = 1
    areas: tuple[float, ...] = ()
    aspects: tuple[float, ...] = ASPECTS
    moving: bool = False
    operations: RandAugment | None = None
    colour: ColourNoise = ColourNoise()
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
            colour=_colour_noise(cfg),
            erasing=RandomErasing(aug.RE_PROB, aug.RE_MODE, aug.RE_COUNT) if strong and aug.RE_PROB else None,
            erase_later=aug.RE_SPLIT,
        )


def _colour_noise(cfg: Any) -> ColourNoise:
    """With boxes as published for AVA; otherwise the jitter of AUG, where it has no recipe of operations."""
    data, grey = cfg.DATA, cfg.DATA.COLOR_RND_GRAYSCALE
    if cfg.DETECTION.ENABLE:
        if not cfg.AVA.TRAIN_USE_COLOR_AUGMENTATION:
            return ColourNoise(grey=grey)
        directions = tuple(tuple(row) for row in data.TRAIN_PCA_EIGVEC)
        jitter = 0.0 if cfg.AVA.TRAIN_PCA_JITTER_ONLY else AVA_JITTER
        return ColourNoise(jitter, LIGHTING_SPREAD, tuple(data.TRAIN_PCA_EIGVAL), directions, grey)
    jitters = cfg.AUG.ENABLE and not cfg.AUG.AA_TYPE
    return ColourNoise(jitter=(cfg.AUG.COLOR_JITTER or 0.0) if jitters else 0.0, grey=grey)
