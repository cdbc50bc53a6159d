"""Reversible blocks of MViT, and the transitions between its stages. ("Reversible Vision Transformers", 2302.04869.)

Shapes: tokens are (B, L, C); two streams side by side are (B, L, 2C).
"""

import re
from collections.abc import Sequence

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.activation_checkpoint import CheckpointedBlock
from slowfast.layers.attention import Pooling, PoolingAttention, PoolingOptions, Size, pool_tokens
from slowfast.layers.mlp import DropPath, Mlp
from slowfast.layers.reversible import Branch, run_reversible
from slowfast.models.mvit_blocks import BlockSizes, Norm, default_window
from slowfast.models.tokens import layer_norm
from slowfast.utils.errors import check_choice, naming_keys
from slowfast.utils.registry import CHOICES

RES_PATHS = ("conv", "max")
_MLPS = [f"{norm}concat_linear{times}" for norm in ("", "ln+") for times in ("", "_[0-9]*")]
FUSIONS = ("add", "max", "min", "avg", "concat", *_MLPS)
CHOICES["MVIT.REV.RES_PATH"] = RES_PATHS
CHOICES["MVIT.REV.RESPATH_FUSE"] = CHOICES["MVIT.REV.PRE_Q_FUSION"] = FUSIONS
_LINEAR = re.compile(r"(ln\+)?concat_linear(?:_(.+))?")


class StreamFusion(nn.Module):
    """Join two streams (B, L, 2C).

    Args:
        mode: "add", "max", "min" or "avg" of the two, (B, L, C). "concat" leaves them side by side. "concat_linear_K"
            adds an MLP of both, K times as wide inside, and "ln+concat_linear_K" has a norm in front of it.
        dim: 2C.

    Attributes:
        halves: the output is (B, L, C).

    Raises:
        ValueError: unknown mode, or K is no number.
    """

    def __init__(self, mode: str, dim: int):
        super().__init__()
        check_choice("fusion", mode, FUSIONS)
        linear = _LINEAR.fullmatch(mode)
        self.mode, self.halves, self.fuse_fn = mode, "concat" not in mode, None
        if linear:
            mlp = Mlp(dim, int(dim * float(linear[2] or 1)), dim)
            self.fuse_fn = nn.Sequential(layer_norm(dim), mlp) if linear[1] else mlp

    def forward(self, streams: torch.Tensor) -> torch.Tensor:
        if self.fuse_fn is not None:
            return self.fuse_fn(streams) + streams
        if not self.halves:
            return streams
        first, second = streams.chunk(2, dim=-1)
        if self.mode == "add":
            return first + second
        if self.mode == "avg":
            return (first + second) / 2
        return torch.maximum(first, second) if self.mode == "max" else torch.minimum(first, second)


class AttentionBranch(nn.Module):
    """Branch F: norm and pooling attention."""

    def __init__(self, norm: nn.Module, attn: PoolingAttention):
        super().__init__()
        self.norm, self.attn = norm, attn

    def forward(self, tokens: torch.Tensor, thw: Size) -> torch.Tensor:
        return self.attn(self.norm(tokens), thw)


class MlpBranch(nn.Module):
    """Branch G: norm and MLP."""

    def __init__(self, norm: nn.Module, mlp: Mlp):
        super().__init__()
        self.norm, self.mlp = norm, mlp

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.norm(tokens))


def _branches(
    sizes: BlockSizes, dim: int, options: PoolingOptions, norm: Norm, mlp_ratio: float
) -> tuple[AttentionBranch, MlpBranch]:
    """Build F, from `dim` channels to those of the block, and G."""
    pools, dim_out = (sizes.pool_q, sizes.pool_kv), sizes.dim_out
    attention = PoolingAttention(dim, dim_out, sizes.heads, *pools, sizes.size, norm, options)
    mlp = Mlp(dim_out, int(dim_out * mlp_ratio), dim_out, options.dropout)
    return AttentionBranch(norm(dim), attention), MlpBranch(norm(dim_out), mlp)


