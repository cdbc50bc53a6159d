"""Squeeze-excitation against sums written out, and widths against published ones."""

import pytest
import torch

from slowfast.layers.squeeze_excitation import SqueezeExcitation, round_channels


def test_gates_are_two_maps_of_the_channel_means():
    torch.manual_seed(0)
    layer = SqueezeExcitation(48).double()
    x = torch.randn(2, 48, 3, 4, 5, dtype=torch.float64)
    y = layer(x)
    for b in range(2):
        means = x[b].flatten(1).sum(dim=1) / 60
        hidden = (layer.fc1.weight.flatten(1) @ means + layer.fc1.bias).clamp(min=0)
        gates = 1 / (1 + torch.exp(-(layer.fc2.weight.flatten(1) @ hidden + layer.fc2.bias)))
        for c in range(48):
            torch.testing.assert_close(y[b, c], gates[c] * x[b, c])


@pytest.mark.parametrize(
    ("channels", "rounded"),
    # X3D-XL's widths, its squeezed ones, and a number whose nearest multiple is over a tenth too small
    [(34.8, 32), (69.6, 72), (139.2, 136), (278.4, 280), (3.375, 8), (27, 32), (39.375, 40), (1, 8), (11.9, 16)],
)
def test_channels_are_multiples_of_eight(channels, rounded):
    assert round_channels(channels) == rounded
