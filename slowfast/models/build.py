"""From a configuration to a model: the one place of this package that reads it."""

from collections.abc import Callable

from fvcore.common.config import CfgNode
from torch import nn

from slowfast.config.resolve import STAGE_BLOCKS
from slowfast.layers.nonlocal_ import NonLocal
from slowfast.layers.norm import norm_layer
from slowfast.layers.pool import SpaceTimePool
from slowfast.models.architectures import TEMPORAL_KERNELS, TEMPORAL_POOL
from slowfast.models.blocks import TRANSFORMS, ResStage, residual_pathway
from slowfast.models.heads import ClassificationHead
from slowfast.models.init import init_weights
from slowfast.models.resnet import ResNet
from slowfast.models.slowfast import FuseFastToSlow, SlowFast
from slowfast.models.stem import PathwayStems, ResNetStem
from slowfast.utils.distributed import get_world_size, norm_group
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
    class scores in eval mode. With MODEL.ADAPTER set the project that set it says what the model takes and gives.

    Raises:
        ValueError: MODEL.MODEL_NAME or MODEL.ADAPTER is not registered, or a setting of the model is inconsistent.
    """
    if _norm_type(cfg) == "sync_batchnorm" and _is_alone(cfg):
        logger.info("BN.NORM_TYPE sync_batchnorm is built as batchnorm: one process has nobody to synchronise with")
    model = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME)(cfg)
    if cfg.MODEL.ADAPTER:
        model = MODEL_ADAPTERS.get(cfg.MODEL.ADAPTER)(model, cfg)
    return model


@MODEL_REGISTRY.register("ResNet")
def build_resnet(cfg: CfgNode) -> ResNet:
    """C2D, I3D or Slow by MODEL.ARCH, RESNET.* and NONLOCAL.*."""
    return _initialised(ResNet(*_parts(cfg, [cfg.RESNET.WIDTH_PER_GROUP], fused_channels=0)), cfg)


@MODEL_REGISTRY.register("SlowFast")
def build_slowfast(cfg: CfgNode) -> SlowFast:
    """SlowFast by SLOWFAST.*, RESNET.* and NONLOCAL.*."""
    options = cfg.SLOWFAST
    widths = [cfg.RESNET.WIDTH_PER_GROUP, cfg.RESNET.WIDTH_PER_GROUP // options.BETA_INV]
    ratio = options.FUSION_CONV_CHANNEL_RATIO
    norm = _norm(cfg) if options.FUSION_BN else None
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
    return _initialised(SlowFast(*_parts(cfg, widths, fused_channels=widths[1] * ratio), fusions), cfg)


def _initialised(model: nn.Module, cfg: CfgNode) -> nn.Module:
    init_weights(model, cfg.MODEL.FC_INIT_STD)
    return model


def build_norm(cfg: CfgNode, kind: str) -> Callable[[int], nn.Module]:
    """A constructor `norm(channels)` of the norm `kind`, a value of BN.NORM_TYPE, by the section BN.

    Raises:
        ValueError: an unknown kind, or sync_batchnorm over groups that do not fill the host.
    """
    if kind == "sync_batchnorm" and _is_alone(cfg):
        kind = "batchnorm"
    group = None
    if kind == "sync_batchnorm" and cfg.NUM_GPUS > 0:
        group = norm_group(cfg.BN.GLOBAL_SYNC, cfg.BN.NUM_SYNC_DEVICES)
    return norm_layer(kind, cfg.BN.EPSILON, cfg.BN.MOMENTUM, cfg.BN.NUM_SPLITS, group)


def _norm_type(cfg: CfgNode) -> str:
    return "frozen_batchnorm" if cfg.MODEL.FROZEN_BN else cfg.BN.NORM_TYPE


def _norm(cfg: CfgNode) -> Callable[[int], nn.Module]:
    return build_norm(cfg, _norm_type(cfg))


def _is_alone(cfg: CfgNode) -> bool:
    """Whether one GPU trains, or tests, alone."""
    return cfg.NUM_GPUS == 1 and max(get_world_size(), cfg.NUM_SHARDS) == 1


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
    return stem, stages, _head(cfg, [32 * width for width in widths], pool), pool


def _stem(cfg: CfgNode, widths: list[int], kernels: tuple) -> nn.Module:
    norm = _norm(cfg)
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
    options, norm = cfg.RESNET, _norm(cfg)
    if options.TRANS_FUNC not in TRANSFORMS:
        raise ValueError(f"RESNET.TRANS_FUNC is {options.TRANS_FUNC!r}; it must be one of {', '.join(TRANSFORMS)}")
    pathways = []
    for i, width in enumerate(widths):
        pathways.append(
            residual_pathway(
                TRANSFORMS[options.TRANS_FUNC],
                dim_in=width * scale_in + (extra if i == 0 else 0),
                dim_out=width * 4 * 2**stage,
                dim_inner=options.NUM_GROUPS * width * 2**stage,
                num_blocks=blocks,
                temporal_kernels=kernels[i],
                num_block_temp_kernel=_entry(options.NUM_BLOCK_TEMP_KERNEL, stage, i),
                stride=_entry(options.SPATIAL_STRIDES, stage, i),
                norm=norm,
                groups=options.NUM_GROUPS,
                dilation=_entry(options.SPATIAL_DILATIONS, stage, i),
                stride_1x1=options.STRIDE_1X1,
                zero_init_norm=options.ZERO_INIT_FINAL_BN,
                zero_init_conv=options.ZERO_INIT_FINAL_CONV,
                inplace=options.INPLACE_RELU,
                nonlocal_at=_entry(cfg.NONLOCAL.LOCATION, stage, i),
                make_nonlocal=_nonlocal_maker(cfg, stage, i),
            )
        )
    return ResStage(pathways)


def _nonlocal_maker(cfg: CfgNode, stage: int, pathway: int) -> Callable[[int], nn.Module]:
    options = cfg.NONLOCAL

    def make(dim: int) -> nn.Module:
        return NonLocal(
            dim,
            dim // 2,
            _entry(options.POOL, stage, pathway),
            options.INSTANTIATION,
            _norm(cfg) if options.USE_BN else None,
            _entry(options.GROUP, stage, pathway),
        )

    return make


def _entry(table: list, stage: int, pathway: int):
    """table[stage][pathway] of a checked setting, a list a stage of a list a pathway; one entry stands for all."""
    row = table[stage]
    return row[pathway] if pathway < len(row) else row[0]


def _head(cfg: CfgNode, dims: list[int], pool: list[tuple]) -> ClassificationHead:
    """The head whose pooling window is one training clip after the network's strides."""
    frames, crop = cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE
    rates = [cfg.SLOWFAST.ALPHA, 1] if len(dims) == 2 else [1]
    spatial, temporal = cfg.MODEL.FINAL_POOL
    pools = []
    for rate, size in zip(rates, pool, strict=True):
        # Where the clip's size changes by the iteration, everything is pooled.
        whole = cfg.MULTIGRID.SHORT_CYCLE
        window_t = None if whole or cfg.DATA.TRAIN_NUM_FRAMES else frames // rate // size[0]
        pools.append(SpaceTimePool(window_t, None if whole else crop // 32, spatial, temporal))
    return ClassificationHead(
        dims, cfg.MODEL.NUM_CLASSES, pools, cfg.MODEL.DROPOUT_RATE, cfg.MODEL.HEAD_ACT, cfg.MODEL.FC_INIT_STD
    )
