"""The non-local block against a loop over positions."""

import pytest
import torch

from slowfast.layers.nonlocal_ import NonLocal


@pytest.mark.parametrize("instantiation", ["softmax", "dot_product"])
@pytest.mark.parametrize("pool_size", [None, (1, 2, 2)])
def test_equals_a_loop_over_positions(instantiation, pool_size):
    torch.manual_seed(0)
    block = NonLocal(6, 3, pool_size, instantiation).double().eval()
    torch.nn.init.normal_(block.bn.weight)
    x = torch.randn(2, 6, 2, 4, 4, dtype=torch.float64)
    context = torch.nn.functional.max_pool3d(x, pool_size) if pool_size else x
    theta, phi, g = block.conv_theta(x), block.conv_phi(context), block.conv_g(context)
    y = torch.zeros(2, 3, 2, 4, 4, dtype=torch.float64)
    for b in range(2):
        keys, values = phi[b].flatten(1), g[b].flatten(1)
        for t in range(2):
            for h in range(4):
                for w in range(4):
                    scores = theta[b, :, t, h, w] @ keys
                    weights = (scores / 3**0.5).softmax(0) if instantiation == "softmax" else scores / len(scores)
                    y[b, :, t, h, w] = values @ weights
    torch.testing.assert_close(block(x), x + block.bn(block.conv_out(y)))


def test_groups_of_frames_attend_apart():
    torch.manual_seed(0)
    block = NonLocal(4, 2, group=2).eval()
    torch.nn.init.normal_(block.bn.weight)
    x = torch.randn(1, 4, 4, 3, 3)
    whole = block(x)
    block.group = 1
    torch.testing.assert_close(whole, torch.cat([block(x[:, :, :2]), block(x[:, :, 2:])], dim=2))


def test_group_must_divide_the_frames():
    with pytest.raises(ValueError, match="3 groups do not divide the 4 frames"):
        NonLocal(4, 2, group=3)(torch.randn(1, 4, 4, 3, 3))
