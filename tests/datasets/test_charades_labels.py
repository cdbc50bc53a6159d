"""Unions of frame labels against a loop over all frames."""

import numpy as np
import pytest
import torch

from slowfast.datasets.charades import labels_between, labels_of_clip

CLASSES, LENGTH = 7, 60


def shown_by(spans, frames):
    labels = torch.zeros(CLASSES, dtype=torch.uint8)
    for frame in frames:
        for label, first, last in spans.tolist():
            if first <= frame <= last:
                labels[label] = 1
    return labels


@pytest.mark.parametrize("seed", range(5))
def test_unions(seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, LENGTH, 9)
    spans = np.stack([rng.integers(0, CLASSES, 9), first, first + rng.integers(0, 12, 9)], 1).astype(np.int32)
    for start, end in rng.integers(0, LENGTH, (20, 2)):
        assert torch.equal(labels_between(spans, start, end, CLASSES), shown_by(spans, range(start, end + 1)))
    # Frames side by side and frames that repeat have nothing between them.
    frames = sorted([0, 0, 1, 1, 2, *rng.integers(0, LENGTH, 6).tolist(), LENGTH - 1, LENGTH - 1])
    rows = labels_of_clip(spans, frames, CLASSES)
    assert rows.dtype == torch.uint8
    assert rows.shape == (2 * len(frames) - 1, CLASSES)
    for i, frame in enumerate(frames):
        assert torch.equal(rows[2 * i], shown_by(spans, [frame]))
    for i, (a, b) in enumerate(zip(frames, frames[1:], strict=False)):
        assert torch.equal(rows[2 * i + 1], shown_by(spans, range(a + 1, b)))
    # What the rows are for: the union from any frame of the clip to any other.
    for a, b in [(0, len(frames) - 1), (3, 3), (2, 7)]:
        union = rows[2 * a : 2 * b + 1].amax(dim=0)
        assert torch.equal(union, shown_by(spans, range(frames[a], frames[b] + 1)))


def test_no_labels_and_one_frame():
    nothing = np.empty((0, 3), np.int32)
    assert labels_of_clip(nothing, [4, 8], 3).tolist() == [[0] * 3] * 3
    assert labels_of_clip(np.array([[2, 0, 5]], np.int32), [5], 3).tolist() == [[0, 0, 1]]
