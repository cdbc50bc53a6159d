"""Squeeze and excitation. Shapes: x is (B, C, T, H, W)."""

import torch
from torch import nn

from slowfast.layers.conv import Conv3d


def round_channels(channels: float, divisor: int = 8, least: int | None = None) -> int:
    """The nearest multiple of `divisor`, not under 0.9 of `channels` nor under `least` (None: one `divisor`)."""
    rounded = max(divisor if least is None else least, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class SqueezeExcitation(nn.Module):
    """Scales every channel by a gate in (0, 1) that two 1 x 1 x 1 convolutions make of the channels' means over a clip.

    ("Squeeze-and-Excitation Networks", section 3.)

    Args:
        dim: channels C in and out.
        ratio: channels in between over C; rounded by `round_channels`.
    """

    def __init__(self, dim: int, ratio: float = 1 / 16):
        super().__init__()
        dim_inner = round_channels(dim * ratio)
        self.fc1 = Conv3d(dim, dim_inner, 1)
        self.fc2 = Conv3d(dim_inner, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.mean(dim=(2, 3, 4), keepdim=True)
        return x * self.fc2(self.fc1(means).relu()).sigmoid()
