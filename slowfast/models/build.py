"""Build models, and the parts that several families share, from a configuration."""

from collections.abc import Callable
from functools import partial
from typing import Any

from fvcore.common.config import CfgNode
from torch import nn

from slowfast.config.resolve import num_pathways, stage_entry
from slowfast.layers.conv import Conv3d
from slowfast.layers.nonlocal_ import INSTANTIATIONS, NonLocal
from slowfast.layers.norm import (
    BatchNorm,
    BatchNorm3d,
    FreezableBatchNorm,
    FrozenBatchNorm3d,
    SubBatchNorm3d,
    SyncBatchNorm,
)
from slowfast.layers.pool import KINDS, SpaceTimePool
from slowfast.models.base import VideoModel
from slowfast.models.blocks import TRANSFORMS, BranchOptions, residual_pathway
from slowfast.models.heads import ClassificationHead, RoIHead, RoIPool
from slowfast.runtime.device import find_device
from slowfast.runtime.distributed import get_world_size, norm_group
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import naming_keys
from slowfast.utils.registry import CHOICES, Registry

logger = get_logger(__name__)

# Builders of clip models: builder(cfg) -> VideoModel. `num_pathways` is the number of clips that the model takes (0:
# that of MODEL.ARCH), `archs` the values of MODEL.ARCH that the builder reads, () if it does not read the key, `task`
# the name of the task that trains it if that is not the one for class scores.
MODEL_REGISTRY = Registry(
    "MODEL.MODEL_NAME", facts={"num_pathways": 1, "archs": (), "task": ""}, unnamed={"num_pathways": 0}
)

# Adapters that a project applies to a built model: adapter(model, cfg) -> nn.Module.
MODEL_ADAPTERS = Registry("MODEL.ADAPTER", several=True)

# Norm layers: builder(cfg) -> constructor `norm(channels)`.
NORMS = Registry("BN.NORM_TYPE")

CHOICES["NONLOCAL.INSTANTIATION"] = INSTANTIATIONS
CHOICES["MODEL.FINAL_POOL"] = KINDS


def build_model(cfg: CfgNode, gpu_id: int | None = None) -> nn.Module:
    """Build the model of a configuration, with fresh weights.

    See `VideoModel` for what it takes and returns. With MODEL.ADAPTER set, the project decides that. A registered class
    that derives from `nn.Module` alone, as PySlowFast's users write it, becomes a `VideoModel` with the same weights.

    Args:
        gpu_id: GPU to move the model to; None for the CPU.

    Raises:
        ValueError: MODEL.MODEL_NAME or MODEL.ADAPTER is not registered, the builder returns no `VideoModel`, or a
            setting of the model is inconsistent.
    """
    if _norm_type(cfg) == "sync_batchnorm" and _single_process(cfg):
        logger.info("BN.NORM_TYPE sync_batchnorm is built as batchnorm: a single process has no peers")
    builder = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME)
    if isinstance(builder, type) and issubclass(builder, nn.Module) and not issubclass(builder, VideoModel):
        builder = _as_video_model(builder, num_pathways(cfg))
    model = builder(cfg)
    if not isinstance(model, VideoModel):
        raise ValueError(
            f"MODEL.MODEL_NAME {cfg.MODEL.MODEL_NAME!r} builds a {type(model).__name__}; derive that from "
            "slowfast.models.VideoModel"
        )
    for name in MODEL_ADAPTERS.names(cfg.MODEL.ADAPTER):
        model = MODEL_ADAPTERS.get(name)(model, cfg)
    return model if gpu_id is None else model.to(find_device(gpu_id))


def _as_video_model(plain: type[nn.Module], pathways: int) -> type[VideoModel]:
    """Return a subclass of a class of PySlowFast's kind, `class(cfg)` with `forward(inputs)`, that is a `VideoModel`.

    Names of weights are its own. What single features need beyond a forward is missing, and named where it is asked.
    """
    return type(plain.__name__, (plain, VideoModel), {"num_pathways": pathways, "__module__": plain.__module__})


