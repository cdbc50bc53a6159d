"""Transforms against the published numbers and against slow, obvious ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.datasets import transforms

FIXTURES = Path(__file__).parents[1] / "fixtures"
CASES = json.loads((FIXTURES / "spatial.json").read_text())["cases"]
EXPECTED = np.load(FIXTURES / "spatial.npz")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
@pytest.mark.parametrize("normalise_last", [False, True])
def test_published_crops(case, normalise_last):
    frames = np.random.default_rng(case["seed"]).integers(0, 256, case["shape_thwc"], np.uint8)
    clip = transforms.to_float(frames)
    steps = [
        lambda x: transforms.normalise(x, (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
        lambda x: transforms.uniform_crop(
            transforms.resize_short_side(x, case["crop"]), case["crop"], case["spatial_view"]
        ),
    ]
    for step in reversed(steps) if normalise_last else steps:
        clip = step(clip)
    expected = torch.from_numpy(EXPECTED[case["key"]])
    torch.testing.assert_close(clip.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


def test_to_float():
    frames = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    clip = transforms.to_float(frames)
    assert clip.shape == (3, 2, 3, 4)
    assert clip.dtype == torch.float32
    assert clip[2, 1, 0, 3].item() == pytest.approx(frames[1, 0, 3, 2] / 255)


def test_normalise_takes_a_number_a_channel():
    clip = torch.full((3, 1, 1, 1), 0.5)
    out = transforms.normalise(clip, (0.0, 0.25, 0.5), (1.0, 0.5, 2.0))
    assert out.flatten().tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("height, width, size, expected", [(48, 64, 32, (32, 42)), (64, 48, 24, (32, 24))])
def test_short_side(height, width, size, expected):
    assert transforms.resize_short_side(torch.rand(3, 2, height, width), size).shape[-2:] == expected


def test_short_side_as_it_is():
    clip = torch.rand(3, 2, 32, 40)
    assert torch.equal(transforms.resize_short_side(clip, 32), clip)


def test_short_side_follows_its_distribution():
    def sides(inverse):
        g = generator()
        return np.array([transforms.random_short_side(256, 320, inverse, g) for _ in range(4000)])

    uniform, inverse = sides(False), sides(True)
    for drawn in (uniform, inverse):
        assert drawn.min() <= 257
        assert 319 <= drawn.max() <= 320
    assert uniform.mean() == pytest.approx(288, abs=1.2)
    # Mean of 1/u with 1/u uniform: log(320/256) / (1/256 - 1/320).
    assert inverse.mean() == pytest.approx(np.log(320 / 256) / (1 / 256 - 1 / 320), abs=1.2)


def test_random_crop_reaches_every_place():
    clip = torch.arange(5 * 6, dtype=torch.float32).reshape(1, 1, 5, 6)
    g, corners = generator(), set()
    for _ in range(300):
        crop = transforms.random_crop(clip, 4, g)
        top, left = divmod(int(crop[0, 0, 0, 0]), 6)
        assert torch.equal(crop, clip[..., top : top + 4, left : left + 4])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(2) for left in range(3)}


def test_random_flip():
    clip, g = torch.rand(3, 2, 4, 4), generator()
    flips = [transforms.random_flip(clip, g) for _ in range(200)]
    mirrored = sum(torch.equal(out, clip.flip(-1)) for out in flips)
    assert mirrored + sum(torch.equal(out, clip) for out in flips) == 200
    assert 70 < mirrored < 130


def test_crops_that_do_not_fit():
    clip = torch.rand(3, 1, 20, 40)
    with pytest.raises(ValueError, match="24 pixels.*20x40"):
        transforms.uniform_crop(clip, 24, 1)
    with pytest.raises(ValueError, match="24 pixels.*20x40"):
        transforms.random_crop(clip, 24, generator())
    with pytest.raises(ValueError, match="position 3"):
        transforms.uniform_crop(clip, 16, 3)
