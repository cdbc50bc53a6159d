"""Multiscale vision transformers. Shapes: a clip is (B, 3, T, H, W); tokens are (B, U + T'*H'*W', C), U of no position.

MViT (arXiv 2104.11227) and MViTv2 (arXiv 2112.01526).


MViT from a configuration.
"""

import math
from collections.abc import Callable, Sequence

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.activation_checkpoint import CheckpointedBlock
from slowfast.layers.attention import (
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
from slowfast.models.heads import apply_head
from slowfast.models.mvit_sizes import BlockSizes, block_sizes, skip_kernel
from slowfast.models.parts import build_head, positions_for
from slowfast.models.registry import MODEL_REGISTRY
from slowfast.models.tokens import TokenHead, TokenModel, layer_norm, sincos_3d

Norm = Callable[[int], nn.Module]


class PatchEmbed(nn.Module):
    """A clip's patches as vectors: one convolution.

    Args:
        dim_in, dim_out: channels.
        kernel, stride, padding: (T, H, W), frames and pixels.
    """

    def __init__(self, dim_in: int, dim_out: int, kernel: Size, stride: Size, padding: Size):
        super().__init__()
        self.proj = Conv3d(dim_in, dim_out, tuple(kernel), tuple(stride), tuple(padding))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A map (B, C, T', H', W')."""
        return self.proj(x)


class MultiscaleBlock(CheckpointedBlock):
    """Pooling attention and a two-layer network, each behind a norm and added to its input, which is pooled likewise.

    Args:
        sizes: channels, heads, pooling.
        options: of the attention.
        norm: constructor `norm(channels)`.
        mlp_ratio: hidden channels of the network over its input's.
        num_prefix_tokens: U, tokens of no position.
        grow_in_attention: channels grow in the attention; otherwise in the network.
        dropout: rate within both; `drop_path`: share of samples whose branch is dropped.
        layer_scale: first factor of each channel of both branches; 0 for none.
    """

    def __init__(
        self,
        sizes: BlockSizes,
        options: PoolingOptions,
        norm: Norm,
        mlp_ratio: float = 4.0,
        num_prefix_tokens: int = 1,
        grow_in_attention: bool = False,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        layer_scale: float = 0.0,
    ):
        super().__init__()
        dim, dim_out = sizes.dim, sizes.dim_out
        dim_inner = dim_out if grow_in_attention else dim
        self.num_prefix_tokens, self.grow_in_attention, self.pooling = (
            num_prefix_tokens,
            grow_in_attention,
            sizes.pool_q,
        )
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
            num_prefix_tokens,
            dropout,
        )
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.norm2 = norm(dim_inner)
        self.mlp = Mlp(dim_inner, int(dim_inner * mlp_ratio), dim_out, dropout)
        for name, width in (("gamma_1", dim_inner), ("gamma_2", dim_out)):
            gamma = nn.Parameter(torch.full((width,), layer_scale)) if layer_scale else None
            self.register_parameter(name, gamma)
        self.proj = nn.Linear(dim, dim_out) if dim != dim_out else None
        self.pool_skip = None
        if sizes.pool_q is not None and set(sizes.pool_q.stride) != {1}:
            skip = Pooling(skip_kernel(sizes.pool_q.stride), sizes.pool_q.stride)
            self.pool_skip = nn.MaxPool3d(skip.kernel, skip.stride, skip.padding)

    def size(self, thw: Size) -> Size:
        """(T, H, W) of the tokens that come out, given those that come in."""
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


class MViT(TokenModel):
    """Patches, positions, multiscale blocks, head.

    The head gets the class token, or the mean of the others.

    Args:
        patch_embed: (B, 3, T, H, W) -> (B, C, T', H', W').
        blocks: in order.
        norm: of the last block's channels.
        head: (B, P, channels) -> scores; or one with boxes, which gets the map.
        pool: (B, channels, T', H', W') -> (B, channels, P, 1, 1), P vectors for the head in place of the class token;
            None for that.
        size: (T', H', W') of the tokens that positions are made for.
        class_token: a token for the whole clip.
        positions: "" for none (beside relative ones in the blocks), "joint" for a vector a position, "separate" for the
            sum of one of time and one of space, "sincos_3d" for fixed joint ones.
        norm_stem: a norm behind the positions; None for none.
        dropout: rate behind the positions.
        mean_first: pool in front of the last norm.
    """

    def __init__(
        self,
        patch_embed: nn.Module,
        blocks: Sequence[nn.Module],
        norm: nn.Module,
        head: nn.Module,
        pool: nn.Module | None,
        size: Size,
        dim: int,
        class_token: bool = True,
        positions: str = "joint",
        norm_stem: nn.Module | None = None,
        dropout: float = 0.0,
        mean_first: bool = False,
    ):
        super().__init__()
        self.num_prefix_tokens, self.sizes, self.mean_first = int(class_token), tuple(size), mean_first
        self.patch_embed = patch_embed
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if class_token else None
        self._add_positions(positions, dim)
        self.pos_drop = nn.Dropout(dropout)
        self.norm_stem = norm_stem
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.pool = pool
        self.head, self.num_features, self.takes_boxes = head, head.num_features, head.takes_boxes
        self.in_channels = [patch_embed.proj.in_channels]

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

    def init_weights(self, head_scale: float = 1.0) -> None:
        """Truncated normal of deviation 0.02 for everything that multiplies, 0.02 for biases, as published.

        Args:
            head_scale: factor of the head's first weights.
        """
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv3d)):
                nn.init.trunc_normal_(module.weight, std=0.02)
            if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
                nn.init.constant_(module.bias, 0.02)
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)
        with torch.no_grad():
            if self.positions == "sincos_3d":
                fixed = sincos_3d(self.pos_embed.shape[-1], self.sizes).flatten(1, 3)
                self.pos_embed[:, self.num_prefix_tokens :] = fixed
                self.pos_embed[:, : self.num_prefix_tokens] = 0
            self.head.projection.weight.mul_(head_scale)
            self.head.projection.bias.mul_(head_scale)

    def position_grids(self) -> dict[str, tuple[Size, int]]:
        """Of each table of positions (T, H, W) and how many tokens of no position it begins with."""
        frames, height, width = self.sizes
        if self.positions == "separate":
            return {"pos_embed_spatial": ((1, height, width), 0), "pos_embed_temporal": ((frames, 1, 1), 0)}
        return {"pos_embed": (self.sizes, self.num_prefix_tokens)} if self.positions else {}

    def depth_groups(self) -> list[list[nn.Module]]:
        """The layers by depth: patches with positions, blocks, head with the last norm."""
        stem = [self.patch_embed, self.own_parameters()]
        stem += [] if self.norm_stem is None else [self.norm_stem]
        return [stem, *([block] for block in self.blocks), [self.norm, self.head]]

    def _placed(self, tokens: torch.Tensor, thw: Size) -> torch.Tensor:
        """Tokens (B, L, C) with class token and positions, (B, U + L, C)."""
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
        """The tokens behind the last block, and (T', H', W') of their positions."""
        features = self.patch_embed(inputs[0])
        thw = tuple(features.shape[2:])
        tokens = self.pos_drop(self._placed(as_tokens(features), thw))
        if self.norm_stem is not None:
            tokens = self.norm_stem(tokens)
        for block in self.blocks:
            tokens, thw = block(tokens, thw), block.size(thw)
        return tokens, thw

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """A list with the map (B, C, T', H', W') behind the last norm, without the class token."""
        tokens, thw = self._tokens(inputs)
        return [as_map(self.norm(tokens)[:, self.num_prefix_tokens :], thw)]

    def forward(self, inputs: list[torch.Tensor], boxes: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (B, classes): logits in train mode, activated in eval mode.

        Args:
            inputs: a list with one clip (B, 3, T, H, W).
            boxes: (N, 5) for a head that scores boxes: index in the batch, x1, y1, x2, y2 in pixels; scores (N,
                classes).
        """
        return apply_head(
            self.head, self.forward_features(inputs) if self.takes_boxes else self._vectors(inputs), boxes
        )

    def _vectors(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """What the head gets, (B, P, C)."""
        tokens, thw = self._tokens(inputs)
        if self.pool is None:
            return self.norm(tokens[:, :1])
        if self.mean_first:
            return self.norm(self._pooled(tokens, thw))
        return self._pooled(self.norm(tokens), thw)

    def _pooled(self, tokens: torch.Tensor, thw: Size) -> torch.Tensor:
        return as_tokens(self.pool(as_map(tokens[:, self.num_prefix_tokens :], thw)))


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
    return "sincos_3d" if options.USE_FIXED_SINCOS_POS else "joint"


def _pool(cfg: CfgNode) -> nn.Module | None:
    """What gives the clip's vector, where that is not the class token."""
    if cfg.DETECTION.ENABLE or (cfg.MVIT.CLS_EMBED_ON and not cfg.MVIT.USE_MEAN_POOLING):
        return None
    return SpaceTimePool(None, None, *cfg.MODEL.FINAL_POOL)


def _head(cfg: CfgNode, dim: int) -> nn.Module:
    if cfg.DETECTION.ENABLE:
        return build_head(cfg, [dim], [(cfg.MVIT.PATCH_STRIDE[0], 1, 1)])
    return TokenHead(dim, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DROPOUT_RATE, cfg.MODEL.HEAD_ACT)
