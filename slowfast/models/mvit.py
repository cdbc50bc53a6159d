"""Multiscale vision transformers: MViT (arXiv 2104.11227) and MViTv2 (arXiv 2112.01526).

Shapes: a clip is (B, C, T, H, W); tokens are (B, P + T'*H'*W', C), with P prefix tokens (the class token, if any).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.activation_checkpoint import CheckpointedBlock
from slowfast.layers.attention import (
    POOL_MODES,
    Pooling,
    PoolingAttention,
    PoolingOptions,
    Size,
    as_map,
    as_tokens,
    pool_tokens,
)
from slowfast.layers.conv import Conv3d
from slowfast.layers.mlp import DropPath, Mlp
from slowfast.layers.pool import SpaceTimePool
from slowfast.models.blocks import round_channels
from slowfast.models.build import MODEL_REGISTRY, build_head, position_embedding_size
from slowfast.models.heads import Classifier, apply_head
from slowfast.models.tokens import TokenHead, TokenModel, fill_sincos_3d, layer_norm
from slowfast.utils.errors import naming_keys
from slowfast.utils.registry import CHOICES

Norm = Callable[[int], nn.Module]

CHOICES["MVIT.MODE"] = POOL_MODES
CHOICES["MVIT.NORM"] = ("layernorm",)


class PatchEmbed(nn.Module):
    """Patch embedding: one strided convolution.

    Args:
        dim_in, dim_out: channels.
        kernel, stride, padding: (T, H, W), frames and pixels.
    """

    def __init__(self, dim_in: int, dim_out: int, kernel: Size, stride: Size, padding: Size):
        super().__init__()
        self.proj = Conv3d(dim_in, dim_out, tuple(kernel), tuple(stride), tuple(padding))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed a clip: (B, C, T', H', W')."""
        return self.proj(x)


@dataclass(frozen=True)
class _BlockSizes:
    """Sizes of a multiscale block.

    Attributes:
        dim, dim_out: channels in and out.
        heads: attention heads.
        pool_q, pool_kv: pooling of queries, and of keys and values, or None.
        size: (T, H, W) of the input tokens, for a clip of the size that the network is built for.
    """

    dim: int
    dim_out: int
    heads: int
    pool_q: Pooling | None
    pool_kv: Pooling | None
    size: Size


@dataclass(frozen=True)
class AttentionPooling:
    """Pooling in the attention of all blocks, by the index of a block.

    Attributes:
        stride_q, stride_kv: [block, T, H, W].
        stride_kv_adaptive: [T, H, W] of the keys and values of the first block; query strides divide it from block to
            block. Replaces `stride_kv`.
        kernel: [T, H, W] of all windows; None for stride + 1 along each axis that is pooled.
    """

    stride_q: Sequence[Sequence[int]] = ()
    stride_kv: Sequence[Sequence[int]] = ()
    stride_kv_adaptive: Sequence[int] | None = None
    kernel: Sequence[int] | None = None


