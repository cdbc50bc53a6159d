"""X3D: one pathway of depthwise 3-D convolutions. Shapes: a clip is (B, 3, T, H, W)."""

from collections.abc import Callable

import torch
from torch import nn

from slowfast.layers.conv import Conv3d
from slowfast.models.heads import Classifier, build_activation
from slowfast.models.resnet import ResNet

Norm = Callable[[int], nn.Module]


class X3DStem(nn.Module):
    """1 x 3 x 3 convolution of stride 1 x 2 x 2, depthwise k x 1 x 1 convolution, norm, ReLU.

    Args:
        dim_in, dim_out: channels.
        temporal_kernel: frames k, odd.
        norm: constructor `norm(channels)`.
    """

    def __init__(self, dim_in: int, dim_out: int, temporal_kernel: int, norm: Norm, inplace: bool = True):
        super().__init__()
        k = temporal_kernel
        self.conv_xy = Conv3d(dim_in, dim_out, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.conv = Conv3d(dim_out, dim_out, (k, 1, 1), padding=(k // 2, 0, 0), groups=dim_out, bias=False)
        self.bn = norm(dim_out)
        self.relu = nn.ReLU(inplace)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.bn(self.conv(self.conv_xy(x))))


class X3DHead(Classifier):
    """1 x 1 x 1 convolution, norm and ReLU, pooling, a wide 1 x 1 x 1 convolution and ReLU, and a linear map.

    What lies behind the pooling is applied at every position that it leaves. Train mode gives logits (mean over
    positions); eval mode applies the activation at every position, then averages.

    Args:
        dim_in: channels C of the features.
        dim_inner, dim_out: channels in front of and behind the wide convolution.
        num_classes: outputs.
        pool: (B, dim_inner, T, H, W) -> (B, dim_inner, T', H', W').
        norm: constructor `norm(channels)`.
        norm_out: a norm behind the wide convolution too.
        dropout: rate in front of the linear map.
        activation: "softmax", "sigmoid" or "none" (`MODEL.HEAD_ACT`).

    Raises:
        ValueError: unknown activation.
    """

    def __init__(
        self,
        dim_in: int,
        dim_inner: int,
        dim_out: int,
        num_classes: int,
        pool: nn.Module,
        norm: Norm,
        norm_out: bool = False,
        dropout: float = 0.0,
        activation: str = "softmax",
        init_std: float = 0.01,
        inplace: bool = True,
    ):
        super().__init__()
        self.num_features = dim_in
        self.init_std = init_std
        self.conv_5 = Conv3d(dim_in, dim_inner, 1, bias=False)
        self.conv_5_bn = norm(dim_inner)
        self.conv_5_relu = nn.ReLU(inplace)
        self.pool = pool
        self.lin_5 = Conv3d(dim_inner, dim_out, 1, bias=False)
        self.lin_5_bn = norm(dim_out) if norm_out else nn.Identity()
        self.lin_5_relu = nn.ReLU(inplace)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(dim_out, num_classes)
        self.act = build_activation(activation)

    def forward(self, x: list[torch.Tensor]) -> torch.Tensor:
        """Scores (B, num_classes) of a list with the one pathway's features."""
        scores = self.projection(self.dropout(self.widened(x).permute(0, 2, 3, 4, 1)))
        if not self.training:
            scores = self.act(scores)
        return scores.mean(dim=(1, 2, 3))

    def widened(self, x: list[torch.Tensor], *pooled_at: torch.Tensor) -> torch.Tensor:
        """What the classifier reads of a list with the one pathway's features; `pooled_at` goes to the pooling."""
        (features,) = x
        pooled = self.pool(self.conv_5_relu(self.conv_5_bn(self.conv_5(features))), *pooled_at)
        return self.lin_5_relu(self.lin_5_bn(self.lin_5(pooled)))


class X3D(ResNet):
    """Stem, four stages of `X3DTransform` blocks and `X3DHead`.

    ("X3D: Expanding Architectures for Efficient Video Recognition", table 1.)
    """
