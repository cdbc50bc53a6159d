"""The two-layer network of a transformer's block. Shapes: x is (..., C).

Dropping of residual branches. Shapes: x is (B, ...).
"""

import torch
from torch import nn


class Mlp(nn.Module):
    """Linear map, GELU, linear map, dropout behind each of the last two.

    Args:
        dim, dim_hidden, dim_out: channels.
        dropout: rate.
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
    """In training, each sample's x is set to zero with probability `rate`, and scaled by 1 / (1 - rate) otherwise.

    ("Deep Networks with Stochastic Depth", with the scale in training rather than in testing.)

    Args:
        rate: share of samples dropped, 0 <= rate < 1.

    Raises:
        ValueError: another rate.
    """

    def __init__(self, rate: float):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a share of {rate} of the residual branches cannot be dropped; it is from 0 to under 1")
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * kept.div_(1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
