"""Encoder of MViT and of masked learning over it: patches, positions, multiscale blocks, and their builders.

Shapes: a clip is (B, C, T, H, W); tokens are (B, P + T'*H'*W', C), with P prefix tokens (the class token, if any).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.attention import POOL_MODES, PoolingOptions, Size, as_tokens
from slowfast.models.build import position_embedding_size
from slowfast.models.mvit_blocks import (
    AttentionPooling,
    BlockSizes,
    ImagePatchEmbed,
    MultiscaleBlock,
    PatchEmbed,
    block_sizes,
)
from slowfast.models.tokens import TokenModel, fill_sincos_3d, layer_norm
from slowfast.utils.errors import naming_keys
from slowfast.utils.registry import CHOICES

CHOICES["MVIT.MODE"] = POOL_MODES
CHOICES["MVIT.NORM"] = ("layernorm",)
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
        patch_embed: (B, C, T, H, W) -> (B, dim, T', H', W'); or of images (B, C, H, W), T' = 1.
        blocks: in order.
        size: (T', H', W') of the tokens that position embeddings are built for.
        options: see `TokenOptions`.
        norm_stem: norm after the position embeddings.
    """

    def __init__(
        self,
        patch_embed: PatchEmbed | ImagePatchEmbed,
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
        self.in_channels = [patch_embed.proj.in_channels]
        self.min_size = [max(k - 2 * pad, 1) for k, pad in zip(patch_embed.kernel, patch_embed.padding, strict=True)]

    @property
    def layers(self) -> Sequence[nn.Module]:
        """Return the blocks, in order."""
        return self.blocks

    def check_inputs(self, inputs: list[torch.Tensor]) -> None:
        """Check the clip, as in `VideoModel`; a model of images takes (B, C, H, W) and (B, C, 1, H, W)."""
        if not self.patch_embed.takes_images:
            super().check_inputs(inputs)
            return
        if isinstance(inputs, (list, tuple)):
            inputs = [x.unsqueeze(2) if isinstance(x, torch.Tensor) and x.dim() == 4 else x for x in inputs]
        super().check_inputs(inputs)
        if inputs[0].shape[2] != 1:
            raise ValueError(
                f"{type(self).__name__} of images (MVIT.PATCH_2D True) takes clips of one frame, got "
                f"{inputs[0].shape[2]} frames"
            )

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
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.Conv3d)):
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
        patches = self.patch_embed
        window = zip(size, patches.kernel, patches.stride, patches.padding, strict=True)
        grids = [tuple((n + 2 * pad - kernel) // stride + 1 for n, kernel, stride, pad in window)]
        for block in self.layers:
            grids.append(block.size(grids[-1]))
        return list(dict.fromkeys(grids)), self.num_prefix_tokens

    def depth_groups(self) -> list[list[nn.Module]]:
        """Return the layers by depth: patch and position embeddings, blocks, and what follows them."""
        stem = [self.patch_embed, self.own_parameters()]
        stem += [] if self.norm_stem is None else [self.norm_stem]
        return [stem, *([block] for block in self.layers), self._tail()]

    def _tail(self) -> list[nn.Module]:
        """Return the layers behind the blocks."""
        return []

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
        return self._run_blocks(self._embedded(as_tokens(features), thw), thw)

    def _run_blocks(self, tokens: torch.Tensor, thw: Size) -> tuple[torch.Tensor, Size]:
        for block in self.blocks:
            tokens, thw = block(tokens, thw), block.size(thw)
        return tokens, thw


def encoder_parts(
    cfg: CfgNode,
) -> tuple[PatchEmbed | ImagePatchEmbed, list[BlockSizes], list[float], Size, TokenOptions, nn.Module | None]:
    """Build the parts of an encoder from MVIT.*.

    Returns:
        The patch embedding, sizes and drop-path rates of the blocks, (T, H, W) of the tokens, their options, and the
        norm in front of the blocks.
    """
    options = cfg.MVIT
    embed = ImagePatchEmbed if options.PATCH_2D else PatchEmbed
    patch_embed = embed(
        *(cfg.DATA.INPUT_CHANNEL_NUM[0], options.EMBED_DIM),
        *(options.PATCH_KERNEL, options.PATCH_STRIDE, options.PATCH_PADDING),
    )
    size = _token_size(cfg, patch_embed.stride)
    blocks = block_sizes(
        options.DEPTH,
        options.EMBED_DIM,
        options.NUM_HEADS,
        size,
        options.DIM_MUL,
        options.HEAD_MUL,
        options.DIM_MUL_IN_ATT or options.REV.ENABLE,
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
    return patch_embed, blocks, rates, size, tokens, layer_norm(options.EMBED_DIM) if options.NORM_STEM else None


def _token_size(cfg: CfgNode, stride: Size) -> Size:
    """Return (T, H, W) of the tokens that position embeddings are built for, of patches with that stride."""
    frames, crop = position_embedding_size(cfg)
    size = tuple(n // stride for n, stride in zip((frames, crop, crop), stride, strict=True))
    if not math.prod(size):
        raise ValueError(
            f"MVIT.PATCH_STRIDE {cfg.MVIT.PATCH_STRIDE} leaves no patch of {frames} frames of {crop} x {crop} pixels "
            "(DATA.NUM_FRAMES, DATA.TRAIN_CROP_SIZE)"
        )
    return size


def attention_options(cfg: CfgNode) -> PoolingOptions:
    """Return the settings of all attentions."""
    options = cfg.MVIT
    return PoolingOptions(
        *(options.MODE, options.POOL_FIRST, options.SEPARATE_QKV, options.QKV_BIAS, options.RESIDUAL_POOLING),
        *(options.REL_POS_SPATIAL, options.REL_POS_TEMPORAL, options.REL_POS_ZERO_INIT),
        *(int(options.CLS_EMBED_ON), options.DROPOUT_RATE),
    )


def build_blocks(cfg: CfgNode, sizes: Sequence[BlockSizes], rates: Sequence[float]) -> list[MultiscaleBlock]:
    """Build the blocks of these sizes and drop-path rates."""
    options = cfg.MVIT
    with naming_keys(cfg, "MVIT.EMBED_DIM", "MVIT.NUM_HEADS", "MVIT.DROPPATH_RATE"):
        return [
            MultiscaleBlock(
                each,
                attention_options(cfg),
                layer_norm,
                options.MLP_RATIO,
                options.DIM_MUL_IN_ATT,
                drop_path,
                options.LAYER_SCALE_INIT_VALUE,
            )
            for each, drop_path in zip(sizes, rates, strict=True)
        ]


def _positions(cfg: CfgNode) -> str:
    options = cfg.MVIT
    if not options.USE_ABS_POS:
        return ""
    if options.SEP_POS_EMBED:
        return "separate"
    return "sincos_3d" if options.USE_FIXED_SINCOS_POS else "joint"
