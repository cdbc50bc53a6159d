"""HOG against scikit-image and against counts that are known by hand."""

import numpy as np
import pytest
import torch
from skimage.feature import hog

from slowfast.layers.hog import Hog


def test_equals_scikit_image_where_the_gradients_are_the_same():
    # Of a sum of a function of x and one of y, Sobel gradients are 4 times central differences, also at the border.
    # Directions count from the y axis here and from the x axis there, so the image is transposed there.
    # Of whole numbers every sum is exact, in whatever order a processor adds: none leaves the edge of a bin.
    generator = np.random.default_rng(0)
    image = generator.integers(0, 100, (32, 1)) + generator.integers(0, 100, (1, 48)).astype(float)
    expected = hog(image.T, 9, (8, 8), (1, 1), "L2", feature_vector=False)[:, :, 0, 0]
    (found,) = Hog(channels=1)(torch.from_numpy(image)[None, None].float())[0]
    np.testing.assert_allclose(found, expected.transpose(2, 1, 0), atol=1e-5)


def test_an_edge_is_of_one_direction_whatever_its_sign():
    image = torch.zeros(1, 3, 8, 16)
    image[:, 0, :, 4:] = 1.0  # an edge across x: direction pi / 2 of pi, bin 4 of 9
    image[:, 1, 4:] = -2.0  # an edge across y, downward: bin 0
    cells = Hog()(image)[0]  # (3, 9, 1, 2)
    expected = torch.zeros(3, 9, 1, 2)
    expected[0, 4, 0, 0] = 1.0  # the second cell has no gradient
    expected[1, 0] = 1.0
    torch.testing.assert_close(cells, expected)


def test_sizes_that_cells_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="do not divide 16 x 20"):
        Hog()(torch.zeros(1, 3, 16, 20))


def test_mixed_precision_changes_nothing():
    image = torch.randn(1, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Hog()(image), Hog()(image.float()))
        assert Hog()(image).dtype == torch.float32
