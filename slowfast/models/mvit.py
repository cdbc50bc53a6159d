"""Multiscale vision transformers: MViT (arXiv 2104.11227) and MViTv2 (arXiv 2112.01526).

Shapes: a clip is (B, C, T, H, W); tokens are (B, P + T'*H'*W', C), with P prefix tokens (the class token, if any).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.attention import POOL_MODES, PoolingOptions, Size, as_map, as_tokens
from slowfast.layers.pool import SpaceTimePool
from slowfast.models.build import MODEL_REGISTRY, build_head, position_embedding_size
from slowfast.models.heads import Classifier, apply_head
from slowfast.models.mvit_blocks import (
    AttentionPooling,
    BlockSizes,
    ImagePatchEmbed,
    MultiscaleBlock,
    PatchEmbed,
    block_sizes,
)
from slowfast.models.reversible import ReversibleBackbone, StreamFusion, build_reversible
from slowfast.models.tokens import TokenHead, TokenModel, fill_sincos_3d, layer_norm
from slowfast.utils.errors import naming_keys
from slowfast.utils.registry import CHOICES

CHOICES["MVIT.MODE"] = POOL_MODES
CHOICES["MVIT.NORM"] = ("layernorm",)


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
        patch_embed: PatchEmbed | ImagePatchEmbed,
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

    def _tail(self) -> list[nn.Module]:
        return [self.norm, self.head]

    def _normed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Apply the last norm."""
        return self.norm(tokens)

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the features [(B, C, T', H', W')] after the last norm, without the class token."""
        tokens, thw = self._tokens(inputs)
        return [as_map(self._normed(tokens)[:, self.num_prefix_tokens :], thw)]

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
            return self._normed(tokens[:, :1])
        if self.mean_first:
            return self.norm(self._pooled(tokens, thw))
        return self._pooled(self._normed(tokens), thw)

    def _pooled(self, tokens: torch.Tensor, thw: Size) -> torch.Tensor:
        return as_tokens(self.pool(as_map(tokens[:, self.num_prefix_tokens :], thw)))


class ReversibleMViT(MViT):
    """MViT of reversible blocks (arXiv 2302.04869), whose two streams are joined at the end.

    Args:
        patch_embed, norm, head, size, options, pool, norm_stem: as `MViT`; `norm` has the width that it sees.
        backbone: the blocks.
        fuse: joins the streams; before the last norm if it halves their width, or with `options.mean_first`.
    """

    def __init__(
        self,
        patch_embed: PatchEmbed | ImagePatchEmbed,
        backbone: ReversibleBackbone,
        fuse: StreamFusion,
        norm: nn.Module,
        head: Classifier,
        size: Size,
        options: TokenOptions,
        pool: nn.Module | None = None,
        norm_stem: nn.Module | None = None,
    ):
        super().__init__(patch_embed, (), norm, head, size, options, pool, norm_stem)
        self.rev_backbone, self.fuse = backbone, fuse
        self.fuse_first = options.mean_first or fuse.halves

    @property
    def layers(self) -> Sequence[nn.Module]:
        """Return the blocks and the transitions between stages, in order."""
        return self.rev_backbone.layers

    def _tail(self) -> list[nn.Module]:
        return [*super()._tail(), self.fuse]

    def _run_blocks(self, tokens: torch.Tensor, thw: Size) -> tuple[torch.Tensor, Size]:
        streams, thw = self.rev_backbone(tokens, thw)
        return (self.fuse(streams) if self.fuse_first else streams), thw

    def _normed(self, tokens: torch.Tensor) -> torch.Tensor:
        normed = self.norm(tokens)
        return normed if self.fuse_first else self.fuse(normed)


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

    With MVIT.PATCH_2D it is a model of images, with MVIT.REV.ENABLE one of reversible blocks.
    """
    patch_embed, blocks, rates, size, tokens, norm_stem = encoder_parts(cfg)
    dim = blocks[-1].dim_out
    if cfg.MVIT.REV.ENABLE:
        backbone, fuse = build_reversible(cfg, blocks, attention_options(cfg), rates)
        dim = dim if fuse.halves else 2 * dim
        model = ReversibleMViT(
            patch_embed, backbone, fuse, layer_norm(dim), _head(cfg, dim), size, tokens, _pool(cfg), norm_stem
        )
    else:
        layers = build_blocks(cfg, blocks, rates)
        model = MViT(patch_embed, layers, layer_norm(dim), _head(cfg, dim), size, tokens, _pool(cfg), norm_stem)
    with naming_keys(cfg, "MVIT.EMBED_DIM", "MVIT.USE_FIXED_SINCOS_POS"):
        model.init_weights(cfg.MVIT.HEAD_INIT_SCALE)
    return model


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


def _pool(cfg: CfgNode) -> nn.Module | None:
    """Build the pooling of tokens; None if the head reads the class token, or boxes."""
    if cfg.DETECTION.ENABLE or (cfg.MVIT.CLS_EMBED_ON and not cfg.MVIT.USE_MEAN_POOLING):
        return None
    return SpaceTimePool(None, None, *cfg.MODEL.FINAL_POOL)


def _head(cfg: CfgNode, dim: int) -> nn.Module:
    if cfg.DETECTION.ENABLE:
        return build_head(cfg, [dim], [(cfg.MVIT.PATCH_STRIDE[0], 1, 1)])
    return TokenHead(dim, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DROPOUT_RATE, cfg.MODEL.HEAD_ACT)
