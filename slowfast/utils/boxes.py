"""Overlap of boxes. A box is x1, y1, x2, y2, in any unit."""

from __future__ import annotations

import numpy as np


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes (..., 4) and others (..., 4), whose shapes broadcast: (...).

    It is 0 for boxes without area. The order of operations is that of the published evaluation of AVA, so that rounding
    is the same.
    """
    shared = _area(np.maximum(boxes[..., :2], others[..., :2]), np.minimum(boxes[..., 2:], others[..., 2:]))
    union = _area(boxes[..., :2], boxes[..., 2:]) + _area(others[..., :2], others[..., 2:]) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _area(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    sides = (high - low).clip(0)
    return sides[..., 0] * sides[..., 1]


def suppress(boxes: np.ndarray, scores: np.ndarray, most_iou: float) -> np.ndarray:
    """Return the numbers of the boxes that greedy non-maximum suppression keeps, best score first.

    A box is dropped if its IoU with a kept one of higher score is above `most_iou`. Of equal scores the first wins.

    Args:
        boxes: (n, 4).
        scores: (n,).
        most_iou: 0 to 1.
    """
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[iou(boxes[best], boxes[left]) <= most_iou]
    return np.array(kept, np.int64)
