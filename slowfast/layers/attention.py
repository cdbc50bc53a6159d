"""Attention layers. Shapes: tokens are (B, U + T*H*W, C): U of no position (the class token; 0 or 1), then a clip's,
frame by frame, row by row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from slowfast.layers.conv import Conv3d
from slowfast.layers.relative_positions import Rows, attend, relative_rows

Size = tuple[int, int, int]

POOL_MODES = ("conv", "conv_unshared", "avg", "max")


def split_heads(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, L, C) as (B, heads, L, C / heads)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(tokens: torch.Tensor) -> torch.Tensor:
    """(B, heads, L, C / heads) as (B, L, C)."""
    return tokens.transpose(1, 2).flatten(2)


def as_map(tokens: torch.Tensor, thw: Sequence[int]) -> torch.Tensor:
    """Tokens (B, T*H*W, C) as a map (B, C, T, H, W); a view."""
    return tokens.unflatten(1, tuple(thw)).permute(0, 4, 1, 2, 3)


def as_tokens(features: torch.Tensor) -> torch.Tensor:
    """A map (B, C, T, H, W) as tokens (B, T*H*W, C)."""
    return features.permute(0, 2, 3, 4, 1).flatten(1, 3)


@dataclass(frozen=True)
class Pooling:
    """How the tokens of queries, or of keys and values, are pooled.

    Attributes:
        kernel, stride: (T, H, W) of the window.
    """

    kernel: Size
    stride: Size

    @property
    def padding(self) -> Size:
        """(T, H, W) of the padding on each side."""
        return tuple(size // 2 for size in self.kernel)

    def size(self, thw: Sequence[int]) -> Size:
        """(T, H, W) of what is left of `thw` positions."""
        return tuple(
            (n + 2 * pad - kernel) // stride + 1
            for n, pad, kernel, stride in zip(thw, self.padding, self.kernel, self.stride, strict=True)
        )


class SelfAttention(nn.Module):
    """Multi-head attention of all tokens to all. ("An Image is Worth 16x16 Words", appendix A.)

    Args:
        dim: channels.
        heads: number of heads.
        qkv_bias: bias in the maps to queries, keys and values.
        dropout: rate behind the last map.

    Raises:
        ValueError: the heads do not divide the channels.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True, dropout: float = 0.0):
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(dropout)

    def read(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """What queries (B, Lq, C) read from keys and values (B, Lk, C)."""
        return merge_heads(attend(*(split_heads(x, self.heads) for x in (q, k, v))))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.proj_drop(self.proj(self.read(*self.qkv(tokens).chunk(3, dim=-1))))


@dataclass(frozen=True)
class PoolingOptions:
    """What the pooling attentions of a model have in common (section MVIT).

    Attributes:
        mode: "conv" (a depthwise convolution that the heads share, then a norm), "conv_unshared" (each head has its
            own), "avg" or "max".
        pool_first: pool in front of the maps to queries, keys and values.
        separate_qkv: three maps in place of one.
        residual_pooling: add the pooled queries to what they read, except those of no position.
        relative_space, relative_time: relative positions.
        relative_zero_init: they start at zero.
    """

    mode: str = "conv"
    pool_first: bool = False
    separate_qkv: bool = False
    qkv_bias: bool = True
    residual_pooling: bool = False
    relative_space: bool = False
    relative_time: bool = False
    relative_zero_init: bool = False


class PoolingAttention(nn.Module):
    """Attention whose queries, keys and values are pooled over space and time. (MViT, arXiv 2104.11227, section 3.1.)

    Args:
        dim, dim_out: channels in and out.
        heads: number of heads.
        pool_q, pool_kv: of queries, and of keys and values; None for none.
        size: (T, H, W) of the clip's tokens that relative positions are made for.
        norm: constructor `norm(channels)`.
        num_prefix_tokens: U, 1 with a class token and 0 without.
        dropout: rate behind the last map.

    Raises:
        ValueError: the heads do not divide the channels; an unknown mode.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        heads: int,
        pool_q: Pooling | None,
        pool_kv: Pooling | None,
        size: Size,
        norm: Callable[[int], nn.Module],
        options: PoolingOptions,
        num_prefix_tokens: int = 1,
        dropout: float = 0.0,
    ):
        super().__init__()
        check_heads(dim_out, heads)
        if options.pool_first:
            check_heads(dim, heads)
        self.heads, self.num_prefix_tokens, self.options = heads, num_prefix_tokens, options
        self.stride_q, self.stride_kv = (pool.stride if pool else (1, 1, 1) for pool in (pool_q, pool_kv))
        if options.pool_first or options.separate_qkv:
            self.q = nn.Linear(dim, dim_out, bias=options.qkv_bias)
            self.k = nn.Linear(dim, dim_out, bias=options.qkv_bias)
            self.v = nn.Linear(dim, dim_out, bias=options.qkv_bias)
        else:
            self.qkv = nn.Linear(dim, 3 * dim_out, bias=options.qkv_bias)
        self.proj = nn.Linear(dim_out, dim_out)
        self.proj_drop = nn.Dropout(dropout)
        dim_pool = dim if options.pool_first else dim_out
        for name, pool in (("q", pool_q), ("k", pool_kv), ("v", pool_kv)):
            self._add_pool(name, pool, dim_pool, norm)
        self._add_tables(size, dim_out // heads)

    def _add_pool(self, name: str, pool: Pooling | None, dim: int, norm: Callable[[int], nn.Module]) -> None:
        """`pool_{name}` and `norm_{name}`."""
        mode, layer, norm_layer = self.options.mode, None, None
        if mode not in POOL_MODES:
            raise ValueError(f"MVIT.MODE is {mode!r}; it must be one of {', '.join(POOL_MODES)}")
        if pool is not None and mode in ("avg", "max"):
            kind = nn.AvgPool3d if mode == "avg" else nn.MaxPool3d
            layer = kind(pool.kernel, pool.stride, pool.padding)
        elif pool is not None:
            width = dim // self.heads if mode == "conv" else dim
            layer = Conv3d(width, width, pool.kernel, pool.stride, pool.padding, groups=width, bias=False)
            norm_layer = norm(width)
        self.add_module(f"pool_{name}", layer)
        self.add_module(f"norm_{name}", norm_layer)

    def _add_tables(self, size: Size, dim: int) -> None:
        """`rel_pos_h`, `rel_pos_w`, `rel_pos_t`: vectors by distance, where asked for."""
        sizes = {}
        if self.options.relative_space:
            finest = [max(n // q, n // k, 1) for n, q, k in zip(size, self.stride_q, self.stride_kv, strict=True)]
            sizes |= {"rel_pos_h": finest[1], "rel_pos_w": finest[2]}
        if self.options.relative_time:
            sizes["rel_pos_t"] = size[0]
        for name in ("rel_pos_h", "rel_pos_w", "rel_pos_t"):
            table = nn.Parameter(torch.zeros(2 * sizes[name] - 1, dim)) if name in sizes else None
            self.register_parameter(name, table)
            if table is not None and not self.options.relative_zero_init:
                nn.init.trunc_normal_(table, std=0.02)

    def pool(self, name: str, tokens: torch.Tensor, thw: Size) -> tuple[torch.Tensor, Size]:
        """Tokens of queries, keys or values ("q", "k", "v") pooled, and (T, H, W) of their positions."""
        layer, norm = getattr(self, f"pool_{name}"), getattr(self, f"norm_{name}")
        if layer is None:
            return tokens, thw
        folded = 1 if self.options.mode == "conv_unshared" else self.heads
        tokens, thw = pool_tokens(tokens, thw, layer, self.num_prefix_tokens, folded)
        if norm is not None:
            tokens = norm(tokens.unflatten(-1, (folded, -1))).flatten(2)
        return tokens, thw

    def queries_keys_values(self, tokens: torch.Tensor, thw: Size) -> list[tuple[torch.Tensor, Size]]:
        """Pooled queries, keys and values (B, U + L, dim_out), with (T, H, W) of their positions."""
        maps = [self.q, self.k, self.v] if self.options.pool_first or self.options.separate_qkv else []
        if self.options.pool_first:
            pooled = [self.pool(name, tokens, thw) for name in "qkv"]
            return [(linear(x), size) for linear, (x, size) in zip(maps, pooled, strict=True)]
        mapped = [linear(tokens) for linear in maps] if maps else self.qkv(tokens).chunk(3, dim=-1)
        return [self.pool(name, x, thw) for name, x in zip("qkv", mapped, strict=True)]

    def rows(self, q_thw: Size, k_thw: Size) -> Rows:
        """Vectors of relative positions of time, height and width."""
        tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
        return [
            None if table is None else relative_rows(table, q, k)
            for table, q, k in zip(tables, q_thw, k_thw, strict=True)
        ]

    def read(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, q_thw: Size, k_thw: Size) -> torch.Tensor:
        """What queries (B, U + Lq, C) read from keys and values (B, U + Lk, C)."""
        q, k, v = (split_heads(x, self.heads) for x in (q, k, v))
        return merge_heads(attend(q, k, v, self.rows(q_thw, k_thw), q_thw, k_thw, self.num_prefix_tokens))

    def forward(self, tokens: torch.Tensor, thw: Size) -> torch.Tensor:
        """Tokens (B, U + L', dim_out), those of the pooled queries."""
        (q, q_thw), (k, k_thw), (v, _) = self.queries_keys_values(tokens, thw)
        y = self.read(q, k, v, q_thw, k_thw)
        if self.options.residual_pooling:
            y = torch.cat(
                [y[:, : self.num_prefix_tokens], y[:, self.num_prefix_tokens :] + q[:, self.num_prefix_tokens :]], dim=1
            )
        return self.proj_drop(self.proj(y))


def pool_tokens(
    tokens: torch.Tensor, thw: Size, layer: nn.Module, num_prefix_tokens: int, folded: int = 1
) -> tuple[torch.Tensor, Size]:
    """The clip's tokens pooled, those of no position as they are; and (T, H, W) of the positions left.

    Args:
        tokens: (B, U + L, C).
        layer: (B * folded, C / folded, T, H, W) in, as many channels out.
        num_prefix_tokens: U.
        folded: groups of channels that `layer` gets side by side in the batch.
    """
    placed = tokens[:, num_prefix_tokens:].unflatten(-1, (folded, -1)).transpose(1, 2).flatten(0, 1)
    pooled = layer(as_map(placed, thw))
    left = as_tokens(pooled).unflatten(0, (-1, folded)).transpose(1, 2).flatten(2)
    return torch.cat([tokens[:, :num_prefix_tokens], left], dim=1) if num_prefix_tokens else left, tuple(
        pooled.shape[2:]
    )


def check_heads(dim: int, heads: int) -> None:
    """Raise ValueError unless `heads` heads divide `dim` channels."""
    if dim % heads:
        raise ValueError(f"{heads} attention heads do not divide {dim} channels; change the heads or the channels")