class ReversibleBlock(nn.Module):
    """Reversible transformer block: y1 = x1 + F(x2), y2 = x2 + G(y1).

    Args:
        sizes: channels, heads and pooling; queries are not pooled.
        options: of the attention; its dropout is that of the MLP too.
        norm: constructor `norm(channels)`.
        mlp_ratio: hidden channels of the MLP over its input channels.
        drop_path: rate of stochastic depth, of which a sample drops both branches or none.
    """

    def __init__(
        self, sizes: BlockSizes, options: PoolingOptions, norm: Norm, mlp_ratio: float = 4.0, drop_path: float = 0.0
    ):
        super().__init__()
        self.F, self.G = _branches(sizes, sizes.dim, options, norm, mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def size(self, thw: Size) -> Size:
        """Return (T, H, W) of the output tokens, that of the input tokens."""
        return thw

    def branches(self, x: torch.Tensor, thw: Size) -> tuple[Branch, Branch]:
        """Return F and G for streams like `x`."""
        factor = self.drop_path.draw(x)
        return Branch(self.F, (thw,), factor), Branch(self.G, (), factor)


class StageTransition(CheckpointedBlock):
    """Transition between stages: joins the streams, pools the tokens and changes their channels, with one output.

    Args:
        sizes: channels, heads and pooling.
        options, norm, mlp_ratio: see `ReversibleBlock`.
        fusion: joins the streams before the queries, see `StreamFusion`.
        residual_path: pool the shortcut as the queries, "conv", or by its "max".
        drop_path: rate of stochastic depth, which drops a sample with its shortcut, as published.
    """

    def __init__(
        self,
        sizes: BlockSizes,
        options: PoolingOptions,
        norm: Norm,
        mlp_ratio: float = 4.0,
        fusion: str = "avg",
        residual_path: str = "conv",
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.pre_q_fuse = StreamFusion(fusion, 2 * sizes.dim)
        dim = sizes.dim if self.pre_q_fuse.halves else 2 * sizes.dim
        self.F, self.G = _branches(sizes, dim, options, norm, mlp_ratio)
        self.pooling, self.drop_path = sizes.pool_q, DropPath(drop_path)
        self.res_proj = nn.Linear(dim, sizes.dim_out) if dim != sizes.dim_out else None
        self.pool_first, self.pool_skip = options.pool_first, None
        if residual_path == "max" and sizes.pool_q is not None:
            skip = Pooling(default_window(sizes.pool_q.stride), sizes.pool_q.stride)
            self.pool_skip = nn.MaxPool3d(skip.kernel, skip.stride, skip.padding)
        self.residual_path = residual_path

    def size(self, thw: Size) -> Size:
        """Return (T, H, W) of the output tokens for that of the input tokens."""
        return self.pooling.size(thw) if self.pooling else thw

    def forward_block(self, streams: torch.Tensor, thw: Size) -> torch.Tensor:
        """Compute (B, L', C') of the streams (B, L, 2C)."""
        x = self.pre_q_fuse(streams)
        y = self._shortcut(x, thw) + self.F(x, thw)
        return self.drop_path(y + self.G(y))

    def _shortcut(self, x: torch.Tensor, thw: Size) -> torch.Tensor:
        """Change the channels and pool; the queries' layers fit the channels that the queries have when pooled."""
        if self.pool_first:
            x = self.pool_shortcut(x, thw)
        x = x if self.res_proj is None else self.res_proj(x)
        return x if self.pool_first else self.pool_shortcut(x, thw)

    def pool_shortcut(self, x: torch.Tensor, thw: Size) -> torch.Tensor:
        """Pool tokens (B, L, C) of the shortcut to (B, L', C)."""
        if self.residual_path == "conv":
            return self.F.attn.pool("q", x, thw)[0]
        return x if self.pool_skip is None else pool_tokens(x, thw, self.pool_skip, 0)[0]


class ReversibleBackbone(nn.Module):
    """Runs of reversible blocks, each followed by a transition or the end.

    Args:
        layers: blocks and transitions, in order; a transition stands between two blocks.

    Attributes:
        recompute: the backward pass computes the activations of a run again, in training.
    """

    recompute: bool = True

    def __init__(self, layers: Sequence[ReversibleBlock | StageTransition]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, tokens: torch.Tensor, thw: Size) -> tuple[torch.Tensor, Size]:
        """Compute the two streams (B, L', 2C') of tokens (B, L, C), and (T, H, W) of their positions."""
        run: list[tuple[Branch, Branch]] = []
        for layer in self.layers:
            if isinstance(layer, ReversibleBlock):
                run.append(layer.branches(tokens, thw))
                continue
            tokens, thw, run = layer(self._streams(tokens, run), thw), layer.size(thw), []
        return self._streams(tokens, run), thw

    def _streams(self, tokens: torch.Tensor, run: list[tuple[Branch, Branch]]) -> torch.Tensor:
        return torch.cat(run_reversible(tokens, run, self.recompute and self.training), dim=-1)


def build_reversible(
    cfg: CfgNode, blocks: Sequence[BlockSizes], options: PoolingOptions, rates: Sequence[float]
) -> tuple[ReversibleBackbone, StreamFusion]:
    """Build the blocks by MVIT.REV, and what joins the streams at the end.

    Args:
        blocks: sizes of all.
        options: of the attentions.
        rates: of stochastic depth, of each block.

    Raises:
        ValueError: an unknown fusion; heads that do not divide the channels.
    """
    rev, ratio = cfg.MVIT.REV, cfg.MVIT.MLP_RATIO
    layers: list[ReversibleBlock | StageTransition] = []
    for i, (sizes, rate) in enumerate(zip(blocks, rates, strict=True)):
        if i not in rev.BUFFER_LAYERS:
            with naming_keys(cfg, "MVIT.EMBED_DIM", "MVIT.NUM_HEADS", "MVIT.DROPPATH_RATE"):
                layers.append(ReversibleBlock(sizes, options, layer_norm, ratio, rate))
            continue
        with naming_keys(cfg, "MVIT.EMBED_DIM", "MVIT.NUM_HEADS", "MVIT.DROPPATH_RATE", "MVIT.REV.PRE_Q_FUSION"):
            layers.append(StageTransition(sizes, options, layer_norm, ratio, rev.PRE_Q_FUSION, rev.RES_PATH, rate))
    with naming_keys(cfg, "MVIT.REV.RESPATH_FUSE"):
        fuse = StreamFusion(rev.RESPATH_FUSE, 2 * blocks[-1].dim_out)
    return ReversibleBackbone(layers), fuse
