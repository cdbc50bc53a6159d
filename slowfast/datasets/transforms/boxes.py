"""Box transforms that follow those of the pixels, as published for AVA.

Boxes are (n, 4) float arrays of x1, y1, x2, y2. Functions return a new array with the same rows. The last column of a
picture is width - 1, and so is the greatest x of a box.
"""

from __future__ import annotations

import numpy as np

from slowfast.datasets.transforms.crops import Crop


def transform_boxes(
    boxes: np.ndarray, full: tuple[int, int], size: tuple[int, int], crop: Crop, flip: bool = False
) -> np.ndarray:
    """Map boxes of the original frame to a clip: scale, crop, flip, clip to the picture.

    Args:
        boxes: relative to the frame, 0 to 1.
        full, size: (height, width) of the frame before and after resizing.
        crop: part of the resized frame that the clip shows.
        flip: the clip is mirrored left and right.

    Returns:
        (n, 4) float32 in pixels of the clip. Boxes outside the crop have no area.
    """
    boxes = _shift(_scale(_to_pixels(boxes, *full), full, size), crop.top, crop.left)
    boxes = _flip(boxes, crop.width) if flip else boxes
    return _clip(boxes, crop.height, crop.width).astype(np.float32)


def _to_pixels(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Convert relative boxes (0 to 1) to pixels, clipped to the frame."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4) * (width, height, width, height)
    return _clip(boxes, height, width)


def _scale(boxes: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Scale boxes from a frame of `old` (height, width) to one of `new`.

    As published, both axes use the factor of the longer side. Since sides are whole pixels, this differs from the
    exact factors by less than a pixel.
    """
    longer = int(old[1] >= old[0])
    return boxes * (new[longer] / old[longer])


def _shift(boxes: np.ndarray, top: int, left: int) -> np.ndarray:
    """Move boxes into a crop that begins at row `top` and column `left`."""
    return boxes - np.array([left, top, left, top], boxes.dtype)


def _flip(boxes: np.ndarray, width: int) -> np.ndarray:
    """Mirror boxes left and right."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([width - 1 - x2, y1, width - 1 - x1, y2], axis=1)


def _clip(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Clip boxes to a frame; a box outside ends up on its edge, without area."""
    return np.clip(boxes, 0, np.array([width - 1, height - 1, width - 1, height - 1], boxes.dtype))


def has_area(boxes: np.ndarray) -> np.ndarray:
    """Return (n,) bool: x2 > x1 and y2 > y1."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
