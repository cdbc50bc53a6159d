"""ResNet over clips: C2D, I3D, Slow, with or without non-local blocks. Shapes: a clip is (B, 3, T, H, W)."""

from collections.abc import Callable, Sequence

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.config.resolve import STAGE_BLOCKS, stage_entry
from slowfast.layers.conv import Conv3d
from slowfast.models.base import VideoModel
from slowfast.models.blocks import ResStage, residual_pathway
from slowfast.models.heads import apply_head
from slowfast.models.parts import build_head, initialized, model_norm, residual_options
from slowfast.models.registry import MODEL_REGISTRY

# Temporal kernels of the stem and of stages 2 to 5, a pathway; a list is repeated over a stage's blocks.
_FLAT = (((1,),), ((1,),), ((1,),), ((1,),), ((1,),))
_INFLATED = (((5,),), ((3,),), ((3, 1),), ((3, 1),), ((1, 3),))
_SLOW = (((1,),), ((1,),), ((1,),), ((3,),), ((3,),))
_SLOWFAST = (((1,), (5,)), ((1,), (3,)), ((1,), (3,)), ((3,), (3,)), ((3,), (3,)))

TEMPORAL_KERNELS = {
    "2d": _FLAT,
    "c2d": _FLAT,
    "c2d_nopool": _FLAT,
    "slow_c2d": _FLAT,
    "i3d": _INFLATED,
    "i3d_nopool": _INFLATED,
    "slow_i3d": _INFLATED,
    "slow": _SLOW,
    "slowfast": _SLOWFAST,
}


def archs_of(num_pathways: int) -> tuple[str, ...]:
    """Return the values of MODEL.ARCH for a ResNet of so many pathways."""
    return tuple(arch for arch, kernels in TEMPORAL_KERNELS.items() if len(kernels[0]) == num_pathways)


# Temporal max pooling after stage 2, where there is any.
TEMPORAL_POOL = {"c2d": 2, "i3d": 2}


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
        return [stem(clip) for (stem,), clip in zip(self.pathways(), x, strict=True)]

    def pathways(self) -> list[list[nn.Module]]:
        """Return the modules of each pathway."""
        return [[self.get_submodule(f"pathway{i}_stem")] for i in range(self.num_pathways)]


