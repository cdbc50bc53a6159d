"""Blocks of MViT (arXiv 2104.11227) and MViTv2 (arXiv 2112.01526), and the sizes of all blocks of a network.

Shapes: a clip is (B, C, T, H, W); tokens are (B, P + T'*H'*W', C), with P prefix tokens (the class token, if any).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from slowfast.layers.activation_checkpoint import CheckpointedBlock
from slowfast.layers.attention import Pooling, PoolingAttention, PoolingOptions, Size, pool_tokens
from slowfast.layers.conv import Conv3d
from slowfast.layers.mlp import DropPath, Mlp
from slowfast.models.blocks import round_channels

Norm = Callable[[int], nn.Module]


class PatchEmbed(nn.Module):
    """Patch embedding: one strided convolution.

    Args:
        dim_in, dim_out: channels.
        kernel, stride, padding: (T, H, W), frames and pixels.
    """

    takes_images = False

    def __init__(self, dim_in: int, dim_out: int, kernel: Size, stride: Size, padding: Size):
        super().__init__()
        self.kernel, self.stride, self.padding = tuple(kernel), tuple(stride), tuple(padding)
        self.proj = Conv3d(dim_in, dim_out, self.kernel, self.stride, self.padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed a clip: (B, C, T', H', W')."""
        return self.proj(x)


class ImagePatchEmbed(nn.Module):
    """Patch embedding of images: one strided 2-D convolution.

    Args:
        dim_in, dim_out: channels.
        kernel, stride, padding: (H, W), pixels.

    Attributes:
        kernel, stride, padding: the same along (T, H, W), as those of `PatchEmbed`.
    """

    takes_images = True

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
    ):
        super().__init__()
        self.kernel, self.stride, self.padding = (1, *kernel), (1, *stride), (0, *padding)
        self.proj = nn.Conv2d(dim_in, dim_out, tuple(kernel), tuple(stride), tuple(padding))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed images (B, C, H, W), or clips of one frame: (B, dim, 1, H', W')."""
        return self.proj(x if x.dim() == 4 else x.squeeze(2)).unsqueeze(2)


@dataclass(frozen=True)
class BlockSizes:
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
) -> list[BlockSizes]:
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
        blocks.append(BlockSizes(dim, dim_out, heads, *pools, size))
        size = tuple(n // step for n, step in zip(size, strides_q.get(i, (1, 1, 1)), strict=True))
        dim = dim_out
    return blocks


def _scaled(width: int, factor: float, divisor: int = 1) -> int:
    return round_channels(width * factor, divisor, minimum=1)


def _pooling(stride: Size | None, kernel: Sequence[int] | None) -> Pooling | None:
    if stride is None:
        return None
    window = tuple(kernel) if kernel else default_window(stride)
    return None if set(window) == set(stride) == {1} else Pooling(window, stride)


def default_window(stride: Size) -> Size:
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
        sizes: BlockSizes,
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
            skip = Pooling(default_window(sizes.pool_q.stride), sizes.pool_q.stride)
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
