"""RegNet3D: RegNetX over clips. Shapes: a clip is (B, 3, T, H, W).

RegNet3D from a configuration.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.conv import Conv3d
from slowfast.models.blocks import ResStage, residual_pathway
from slowfast.models.parts import build_head, initialized, model_norm, residual_options
from slowfast.models.registry import MODEL_REGISTRY
from slowfast.models.resnet import PathwayStems, ResNet


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


@MODEL_REGISTRY.register("RegNet")
def build_regnet(cfg: CfgNode) -> RegNet:
    """RegNet3D by REGNET.DEPTH; of RESNET.* it reads what is not depth, width, groups or temporal kernels."""
    size = SIZES[cfg.REGNET.DEPTH.removesuffix("F")]
    stem = RegNetStem(cfg.DATA.INPUT_CHANNEL_NUM[0], STEM_WIDTH, model_norm(cfg), cfg.RESNET.INPLACE_RELU)
    stages = [_stage(cfg, size, stage) for stage in range(4)]
    pool = [(1, 1, 1)]
    return initialized(RegNet(PathwayStems([stem]), stages, build_head(cfg, [size.widths[-1]], pool), pool), cfg)


def _stage(cfg: CfgNode, size: RegNetSize, stage: int) -> ResStage:
    """Stage number `stage` (0 is s2)."""
    width, depth = size.widths[stage], size.depths[stage]
    pathway = residual_pathway(
        dim_in=size.widths[stage - 1] if stage else STEM_WIDTH,
        dim_out=width,
        dim_inner=width,
        num_blocks=depth,
        temporal_kernels=[TEMPORAL_KERNELS[stage]],
        num_block_temp_kernel=depth,
        stride=2,
        groups=width // size.group_width,
        **residual_options(cfg, stage),
    )
    return ResStage([pathway])
