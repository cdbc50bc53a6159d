"""Attention layers.

Shapes: tokens are (B, P + T*H*W, C): P prefix tokens (the class token, if any), then the clip's, frame by frame and row
by row. q is (B, N, Lq, C), k and v (B, N, Lk, C), with N heads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.layers.conv import Conv3d
from slowfast.layers.pool import AvgPool3d
from slowfast.utils.errors import check_choice

Size = tuple[int, int, int]
# Relative position embeddings of time, height and width: (Lq_axis, Lk_axis, C) each, or None.
RelPos = Sequence[torch.Tensor | None]

POOL_MODES = ("conv", "conv_unshared", "avg", "max")
# GPU kernels of attention that keep no matrix of queries and keys need as many channels in q, k and v, and a multiple
# of this (4 in float32, 8 in half precision). Without them PyTorch falls back on plain products.
_CHANNELS_OF_KERNELS = 8


def split_heads(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Reshape (B, L, C) to (B, heads, L, C / heads)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(tokens: torch.Tensor) -> torch.Tensor:
    """Reshape (B, heads, L, C / heads) to (B, L, C)."""
    return tokens.transpose(1, 2).flatten(2)


def as_map(tokens: torch.Tensor, thw: Sequence[int]) -> torch.Tensor:
    """View tokens (B, T*H*W, C) as a feature map (B, C, T, H, W)."""
    return tokens.unflatten(1, tuple(thw)).permute(0, 4, 1, 2, 3)


def as_tokens(features: torch.Tensor) -> torch.Tensor:
    """Reshape a feature map (B, C, T, H, W) to tokens (B, T*H*W, C)."""
    return features.permute(0, 2, 3, 4, 1).flatten(1, 3)


@dataclass(frozen=True)
class Pooling:
    """Pooling of queries, or of keys and values.

    Attributes:
        kernel, stride: (T, H, W).
    """

    kernel: Size
    stride: Size

    @property
    def padding(self) -> Size:
        """Return (T, H, W) of the padding on each side."""
        return tuple(size // 2 for size in self.kernel)

    def size(self, thw: Sequence[int]) -> Size:
        """Return (T, H, W) after pooling `thw` positions."""
        return tuple(
            (n + 2 * pad - kernel) // stride + 1
            for n, pad, kernel, stride in zip(thw, self.padding, self.kernel, self.stride, strict=True)
        )


def resize_rel_pos(table: torch.Tensor, length: int) -> torch.Tensor:
    """Resize a table of relative position embeddings (n, C) to `length` rows, by linear interpolation."""
    if table.shape[0] == length:
        return table
    return F.interpolate(table.t()[None], size=length, mode="linear")[0].t()


def get_rel_pos(table: torch.Tensor, q_len: int, k_len: int) -> torch.Tensor:
    """Return the relative position embeddings (q_len, k_len, C) of all pairs along an axis.

    Queries and keys span the same axis; distances count in steps of the finer of the two. (MViTv2, arXiv 2112.01526,
    section 4.1.)

    Args:
        table: (n, C), an embedding for each distance.
    """
    table = resize_rel_pos(table, 2 * max(q_len, k_len) - 1)
    q_step, k_step = max(k_len / q_len, 1.0), max(q_len / k_len, 1.0)
    q_at = torch.arange(q_len, device=table.device)[:, None] * q_step
    k_at = torch.arange(k_len, device=table.device)[None] * k_step
    return table[(q_at - k_at + (k_len - 1) * k_step).long()]


def scaled_dot_product(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    rel_pos: RelPos = (None, None, None),
    q_thw: Sequence[int] = (),
    k_thw: Sequence[int] = (),
    num_prefix_tokens: int = 0,
    bias_as: str = "auto",
) -> torch.Tensor:
    """Compute softmax(q k' / sqrt(C) + bias) v, (B, N, Lq, C); bias is q times the pair's embedding, summed over axes.

    Args:
        rel_pos: relative position embeddings of the pairs.
        q_thw, k_thw: positions (T, H, W) of queries and keys.
        num_prefix_tokens: tokens in front, which have no position and no bias.
        bias_as: how the kernel gets the bias. "mask": as `attn_mask`, which holds a number for every pair of a query
            and a key, and is kept for the backward pass. "channels": as more channels of q and k, so that there are no
            such numbers. "auto": as channels where gradients are kept, else as a mask.
    """
    if all(embedding is None for embedding in rel_pos):
        return F.scaled_dot_product_attention(q, k, v)
    placed = q[:, :, num_prefix_tokens:].unflatten(2, tuple(q_thw))
    scores = [
        None if embedding is None else torch.einsum(f"bnthwc,{axis}kc->bnthwk", placed, embedding)
        for axis, embedding in zip("thw", rel_pos, strict=True)
    ]
    if bias_as == "auto":
        bias_as = "channels" if torch.is_grad_enabled() and q.requires_grad else "mask"
    biased = {"mask": _with_bias_mask, "channels": _with_bias_channels}[bias_as]
    return biased(q, k, v, scores, k_thw, num_prefix_tokens)


def _with_bias_mask(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scores: RelPos, k_thw: Sequence[int], num_prefix_tokens: int
) -> torch.Tensor:
    mask = q.new_zeros(())
    for axis, score in enumerate(scores):
        if score is not None:
            others = [1 if other != axis else -1 for other in range(3)]
            mask = mask + score.unflatten(-1, others)
    mask = mask.expand(*mask.shape[:-3], *k_thw).flatten(5).flatten(2, 4)
    mask = F.pad(mask, (num_prefix_tokens, 0, num_prefix_tokens, 0)).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _with_bias_channels(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scores: RelPos, k_thw: Sequence[int], num_prefix_tokens: int
) -> torch.Tensor:
    """Append the scores of an axis to the channels of q, and one-hot positions along it to those of k."""
    channels = q.shape[-1]
    index = torch.arange(k.shape[2] - num_prefix_tokens, device=k.device).view(*k_thw)
    at = (index // (k_thw[1] * k_thw[2]), index // k_thw[2] % k_thw[1], index % k_thw[2])
    queries, keys = [q * channels**-0.5], [k]
    for score, position, size in zip(scores, at, k_thw, strict=True):
        if score is not None:
            queries.append(F.pad(score.flatten(2, 4), (0, 0, num_prefix_tokens, 0)))
            own = F.pad(F.one_hot(position.flatten(), size).to(k.dtype), (0, 0, num_prefix_tokens, 0))
            keys.append(own.expand(*k.shape[:2], -1, -1))
    missing = -sum(part.shape[-1] for part in queries) % _CHANNELS_OF_KERNELS
    for parts in (queries, keys):
        parts.append(parts[0].new_zeros(()).expand(*parts[0].shape[:-1], missing))
    q, k = torch.cat(queries, dim=-1), torch.cat(keys, dim=-1)
    v = F.pad(v, (0, q.shape[-1] - channels))
    return F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), scale=1.0)[..., :channels]


class SelfAttention(nn.Module):
    """Multi-head self-attention. ("An Image is Worth 16x16 Words", arXiv 2010.11929, appendix A.)

    Args:
        dim: channels.
        heads: number of heads.
        qkv_bias: bias of the query, key and value projections.
        dropout: rate after the output projection.

    Raises:
        ValueError: the heads do not divide the channels.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True, dropout: float = 0.0):
        super().__init__()
        _check_heads(dim, heads)
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(dropout)

    def attention(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attend from queries (B, Lq, C) to keys and values (B, Lk, C)."""
        return merge_heads(scaled_dot_product(*(split_heads(x, self.heads) for x in (q, k, v))))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.proj_drop(self.proj(self.attention(*self.qkv(tokens).chunk(3, dim=-1))))


@dataclass(frozen=True)
class PoolingOptions:
    """Settings shared by the pooling attentions of a model (section MVIT).

    Attributes:
        mode: pooling by "conv" (a depthwise convolution shared by the heads, then a norm), "conv_unshared" (one for
            each head), "avg" or "max".
        pool_first: pool before the query, key and value projections.
        separate_qkv: project by three linear maps rather than one.
        qkv_bias: bias of these projections.
        residual_pooling: add the pooled queries to the output, except those of prefix tokens.
        relative_space, relative_time: add relative position embeddings.
        relative_zero_init: initialize these to zero.
        num_prefix_tokens: P, 1 with a class token and 0 without.
        dropout: rate after the output projection.
    """

    mode: str = "conv"
    pool_first: bool = False
    separate_qkv: bool = False
    qkv_bias: bool = True
    residual_pooling: bool = False
    relative_space: bool = False
    relative_time: bool = False
    relative_zero_init: bool = False
    num_prefix_tokens: int = 1
    dropout: float = 0.0


class PoolingAttention(nn.Module):
    """Multi-head pooling attention. (MViT, arXiv 2104.11227, section 3.1.)

    Args:
        dim, dim_out: channels in and out.
        heads: number of heads.
        pool_q, pool_kv: pooling of queries, and of keys and values, or None.
        size: (T, H, W) of the tokens that relative position embeddings are built for.
        norm: constructor `norm(channels)`.

    Attributes:
        pooled_channels: channels of the tokens that are pooled, those of all heads.
        bias_as: see `scaled_dot_product` (`MVIT.REL_POS_BIAS`).

    Raises:
        ValueError: the heads do not divide the channels; an unknown mode.
    """

    bias_as: str = "auto"

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
    ):
        super().__init__()
        check_choice("mode", options.mode, POOL_MODES)
        _check_heads(dim_out, heads)
        if options.pool_first:
            _check_heads(dim, heads)
        self.heads, self.num_prefix_tokens, self.options = heads, options.num_prefix_tokens, options
        self.stride_q, self.stride_kv = (pool.stride if pool else (1, 1, 1) for pool in (pool_q, pool_kv))
        if options.pool_first or options.separate_qkv:
            self.q = nn.Linear(dim, dim_out, bias=options.qkv_bias)
            self.k = nn.Linear(dim, dim_out, bias=options.qkv_bias)
            self.v = nn.Linear(dim, dim_out, bias=options.qkv_bias)
        else:
            self.qkv = nn.Linear(dim, 3 * dim_out, bias=options.qkv_bias)
        self.proj = nn.Linear(dim_out, dim_out)
        self.proj_drop = nn.Dropout(options.dropout)
        self.pooled_channels = dim if options.pool_first else dim_out
        for name, pool in (("q", pool_q), ("k", pool_kv), ("v", pool_kv)):
            self._add_pool(name, pool, self.pooled_channels, norm)
        self._add_tables(size, dim_out // heads)

    def _add_pool(self, name: str, pool: Pooling | None, dim: int, norm: Callable[[int], nn.Module]) -> None:
        """Add `pool_{name}` and `norm_{name}`."""
        mode, layer, norm_layer = self.options.mode, None, None
        if pool is not None and mode in ("avg", "max"):
            kind = AvgPool3d if mode == "avg" else nn.MaxPool3d
            layer = kind(pool.kernel, pool.stride, pool.padding)
        elif pool is not None:
            width = dim // self.heads if mode == "conv" else dim
            layer = Conv3d(width, width, pool.kernel, pool.stride, pool.padding, groups=width, bias=False)
            norm_layer = norm(width)
        self.add_module(f"pool_{name}", layer)
        self.add_module(f"norm_{name}", norm_layer)

    def _add_tables(self, size: Size, dim: int) -> None:
        """Add the relative position embeddings `rel_pos_h`, `rel_pos_w`, `rel_pos_t`; None for those not asked for."""
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
        """Pool the tokens of queries, keys or values ("q", "k", "v"); return them and (T, H, W) of their positions."""
        layers = {"q": (self.pool_q, self.norm_q), "k": (self.pool_k, self.norm_k), "v": (self.pool_v, self.norm_v)}
        layer, norm = layers[name]
        if layer is None:
            return tokens, thw
        folded = 1 if self.options.mode == "conv_unshared" else self.heads
        tokens, thw = pool_tokens(tokens, thw, layer, self.num_prefix_tokens, folded)
        if norm is not None:
            tokens = norm(tokens.unflatten(-1, (folded, -1))).flatten(2)
        return tokens, thw

    def queries_keys_values(self, tokens: torch.Tensor, thw: Size) -> list[tuple[torch.Tensor, Size]]:
        """Compute pooled queries, keys and values (B, P + L, dim_out), with (T, H, W) of their positions."""
        maps = [self.q, self.k, self.v] if self.options.pool_first or self.options.separate_qkv else []
        if self.options.pool_first:
            pooled = [self.pool(name, tokens, thw) for name in "qkv"]
            return [(linear(x), size) for linear, (x, size) in zip(maps, pooled, strict=True)]
        mapped = [linear(tokens) for linear in maps] if maps else self.qkv(tokens).chunk(3, dim=-1)
        return [self.pool(name, x, thw) for name, x in zip("qkv", mapped, strict=True)]

    def rel_pos(self, q_thw: Size, k_thw: Size) -> RelPos:
        """Return the relative position embeddings of time, height and width."""
        tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
        return [
            None if table is None else get_rel_pos(table, q, k)
            for table, q, k in zip(tables, q_thw, k_thw, strict=True)
        ]

    def attention(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, q_thw: Size, k_thw: Size) -> torch.Tensor:
        """Attend from queries (B, P + Lq, C) to keys and values (B, P + Lk, C)."""
        return self._attend(q, k, v, q_thw, k_thw, self.rel_pos(q_thw, k_thw))

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, q_thw: Size, k_thw: Size, rel_pos: RelPos
    ) -> torch.Tensor:
        q, k, v = (split_heads(x, self.heads) for x in (q, k, v))
        attended = scaled_dot_product(q, k, v, rel_pos, q_thw, k_thw, self.num_prefix_tokens, self.bias_as)
        return merge_heads(attended)

    def forward(self, tokens: torch.Tensor, thw: Size) -> torch.Tensor:
        """Compute tokens (B, P + L', dim_out) of the L' pooled queries."""
        (q, q_thw), (k, k_thw), (v, _) = self.queries_keys_values(tokens, thw)
        y = self.attention(q, k, v, q_thw, k_thw)
        if self.options.residual_pooling:
            first = self.num_prefix_tokens
            y = torch.cat([y[:, :first], y[:, first:] + q[:, first:]], dim=1)
        return self.proj_drop(self.proj(y))


def pool_tokens(
    tokens: torch.Tensor, thw: Size, layer: nn.Module, num_prefix_tokens: int, folded: int = 1
) -> tuple[torch.Tensor, Size]:
    """Pool the clip's tokens and keep the prefix tokens; return them and (T, H, W) of their positions.

    Args:
        tokens: (B, P + L, C).
        layer: (B * folded, C / folded, T, H, W) in, as many channels out.
        num_prefix_tokens: P.
        folded: groups of channels that are folded into the batch.
    """
    placed = tokens[:, num_prefix_tokens:].unflatten(-1, (folded, -1)).transpose(1, 2).flatten(0, 1)
    pooled = layer(as_map(placed, thw))
    left = as_tokens(pooled).unflatten(0, (-1, folded)).transpose(1, 2).flatten(2)
    if num_prefix_tokens:
        left = torch.cat([tokens[:, :num_prefix_tokens], left], dim=1)
    return left, tuple(pooled.shape[2:])


def _check_heads(dim: int, heads: int) -> None:
    """Raise ValueError unless `heads` heads divide `dim` channels."""
    if dim % heads:
        raise ValueError(f"{heads} attention heads do not divide {dim} channels; change the heads or the channels")


def pooling_attentions(model: nn.Module) -> list[PoolingAttention]:
    """Return the pooling attentions of a model."""
    return [module for module in model.modules() if isinstance(module, PoolingAttention)]
