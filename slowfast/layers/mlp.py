"""MLPs of transformer blocks and of contrastive learning, and stochastic depth. Shapes: x is (B, ..., C)."""

from collections.abc import Callable

import torch
from torch import nn


class Mlp(nn.Module):
    """MLP: linear map, GELU, dropout, linear map, dropout.

    Args:
        dim, dim_hidden, dim_out: channels.
        dropout: rate of both dropouts.
    """

    def __init__(self, dim: int, dim_hidden: int, dim_out: int, dropout: float = 0.0):
        super().__init__()
        self.fc1 = nn.Linear(dim, dim_hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(dim_hidden, dim_out)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class DropPath(nn.Module):
    """Stochastic depth: in training, zero a sample with probability `rate`, else scale it by 1 / (1 - rate).

    Source: "Deep Networks with Stochastic Depth" (arXiv 1603.09382), scaled in training rather than in testing. As
    torchvision's StochasticDepth(rate, "row"), which is an optional dependency here.

    Args:
        rate: probability of dropping a sample, 0 <= rate < 1.

    Raises:
        ValueError: rate out of range.
    """

    def __init__(self, rate: float):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"the drop rate is {rate}; it must be at least 0 and under 1")
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        factor = self.draw(x)
        return x if factor is None else x * factor

    def draw(self, x: torch.Tensor) -> torch.Tensor | None:
        """Draw the factor (B, 1, ...) of each sample of `x`; None for no factor."""
        if not self.training or self.rate == 0:
            return None
        kept = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return kept.div_(1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class ProjectionMlp(nn.Module):
    """MLP of contrastive learning: linear maps with ReLU, and perhaps a norm, between them.

    With norms only the last map has a bias. Initial weights are uniform (He, gain 1), biases zero.

    Args:
        dim, dim_hidden, dim_out: channels.
        layers: linear maps, at least 2.
        norm: constructor `norm(channels)` of a norm of (N, C); None for none.

    Raises:
        ValueError: too few layers.
    """

    def __init__(
        self, dim: int, dim_hidden: int, dim_out: int, layers: int, norm: Callable[[int], nn.Module] | None = None
    ):
        super().__init__()
        if layers < 2:
            raise ValueError(f"an MLP has at least 2 layers, got {layers}")
        parts: list[nn.Module] = []
        for layer in range(layers - 1):
            parts.append(nn.Linear(dim_hidden if layer else dim, dim_hidden, bias=norm is None))
            parts += [] if norm is None else [norm(dim_hidden)]
            parts.append(nn.ReLU())
        self.in_features = dim
        self.projection = nn.Sequential(*parts, nn.Linear(dim_hidden, dim_out))
        for part in self.projection:
            if isinstance(part, nn.Linear):
                nn.init.kaiming_uniform_(part.weight, a=1)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x (..., C) at every position; a norm takes its statistics over all of them."""
        return self.projection(x.flatten(0, -2)).unflatten(0, x.shape[:-1])
