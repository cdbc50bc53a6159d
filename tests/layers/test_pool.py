"""Head pooling against windows taken by hand."""

import pytest
import torch

from slowfast.layers.pool import SpaceTimePool


@pytest.mark.parametrize("spatial", ["avg", "max"])
@pytest.mark.parametrize("temporal", ["avg", "max"])
def test_pools_space_then_time(spatial, temporal):
    x = torch.randn(2, 3, 5, 4, 6)
    pooled = SpaceTimePool(3, 2, spatial, temporal)(x)
    assert pooled.shape == (2, 3, 3, 3, 5)
    window = x[:, :, 1:4, 2:4, 3:5]
    window = window.mean(dim=(3, 4)) if spatial == "avg" else window.amax(dim=(3, 4))
    window = window.mean(dim=2) if temporal == "avg" else window.amax(dim=2)
    torch.testing.assert_close(pooled[:, :, 1, 2, 3], window)


def test_none_pools_everything():
    x = torch.randn(2, 3, 5, 4, 6)
    torch.testing.assert_close(SpaceTimePool()(x).flatten(1), x.mean(dim=(2, 3, 4)))


def test_windows_larger_than_the_input_are_named():
    x = torch.randn(1, 1, 4, 2, 2)
    with pytest.raises(ValueError, match="pools 3x3 positions but the features have 2x2"):
        SpaceTimePool(4, 3)(x)
    with pytest.raises(ValueError, match="pools 8 frames but the features have 4"):
        SpaceTimePool(8, 2)(x)
    with pytest.raises(ValueError, match="spatial is 'mean'.*avg, max"):
        SpaceTimePool(4, 2, "mean")
