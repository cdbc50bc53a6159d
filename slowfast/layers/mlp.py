"""The two-layer network of a transformer's block. Shapes: x is (..., C)."""

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
