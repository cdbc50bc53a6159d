"""Boxes on the way into a clip: they stay around what they were drawn around."""

import numpy as np
import pytest

from slowfast.datasets.transforms import pixels as transforms
from slowfast.datasets.transforms.crops import Crop, has_area, size_by_short_side, transform_boxes


def painted(height, width, box):
    """Return a black frame in which the pixels of a box, in shares of the frame, are white."""
    frame = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = np.round(np.array(box) * (width, height, width, height)).astype(int)
    frame[y1 : y2 + 1, x1 : x2 + 1] = 255
    return frame[None]


def bounds(clip):
    rows, columns = np.nonzero(clip[0, 0].numpy() > 0.5)
    return [columns.min(), rows.min(), columns.max(), rows.max()]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("height", "width", "short"), [(120, 160, 90), (160, 120, 150), (120, 161, 120)])
@pytest.mark.parametrize("place", [(0, 0), (4, 9), (10, 0)])
def test_boxes_follow_their_pixels(height, width, short, place, flip):
    box = (0.3, 0.25, 0.6, 0.55)
    size = size_by_short_side(height, width, short)
    crop = Crop(*place, 80, 80)
    scaled = transforms.resize(painted(height, width, box), *size)
    clip = transforms.to_clip(crop.of(scaled), transforms.normalization([0.0], [1.0]), flip)
    (found,) = transform_boxes(np.array([box]), (height, width), size, crop, flip)
    # Boxes end on a pixel's number, pictures on its far side.
    assert found == pytest.approx(bounds(clip), abs=2)


def test_published_numbers():
    """By hand from the published steps: 100x200 to 50x100, crop at (10, 20) of 40, mirrored."""
    boxes = np.array([[0.25, 0.2, 0.5, 0.8], [0.0, 0.0, 1.0, 1.0], [0.9, 0.0, 0.95, 0.1]])
    found = transform_boxes(boxes, (100, 200), (50, 100), Crop(10, 20, 40, 40), True)
    # Pixels: (50, 20, 100, 80), (0, 0, 199, 99), (180, 0, 190, 10); halved, moved by (-20, -10), x = 39 - x, cut.
    assert found.tolist() == [[9, 0, 34, 30], [0, 0, 39, 39], [0, 0, 0, 0]]
    assert found.dtype == np.float32
    assert has_area(found).tolist() == [True, True, False]


def test_a_side_cut_to_whole_pixels_sets_the_factor_of_both():
    """256x340 to a short side of 224: 297 of 297.5 columns are left, and rows are scaled like columns."""
    (found,) = transform_boxes(np.array([[0.5, 0.5, 1, 1]]), (256, 340), (224, 297), Crop(0, 0, 224, 297))
    assert found == pytest.approx([148.5, 128 * 297 / 340, 296, 255 * 297 / 340], abs=1e-4)


def test_boxes_beyond_the_frame_are_cut():
    found = transform_boxes(np.array([[-0.5, -0.1, 1.2, 0.5]]), (10, 20), (10, 20), Crop(0, 0, 10, 20))
    assert found.tolist() == [[0, 0, 19, 5]]


def test_no_boxes():
    assert transform_boxes(np.zeros((0, 4)), (10, 20), (10, 20), Crop(0, 0, 8, 8), True).shape == (
        0,
        4,
    )
    assert has_area(np.zeros((0, 4))).shape == (0,)