def block_sizes(
    depth: int,
    dim: int,
    heads: int,
    size: Size,
    dim_mul: Sequence[Sequence[float]] = (),
    head_mul: Sequence[Sequence[float]] = (),
    dim_mul_in_attention: bool = False,
    pooling: AttentionPooling | None = None,
) -> list[_BlockSizes]:
    """Return the sizes of all blocks, in order. (MViT, table 2; MViTv2, section 4.)

    Args:
        depth: number of blocks.
        dim, heads: channels and attention heads of the first.
        size: (T, H, W) of the first's tokens.
        dim_mul, head_mul: [block, factor] of channels and heads.
        dim_mul_in_attention: increase channels in the attention of that block, not at the end of the block before.
        pooling: None for no pooling.
    """
    pooling = pooling or AttentionPooling()
    channels, grown = {int(i): f for i, f in dim_mul}, {int(i): f for i, f in head_mul}
    strides_q = {row[0]: tuple(row[1:]) for row in pooling.stride_q}
    strides_kv = {row[0]: tuple(row[1:]) for row in pooling.stride_kv}
    adaptive, blocks = pooling.stride_kv_adaptive, []
    for i in range(depth):
        heads = _scaled(heads, grown.get(i, 1))
        growth = i if dim_mul_in_attention else i + 1
        dim_out = _scaled(dim, channels.get(growth, 1), _scaled(heads, grown.get(growth, 1)))
        if adaptive is not None:
            falls = strides_q.get(i, (1, 1, 1))
            adaptive = strides_kv[i] = tuple(max(kv // q, 1) for kv, q in zip(adaptive, falls, strict=True))
        pools = [_pooling(strides.get(i), pooling.kernel) for strides in (strides_q, strides_kv)]
        blocks.append(_BlockSizes(dim, dim_out, heads, *pools, size))
        size = tuple(n // step for n, step in zip(size, strides_q.get(i, (1, 1, 1)), strict=True))
        dim = dim_out
    return blocks


def _scaled(width: int, factor: float, divisor: int = 1) -> int:
    return round_channels(width * factor, divisor, minimum=1)


def _pooling(stride: Size | None, kernel: Sequence[int] | None) -> Pooling | None:
    if stride is None:
        return None
    window = tuple(kernel) if kernel else _default_window(stride)
    return None if set(window) == set(stride) == {1} else Pooling(window, stride)


def _default_window(stride: Size) -> Size:
    """Return the window of a pooling by `stride`: stride + 1 along each axis that is pooled."""
    return tuple(step + 1 if step > 1 else 1 for step in stride)


class MultiscaleBlock(CheckpointedBlock):
    """Pre-norm transformer block with pooling attention and an MLP; the shortcut is pooled as the queries are.

    Args:
        sizes: channels, heads, pooling.
        options: of the attention; its dropout is that of the MLP too.
        norm: constructor `norm(channels)`.
        mlp_ratio: hidden channels of the MLP over its input channels.
        grow_in_attention: increase the channels in the attention rather than in the MLP.
        drop_path: stochastic depth rate of both branches.
        layer_scale: initial scale of both branches, learned for each channel; 0 for no scale.
    """

    def __init__(
        self,
        sizes: _BlockSizes,
        options: PoolingOptions,
        norm: Norm,
        mlp_ratio: float = 4.0,
        grow_in_attention: bool = False,
        drop_path: float = 0.0,
        layer_scale: float = 0.0,
    ):
        super().__init__()
        dim, dim_out = sizes.dim, sizes.dim_out
        dim_inner = dim_out if grow_in_attention else dim
        self.num_prefix_tokens, self.grow_in_attention = options.num_prefix_tokens, grow_in_attention
        self.dim_out = dim_out
        self.pooling = sizes.pool_q
        self.norm1 = norm(dim)
        self.attn = PoolingAttention(
            dim,
            dim_inner,
            sizes.heads,
            sizes.pool_q,
            sizes.pool_kv,
            sizes.size,
            norm,
            options,
        )
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.norm2 = norm(dim_inner)
        self.mlp = Mlp(dim_inner, int(dim_inner * mlp_ratio), dim_out, options.dropout)
        for name, width in (("gamma_1", dim_inner), ("gamma_2", dim_out)):
            gamma = nn.Parameter(torch.full((width,), layer_scale)) if layer_scale else None
            self.register_parameter(name, gamma)
        self.proj = nn.Linear(dim, dim_out) if dim != dim_out else None
        self.pool_skip = None
        if sizes.pool_q is not None and set(sizes.pool_q.stride) != {1}:
            skip = Pooling(_default_window(sizes.pool_q.stride), sizes.pool_q.stride)
            self.pool_skip = nn.MaxPool3d(skip.kernel, skip.stride, skip.padding)

    def size(self, thw: Size) -> Size:
        """Return (T, H, W) of the output tokens for that of the input tokens."""
        return self.pooling.size(thw) if self.pooling else thw

    def forward_block(self, tokens: torch.Tensor, thw: Size) -> torch.Tensor:
        x = self.norm1(tokens)
        branch = self._scaled(self.attn(x, thw), self.gamma_1)
        if self.proj is not None and self.grow_in_attention:
            tokens = self.proj(x)
        if self.pool_skip is not None:
            tokens, _ = pool_tokens(tokens, thw, self.pool_skip, self.num_prefix_tokens)
        tokens = tokens + self.drop_path(branch)
        x = self.norm2(tokens)
        branch = self._scaled(self.mlp(x), self.gamma_2)
        if self.proj is not None and not self.grow_in_attention:
            tokens = self.proj(x)
        return tokens + self.drop_path(branch)

    @staticmethod
    def _scaled(branch: torch.Tensor, gamma: torch.Tensor | None) -> torch.Tensor:
        return branch if gamma is None else gamma * branch


@dataclass(frozen=True)
class TokenOptions:
    """Tokens of an MViT and their position embeddings.

    Attributes:
        class_token: prepend a class token, which the head reads unless a pooling is given.
        positions: "joint" for one embedding of each position; "separate" for the sum of one of time and one of space;
            "sincos_3d" for fixed joint ones; "" for none besides relative ones in the blocks.
        dropout: rate after the position embeddings.
        mean_first: pool before the last norm.
        decay_positions: apply weight decay to the class token and the position embeddings.
    """

    class_token: bool = True
    positions: str = "joint"
    dropout: float = 0.0
    mean_first: bool = False
    decay_positions: bool = True


class MultiscaleEncoder(TokenModel):
    """Patch embedding, position embeddings and multiscale blocks.

    Args:
        patch_embed: (B, C, T, H, W) -> (B, dim, T', H', W').
        blocks: in order.
        size: (T', H', W') of the tokens that position embeddings are built for.
        options: see `TokenOptions`.
        norm_stem: norm after the position embeddings.
    """

    def __init__(
        self,
        patch_embed: PatchEmbed,
        blocks: Sequence[MultiscaleBlock],
        size: Size,
        options: TokenOptions,
        norm_stem: nn.Module | None = None,
    ):
        super().__init__()
        dim = patch_embed.proj.out_channels
        self.num_prefix_tokens, self.sizes = int(options.class_token), tuple(size)
        self.undecayed = () if options.decay_positions else _POSITIONS
        self.patch_embed = patch_embed
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if options.class_token else None
        self._add_positions(options.positions, dim)
        self.pos_drop = nn.Dropout(options.dropout)
        self.norm_stem = norm_stem
        self.blocks = nn.ModuleList(blocks)
        proj = patch_embed.proj
        self.in_channels = [proj.in_channels]
        self.min_size = [max(k - 2 * pad, 1) for k, pad in zip(proj.kernel_size, proj.padding, strict=True)]

    def _add_positions(self, kind: str, dim: int) -> None:
        frames, height, width = self.sizes
        self.positions, lengths = kind, {}
        if kind == "separate":
            lengths = {"pos_embed_spatial": height * width, "pos_embed_temporal": frames}
            lengths |= {"pos_embed_class": 1} if self.num_prefix_tokens else {}
        elif kind:
            lengths = {"pos_embed": self.num_prefix_tokens + frames * height * width}
        for name, length in lengths.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(1, length, dim), requires_grad=kind != "sincos_3d"))

    def init_weights(self) -> None:
        """Initialize weights by a truncated normal distribution of deviation 0.02 and biases by 0.02, as published."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv3d)):
                nn.init.trunc_normal_(module.weight, std=0.02)
            if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
                nn.init.constant_(module.bias, 0.02)
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)
        if self.positions == "sincos_3d":
            fill_sincos_3d(self.pos_embed, self.sizes, self.num_prefix_tokens)

    def position_grids(self) -> dict[str, tuple[Size, int]]:
        """Return (T, H, W) and the number of prefix tokens of each position embedding, by state-dict key."""
        frames, height, width = self.sizes
        if self.positions == "separate":
            return {"pos_embed_spatial": ((1, height, width), 0), "pos_embed_temporal": ((frames, 1, 1), 0)}
        return {"pos_embed": (self.sizes, self.num_prefix_tokens)} if self.positions else {}

    def token_grids(self, size: Size) -> tuple[list[Size], int]:
        """Return the grids (T, H, W) of the tokens before and after each block, and the number of prefix tokens.

        Args:
            size: (T, H, W) of the clip.
        """
        proj = self.patch_embed.proj
        window = zip(size, proj.kernel_size, proj.stride, proj.padding, strict=True)
        grids = [tuple((n + 2 * pad - kernel) // stride + 1 for n, kernel, stride, pad in window)]
        for block in self.blocks:
            grids.append(block.size(grids[-1]))
        return list(dict.fromkeys(grids)), self.num_prefix_tokens

    def depth_groups(self) -> list[list[nn.Module]]:
        """Return the layers by depth: patch and position embeddings, blocks, and what follows them."""
        stem = [self.patch_embed, self.own_parameters()]
        stem += [] if self.norm_stem is None else [self.norm_stem]
        rest = [child for child in self.children() if child not in stem and child is not self.blocks]
        return [stem, *([block] for block in self.blocks), rest]

    def _embedded(self, tokens: torch.Tensor, thw: Size) -> torch.Tensor:
        """Compute the tokens (B, P + L, C) before the first block, given the embedded patches (B, L, C)."""
        tokens = self.pos_drop(self._with_positions(tokens, thw))
        return tokens if self.norm_stem is None else self.norm_stem(tokens)

    def _with_positions(self, tokens: torch.Tensor, thw: Size) -> torch.Tensor:
        """Add class token and position embeddings to tokens (B, L, C): (B, P + L, C)."""
        first = [] if self.cls_token is None else [self.cls_token]
        if self.positions == "separate":
            _, height, width = self.sizes
            space = self.pos_embed_spatial.unflatten(1, (1, height, width))
            time = self.pos_embed_temporal[:, :, None, None]
            table = self.fit_positions(time, (thw[0], 1, 1)) + self.fit_positions(space, (1, *thw[1:]))
            tokens = tokens + table.flatten(1, 3)
            first = [token + self.pos_embed_class for token in first]
        elif self.positions:
            table = self.pos_embed[:, self.num_prefix_tokens :].unflatten(1, self.sizes)
            tokens = tokens + self.fit_positions(table, thw).flatten(1, 3)
            first = [token + self.pos_embed[:, :1] for token in first]
        return torch.cat([*(token.expand(tokens.shape[0], -1, -1).to(tokens.dtype) for token in first), tokens], dim=1)

    def _tokens(self, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, Size]:
        """Compute the tokens after the last block, and (T', H', W') of their positions."""
        features = self.patch_embed(inputs[0])
        thw = tuple(features.shape[2:])
        tokens = self._embedded(as_tokens(features), thw)
        for block in self.blocks:
            tokens, thw = block(tokens, thw), block.size(thw)
        return tokens, thw


class MViT(MultiscaleEncoder):
    """MViT or MViTv2: an encoder, norm and head.

    Args:
        patch_embed, blocks, size, options, norm_stem: see `MultiscaleEncoder`.
        norm: of the last block's channels.
        head: (B, P, channels) -> scores; a head for boxes gets the feature map instead.
        pool: (B, channels, T', H', W') -> (B, channels, P, 1, 1), vectors for the head in place of the class token.
    """

    def __init__(
        self,
        patch_embed: PatchEmbed,
        blocks: Sequence[MultiscaleBlock],
        norm: nn.Module,
        head: Classifier,
        size: Size,
        options: TokenOptions,
        pool: nn.Module | None = None,
        norm_stem: nn.Module | None = None,
    ):
        super().__init__(patch_embed, blocks, size, options, norm_stem)
        self.mean_first = options.mean_first
        self.norm = norm
        self.pool = pool
        self.head, self.num_features, self.takes_boxes = head, head.num_features, head.takes_boxes

    def init_weights(self, head_scale: float = 1.0) -> None:
        """Initialize weights as `MultiscaleEncoder`, and scale the weight and bias of the head by `head_scale`."""
        super().init_weights()
        with torch.no_grad():
            self.head.projection.weight.mul_(head_scale)
            self.head.projection.bias.mul_(head_scale)

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the features [(B, C, T', H', W')] after the last norm, without the class token."""
        tokens, thw = self._tokens(inputs)
        return [as_map(self.norm(tokens)[:, self.num_prefix_tokens :], thw)]

    def forward(self, inputs: list[torch.Tensor], boxes: torch.Tensor | None = None) -> torch.Tensor:
        """Compute scores (B, classes) of clips or (N, classes) of boxes, as in `VideoModel`.

        Args:
            inputs: a list with one clip (B, C, T, H, W).
            boxes: (N, 5), for a head that takes boxes.
        """
        return apply_head(
            self.head, self.forward_features(inputs) if self.takes_boxes else self._pooled_tokens(inputs), boxes
        )

    def _pooled_tokens(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Compute the vectors for the head, (B, P, C): the class token or the pooled tokens."""
        tokens, thw = self._tokens(inputs)
        if self.pool is None:
            return self.norm(tokens[:, :1])
        if self.mean_first:
            return self.norm(self._pooled(tokens, thw))
        return self._pooled(self.norm(tokens), thw)

    def _pooled(self, tokens: torch.Tensor, thw: Size) -> torch.Tensor:
        return as_tokens(self.pool(as_map(tokens[:, self.num_prefix_tokens :], thw)))


# Parameters without weight decay if MVIT.ZERO_DECAY_POS_CLS, by the last part of their names.
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
    """Build MViT from MVIT.*, for clips of DATA.NUM_FRAMES and DATA.TRAIN_CROP_SIZE (or MODEL.POSITIONS_FOR).

    Raises:
        ValueError: see `encoder_parts`.
    """
    patch_embed, blocks, size, tokens, norm_stem = encoder_parts(cfg)
    dim = blocks[-1].dim_out
    model = MViT(patch_embed, blocks, layer_norm(dim), _head(cfg, dim), size, tokens, _pool(cfg), norm_stem)
    with naming_keys(cfg, "MVIT.EMBED_DIM", "MVIT.USE_FIXED_SINCOS_POS"):
        model.init_weights(cfg.MVIT.HEAD_INIT_SCALE)
    return model


def encoder_parts(
    cfg: CfgNode, depth: int | None = None
) -> tuple[PatchEmbed, list[MultiscaleBlock], Size, TokenOptions, nn.Module | None]:
    """Build the arguments of a `MultiscaleEncoder` from MVIT.*: patch embedding, blocks, size, options, norm.

    Args:
        depth: number of leading blocks to build; None for all.

    Raises:
        ValueError: MVIT.PATCH_2D (patches of images) or MVIT.REV.ENABLE (reversible blocks), which are not built.
    """
    options = cfg.MVIT
    if options.PATCH_2D:
        raise ValueError("MVIT.PATCH_2D True cuts images into patches, which is not built; set it False for clips")
    if options.REV.ENABLE:
        raise ValueError(
            "MVIT.REV.ENABLE True asks for reversible blocks, which are not built; set it False for MViT's"
        )
    patch_embed = PatchEmbed(
        cfg.DATA.INPUT_CHANNEL_NUM[0],
        options.EMBED_DIM,
        options.PATCH_KERNEL,
        options.PATCH_STRIDE,
        options.PATCH_PADDING,
    )
    size = _token_size(cfg)
    blocks = block_sizes(
        options.DEPTH,
        options.EMBED_DIM,
        options.NUM_HEADS,
        size,
        options.DIM_MUL,
        options.HEAD_MUL,
        options.DIM_MUL_IN_ATT,
        AttentionPooling(
            options.POOL_Q_STRIDE, options.POOL_KV_STRIDE, options.POOL_KV_STRIDE_ADAPTIVE, options.POOL_KVQ_KERNEL
        ),
    )
    rates = [options.DROPPATH_RATE * i / max(len(blocks) - 1, 1) for i in range(len(blocks))]
    tokens = TokenOptions(
        options.CLS_EMBED_ON,
        _positions(cfg),
        options.DROPOUT_RATE,
        options.USE_MEAN_POOLING,
        not options.ZERO_DECAY_POS_CLS,
    )
    built = [_block(cfg, sizes, rate) for sizes, rate in zip(blocks[:depth], rates[:depth], strict=True)]
    return patch_embed, built, size, tokens, layer_norm(options.EMBED_DIM) if options.NORM_STEM else None


def _token_size(cfg: CfgNode) -> Size:
    """Return (T, H, W) of the tokens that position embeddings are built for."""
    frames, crop = position_embedding_size(cfg)
    size = tuple(n // stride for n, stride in zip((frames, crop, crop), cfg.MVIT.PATCH_STRIDE, strict=True))
    if not math.prod(size):
        raise ValueError(
            f"MVIT.PATCH_STRIDE {cfg.MVIT.PATCH_STRIDE} leaves no patch of {frames} frames of {crop} x {crop} pixels "
            "(DATA.NUM_FRAMES, DATA.TRAIN_CROP_SIZE)"
        )
    return size


def _block(cfg: CfgNode, sizes: _BlockSizes, drop_path: float) -> MultiscaleBlock:
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
        int(options.CLS_EMBED_ON),
        options.DROPOUT_RATE,
    )
    with naming_keys(cfg, "MVIT.EMBED_DIM", "MVIT.NUM_HEADS", "MVIT.DROPPATH_RATE"):
        return MultiscaleBlock(
            sizes,
            attention,
            layer_norm,
            options.MLP_RATIO,
            options.DIM_MUL_IN_ATT,
            drop_path,
            options.LAYER_SCALE_INIT_VALUE,
        )


def _positions(cfg: CfgNode) -> str:
    options = cfg.MVIT
    if not options.USE_ABS_POS:
        return ""
    if options.SEP_POS_EMBED:
        return "separate"
    return "sincos_3d" if options.USE_FIXED_SINCOS_POS else "joint"


def _pool(cfg: CfgNode) -> nn.Module | None:
    """Build the pooling of tokens; None if the head reads the class token, or boxes."""
    if cfg.DETECTION.ENABLE or (cfg.MVIT.CLS_EMBED_ON and not cfg.MVIT.USE_MEAN_POOLING):
        return None
    return SpaceTimePool(None, None, *cfg.MODEL.FINAL_POOL)


def _head(cfg: CfgNode, dim: int) -> nn.Module:
    if cfg.DETECTION.ENABLE:
        return build_head(cfg, [dim], [(cfg.MVIT.PATCH_STRIDE[0], 1, 1)])
    return TokenHead(dim, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DROPOUT_RATE, cfg.MODEL.HEAD_ACT)
