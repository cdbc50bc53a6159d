"""Non-local block. Shapes: x is (B, C, T, H, W); N and P are numbers of positions, T*H*W before and after pooling."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.layers.conv import Conv3d
from slowfast.utils.errors import check_choice

INSTANTIATIONS = ("softmax", "dot_product")


class NonLocal(nn.Module):
    """Non-local block: attention of every position to every (pooled) position, plus the input.

    Source: "Non-local Neural Networks" (arXiv 1711.07971), section 3.

    Args:
        dim: channels C in and out.
        dim_inner: channels of queries, keys and values.
        pool_size: (T, H, W) of the max pooling before keys and values; None for no pooling.
        instantiation: "softmax" (scores scaled by dim_inner ** -0.5) or "dot_product" (divided by P).
        norm: constructor `norm(channels)` of the norm after the output convolution; None for no norm. The norm, or
            without one the output convolution, is initialized to zero, so that the block starts as the identity.
        group: number of groups of frames, each attending within itself.

    Raises:
        ValueError: unknown instantiation; in forward, the groups do not divide the frames.
    """

    def __init__(
        self,
        dim: int,
        dim_inner: int,
        pool_size: Sequence[int] | None = None,
        instantiation: str = "softmax",
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm3d,
        group: int = 1,
    ):
        super().__init__()
        check_choice("instantiation", instantiation, INSTANTIATIONS)
        self.dim_inner = dim_inner
        self.instantiation = instantiation
        self.group = group
        self.conv_theta = Conv3d(dim, dim_inner, 1)
        self.conv_phi = Conv3d(dim, dim_inner, 1)
        self.conv_g = Conv3d(dim, dim_inner, 1)
        self.conv_out = Conv3d(dim_inner, dim, 1)
        if norm is None:
            self.conv_out.zero_init = True
            self.bn = nn.Identity()
        else:
            self.bn = norm(dim)
            self.bn.zero_init = True
        pools = pool_size is not None and any(size > 1 for size in pool_size)
        self.pool = nn.MaxPool3d(tuple(pool_size), tuple(pool_size)) if pools else nn.Identity()

    def attention(self, queries: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Attend from `queries` (B, C, T, H, W) to `context` (B, C, T', H, W): (B, dim_inner, T, H, W)."""
        context = self.pool(context)
        theta = self.conv_theta(queries).flatten(2).transpose(1, 2)  # (B, N, C')
        phi = self.conv_phi(context).flatten(2).transpose(1, 2)  # (B, P, C')
        g = self.conv_g(context).flatten(2).transpose(1, 2)  # (B, P, C')
        if self.instantiation == "softmax":
            y = F.scaled_dot_product_attention(theta.unsqueeze(1), phi.unsqueeze(1), g.unsqueeze(1)).squeeze(1)
        else:
            # Without a softmax the product is associative; this order has an intermediate of C' x C', not of N x P.
            y = theta @ (phi.transpose(1, 2) @ g / phi.shape[1])
        return y.transpose(1, 2).reshape(queries.shape[0], self.dim_inner, *queries.shape[2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.group == 1:
            return x + self.bn(self.conv_out(self.attention(x, x)))
        b, c, t, h, w = x.shape
        if t % self.group:
            raise ValueError(f"{self.group} groups do not divide the {t} frames at a non-local block")
        folded = x.transpose(1, 2).reshape(b * self.group, t // self.group, c, h, w).transpose(1, 2)
        y = folded + self.bn(self.conv_out(self.attention(folded, folded)))
        return y.transpose(1, 2).reshape(b, t, c, h, w).transpose(1, 2)
