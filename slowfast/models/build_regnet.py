"""RegNet3D from a configuration."""

from fvcore.common.config import CfgNode

from slowfast.models.blocks import ResStage, residual_pathway
from slowfast.models.build import MODEL_REGISTRY
from slowfast.models.build_parts import build_head, initialised, model_norm, residual_options
from slowfast.models.regnet import SIZES, STEM_WIDTH, TEMPORAL_KERNELS, RegNet, RegNetSize, RegNetStem
from slowfast.models.stem import PathwayStems


@MODEL_REGISTRY.register("RegNet")
def build_regnet(cfg: CfgNode) -> RegNet:
    """RegNet3D by REGNET.DEPTH; of RESNET.* it reads what is not depth, width, groups or temporal kernels.

    Raises:
        ValueError: MODEL.ARCH is not r3d.
    """
    if cfg.MODEL.ARCH != "r3d":
        raise ValueError(f"MODEL.ARCH is {cfg.MODEL.ARCH!r}; MODEL.MODEL_NAME RegNet is built for r3d")
    size = SIZES[cfg.REGNET.DEPTH.removesuffix("F")]
    stem = RegNetStem(cfg.DATA.INPUT_CHANNEL_NUM[0], STEM_WIDTH, model_norm(cfg), cfg.RESNET.INPLACE_RELU)
    stages = [_stage(cfg, size, stage) for stage in range(4)]
    pool = [(1, 1, 1)]
    return initialised(RegNet(PathwayStems([stem]), stages, build_head(cfg, [size.widths[-1]], pool), pool), cfg)


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
