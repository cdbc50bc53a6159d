"""RegNet3D: RegNetX over clips. Shapes: a clip is (B, 3, T, H, W)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from slowfast.layers.conv import Conv3d
from slowfast.models.resnet import ResNet


@dataclass(frozen=True)
class RegNetSize:
    """A member of the family.

    Args:
        depths: blocks of stages 2 to 5.
        widths: their channels.
        group_width: channels of a group of the 1 x 3 x 3 convolutions.
    """

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    group_width: int


# RegNetX by its multiply-adds over one picture of 224 pixels. ("Designing Network Design Spaces".)
SIZES = {
    "400M": RegNetSize((1, 2, 7, 12), (32, 64, 160, 384), 16),
    "4.0G": RegNetSize((2, 5, 14, 2), (80, 240, 560, 1360), 40),
}
STEM_WIDTH = 32
# Temporal kernels of stages 2 to 5, of the first convolution of each block.
TEMPORAL_KERNELS = (1, 1, 3, 3)


class RegNetStem(nn.Module):
    """1 x 3 x 3 convolution of stride 1 x 2 x 2, norm, ReLU.

    Args:
        dim_in, dim_out: channels.
        norm: constructor `norm(channels)`.
    """

    def __init__(self, dim_in: int, dim_out: int, norm: Callable[[int], nn.Module], inplace: bool = True):
        super().__init__()
        self.conv = Conv3d(dim_in, dim_out, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.bn = norm(dim_out)
        self.relu = nn.ReLU(inplace)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.bn(self.conv(x)))


class RegNet(ResNet):
    """Stem, four stages of grouped bottlenecks of ratio 1 and a classification head.

    Every stage halves height and width. The published code is not in hand: stages, widths and temporal kernels are the
    stated ones, the names of parameters those of `ResNet`.
    """
