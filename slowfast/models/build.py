"""From a configuration to a model: the registries, and the builders of ResNet and SlowFast."""

from fvcore.common.config import CfgNode
from torch import nn

from slowfast.config.resolve import STAGE_BLOCKS, stage_entry
from slowfast.models.architectures import TEMPORAL_KERNELS, TEMPORAL_POOL
from slowfast.models.blocks import ResStage, residual_pathway
from slowfast.models.build_parts import (
    build_head,
    initialised,
    is_alone,
    model_norm,
    norm_type,
    residual_options,
)
from slowfast.models.resnet import ResNet
from slowfast.models.slowfast import FuseFastToSlow, SlowFast
from slowfast.models.stem import PathwayStems, ResNetStem
from slowfast.utils.logging import get_logger
from slowfast.utils.registry import Registry

logger = get_logger(__name__)

# Builders of clip models: builder(cfg) -> nn.Module.
MODEL_REGISTRY = Registry("MODEL.MODEL_NAME")

# What a project makes of a built clip model: adapter(model, cfg) -> nn.Module.
MODEL_ADAPTERS = Registry("MODEL.ADAPTER")


def build_model(cfg: CfgNode) -> nn.Module:
    """The model of a configuration, on the CPU, with fresh weights.

    `model(inputs)` takes one clip (B, 3, T, H, W) a pathway and gives (B, MODEL.NUM_CLASSES): logits in train mode,
    class scores in eval mode. With DETECTION.ENABLE `model(inputs, boxes)` takes boxes (N, 5) too, index in the batch,
    x1, y1, x2, y2 in pixels of the clip, and gives (N, MODEL.NUM_CLASSES), class scores in both modes. With
    MODEL.ADAPTER set the project that set it says what the model takes and gives.

    Raises:
        ValueError: MODEL.MODEL_NAME or MODEL.ADAPTER is not registered, or a setting of the model is inconsistent.
    """
    if norm_type(cfg) == "sync_batchnorm" and is_alone(cfg):
        logger.info("BN.NORM_TYPE sync_batchnorm is built as batchnorm: one process has nobody to synchronise with")
    model = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME)(cfg)
    if cfg.MODEL.ADAPTER:
        model = MODEL_ADAPTERS.get(cfg.MODEL.ADAPTER)(model, cfg)
    return model


@MODEL_REGISTRY.register("ResNet")
def build_resnet(cfg: CfgNode) -> ResNet:
    """C2D, I3D or Slow by MODEL.ARCH, RESNET.* and NONLOCAL.*."""
    return initialised(ResNet(*_parts(cfg, [cfg.RESNET.WIDTH_PER_GROUP], fused_channels=0)), cfg)


@MODEL_REGISTRY.register("SlowFast")
def build_slowfast(cfg: CfgNode) -> SlowFast:
    """SlowFast by SLOWFAST.*, RESNET.* and NONLOCAL.*."""
    options = cfg.SLOWFAST
    widths = [cfg.RESNET.WIDTH_PER_GROUP, cfg.RESNET.WIDTH_PER_GROUP // options.BETA_INV]
    ratio = options.FUSION_CONV_CHANNEL_RATIO
    norm = model_norm(cfg) if options.FUSION_BN else None
    fusions = [
        FuseFastToSlow(
            widths[1] * scale,
            ratio,
            options.FUSION_KERNEL_SZ,
            options.ALPHA,
            norm,
            options.FUSION_RELU,
            cfg.RESNET.INPLACE_RELU,
        )
        for scale in (1, 4, 8, 16)
    ]
    return initialised(SlowFast(*_parts(cfg, widths, fused_channels=widths[1] * ratio), fusions), cfg)


def _parts(cfg: CfgNode, widths: list[int], fused_channels: int) -> tuple[nn.Module, list[nn.Module], nn.Module, list]:
    """Stem, stages, head and pool sizes for pathways of these widths.

    `fused_channels` is what the first lateral connection adds to the slow pathway's channels; it grows with the width.
    """
    arch = cfg.MODEL.ARCH
    kernels = TEMPORAL_KERNELS.get(arch)
    if kernels is None or len(kernels[0]) != len(widths):
        fitting = sorted(name for name, table in TEMPORAL_KERNELS.items() if len(table[0]) == len(widths))
        raise ValueError(f"MODEL.ARCH is {arch!r}; {cfg.MODEL.MODEL_NAME} is built for {', '.join(fitting)}")
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
