"""Places of crops: the published ones, and that random ones are distributed as they should."""

import collections
import math

import numpy as np
import pytest
import torch

from slowfast.datasets.transforms import crops
from slowfast.datasets.transforms.crops import Crop


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "height, width, short, expected", [(48, 64, 32, (32, 42)), (64, 48, 24, (32, 24)), (50, 50, 20, (20, 20))]
)
def test_short_side(height, width, short, expected):
    assert crops.size_by_short_side(height, width, short) == expected


def test_short_side_follows_its_distribution():
    def sides(inverse):
        g = generator()
        return np.array([crops.random_short_side(256, 320, inverse, g) for _ in range(4000)])

    uniform, inverse = sides(False), sides(True)
    for drawn in (uniform, inverse):
        assert drawn.min() <= 257
        assert 319 <= drawn.max() <= 320
    assert uniform.mean() == pytest.approx(288, abs=1.2)
    # Mean of 1/u with 1/u uniform: log(320/256) / (1/256 - 1/320).
    assert inverse.mean() == pytest.approx(np.log(320 / 256) / (1 / 256 - 1 / 320), abs=1.2)


def test_random_crop_reaches_every_place_as_often():
    g = generator()
    found = collections.Counter(Crop.random_square(5, 6, 4, g) for _ in range(1200))
    assert set(found) == {Crop(top, left, 4, 4) for top in range(2) for left in range(3)}
    assert min(found.values()) > 150


def test_a_crop_of_frames():
    frames = np.arange(2 * 5 * 6 * 3).reshape(2, 5, 6, 3)
    assert np.array_equal(Crop(1, 2, 3, 4).of(frames), frames[:, 1:4, 2:6])
    assert np.array_equal(Crop(1, 2, 3, 4).of(frames[0]), frames[0, 1:4, 2:6])


def test_crops_by_area_follow_their_distribution():
    """Where every draw fits, the share of the area is uniform, and so is the logarithm of the shape."""
    g = generator()
    drawn = [Crop.random_resized(1000, 1000, (0.1, 0.5), (0.5, 2.0), g) for _ in range(3000)]
    areas = np.array([c.height * c.width for c in drawn]) / 1e6
    shapes = np.log([c.width / c.height for c in drawn])
    assert np.quantile(areas, [0.01, 0.25, 0.5, 0.75, 0.99]) == pytest.approx([0.104, 0.2, 0.3, 0.4, 0.496], abs=0.02)
    bounds = math.log(2) * np.array([-0.98, -0.5, 0, 0.5, 0.98])
    assert np.quantile(shapes, [0.01, 0.25, 0.5, 0.75, 0.99]) == pytest.approx(bounds, abs=0.06)
    tops = np.array([c.top / (1000 - c.height) for c in drawn])
    lefts = np.array([c.left / (1000 - c.width) for c in drawn])
    for places in (tops, lefts):
        assert np.quantile(places, [0.01, 0.5, 0.99]) == pytest.approx([0.01, 0.5, 0.99], abs=0.04)


@pytest.mark.parametrize(("height", "width"), [(256, 340), (340, 256), (7, 5)])
def test_crops_by_area_stay_within_the_frame(height, width):
    g = generator()
    for _ in range(500):
        crop = Crop.random_resized(height, width, (0.08, 1.0), (0.75, 1.3333), g)
        assert 0 <= crop.top and crop.top + crop.height <= height and crop.height > 0
        assert 0 <= crop.left and crop.left + crop.width <= width and crop.width > 0


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 400, Crop(0, 133, 100, 133)), (400, 100, Crop(133, 0, 133, 100)), (100, 110, Crop(0, 0, 100, 110))],
)
def test_what_never_fits_becomes_the_center(height, width, expected):
    """Shares over 1 fit in no try; the shape of the frame is kept as far as it is allowed."""
    assert Crop.random_resized(height, width, (2.0, 3.0), (0.75, 1.3333), generator()) == expected


def test_moving_crops():
    first, last = Crop(0, 10, 20, 30), Crop(9, 0, 23, 30)
    assert first.moving_to(last, 4) == [first, (3, 6, 21, 30), (6, 3, 22, 30), last]
    assert first.moving_to(last, 1) == [first]


def test_crops_that_do_not_fit():
    with pytest.raises(ValueError, match="24 pixels.*20x40"):
        Crop.square_at(20, 40, 24, 1)
    with pytest.raises(ValueError, match="24 pixels.*20x40"):
        Crop.random_square(20, 40, 24, generator())
    with pytest.raises(ValueError, match="position 3"):
        Crop.square_at(20, 40, 16, 3)
