"""Dropped branches: whole samples, the right share of them, in training only."""

import pytest
import torch

from slowfast.layers.mlp import DropPath


@pytest.mark.parametrize("shape", [(4000, 3, 2, 1, 1), (4000, 5, 2)])
def test_whole_samples_are_dropped_and_the_others_scaled(shape):
    torch.manual_seed(0)
    x = torch.rand(shape) + 1
    y = DropPath(0.25)(x)
    factors = (y / x).flatten(1)
    kept = factors[:, 0] > 0
    torch.testing.assert_close(factors[kept], torch.full_like(factors[kept], 1 / 0.75))
    assert not factors[~kept].any()
    assert 0.22 < float((~kept).float().mean()) < 0.28


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero():
    x = torch.rand(8, 3, 2, 2, 2)
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0)(x) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_share_that_leaves_nothing_is_refused(rate):
    with pytest.raises(ValueError, match=f"drop rate is {rate}"):
        DropPath(rate)


def test_gradients_flow_through_kept_samples_alone():
    torch.manual_seed(0)
    x = torch.rand(16, 2, 1, 1, 1, requires_grad=True)
    y = DropPath(0.5)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y > 0).float() * 2)
