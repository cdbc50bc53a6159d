"""Overlap of boxes. `boxes` is (n, 4): x1, y1, x2, y2 in any unit."""

from __future__ import annotations

import numpy as np


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union of each box (n, 4) with each of the others (m, 4): (n, m).

    It is 0 for boxes without area.
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    areas, other_areas = ((each[:, 2:] - each[:, :2]).clip(0).prod(-1) for each in (boxes, others))
    union = areas[:, None] + other_areas[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


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
        left = left[iou(boxes[best : best + 1], boxes[left])[0] <= most_iou]
    return np.array(kept, np.int64)
