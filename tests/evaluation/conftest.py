"""Predictions to measure and to write."""

import numpy as np
import pytest

from slowfast.evaluation.ava import BoxRows
from slowfast.evaluation.predictions import BoxPredictions, ClassificationPredictions


@pytest.fixture
def one_label():
    """Make predictions of 40 videos in six classes, with three steps and two variants."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 6, 40)
    steps = generator.random((40, 3, 6)).astype(np.float32) + 0.3 * np.eye(6, dtype=np.float32)[labels][:, None]
    return ClassificationPredictions(
        steps.sum(axis=1),
        labels,
        [f"folder/video {number}, ü.mp4" for number in range(40)],
        steps=steps,
        variants={"last": steps[:, -1], "max": steps.max(axis=1)},
        class_names=list("abcdef"),
        meta={"checkpoint": "some.pyth", "views": 30},
    )


@pytest.fixture
def several_labels():
    """Make predictions of 40 videos with several of five classes, two steps; the last class never occurs."""
    generator = np.random.default_rng(1)
    labels = (generator.random((40, 5)) < 0.3).astype(np.float32)
    labels[:, 4] = 0
    steps = generator.random((40, 2, 5)).astype(np.float32) + 0.4 * labels[:, None]
    return ClassificationPredictions(steps.mean(axis=1), labels, [f"{number}" for number in range(40)], steps=steps)


@pytest.fixture
def box_predictions():
    """Make predictions of two boxes at each of six key frames: one is excluded, one has no ground truth."""
    generator = np.random.default_rng(2)
    key_frames = [("v", 902), ("v", 903), ("v", 904), ("w", 902), ("w", 903), ("empty", 1)]
    boxes = np.repeat(np.array([[0.1, 0.1, 0.5, 0.9], [0.5, 0.2, 0.9, 0.9]])[None], 5, axis=0).reshape(-1, 4)
    truth = BoxRows(key_frames[:4], [0, 0, 1, 2, 3], boxes[[0, 1, 0, 0, 1]] + 0.02, [1, 3, 3, 1, 3])
    return BoxPredictions(
        key_frames,
        np.repeat(np.arange(5), 2),
        boxes,
        generator.random((10, 3)).astype(np.float32),
        np.array([1, 3, 7]),
        truth,
        excluded=[("v", 904)],
        variants={"last": generator.random((10, 3)).astype(np.float32)},
        class_names=["stand", "sit", "run"],
        meta={"checkpoint": ""},
    )
