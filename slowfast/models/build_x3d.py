"""X3D from a configuration."""

import math

from fvcore.common.config import CfgNode

from slowfast.layers.se import round_channels
from slowfast.models.blocks import ResStage, residual_pathway
from slowfast.models.build import MODEL_REGISTRY
from slowfast.models.build_parts import head_pool, initialised, model_norm, residual_options
from slowfast.models.roi_head import X3DRoIHead
from slowfast.models.stem import PathwayStems
from slowfast.models.x3d import X3D, X3DHead, X3DStem

# Blocks of stages 2 to 5 at DEPTH_FACTOR 1, and temporal kernels of stem and blocks, frames.
_BLOCKS = (1, 2, 5, 3)
_STEM_KERNEL, _BLOCK_KERNEL = 5, 3


@MODEL_REGISTRY.register("X3D")
def build_x3d(cfg: CfgNode) -> X3D:
    """X3D by X3D.*, RESNET.* and NONLOCAL.*.

    Raises:
        ValueError: MODEL.ARCH is not x3d.
    """
    if cfg.MODEL.ARCH != "x3d":
        raise ValueError(f"MODEL.ARCH is {cfg.MODEL.ARCH!r}; MODEL.MODEL_NAME X3D is built for x3d")
    options, norm, inplace = cfg.X3D, model_norm(cfg), cfg.RESNET.INPLACE_RELU
    dim_stem = round_channels(options.DIM_C1 * options.WIDTH_FACTOR)
    stem = X3DStem(cfg.DATA.INPUT_CHANNEL_NUM[0], dim_stem, _STEM_KERNEL, norm, inplace)
    stages, dim_in = [], dim_stem
    for stage, dim_out in enumerate(_stage_widths(cfg)):
        dim_inner = int(options.BOTTLENECK_FACTOR * dim_out)
        stages.append(_stage(cfg, stage, dim_in, dim_out, dim_inner))
        dim_in = dim_out
    head = (X3DRoIHead if cfg.DETECTION.ENABLE else X3DHead)(
        dim_in,
        dim_inner,
        options.DIM_C5,
        cfg.MODEL.NUM_CLASSES,
        head_pool(cfg, cfg.DATA.NUM_FRAMES, math.ceil(cfg.DATA.TRAIN_CROP_SIZE / 32)),
        norm,
        options.BN_LIN5,
        cfg.MODEL.DROPOUT_RATE,
        cfg.MODEL.HEAD_ACT,
        cfg.MODEL.FC_INIT_STD,
        inplace,
    )
    return initialised(X3D(PathwayStems([stem]), stages, head, [(1, 1, 1)]), cfg)


def _stage_widths(cfg: CfgNode) -> list[int]:
    """Channels of stages 2 to 5: doubled, rounded, from stage to stage, then times WIDTH_FACTOR, rounded."""
    options = cfg.X3D
    widths = [round_channels(2 * options.DIM_C1) if options.SCALE_RES2 else options.DIM_C1]
    for _ in range(3):
        widths.append(round_channels(2 * widths[-1]))
    return [round_channels(width * options.WIDTH_FACTOR) for width in widths]


def _stage(cfg: CfgNode, stage: int, dim_in: int, dim_out: int, dim_inner: int) -> ResStage:
    """Stage number `stage` (0 is s2), which halves height and width."""
    if dim_inner < 1:
        raise ValueError(
            f"X3D.BOTTLENECK_FACTOR {cfg.X3D.BOTTLENECK_FACTOR} leaves no channel inside the blocks of stage "
            f"{stage + 2}, of {dim_out} channels; raise it"
        )
    blocks = math.ceil(_BLOCKS[stage] * cfg.X3D.DEPTH_FACTOR)
    groups = dim_inner if cfg.X3D.CHANNELWISE_3x3x3 else cfg.RESNET.NUM_GROUPS
    if dim_inner % groups:
        raise ValueError(
            f"RESNET.NUM_GROUPS {groups} does not divide the {dim_inner} channels inside the blocks of stage "
            f"{stage + 2} (X3D.CHANNELWISE_3x3x3 False); set a divisor, or CHANNELWISE_3x3x3 True"
        )
    pathway = residual_pathway(
        dim_in=dim_in,
        dim_out=dim_out,
        dim_inner=dim_inner,
        num_blocks=blocks,
        temporal_kernels=[_BLOCK_KERNEL],
        num_block_temp_kernel=blocks,
        stride=2,
        groups=groups,
        **residual_options(cfg, stage),
    )
    return ResStage([pathway])
