"""MViT from a configuration."""

import math

from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.attention import PoolingOptions, Size
from slowfast.layers.pool import SpaceTimePool
from slowfast.models.build import MODEL_REGISTRY
from slowfast.models.build_parts import build_head, positions_for
from slowfast.models.mvit import MultiscaleBlock, MViT, PatchEmbed
from slowfast.models.mvit_blocks import BlockSizes, block_sizes
from slowfast.models.tokens import TokenHead, layer_norm

# Last parts of the names of class token and positions.
_POSITIONS = (
    "cls_token",
    "pos_embed",
    "pos_embed_spatial",
    "pos_embed_temporal",
    "pos_embed_class",
    "rel_pos_h",
    "rel_pos_w",
    "rel_pos_t",
)


@MODEL_REGISTRY.register("MViT")
def build_mvit(cfg: CfgNode) -> MViT:
    """MViT by MVIT.*, for clips of DATA.NUM_FRAMES and DATA.TRAIN_CROP_SIZE (or MODEL.POSITIONS_FOR).

    Raises:
        ValueError: MVIT.PATCH_2D, patches of images, or MVIT.REV.ENABLE, reversible blocks.
    """
    options = cfg.MVIT
    if options.PATCH_2D:
        raise ValueError("MVIT.PATCH_2D True cuts images into patches, which is not built; set it False for clips")
    if options.REV.ENABLE:
        raise ValueError(
            "MVIT.REV.ENABLE True asks for reversible blocks, which are not built; set it False for MViT's"
        )
    size = _token_size(cfg)
    blocks = _block_sizes(cfg, size)
    rates = [options.DROPPATH_RATE * i / max(len(blocks) - 1, 1) for i in range(len(blocks))]
    dim = blocks[-1].dim_out
    model = MViT(
        PatchEmbed(
            cfg.DATA.INPUT_CHANNEL_NUM[0],
            options.EMBED_DIM,
            options.PATCH_KERNEL,
            options.PATCH_STRIDE,
            options.PATCH_PADDING,
        ),
        [_block(cfg, sizes, rate) for sizes, rate in zip(blocks, rates, strict=True)],
        layer_norm(dim),
        _head(cfg, dim),
        _pool(cfg),
        size,
        options.EMBED_DIM,
        options.CLS_EMBED_ON,
        _positions(cfg),
        layer_norm(options.EMBED_DIM) if options.NORM_STEM else None,
        options.DROPOUT_RATE,
        options.USE_MEAN_POOLING,
    )
    if options.ZERO_DECAY_POS_CLS:
        model.undecayed = _POSITIONS
    model.init_weights(options.HEAD_INIT_SCALE)
    return model


def _token_size(cfg: CfgNode) -> Size:
    """(T, H, W) of the tokens that positions are made for."""
    frames, crop = positions_for(cfg)
    size = tuple(n // stride for n, stride in zip((frames, crop, crop), cfg.MVIT.PATCH_STRIDE, strict=True))
    if not math.prod(size):
        raise ValueError(
            f"MVIT.PATCH_STRIDE {cfg.MVIT.PATCH_STRIDE} leaves no patch of {frames} frames of {crop} x {crop} pixels "
            "(DATA.NUM_FRAMES, DATA.TRAIN_CROP_SIZE)"
        )
    return size


def _block_sizes(cfg: CfgNode, size: Size) -> list[BlockSizes]:
    options = cfg.MVIT
    return block_sizes(
        options.DEPTH,
        options.EMBED_DIM,
        options.NUM_HEADS,
        size,
        options.DIM_MUL,
        options.HEAD_MUL,
        options.DIM_MUL_IN_ATT,
        options.POOL_Q_STRIDE,
        options.POOL_KV_STRIDE,
        options.POOL_KV_STRIDE_ADAPTIVE,
        options.POOL_KVQ_KERNEL,
    )


def _block(cfg: CfgNode, sizes: BlockSizes, drop_path: float) -> MultiscaleBlock:
    options = cfg.MVIT
    attention = PoolingOptions(
        options.MODE,
        options.POOL_FIRST,
        options.SEPARATE_QKV,
        options.QKV_BIAS,
        options.RESIDUAL_POOLING,
        options.REL_POS_SPATIAL,
        options.REL_POS_TEMPORAL,
        options.REL_POS_ZERO_INIT,
    )
    return MultiscaleBlock(
        sizes,
        attention,
        layer_norm,
        options.MLP_RATIO,
        int(options.CLS_EMBED_ON),
        options.DIM_MUL_IN_ATT,
        options.DROPOUT_RATE,
        drop_path,
        options.LAYER_SCALE_INIT_VALUE,
    )


def _positions(cfg: CfgNode) -> str:
    options = cfg.MVIT
    if not options.USE_ABS_POS:
        return ""
    if options.SEP_POS_EMBED:
        return "separate"
    return "waves" if options.USE_FIXED_SINCOS_POS else "joint"


def _pool(cfg: CfgNode) -> nn.Module | None:
    """What gives the clip's vector, where that is not the class token."""
    if cfg.DETECTION.ENABLE or (cfg.MVIT.CLS_EMBED_ON and not cfg.MVIT.USE_MEAN_POOLING):
        return None
    return SpaceTimePool(None, None, *cfg.MODEL.FINAL_POOL)


def _head(cfg: CfgNode, dim: int) -> nn.Module:
    if cfg.DETECTION.ENABLE:
        return build_head(cfg, [dim], [(cfg.MVIT.PATCH_STRIDE[0], 1, 1)])
    return TokenHead(dim, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DROPOUT_RATE, cfg.MODEL.HEAD_ACT)
