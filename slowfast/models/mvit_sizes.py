"""Sizes of a multiscale network's blocks, by settings alone; pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slowfast.layers.attention import Pooling, Size
from slowfast.layers.squeeze_excitation import round_channels


@dataclass(frozen=True)
class BlockSizes:
    """Sizes of a block.

    Attributes:
        dim, dim_out: channels in and out.
        heads: attention heads.
        pool_q, pool_kv: pooling of queries, and of keys and values; None for none.
        size: (T, H, W) of the tokens that come in, for a clip of the size the network is made for.
    """

    dim: int
    dim_out: int
    heads: int
    pool_q: Pooling | None
    pool_kv: Pooling | None
    size: Size


def scaled_width(width: int, factor: float, divisor: int = 1) -> int:
    """`width` times `factor`, to the nearest multiple of `divisor`, or the next if that is under nine tenths of it."""
    return round_channels(width * factor, divisor, least=1)


def block_sizes(
    depth: int,
    dim: int,
    heads: int,
    size: Size,
    dim_mul: Sequence[Sequence[float]] = (),
    head_mul: Sequence[Sequence[float]] = (),
    dim_mul_in_attention: bool = False,
    stride_q: Sequence[Sequence[int]] = (),
    stride_kv: Sequence[Sequence[int]] = (),
    stride_kv_adaptive: Sequence[int] | None = None,
    kernel: Sequence[int] | None = None,
) -> list[BlockSizes]:
    """The blocks of a network, in order. (MViT, arXiv 2104.11227, table 2; MViTv2, arXiv 2112.01526, section 4.)

    Args:
        depth: number of blocks.
        dim, heads: channels and attention heads of the first.
        size: (T, H, W) of the first's tokens.
        dim_mul, head_mul: [block, factor] at which channels and heads grow; channels in the attention of that block, or
            at the end of the block before.
        stride_q, stride_kv: [block, T, H, W] of pooling.
        stride_kv_adaptive: [T, H, W] of the first block's keys and values, divided by the strides of the queries since;
            takes the place of `stride_kv`.
        kernel: [T, H, W] of all pooling windows; None for one more than a stride over 1.
    """
    channels, grown = {int(i): f for i, f in dim_mul}, {int(i): f for i, f in head_mul}
    strides_q = {row[0]: tuple(row[1:]) for row in stride_q}
    strides_kv = {row[0]: tuple(row[1:]) for row in stride_kv}
    blocks = []
    for i in range(depth):
        heads = scaled_width(heads, grown.get(i, 1))
        growth = i if dim_mul_in_attention else i + 1
        dim_out = scaled_width(dim, channels.get(growth, 1), scaled_width(heads, grown.get(growth, 1)))
        if stride_kv_adaptive is not None:
            falls = strides_q.get(i, (1, 1, 1))
            stride_kv_adaptive = [max(kv // q, 1) for kv, q in zip(stride_kv_adaptive, falls, strict=True)]
            strides_kv[i] = tuple(stride_kv_adaptive)
        pools = [_pooling(strides.get(i), kernel) for strides in (strides_q, strides_kv)]
        blocks.append(BlockSizes(dim, dim_out, heads, *pools, size))
        size = tuple(n // step for n, step in zip(size, strides_q.get(i, (1, 1, 1)), strict=True))
        dim = dim_out
    return blocks


def _pooling(stride: Size | None, kernel: Sequence[int] | None) -> Pooling | None:
    if stride is None:
        return None
    window = tuple(kernel) if kernel else skip_kernel(stride)
    return None if set(window) == set(stride) == {1} else Pooling(window, stride)


def skip_kernel(stride: Size) -> Size:
    """The window of a pooling by `stride`: one more along each axis that is pooled."""
    return tuple(step + 1 if step > 1 else 1 for step in stride)
