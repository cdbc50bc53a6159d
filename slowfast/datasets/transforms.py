"""Tensor transforms of one clip; all randomness comes from a `torch.Generator` that the caller passes.

Frames come as (T, H, W, 3) uint8; from `to_float` on, `clip` is (3, T, H, W) float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

LEFT_OR_TOP, CENTRE, RIGHT_OR_BOTTOM = 0, 1, 2


def to_float(frames: np.ndarray | Tensor) -> Tensor:
    """(T, H, W, 3) uint8 to (3, T, H, W) float32 in [0, 1]."""
    return torch.as_tensor(frames).permute(3, 0, 1, 2).to(torch.float32, memory_format=torch.contiguous_format) / 255.0


def normalise(clip: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract `mean` and divide by `std`, each one number a colour channel."""
    shape = (-1, 1, 1, 1)
    return (clip - clip.new_tensor(mean).view(shape)) / clip.new_tensor(std).view(shape)


def resize_short_side(clip: Tensor, size: int) -> Tensor:
    """Scale so that the shorter side is `size` pixels, the longer one cut to a whole pixel (bilinear)."""
    height, width = clip.shape[-2:]
    if min(height, width) == size:
        return clip
    if width < height:
        height, width = math.floor(height / width * size), size
    else:
        height, width = size, math.floor(width / height * size)
    return F.interpolate(clip, size=(height, width), mode="bilinear", align_corners=False)


def uniform_crop(clip: Tensor, size: int, position: int) -> Tensor:
    """Square crop at the start (0), centre (1) or end (2) of the longer side, centred on the other.

    Raises:
        ValueError: the clip is smaller than the crop, or there is no such position.
    """
    height, width = _room(clip, size)
    if position not in (LEFT_OR_TOP, CENTRE, RIGHT_OR_BOTTOM):
        raise ValueError(f"crop position {position} is not 0, 1 or 2")
    top, left = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    if height > width:
        top = (0, top, height - size)[position]
    else:
        left = (0, left, width - size)[position]
    return clip[..., top : top + size, left : left + size]


def random_short_side(smallest: int, largest: int, inverse: bool, generator: Generator) -> int:
    """A short side from `smallest` to `largest` pixels: uniform, or with `inverse` uniform in 1 / side."""
    draw = torch.rand((), generator=generator, dtype=torch.float64).item()
    if inverse:
        return round(1.0 / (1.0 / largest + draw * (1.0 / smallest - 1.0 / largest)))
    return round(smallest + draw * (largest - smallest))


def random_crop(clip: Tensor, size: int, generator: Generator) -> Tensor:
    """Square crop anywhere, every position as likely.

    Raises:
        ValueError: the clip is smaller than the crop.
    """
    height, width = _room(clip, size)
    top = int(torch.randint(height - size + 1, (), generator=generator))
    left = int(torch.randint(width - size + 1, (), generator=generator))
    return clip[..., top : top + size, left : left + size]


def random_flip(clip: Tensor, generator: Generator) -> Tensor:
    """Mirror left and right in half of the cases."""
    return clip.flip(-1) if torch.rand((), generator=generator).item() < 0.5 else clip


def _room(clip: Tensor, size: int) -> tuple[int, int]:
    height, width = clip.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"a crop of {size} pixels does not fit in frames of {height}x{width}")
    return height, width
