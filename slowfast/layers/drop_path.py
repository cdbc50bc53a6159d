"""Dropping of residual branches. Shapes: x is (B, ...)."""

import torch
from torch import nn


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
