"""Stems: the first convolution of every pathway. Shapes: x is (B, C, T, H, W)."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from slowfast.layers.conv import Conv3d


class ResNetStem(nn.Module):
    """k x 7 x 7 convolution of stride 1 x 2 x 2, norm, ReLU, 1 x 3 x 3 max pooling of stride 1 x 2 x 2.

    Args:
        dim_in, dim_out: channels.
        temporal_kernel: frames k, odd.
        norm: constructor `norm(channels)`.
        pool_pad: one pixel of padding at the max pooling (published); without, as some converted checkpoints need.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        temporal_kernel: int,
        norm: Callable[[int], nn.Module],
        pool_pad: bool = True,
        inplace: bool = True,
    ):
        super().__init__()
        k = temporal_kernel
        self.conv = Conv3d(dim_in, dim_out, (k, 7, 7), stride=(1, 2, 2), padding=(k // 2, 3, 3), bias=False)
        self.bn = norm(dim_out)
        self.relu = nn.ReLU(inplace)
        pad = 1 if pool_pad else 0
        self.pool_layer = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, pad, pad))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool_layer(self.relu(self.bn(self.conv(x))))


class PathwayStems(nn.Module):
    """One stem a pathway, named `pathway{i}_stem`; a list of clips in, a list of features out."""

    def __init__(self, stems: Sequence[nn.Module]):
        super().__init__()
        self.num_pathways = len(stems)
        for i, stem in enumerate(stems):
            self.add_module(f"pathway{i}_stem", stem)

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        if len(x) != self.num_pathways:
            raise ValueError(f"the model has {self.num_pathways} pathway(s) but got a list of {len(x)} input(s)")
        return [getattr(self, f"pathway{i}_stem")(x[i]) for i in range(self.num_pathways)]
