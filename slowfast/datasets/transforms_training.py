"""The pixels of a training clip, with everything that is random about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Generator, Tensor

from slowfast.datasets import transforms, transforms_boxes
from slowfast.datasets.clip_settings import ClipSettings
from slowfast.datasets.transforms_crops import (
    Crop,
    moving_crops,
    random_area_crop,
    random_crop,
    random_flip,
    random_short_side,
    size_by_short_side,
)


def training_pixels(
    frames: np.ndarray, settings: ClipSettings, generator: Generator, boxes: Sequence[np.ndarray] = (), copy: int = 0
) -> tuple[Tensor, list[np.ndarray]]:
    """A clip of decoded frames: operations, place, scale, side, colours and rectangles as `generator` draws them.

    Pixels stay uint8 until the one pass that mirrors, colours and lays them out.

    Args:
        frames: (T, H, W, 3) uint8.
        boxes: arrays (n, 4) in shares of the frame.
        copy: number of the clip among those of the same frames.

    Returns:
        (3, T, H, W) float32, and the boxes in its pixels, cut to it; one out of sight has no area.
    """
    s, a = settings, settings.augmentation
    if a.operations is not None:
        frames = a.operations(frames, generator)
    full = frames.shape[1:3]
    if a.areas:
        picture, size, crop = _crop_by_area(frames, s, generator), full, Crop(0, 0, *full)
    else:
        size = size_by_short_side(*full, random_short_side(*s.short_sides, s.inverse_uniform, generator))
        crop = random_crop(*size, s.crop, generator)
        picture = crop.of(transforms.scale(frames, *size))
    flip = s.flip and random_flip(generator)
    colours = transforms.normalisation(s.mean, s.std, s.reverse_channels)
    clip = transforms.to_clip(picture, transforms.after(a.colour.draw(picture, generator), colours), flip)
    if a.erasing is not None and (not a.erase_later or copy >= a.copies // 2):
        a.erasing(clip, generator)
    return clip, [transforms_boxes.follow(own, full, size, crop, flip) for own in boxes]


def _crop_by_area(frames: np.ndarray, settings: ClipSettings, generator: Generator) -> np.ndarray:
    """A part of the frames, a wandering one if so set, scaled to the size of the crop."""
    a, (height, width) = settings.augmentation, frames.shape[1:3]
    crops = [random_area_crop(height, width, a.areas, a.aspects, generator) for _ in range(2 if a.moving else 1)]
    parts = crops[0].of(frames)
    if a.moving:
        parts = [crop.of(frame) for crop, frame in zip(moving_crops(*crops, len(frames)), frames, strict=True)]
    return transforms.scale(parts, settings.crop, settings.crop)