def build_norm(cfg: CfgNode, kind: str) -> Callable[[int], nn.Module]:
    """Return a constructor `norm(channels)` by the section BN.

    Args:
        kind: a value of BN.NORM_TYPE.

    Raises:
        ValueError: the kind is unknown, or the groups of sync_batchnorm do not divide a machine's processes.
    """
    return NORMS.get(kind)(cfg)


@NORMS.register("batchnorm")
def _batchnorm(cfg: CfgNode) -> Callable[[int], nn.Module]:
    return partial(BatchNorm3d, eps=cfg.BN.EPSILON, momentum=cfg.BN.MOMENTUM)


@NORMS.register("none")
def _no_norm(cfg: CfgNode) -> Callable[[int], nn.Module]:
    return lambda channels: nn.Identity()


@NORMS.register("frozen_batchnorm")
def _frozen_batchnorm(cfg: CfgNode) -> Callable[[int], nn.Module]:
    return partial(FrozenBatchNorm3d, eps=cfg.BN.EPSILON)


@NORMS.register("sub_batchnorm")
def _sub_batchnorm(cfg: CfgNode) -> Callable[[int], nn.Module]:
    return partial(SubBatchNorm3d, num_splits=cfg.BN.NUM_SPLITS, eps=cfg.BN.EPSILON, momentum=cfg.BN.MOMENTUM)


@NORMS.register("sync_batchnorm")
def _sync_batchnorm(cfg: CfgNode) -> Callable[[int], nn.Module]:
    """Return PyTorch's norm, which trains on GPUs only; a single process needs none."""
    if _single_process(cfg):
        return _batchnorm(cfg)
    with naming_keys(cfg, "BN.NUM_SYNC_DEVICES"):
        group = norm_group(cfg.BN.GLOBAL_SYNC, cfg.BN.NUM_SYNC_DEVICES) if cfg.NUM_GPUS > 0 else None
    return partial(SyncBatchNorm, eps=cfg.BN.EPSILON, momentum=cfg.BN.MOMENTUM, process_group=group)


def mlp_norm(cfg: CfgNode, synchronized: bool) -> Callable[[int], nn.Module]:
    """Return a constructor `norm(channels)` of batch norms of (N, C); a single process never synchronizes them."""
    if synchronized and not _single_process(cfg):
        return build_norm(cfg, "sync_batchnorm")
    return partial(nn.BatchNorm1d, eps=cfg.BN.EPSILON, momentum=cfg.BN.MOMENTUM)


def _norm_type(cfg: CfgNode) -> str:
    """Return the value of BN.NORM_TYPE that holds for all layers."""
    return "frozen_batchnorm" if cfg.MODEL.FROZEN_BN else cfg.BN.NORM_TYPE


def model_norm(cfg: CfgNode) -> Callable[[int], nn.Module]:
    """Return a constructor `norm(channels)` for all layers; see `build_norm`."""
    return build_norm(cfg, _norm_type(cfg))


def position_embedding_size(cfg: CfgNode) -> tuple[int, int]:
    """Return the frames and pixels of clips that position embeddings are built for."""
    return tuple(cfg.MODEL.POSITIONS_FOR or (cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE))


def _single_process(cfg: CfgNode) -> bool:
    return cfg.NUM_GPUS == 1 and max(get_world_size(), cfg.NUM_SHARDS) == 1


