"""Pixels against the published numbers and against slow, obvious ways to them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slowfast.datasets.transforms import pixels as transforms
from slowfast.datasets.transforms.crops import Crop, size_by_short_side

FIXTURES = Path(__file__).parents[2] / "fixtures"
CASES = json.loads((FIXTURES / "spatial.json").read_text())["cases"]
EXPECTED = np.load(FIXTURES / "spatial.npz")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.225)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_published_crops(case):
    frames = noise(*case["shape_thwc"], seed=case["seed"])
    size = size_by_short_side(*frames.shape[1:3], case["crop"])
    crop = Crop.square_at(*size, case["crop"], case["spatial_view"])
    scaled = transforms.resize_exactly(frames, *size)
    clip = transforms.to_clip(crop.of(scaled), transforms.normalization([0.45] * 3, [0.225] * 3))
    expected = torch.from_numpy(EXPECTED[case["key"]])
    torch.testing.assert_close(clip.reshape(expected.shape), expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("size", [(224, 297), (288, 382), (60, 500)])
def test_exact_scaling_is_that_of_pytorch_on_a_normalized_clip(size):
    """At sizes of real videos, where OpenCV's differs by a hundred times as much."""
    frames = noise(2, 256, 340, 3)
    colors = transforms.normalization(MEAN, STD)
    clip = transforms.to_clip(transforms.resize_exactly(frames, *size), colors)
    published = (torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 255 - column(MEAN)) / column(STD)
    published = F.interpolate(published, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(clip, published, rtol=1e-6, atol=3e-6)


def column(numbers):
    return torch.tensor(numbers).view(3, 1, 1, 1)


@pytest.mark.parametrize(("height", "width"), [(30, 40), (64, 48), (48, 64)])
def test_scaling_in_whole_numbers(height, width):
    """Each pixel by hand: the four neighbors of its center, by their distance."""
    frames = noise(2, 48, 64, 3)
    scaled = transforms.resize(frames, height, width)
    assert scaled.dtype == np.uint8
    expected = np.empty(scaled.shape)
    for y in range(height):
        for x in range(width):
            v = np.clip((y + 0.5) * 48 / height - 0.5, 0, 47)
            u = np.clip((x + 0.5) * 64 / width - 0.5, 0, 63)
            top, left = int(v), int(u)
            low, right = min(top + 1, 47), min(left + 1, 63)
            rows = frames[:, top] * (1 - v + top) + frames[:, low] * (v - top)
            expected[:, y, x] = rows[:, left] * (1 - u + left) + rows[:, right] * (u - left)
    assert np.abs(scaled - expected).max() <= 1


def test_scaling_of_parts_of_several_sizes():
    frames = noise(2, 40, 50, 3)
    parts = [frames[0, 3:20, 5:30], frames[1, :, 10:]]
    scaled = transforms.resize(parts, 16, 16)
    for part, out in zip(parts, scaled, strict=True):
        assert np.array_equal(transforms.resize(part[None], 16, 16)[0], out)


def test_nothing_is_copied_where_the_size_is_right():
    frames = noise(2, 8, 9, 3)
    assert transforms.resize(frames, 8, 9) is frames
    assert transforms.resize_exactly(frames, 8, 9) is frames


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_one_pass_flips_normalizes_and_lays_out(kind, flip, reverse):
    frames = noise(3, 20, 31, 3).astype(kind)
    part = Crop(2, 3, 16, 20).of(frames)
    clip = transforms.to_clip(part, transforms.normalization(MEAN, STD, reverse), flip)
    assert clip.shape == (3, 3, 16, 20) and clip.dtype == torch.float32 and clip.is_contiguous()
    for channel, number, y, x in np.ndindex(3, 3, 16, 20):
        source = 2 - channel if reverse else channel
        value = frames[number, 2 + y, 3 + (19 - x if flip else x), source]
        expected = (float(value) / 255 - MEAN[source]) / STD[source]
        assert clip[channel, number, y, x].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("own", [False, True], ids=["one for all", "one a frame"])
@pytest.mark.parametrize("mixing", [False, True])
def test_colors_by_matrix(own, mixing):
    frames, random = noise(4, 6, 7, 3), np.random.default_rng(1)
    first = random.normal(size=(4, 3, 4) if own else (3, 4))
    if not mixing:
        first[..., :3] *= np.eye(3)
    colors = transforms.compose(first, transforms.normalization(MEAN, STD))
    clip = transforms.to_clip(frames, colors).numpy()
    for number in range(4):
        matrix = first[number] if own else first
        changed = frames[number] @ matrix[:, :3].T + matrix[:, 3]
        expected = ((changed / 255 - MEAN) / STD).transpose(2, 0, 1)
        assert np.allclose(clip[:, number], expected, atol=1e-5)


def test_one_mean_for_all_channels():
    frames = noise(1, 4, 4, 3)
    one = transforms.to_clip(frames, transforms.normalization([0.45], [0.225]))
    assert torch.equal(one, transforms.to_clip(frames, transforms.normalization([0.45] * 3, [0.225] * 3)))
