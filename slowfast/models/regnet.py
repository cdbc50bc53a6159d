"""RegNet3D: RegNetX over clips. Shapes: a clip is (B, C, T, H, W)."""

from dataclasses import dataclass

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.conv import Conv3d
from slowfast.models.blocks import Norm, ResStage
from slowfast.models.build import MODEL_REGISTRY, build_head, build_pathway, init_weights, model_norm
from slowfast.models.resnet import PathwayStems, ResNet


@dataclass(frozen=True)
class _RegNetSize:
    """Sizes of a RegNetX.

    Attributes:
        depths: blocks of stages 2 to 5.
        widths: channels of stages 2 to 5.
        group_width: channels of a group of the 1 x 3 x 3 convolutions.
    """

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    group_width: int


# RegNetX by its multiply-adds over one image of 224 pixels ("Designing Network Design Spaces", arXiv 2003.13678).
SIZES = {
    "400M": _RegNetSize((1, 2, 7, 12), (32, 64, 160, 384), 16),
    "4.0G": _RegNetSize((2, 5, 14, 2), (80, 240, 560, 1360), 40),
}
_STEM_WIDTH = 32
# Temporal kernels of stages 2 to 5, of the first convolution of each block.
_TEMPORAL_KERNELS = (1, 1, 3, 3)


class RegNetStem(nn.Module):
    """Stem: 1 x 3 x 3 convolution of stride 1 x 2 x 2, norm, ReLU.

    Args:
        dim_in, dim_out: channels.
        norm: constructor `norm(channels)`.
    """

    def __init__(self, dim_in: int, dim_out: int, norm: Norm, inplace: bool = True):
        super().__init__()
        self.in_channels = dim_in
        self.conv = Conv3d(dim_in, dim_out, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.bn = norm(dim_out)
        self.relu = nn.ReLU(inplace)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.bn(self.conv(x)))


class RegNet(ResNet):
    """RegNet3D: stem, four stages of grouped bottlenecks of ratio 1, each halving height and width, and a head.

    Stages, widths and temporal kernels are the published ones. The published code is not available, so parameters have
    the names of `ResNet`.
    """


@MODEL_REGISTRY.register("RegNet")
def build_regnet(cfg: CfgNode) -> RegNet:
    """Build RegNet3D from REGNET.DEPTH, and from RESNET.* without its depth, width, groups and temporal kernels."""
    size = SIZES[cfg.REGNET.DEPTH.removesuffix("F")]
    stem = RegNetStem(cfg.DATA.INPUT_CHANNEL_NUM[0], _STEM_WIDTH, model_norm(cfg), cfg.RESNET.INPLACE_RELU)
    stages = [_stage(cfg, size, stage) for stage in range(4)]
    pool = [(1, 1, 1)]
    model = RegNet(PathwayStems([stem]), stages, build_head(cfg, [size.widths[-1]], pool), pool)
    return init_weights(model, cfg.MODEL.FC_INIT_STD)


def _stage(cfg: CfgNode, size: _RegNetSize, stage: int) -> ResStage:
    """Build a stage; 0 is s2."""
    width = size.widths[stage]
    pathway = build_pathway(
        cfg,
        stage,
        width // size.group_width,
        dim_in=size.widths[stage - 1] if stage else _STEM_WIDTH,
        dim_out=width,
        dim_inner=width,
        temporal_kernels=[_TEMPORAL_KERNELS[stage]] * size.depths[stage],
        stride=2,
    )
    return ResStage([pathway])