def build_pathway(cfg: CfgNode, stage: int, groups: int, pathway: int = 0, **sizes: Any) -> dict[str, nn.Module]:
    """Build one pathway in one stage by the settings that all families read alike.

    Args:
        stage: 0 for s2.
        groups: of the middle convolutions.
        sizes: further arguments of `residual_pathway`.

    Raises:
        ValueError: see `residual_pathway`.
    """
    resnet, nonlocals = cfg.RESNET, cfg.NONLOCAL
    options = BranchOptions(
        model_norm(cfg),
        groups,
        stage_entry(resnet.SPATIAL_DILATIONS, stage, pathway),
        resnet.STRIDE_1X1,
        resnet.ZERO_INIT_FINAL_BN,
        resnet.ZERO_INIT_FINAL_CONV,
        resnet.INPLACE_RELU,
    )
    make_nonlocal = partial(_build_nonlocal, cfg, stage, pathway)
    with naming_keys(cfg, "MODEL.DROPCONNECT_RATE", "NONLOCAL.LOCATION"):
        return residual_pathway(
            transform=TRANSFORMS.get(resnet.TRANS_FUNC),
            options=options,
            # Stochastic depth grows with depth, up to the full rate in the last stage (s5).
            drop_rate=cfg.MODEL.DROPCONNECT_RATE * (stage + 2) / 5,
            nonlocal_after=dict.fromkeys(stage_entry(nonlocals.LOCATION, stage, pathway), make_nonlocal),
            **sizes,
        )


def _build_nonlocal(cfg: CfgNode, stage: int, pathway: int, dim: int) -> NonLocal:
    options = cfg.NONLOCAL
    return NonLocal(
        dim,
        dim // 2,
        stage_entry(options.POOL, stage, pathway),
        options.INSTANTIATION,
        model_norm(cfg) if options.USE_BN else None,
        stage_entry(options.GROUP, stage, pathway),
    )


def head_pool(cfg: CfgNode, frames: int, size: int) -> SpaceTimePool | RoIPool:
    """Build the head's pooling over `frames` x `size` x `size` positions, the features of a training clip.

    With DETECTION.ENABLE build that of boxes, which takes clips of any length.
    """
    if cfg.DETECTION.ENABLE:
        options = cfg.DETECTION
        scale = 1 / options.SPATIAL_SCALE_FACTOR
        return RoIPool(options.ROI_XFORM_RESOLUTION, scale, options.ALIGNED, cfg.MODEL.FINAL_POOL[1])
    # Where clips change in size from batch to batch, all positions are pooled.
    whole = cfg.MULTIGRID.SHORT_CYCLE
    window_t = None if whole or cfg.DATA.TRAIN_NUM_FRAMES else frames
    return SpaceTimePool(window_t, None if whole else size, *cfg.MODEL.FINAL_POOL)


def build_head(cfg: CfgNode, dims: list[int], pool: list[tuple]) -> ClassificationHead:
    """Build the classification head, or with DETECTION.ENABLE the head for boxes.

    Args:
        dims: channels of each pathway.
        pool: (T, H, W) of the pooling inside the network, for each pathway. The head's window is one training clip
            after all strides.
    """
    frames, crop = cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE
    rates = [cfg.SLOWFAST.ALPHA, 1] if len(dims) == 2 else [1]
    pools = [head_pool(cfg, frames // rate // size[0], crop // 32) for rate, size in zip(rates, pool, strict=True)]
    head = RoIHead if cfg.DETECTION.ENABLE else ClassificationHead
    return head(dims, cfg.MODEL.NUM_CLASSES, pools, cfg.MODEL.DROPOUT_RATE, cfg.MODEL.HEAD_ACT, cfg.MODEL.FC_INIT_STD)


def init_weights(model: nn.Module, fc_std: float = 0.01) -> nn.Module:
    """Initialize a convolutional network in place, and return it.

    Convolutions: He normal (fan out). Linear maps: N(0, fc_std). Norms: one and zero. A layer with `zero_init = True`
    starts at zero: the last norm or convolution of a residual branch or non-local block, so that the block starts as
    the identity ("Accurate, Large Minibatch SGD", arXiv 1706.02677, section 5.1).
    """
    for module in model.modules():
        zero = isinstance(module, (Conv3d, FreezableBatchNorm, FrozenBatchNorm3d)) and module.zero_init
        if isinstance(module, nn.Conv3d):
            if zero:
                nn.init.zeros_(module.weight)
            else:
                # As fvcore's c2_msra_fill, whose package takes 80 ms to import.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=fc_std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (BatchNorm, FrozenBatchNorm3d)) and module.weight is not None:
            nn.init.constant_(module.weight, 0.0 if zero else 1.0)
            nn.init.zeros_(module.bias)
    return model
