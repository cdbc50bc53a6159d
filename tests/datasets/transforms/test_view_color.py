"""Color augmentation of views, against Pillow, by which torchvision defines it."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from slowfast.datasets.transforms.view_color import ViewColor, blend, turn_hue

ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
OFF = ((0.0, 0.0, 0.0), 0.0)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)


@pytest.fixture
def frames(image):
    return np.stack([image, image[::-1], image // 2])


@pytest.mark.parametrize("factor", [0.4, 0.9, 1.6])
@pytest.mark.parametrize("kind", range(3))
def test_brightness_contrast_saturation(kind, factor, image):
    expected = np.asarray(ENHANCERS[kind](Image.fromarray(image)).enhance(factor), np.float32)
    assert np.abs(blend(image.astype(np.float32), kind, factor) - expected).max() <= 2  # Pillow cuts to whole numbers


@pytest.mark.parametrize("turn", [-0.15, 0.1, 0.5])
def test_hue(turn, image):
    hsv = np.array(Image.fromarray(image).convert("HSV"))
    hsv[..., 0] += np.uint8(round(turn * 255) % 256)
    expected = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"), np.float32)
    difference = np.abs(turn_hue(image.astype(np.float32), turn) - expected)
    assert difference.mean() < 2 and difference.max() < 16  # of a hue in 256 steps


def test_nothing_changes_at_strength_zero(frames):
    for sigmas in ((), (0.0, 0.0)):
        out = ViewColor(*OFF, 0.0, sigmas)(frames, torch.Generator().manual_seed(0))
        assert out.dtype == np.uint8 and np.abs(out.astype(int) - frames).max() <= 1


def test_draws_and_their_probabilities(frames):
    generator = torch.Generator().manual_seed(0)
    color = ViewColor(*OFF, 0.2, (0.5, 2.0))
    outs = [color(frames, generator).astype(np.float32) for _ in range(400)]
    gray = [np.ptp(out, axis=-1).max() == 0 for out in outs]
    blurred = [
        np.abs(np.diff(out, axis=2)).mean() < np.abs(np.diff(frames.astype(int), axis=2)).mean() * 0.8 for out in outs
    ]
    assert np.mean(gray) == pytest.approx(0.2, abs=0.06)
    assert np.mean(blurred) == pytest.approx(0.5, abs=0.15)
    jittered = ViewColor((0.6, 0.6, 0.6), 0.1, 0.0, (0.0, 0.0))
    changed = [np.abs(jittered(frames, generator).astype(int) - frames).max() > 1 for _ in range(200)]
    assert np.mean(changed) == pytest.approx(0.8, abs=0.1)


def test_one_draw_holds_for_all_frames(image):
    frames = np.stack([image] * 3)
    for seed in range(5):
        out = ViewColor((0.6, 0.6, 0.6), 0.15, 0.2, (0.1, 2.0))(frames, torch.Generator().manual_seed(seed))
        assert np.array_equal(out[0], out[1]) and np.array_equal(out[0], out[2])
