"""Pixels of a clip: scaling, and the one pass from frames to what a model reads.

Frames are (T, H, W, 3), red, green, blue, 0 to 255, uint8 as long as that can be and float32 where scaling must not
round; a clip is (3, T, H, W) float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# A loader's worker is one core; and threads that OpenCV has started would be missing in a worker forked from here.
cv2.setNumThreads(0)

_VALUES = np.arange(256)

Colors = np.ndarray
"""(3, 4), or (T, 3, 4) one a frame: channel c of a clip is row c times (red, green, blue, 1), of 0 to 255."""


def scale(frames: np.ndarray | Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """uint8 frames in this size, bilinear and rounded; of a list, each may come in another size."""
    if isinstance(frames, np.ndarray) and frames.shape[1:3] == (height, width):
        return frames
    scaled = np.empty((len(frames), height, width, 3), np.uint8)
    for frame, out in zip(frames, scaled, strict=True):
        cv2.resize(frame, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return scaled


def scale_exactly(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames in this size, bilinear, as float32 if that changes them.

    By PyTorch, as published, whose weights in float32 make scores comparable to the last digit; OpenCV takes a third of
    the time and differs by 1e-4 of the range of values.
    """
    if frames.shape[1:3] == (height, width):
        return frames
    scaled = torch.empty(len(frames), height, width, 3)
    for frame, out in zip(frames, scaled, strict=True):
        picture = torch.from_numpy(frame).permute(2, 0, 1)[None].to(torch.float32)
        resized = F.interpolate(picture, size=(height, width), mode="bilinear", align_corners=False)
        out.copy_(resized[0].permute(1, 2, 0))
    return scaled.numpy()


def normalization(mean: Sequence[float], std: Sequence[float], reverse: bool = False) -> Colors:
    """Colors that scale to 0 to 1, subtract `mean` and divide by `std`, each one number a channel, red first.

    With `reverse` the clip's channels are blue, green, red.
    """
    colors = np.zeros((3, 4))
    np.fill_diagonal(colors, 1.0 / (255.0 * np.asarray(std, np.float64)))
    colors[:, 3] = -np.asarray(mean, np.float64) / std
    return colors[::-1] if reverse else colors


def after(first: Colors, second: Colors) -> Colors:
    """Colors that do `first`, which leaves red, green and blue in their places, and then `second`."""
    whole = np.concatenate([first, np.broadcast_to([0.0, 0.0, 0.0, 1.0], (*first.shape[:-2], 1, 4))], axis=-2)
    return second @ whole


def to_clip(frames: np.ndarray, colors: Colors, flip: bool = False) -> Tensor:
    """The clip of frames: mirrored left and right with `flip`, colored, and laid out by channel, in one pass.

    Args:
        frames: (T, H, W, 3) uint8 or float32; a view of a part of larger frames will do.
        colors: what becomes of red, green and blue.
    """
    clip = np.empty((3, *frames.shape[:3]), np.float32)
    mixing = (np.count_nonzero(colors[..., :3], axis=-1) > 1).any()
    write = _write_mixed if mixing else _write_by_table if frames.dtype == np.uint8 else _write_apart
    for number, frame in enumerate(frames):
        own = colors if colors.ndim == 2 else colors[number]
        write(cv2.flip(frame, 1) if flip else frame, own, list(clip[:, number]))
    return torch.from_numpy(clip)


def _write_mixed(frame: np.ndarray, colors: Colors, planes: list[np.ndarray]) -> None:
    cv2.split(cv2.transform(np.asarray(frame, np.float32), colors), planes)


def _write_by_table(frame: np.ndarray, colors: Colors, planes: list[np.ndarray]) -> None:
    """A table of all 256 values takes half the time of a product and a sum."""
    channels = cv2.split(frame)
    for row, plane in zip(colors, planes, strict=True):
        source = int(np.abs(row[:3]).argmax())
        table = (row[source] * _VALUES + row[3]).astype(np.float32)
        cv2.LUT(channels[source], table, dst=plane)


def _write_apart(frame: np.ndarray, colors: Colors, planes: list[np.ndarray]) -> None:
    channels = cv2.split(frame)
    for row, plane in zip(colors, planes, strict=True):
        source = int(np.abs(row[:3]).argmax())
        np.multiply(channels[source], np.float32(row[source]), out=plane)
        plane += np.float32(row[3])
