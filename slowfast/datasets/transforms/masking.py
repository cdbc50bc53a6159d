"""Masks of training clips for masked learning, drawn in the loader. A mask is (T, h, w) bool, True where masked.

The kinds are those of BEiT (arXiv 2106.08254, algorithm 1) and of MaskFeat (arXiv 2112.09133), as published.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from slowfast.runtime.seed import randint, uniform

_ASPECTS = (0.3, 1 / 0.3)  # height over width of a block
_TRIES, _TRIES_CUBE = 10, 100  # draws of a block before the mask ends short

MaskSize = tuple[int, int, int]
# Draw a mask from a generator.
DrawMask = Callable[[Generator], Tensor]


def cube_mask(size: MaskSize, ratio: float, generator: Generator) -> Tensor:
    """Draw a mask of blocks in space and time that cover `ratio` of all places.

    Blocks are added until that many places are masked. If no block of 100 fits, the mask has fewer.

    Args:
        size: (T, h, w) of the mask.
        ratio: masked share of the places, 0 to 1.
        generator: source of all randomness.
    """
    frames, height, width = size
    mask, missing = torch.zeros(size, dtype=torch.bool), round(frames * height * width * ratio)

    def draw() -> tuple[slice, ...] | None:
        sides = _block(height * width // 5, height * width, height, width, generator)
        length = 1 + randint(generator, frames)
        return sides and (_place(length, frames, generator), *(_place(*side, generator) for side in sides))

    _fill(mask, missing, draw, _TRIES_CUBE)
    return mask


def tube_mask(size: MaskSize, ratio: float, generator: Generator, most: int | None = None) -> Tensor:
    """Draw a mask of blocks in space that cover `ratio` of the places, the same in all frames.

    Blocks are added until that many places are masked. If no block of 10 fits, the mask has fewer.

    Args:
        size: (T, h, w) of the mask.
        ratio: masked share of the places, 0 to 1.
        generator: source of all randomness.
        most: greatest number of places of a block; None for no limit.
    """
    frames, height, width = size
    mask, count = torch.zeros(height, width, dtype=torch.bool), round(height * width * ratio)

    def draw() -> tuple[slice, ...] | None:
        missing = count - int(mask.sum())
        sides = _block(count // 5, missing if most is None else min(missing, most), height, width, generator)
        return sides and tuple(_place(*side, generator) for side in sides)

    _fill(mask, count, draw, _TRIES)
    return mask.expand(frames, -1, -1).contiguous()


def frame_mask(size: MaskSize, ratio: float, generator: Generator) -> Tensor:
    """Draw a mask of whole frames, `ratio` of all, without replacement; see `cube_mask`."""
    mask = torch.zeros(size, dtype=torch.bool)
    mask[torch.randperm(size[0], generator=generator)[: round(size[0] * ratio)]] = True
    return mask


def _block(
    least: float, most: float, height: int, width: int, generator: Generator
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Draw a block of `least` to `most` places; return (side, places along it) of both axes.

    None for one that is as high or as wide as the mask.
    """
    area = uniform(generator, least, most)
    aspect = math.exp(uniform(generator, *map(math.log, _ASPECTS)))
    high, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    return ((high, height), (wide, width)) if high < height and wide < width else None


def _place(length: int, places: int, generator: Generator) -> slice:
    first = randint(generator, places - length + 1)
    return slice(first, first + length)


def _fill(mask: Tensor, count: int, draw: Callable[[], tuple[slice, ...] | None], tries: int) -> None:
    """Mask blocks in place until `count` places are masked, or none of `tries` blocks fits the places missing."""
    missing = count
    while missing > 0:
        for _ in range(tries):
            block = draw()
            added = 0 if block is None else int((~mask[block]).sum())
            if 0 < added <= missing:
                mask[block] = True
                missing -= added
                break
        else:
            return


def build_masking(cfg: Any) -> DrawMask | None:
    """Build what draws the mask of a training clip; None unless `AUG.GEN_MASK_LOADER`.

    The size is AUG.MASK_WINDOW_SIZE: [time, height, width], or [height, width] for the frames of the tokens. Of images
    (MVIT.PATCH_2D) it is the grid of patches, as published.
    """
    aug = cfg.AUG
    if not aug.GEN_MASK_LOADER:
        return None
    ratio, limit = aug.MASK_RATIO, aug.MAX_MASK_PATCHES_PER_BLOCK
    if cfg.MVIT.PATCH_2D:
        size = (1, *(cfg.DATA.TRAIN_CROP_SIZE // stride for stride in cfg.MVIT.PATCH_STRIDE[-2:]))
        return lambda generator: tube_mask(size, ratio, generator, limit)
    frames = cfg.DATA.NUM_FRAMES // cfg.MVIT.PATCH_STRIDE[0]
    size = tuple(aug.MASK_WINDOW_SIZE) if len(aug.MASK_WINDOW_SIZE) == 3 else (frames, *aug.MASK_WINDOW_SIZE)
    if aug.MASK_TUBE:
        return lambda generator: tube_mask(size, ratio, generator)
    if aug.MASK_FRAMES:
        return lambda generator: frame_mask(size, ratio, generator)
    return lambda generator: cube_mask(size, ratio, generator)
