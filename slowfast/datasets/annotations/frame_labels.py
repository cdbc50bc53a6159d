"""What the frames of a video show: its labels as spans of frames, and those of a clip.

Spans are (n, 3) int32: class, first and last frame that show it, both counted from 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def labels_between(spans: np.ndarray, first: int, last: int, num_classes: int) -> Tensor:
    """(classes,) uint8 of 0 and 1: what any frame from `first` to `last`, both counted, shows."""
    return _union(spans, np.array([[first, last]]), num_classes)[0]


def labels_of_clip(spans: np.ndarray, frames: Sequence[int], num_classes: int) -> Tensor:
    """Labels of a clip's frames and of the gaps between them, see `Sample.frame_labels`.

    Args:
        frames: numbers of the N frames, none under the one before.

    Returns:
        (2 N - 1, classes) uint8 of 0 and 1.
    """
    stretches = np.empty((2 * len(frames) - 1, 2), np.int64)
    stretches[::2] = np.asarray(frames)[:, None]
    stretches[1::2, 0] = stretches[:-1:2, 1] + 1
    stretches[1::2, 1] = stretches[2::2, 0] - 1
    return _union(spans, stretches, num_classes)


def _union(spans: np.ndarray, stretches: np.ndarray, num_classes: int) -> Tensor:
    """(stretches, classes): what any frame of a stretch shows; one whose end lies before its start has no frame."""
    first, last = stretches[:, :1], stretches[:, 1:]
    shown = (spans[:, 1] <= last) & (spans[:, 2] >= first) & (first <= last)
    stretch, span = np.nonzero(shown)
    labels = torch.zeros(len(stretches), num_classes, dtype=torch.uint8)
    labels[torch.from_numpy(stretch), torch.from_numpy(spans[span, 0].astype(np.int64))] = 1
    return labels