class ResNet(VideoModel):
    """Stem, four residual stages and a head over a list of pathways, one for C2D, I3D and Slow.

    ("Non-local Neural Networks", table 1; "SlowFast Networks", table 1.)

    Args:
        stem: list of clips -> list of features.
        stages: four modules, list of features -> list of features (`s2` to `s5`).
        head: list of features -> scores (B, classes); for boxes see `slowfast.models.heads`.
        pool: (T, H, W) max pooling after the first stage, a pathway; all ones is none.
    """

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], head: nn.Module, pool: Sequence[Sequence[int]]):
        super().__init__()
        self.s1 = stem
        self.s2, self.s3, self.s4, self.s5 = stages
        for i, size in enumerate(pool):
            size = tuple(size)
            layer = nn.Identity() if size == (1, 1, 1) else nn.MaxPool3d(size, stride=size)
            self.add_module(f"pathway{i}_pool", layer)
        self.head = head
        self.num_pathways, self.num_features, self.takes_boxes = len(pool), head.num_features, head.takes_boxes
        self.in_channels = [_input_channels(layer) for (layer,) in stem.pathways()]

    def pathways(self) -> list[list[nn.Module]]:
        """Return the modules of each pathway: stem, stages, pooling between them, and its part of the head."""
        parts = [part.pathways() for part in (self.s1, self.s2, self.s3, self.s4, self.s5, self.head)]
        pools = [[self.get_submodule(f"pathway{i}_pool")] for i in range(self.num_pathways)]
        return [[module for part in parts for module in part[i]] + pools[i] for i in range(self.num_pathways)]

    def depth_groups(self) -> list[list[nn.Module]]:
        """The layers by depth: stem, residual blocks, head; what follows a block is of the block's depth."""
        groups = [[self.s1]]
        for stage in (self.s2, self.s3, self.s4, self.s5):
            groups += stage.depth_groups()
        return [*groups, [self.head]]

    def _pool(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self.get_submodule(f"pathway{i}_pool")(features) for i, features in enumerate(x)]

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Features (B, C, T', H', W') of every pathway in front of the head."""
        x = self.s2(self.s1(inputs))
        return self.s5(self.s4(self.s3(self._pool(x))))

    def forward(self, inputs: list[torch.Tensor], boxes: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (B, classes): logits in train mode, activated and averaged over positions in eval mode. Of boxes (N,
        classes), activated in both.

        Args:
            inputs: one clip (B, 3, T, H, W) a pathway.
            boxes: for a head that scores boxes, (N, 5): index in the batch, x1, y1, x2, y2 in pixels of the clip.

        Raises:
            ValueError: boxes without such a head, or such a head without.
        """
        return apply_head(self.head, self.forward_features(inputs), boxes)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a fresh classifier with `num_classes` outputs in place of the old one."""
        self.head.reset_classifier(num_classes)


def _input_channels(stem: nn.Module) -> int:
    return next(layer.in_channels for layer in stem.modules() if isinstance(layer, nn.Conv3d))


@MODEL_REGISTRY.register("ResNet", archs=archs_of(1))
def build_resnet(cfg: CfgNode) -> ResNet:
    """C2D, I3D or Slow by MODEL.ARCH, RESNET.* and NONLOCAL.*."""
    return initialized(ResNet(*resnet_parts(cfg, [cfg.RESNET.WIDTH_PER_GROUP], fused_channels=0)), cfg)


def resnet_parts(
    cfg: CfgNode, widths: list[int], fused_channels: int
) -> tuple[nn.Module, list[nn.Module], nn.Module, list]:
    """Stem, stages, head and pool sizes for pathways of these widths.

    `fused_channels` is what the first lateral connection adds to the slow pathway's channels; it grows with the width.
    """
    arch = cfg.MODEL.ARCH
    kernels = TEMPORAL_KERNELS[arch]
    stem = _stem(cfg, widths, kernels[0])
    stages, scale_in = [], 1
    for stage, blocks in enumerate(STAGE_BLOCKS[cfg.RESNET.DEPTH]):
        extra = fused_channels * scale_in
        stages.append(_stage(cfg, stage, blocks, widths, scale_in, extra, kernels[stage + 1]))
        scale_in = 4 * 2**stage
    pool = [(TEMPORAL_POOL.get(arch, 1), 1, 1)] * len(widths)
    return stem, stages, build_head(cfg, [32 * width for width in widths], pool), pool


def _stem(cfg: CfgNode, widths: list[int], kernels: tuple) -> nn.Module:
    norm = model_norm(cfg)
    return PathwayStems(
        [
            ResNetStem(dim_in, width, kernel[0], norm, cfg.RESNET.STEM_POOL_PAD, cfg.RESNET.INPLACE_RELU)
            for dim_in, width, kernel in zip(cfg.DATA.INPUT_CHANNEL_NUM, widths, kernels, strict=True)
        ]
    )


def _stage(
    cfg: CfgNode, stage: int, blocks: int, widths: list[int], scale_in: int, extra: int, kernels: tuple
) -> ResStage:
    """Stage number `stage` (0 is s2) of every pathway; `extra` channels of the first come from a lateral connection."""
    options, pathways = cfg.RESNET, []
    for i, width in enumerate(widths):
        pathways.append(
            residual_pathway(
                dim_in=width * scale_in + (extra if i == 0 else 0),
                dim_out=width * 4 * 2**stage,
                dim_inner=options.NUM_GROUPS * width * 2**stage,
                num_blocks=blocks,
                temporal_kernels=kernels[i],
                num_block_temp_kernel=stage_entry(options.NUM_BLOCK_TEMP_KERNEL, stage, i),
                stride=stage_entry(options.SPATIAL_STRIDES, stage, i),
                groups=options.NUM_GROUPS,
                **residual_options(cfg, stage, i),
            )
        )
    return ResStage(pathways)
