"""Boxes on their way through the transforms of a clip, as published for AVA.

Boxes are (n, 4) float arrays of x1, y1, x2, y2; a function gives a new array, row for row. A picture's last column is
number width - 1, and so is the greatest x of a box.
"""

from __future__ import annotations

import numpy as np

from slowfast.datasets.transforms.crops import Crop


def follow(
    boxes: np.ndarray, full: tuple[int, int], size: tuple[int, int], crop: Crop, flip: bool = False
) -> np.ndarray:
    """The way of boxes into a clip.

    Args:
        boxes: in shares of the frame, (0, 0) to (1, 1).
        full, size: (height, width) of the frame as it was and as it was scaled.
        crop: what was cut from the scaled frame.
        flip: whether that was mirrored.

    Returns:
        (n, 4) float32 in pixels of the clip, cut to it.
    """
    boxes = shift(scale(to_pixels(boxes, *full), full, size), crop.top, crop.left)
    boxes = mirror(boxes, crop.width) if flip else boxes
    return clip(boxes, crop.height, crop.width).astype(np.float32)


def to_pixels(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes in shares of the frame, (0, 0) to (1, 1), as pixels of it, cut to the frame."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4) * (width, height, width, height)
    return clip(boxes, height, width)


def scale(boxes: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Boxes of a frame of `old` (height, width) in one scaled to `new`.

    As published, both axes are scaled by the factor of the longer side, which is cut to a whole pixel: under one pixel
    from the factor of each axis.
    """
    longer = int(old[1] >= old[0])
    return boxes * (new[longer] / old[longer])


def shift(boxes: np.ndarray, top: int, left: int) -> np.ndarray:
    """Boxes as seen from a crop that begins at row `top` and column `left`."""
    return boxes - np.array([left, top, left, top], boxes.dtype)


def mirror(boxes: np.ndarray, width: int) -> np.ndarray:
    """Boxes of a frame mirrored left and right."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([width - 1 - x2, y1, width - 1 - x1, y2], axis=1)


def clip(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes cut to a frame; one wholly outside is left without area, on the frame's edge."""
    return np.clip(boxes, 0, np.array([width - 1, height - 1, width - 1, height - 1], boxes.dtype))


def has_area(boxes: np.ndarray) -> np.ndarray:
    """(n,) bool: which of the boxes show anything."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
