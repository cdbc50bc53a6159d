"""From a configuration to the parts that several families of models share; with `build*.py` the only reader of it.

Initialization of video networks.
"""

from collections.abc import Callable
from typing import Any

from fvcore.common.config import CfgNode
from torch import nn

from slowfast.config.resolve import stage_entry
from slowfast.layers.nonlocal_ import NonLocal
from slowfast.layers.norm import norm_layer
from slowfast.layers.pool import SpaceTimePool
from slowfast.models.blocks import TRANSFORMS
from slowfast.models.heads import ClassificationHead, RoIHead, RoIPool
from slowfast.runtime.distributed import get_world_size, norm_group


def initialized(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """`model` itself, with fresh weights by MODEL.FC_INIT_STD."""
    init_weights(model, cfg.MODEL.FC_INIT_STD)
    return model


def build_norm(cfg: CfgNode, kind: str) -> Callable[[int], nn.Module]:
    """A constructor `norm(channels)` of the norm `kind`, a value of BN.NORM_TYPE, by the section BN.

    Raises:
        ValueError: an unknown kind, or sync_batchnorm over groups that do not fill the host.
    """
    if kind == "sync_batchnorm" and is_alone(cfg):
        kind = "batchnorm"
    group = None
    if kind == "sync_batchnorm" and cfg.NUM_GPUS > 0:
        group = norm_group(cfg.BN.GLOBAL_SYNC, cfg.BN.NUM_SYNC_DEVICES)
    return norm_layer(kind, cfg.BN.EPSILON, cfg.BN.MOMENTUM, cfg.BN.NUM_SPLITS, group)


def norm_type(cfg: CfgNode) -> str:
    """The norm of all layers, a value of BN.NORM_TYPE."""
    return "frozen_batchnorm" if cfg.MODEL.FROZEN_BN else cfg.BN.NORM_TYPE


def model_norm(cfg: CfgNode) -> Callable[[int], nn.Module]:
    """A constructor `norm(channels)` of the norm of all layers; see `build_norm`."""
    return build_norm(cfg, norm_type(cfg))


def positions_for(cfg: CfgNode) -> tuple[int, int]:
    """Frames and pixels of the clips that a model's tables of positions are made for."""
    return tuple(cfg.MODEL.POSITIONS_FOR or (cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE))


def is_alone(cfg: CfgNode) -> bool:
    """Whether one GPU trains, or tests, alone."""
    return cfg.NUM_GPUS == 1 and max(get_world_size(), cfg.NUM_SHARDS) == 1


def residual_options(cfg: CfgNode, stage: int, pathway: int = 0) -> dict[str, Any]:
    """What every family reads alike for `residual_pathway`, for stage number `stage` (0 is s2) of a pathway.

    Raises:
        ValueError: RESNET.TRANS_FUNC is no residual branch.
    """
    options = cfg.RESNET
    if options.TRANS_FUNC not in TRANSFORMS:
        raise ValueError(f"RESNET.TRANS_FUNC is {options.TRANS_FUNC!r}; it must be one of {', '.join(TRANSFORMS)}")
    return {
        "transform": TRANSFORMS[options.TRANS_FUNC],
        "norm": model_norm(cfg),
        "dilation": stage_entry(options.SPATIAL_DILATIONS, stage, pathway),
        "stride_1x1": options.STRIDE_1X1,
        "zero_init_norm": options.ZERO_INIT_FINAL_BN,
        "zero_init_conv": options.ZERO_INIT_FINAL_CONV,
        "inplace": options.INPLACE_RELU,
        "nonlocal_at": stage_entry(cfg.NONLOCAL.LOCATION, stage, pathway),
        "make_nonlocal": _nonlocal_maker(cfg, stage, pathway),
        # Branches are dropped more often with depth, up to the full rate in the last stage (s5).
        "drop_rate": cfg.MODEL.DROPCONNECT_RATE * (stage + 2) / 5,
    }


def _nonlocal_maker(cfg: CfgNode, stage: int, pathway: int) -> Callable[[int], nn.Module]:
    options = cfg.NONLOCAL

    def make(dim: int) -> nn.Module:
        return NonLocal(
            dim,
            dim // 2,
            stage_entry(options.POOL, stage, pathway),
            options.INSTANTIATION,
            model_norm(cfg) if options.USE_BN else None,
            stage_entry(options.GROUP, stage, pathway),
        )

    return make


def head_pool(cfg: CfgNode, frames: int, size: int) -> SpaceTimePool | RoIPool:
    """The head's pooling over `frames` x `size` x `size` positions of features, those of a training clip.

    With DETECTION.ENABLE that of boxes: always the largest number in space, over any clip's frames.
    """
    if cfg.DETECTION.ENABLE:
        options = cfg.DETECTION
        scale = 1 / options.SPATIAL_SCALE_FACTOR
        return RoIPool(options.ROI_XFORM_RESOLUTION, scale, options.ALIGNED, cfg.MODEL.FINAL_POOL[1])
    # Where the clip's size changes by the iteration, everything is pooled.
    whole = cfg.MULTIGRID.SHORT_CYCLE
    window_t = None if whole or cfg.DATA.TRAIN_NUM_FRAMES else frames
    return SpaceTimePool(window_t, None if whole else size, *cfg.MODEL.FINAL_POOL)


def build_head(cfg: CfgNode, dims: list[int], pool: list[tuple]) -> ClassificationHead:
    """The head of pathways with `dims` channels, of which `pool` is the pooling (T, H, W) inside the network.

    Its window is one training clip after the network's strides. With DETECTION.ENABLE it scores boxes.
    """
    frames, crop = cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE
    rates = [cfg.SLOWFAST.ALPHA, 1] if len(dims) == 2 else [1]
    pools = [head_pool(cfg, frames // rate // size[0], crop // 32) for rate, size in zip(rates, pool, strict=True)]
    head = RoIHead if cfg.DETECTION.ENABLE else ClassificationHead
    return head(dims, cfg.MODEL.NUM_CLASSES, pools, cfg.MODEL.DROPOUT_RATE, cfg.MODEL.HEAD_ACT, cfg.MODEL.FC_INIT_STD)


def init_weights(model: nn.Module, fc_std: float = 0.01) -> None:
    """He normal (fan out) for convolutions, N(0, fc_std) for linear maps, one and zero for norms.

    A layer that carries `zero_init = True` starts at zero instead: the last norm or convolution of a residual branch or
    of a non-local block, so that the block starts as the identity ("Accurate, Large Minibatch SGD", section 5.1).
    """
    for module in model.modules():
        zero = getattr(module, "zero_init", False)
        if isinstance(module, nn.Conv3d):
            if zero:
                nn.init.zeros_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=fc_std)
            nn.init.zeros_(module.bias)
        elif getattr(module, "running_mean", None) is not None:
            nn.init.constant_(module.weight, 0.0 if zero else 1.0)
            nn.init.zeros_(module.bias)
