"""ResNet over clips: C2D, I3D, Slow, CSN, R(2+1)D, also with non-local blocks. Shapes: a clip is (B, 3, T, H, W)."""

from collections.abc import Sequence
from math import prod

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.config.resolve import STAGE_BLOCKS, stage_entry
from slowfast.layers.conv import Conv3d
from slowfast.models.base import VideoModel
from slowfast.models.blocks import Norm, ResStage
from slowfast.models.build import MODEL_REGISTRY, build_head, build_pathway, init_weights, model_norm
from slowfast.models.heads import Classifier, apply_head

# Temporal kernels of the stem and of stages 2 to 5, for each pathway; a list is repeated over the blocks of a stage.
_FLAT = (((1,),), ((1,),), ((1,),), ((1,),), ((1,),))
_INFLATED = (((5,),), ((3,),), ((3, 1),), ((3, 1),), ((1, 3),))
_SLOW = (((1,),), ((1,),), ((1,),), ((3,),), ((3,),))
_CSN = (((3,),), ((3,),), ((3,),), ((3,),), ((3,),))
_R2PLUS1D = (((1,),), ((3,),), ((3,),), ((3,),), ((3,),))
_SLOWFAST = (((1,), (5,)), ((1,), (3,)), ((1,), (3,)), ((3,), (3,)), ((3,), (3,)))

_TEMPORAL_KERNELS = {
    "2d": _FLAT,
    "c2d": _FLAT,
    "c2d_nopool": _FLAT,
    "slow_c2d": _FLAT,
    "i3d": _INFLATED,
    "i3d_nopool": _INFLATED,
    "slow_i3d": _INFLATED,
    "slow": _SLOW,
    "csn": _CSN,
    "r2plus1d": _R2PLUS1D,
    "slowfast": _SLOWFAST,
}


def archs_of(num_pathways: int) -> tuple[str, ...]:
    """Return the values of MODEL.ARCH for a ResNet of so many pathways."""
    return tuple(arch for arch, kernels in _TEMPORAL_KERNELS.items() if len(kernels[0]) == num_pathways)


# Temporal max pooling after stage 2, by MODEL.ARCH; 1 for the others.
_TEMPORAL_POOL = {"c2d": 2, "i3d": 2}
# Temporal strides of stages 2 to 5, by MODEL.ARCH; 1 for the others.
_TEMPORAL_STRIDES = {"csn": (1, 2, 2, 2), "r2plus1d": (1, 1, 2, 2)}
_WITHOUT_STEM_POOL = ("r2plus1d",)


class ResNetStem(nn.Module):
    """Stem: k x 7 x 7 convolution of stride 1 x 2 x 2, norm, ReLU, 1 x 3 x 3 max pooling of stride 1 x 2 x 2.

    Args:
        dim_in, dim_out: channels.
        temporal_kernel: frames k, odd.
        norm: constructor `norm(channels)`.
        pool_pad: pad the max pooling by one pixel, as published; some converted checkpoints need it without.
        pool: False for a stem without the max pooling.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        temporal_kernel: int,
        norm: Norm,
        pool_pad: bool = True,
        inplace: bool = True,
        pool: bool = True,
    ):
        super().__init__()
        k = temporal_kernel
        self.in_channels = dim_in
        self.conv = Conv3d(dim_in, dim_out, (k, 7, 7), stride=(1, 2, 2), padding=(k // 2, 3, 3), bias=False)
        self.bn = norm(dim_out)
        self.relu = nn.ReLU(inplace)
        pad = 1 if pool_pad else 0
        self.pool_layer = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, pad, pad)) if pool else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool_layer(self.relu(self.bn(self.conv(x))))


class PathwayStems(nn.Module):
    """Stem of each pathway, named `pathway{i}_stem`: a list of clips in, a list of features out.

    Args:
        stems: modules with the attribute `in_channels`.
    """

    def __init__(self, stems: Sequence[nn.Module]):
        super().__init__()
        self.num_pathways = len(stems)
        self.in_channels = [stem.in_channels for stem in stems]
        for i, stem in enumerate(stems):
            self.add_module(f"pathway{i}_stem", stem)

    def pathways(self) -> list[list[nn.Module]]:
        """Return the modules of each pathway."""
        return [[self.get_submodule(f"pathway{i}_stem")] for i in range(self.num_pathways)]

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        return [stem(clip) for (stem,), clip in zip(self.pathways(), x, strict=True)]


class ResNet(VideoModel):
    """C2D, I3D, Slow, CSN or R(2+1)D: stem, four residual stages and a head, over a list of pathways.

    Source: "Non-local Neural Networks" (arXiv 1711.07971), table 1; "SlowFast Networks" (arXiv 1812.03982), table 1.

    Args:
        stem: list of clips -> list of features.
        stages: four modules, list of features -> list of features (`s2` to `s5`).
        head: list of features -> scores (B, classes); for boxes see `slowfast.models.heads`.
        pool: (T, H, W) of the max pooling after the first stage, for each pathway; all ones for none.
    """

    def __init__(self, stem: PathwayStems, stages: Sequence[ResStage], head: Classifier, pool: Sequence[Sequence[int]]):
        super().__init__()
        self.s1 = stem
        self.s2, self.s3, self.s4, self.s5 = stages
        for i, size in enumerate(pool):
            size = tuple(size)
            layer = nn.Identity() if size == (1, 1, 1) else nn.MaxPool3d(size, stride=size)
            self.add_module(f"pathway{i}_pool", layer)
        self.head = head
        self.num_pathways, self.in_channels = len(pool), stem.in_channels
        self.min_size = (max(size[0] for size in pool), 1, 1)
        self.num_features, self.takes_boxes = head.num_features, head.takes_boxes

    def pathways(self) -> list[list[nn.Module]]:
        """Return the modules of each pathway: stem, blocks, pooling between them, pooling of the head."""
        parts = [part.pathways() for part in (self.s1, self.s2, self.s3, self.s4, self.s5, self.head)]
        return [
            [*(module for part in parts for module in part[i]), self.get_submodule(f"pathway{i}_pool")]
            for i in range(self.num_pathways)
        ]

    def depth_groups(self) -> list[list[nn.Module]]:
        """Return the layers by depth: stem, residual blocks, head; a block's group has what follows the block."""
        groups = [[self.s1]]
        for stage in (self.s2, self.s3, self.s4, self.s5):
            groups += stage.depth_groups()
        return [*groups, [self.head]]

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a fresh one with `num_classes` outputs."""
        self.head.reset_classifier(num_classes)

    def _pool(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self.get_submodule(f"pathway{i}_pool")(features) for i, features in enumerate(x)]

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the features (B, C, T', H', W') of each pathway in front of the head."""
        x = self.s2(self.s1(inputs))
        return self.s5(self.s4(self.s3(self._pool(x))))

    def forward(self, inputs: list[torch.Tensor], boxes: torch.Tensor | None = None) -> torch.Tensor:
        """Compute scores (B, classes) of clips or (N, classes) of boxes, as in `VideoModel`.

        Args:
            inputs: one clip (B, C, T, H, W) for each pathway.
            boxes: (N, 5), for a head that takes boxes.

        Raises:
            ValueError: boxes without such a head, or such a head without boxes.
        """
        return apply_head(self.head, self.forward_features(inputs), boxes)


@MODEL_REGISTRY.register("ResNet", archs=archs_of(1))
def build_resnet(cfg: CfgNode) -> ResNet:
    """Build C2D, I3D, Slow, CSN or R(2+1)D from MODEL.ARCH, RESNET.* and NONLOCAL.*."""
    model = ResNet(*resnet_parts(cfg, [cfg.RESNET.WIDTH_PER_GROUP], fused_channels=0))
    return init_weights(model, cfg.MODEL.FC_INIT_STD)


def resnet_parts(
    cfg: CfgNode, widths: list[int], fused_channels: int
) -> tuple[PathwayStems, list[ResStage], Classifier, list[tuple[int, int, int]]]:
    """Build stem, stages and head, and return them with the pool sizes.

    Args:
        widths: channels of the stem, for each pathway.
        fused_channels: channels that the first lateral connection adds to the slow pathway; they grow with the width.
    """
    arch = cfg.MODEL.ARCH
    kernels = _TEMPORAL_KERNELS[arch]
    stem = _stem(cfg, widths, kernels[0])
    stages, scale_in = [], 1
    for stage in range(4):
        stages.append(_stage(cfg, stage, widths, scale_in, fused_channels * scale_in, kernels[stage + 1]))
        scale_in = 4 * 2**stage
    pool = [(_TEMPORAL_POOL.get(arch, 1), 1, 1)] * len(widths)
    # The head's window is a clip after the pooling and all strides in time.
    window = [(size[0] * prod(_TEMPORAL_STRIDES.get(arch, ())), *size[1:]) for size in pool]
    return stem, stages, build_head(cfg, [32 * width for width in widths], window), pool


def _stem(cfg: CfgNode, widths: list[int], kernels: tuple) -> PathwayStems:
    norm = model_norm(cfg)
    return PathwayStems(
        [
            ResNetStem(
                dim_in,
                width,
                kernel[0],
                norm,
                cfg.RESNET.STEM_POOL_PAD,
                cfg.RESNET.INPLACE_RELU,
                cfg.MODEL.ARCH not in _WITHOUT_STEM_POOL,
            )
            for dim_in, width, kernel in zip(cfg.DATA.INPUT_CHANNEL_NUM, widths, kernels, strict=True)
        ]
    )


def _stage(cfg: CfgNode, stage: int, widths: list[int], scale_in: int, extra: int, kernels: tuple) -> ResStage:
    """Build a stage (0 is s2) of all pathways; a lateral connection adds `extra` channels to the first."""
    options, pathways = cfg.RESNET, []
    for i, width in enumerate(widths):
        temporal = stage_entry(options.NUM_BLOCK_TEMP_KERNEL, stage, i)
        depth = STAGE_BLOCKS[options.DEPTH][stage]
        pathways.append(
            build_pathway(
                cfg,
                stage,
                options.NUM_GROUPS,
                i,
                dim_in=width * scale_in + (extra if i == 0 else 0),
                dim_out=width * 4 * 2**stage,
                dim_inner=options.NUM_GROUPS * width * 2**stage,
                temporal_kernels=[kernels[i][n % len(kernels[i])] if n < temporal else 1 for n in range(depth)],
                stride=stage_entry(options.SPATIAL_STRIDES, stage, i),
                temporal_stride=_TEMPORAL_STRIDES.get(cfg.MODEL.ARCH, (1,) * 4)[stage],
            )
        )
    return ResStage(pathways)
