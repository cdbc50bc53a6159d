"""What models over tokens share: head, positions, surface. Shapes: tokens are (B, U + T*H*W, C), U of no position.

Positions of a clip's tokens: tables that fit clips of any size. Shapes: a table is (1, T, H, W, C), some axes 1.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.layers.relative_positions import fit_rows
from slowfast.models.base import VideoModel
from slowfast.models.heads import Classifier, build_activation

layer_norm = partial(nn.LayerNorm, eps=1e-6)


class TokenHead(Classifier):
    """One linear map of a clip's P vectors: the mean over them of logits in train mode, of activated scores in eval.

    Args:
        dim: channels.
        num_classes: outputs.
        dropout: rate in front of the map.
        activation: "softmax", "sigmoid" or "none" (`MODEL.HEAD_ACT`).
        init_std: of the normal distribution that the map starts from.

    Raises:
        ValueError: unknown activation.
    """

    init_weight = staticmethod(nn.init.trunc_normal_)

    def __init__(
        self, dim: int, num_classes: int, dropout: float = 0.0, activation: str = "softmax", init_std: float = 0.02
    ):
        super().__init__()
        self.num_features, self.init_std = dim, init_std
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(dim, num_classes)
        self.act = build_activation(activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (B, num_classes) of vectors (B, P, dim)."""
        scores = self.projection(self.dropout(x))
        return (scores if self.training else self.act(scores)).mean(dim=1)


class TokenModel(VideoModel):
    """A network over the tokens of a clip, with `head` and tables of positions.

    Attributes:
        undecayed: last parts of the names of parameters without weight decay.
        position_fit: function of a table (1, T, H, W, C) and a size (T, H, W) that returns the table for that size;
            None for `fit_table`. A project may set another.
    """

    undecayed: tuple[str, ...] = ()
    position_fit: Callable[[torch.Tensor, Sequence[int]], torch.Tensor] | None = None

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a fresh classifier with `num_classes` outputs in place of the old one."""
        self.head.reset_classifier(num_classes)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that are never decayed."""
        return {name for name, _ in self.named_parameters() if name.rpartition(".")[2] in self.undecayed}

    def fit_positions(self, table: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """The positions (1, T, H, W, C) of a clip with `size` of them, from a table made for clips of another size."""
        return (self.position_fit or fit_table)(table, size)

    def own_parameters(self) -> nn.Module:
        """The parameters that belong to no layer: class token and positions."""
        return nn.ParameterList(self.parameters(recurse=False))


_RELATIVE = ("rel_pos_h", "rel_pos_w", "rel_pos_t")


def fit_table(table: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """A table (1, T, H, W, C) as one of `size` positions (T, H, W), trilinearly interpolated where they differ."""
    if tuple(table.shape[1:4]) == tuple(size):
        return table
    return F.interpolate(table.permute(0, 4, 1, 2, 3), size=tuple(size), mode="trilinear").permute(0, 2, 3, 4, 1)


def sincos_3d(dim: int, size: Sequence[int]) -> torch.Tensor:
    """Fixed positions (1, T, H, W, dim): a quarter of the channels for time, the rest for column and row, in halves.

    Each is half sines, half cosines of falling frequencies. ("Attention Is All You Need", section 3.5; the split as in
    "Masked Autoencoders As Spatiotemporal Learners".)

    Raises:
        ValueError: 16 does not divide `dim`.
    """
    if dim % 16:
        raise ValueError(f"MVIT.EMBED_DIM is {dim}; with USE_FIXED_SINCOS_POS 16 must divide it")
    time, height, width = size
    parts = [
        _wave(time, dim // 4).view(time, 1, 1, -1),
        _wave(width, dim // 8 * 3).view(1, 1, width, -1),
        _wave(height, dim // 8 * 3).view(1, height, 1, -1),
    ]
    return torch.cat([part.expand(time, height, width, -1) for part in parts], dim=-1)[None]


def _wave(length: int, dim: int) -> torch.Tensor:
    frequency = 10000.0 ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def adapt_positions(
    weights: dict[str, torch.Tensor], model: nn.Module, former: Sequence[int] | None = None
) -> dict[str, torch.Tensor]:
    """Weights of a model made for clips of one size as those of `model`, made for another: its positions interpolated.

    Pure; keys that are no positions, or that fit as they are, stay as they are, and so do tables whose size cannot be
    told.

    Args:
        weights: state-dict key -> tensor.
        model: one with `position_grids()` (tables' keys -> (T, H, W) and tokens of no position) or relative positions.
        former: (T, H, W) of the tokens that joint tables are for; None to tell it by their length: as many frames as
            the model's of another square, or else other frames of its picture.
    """
    own = model.state_dict()
    grids = model.position_grids() if isinstance(model, VideoModel) else {}
    adapted = dict(weights)
    for key, value in weights.items():
        if key not in own or own[key].shape == value.shape:
            continue
        if key.rpartition(".")[2] in _RELATIVE and own[key].shape[1:] == value.shape[1:]:
            adapted[key] = fit_rows(value, own[key].shape[0])
        elif key in grids and own[key].shape[2:] == value.shape[2:]:
            grid, num_prefix_tokens = grids[key]
            adapted[key] = _refit(value, grid, num_prefix_tokens, former if min(grid) > 1 else None)
    return adapted


def _refit(
    value: torch.Tensor, grid: Sequence[int], num_prefix_tokens: int, former: Sequence[int] | None
) -> torch.Tensor:
    """A table (1, U + L', C) as one of U + T*H*W positions."""
    former = former or _grid_of(value.shape[1] - num_prefix_tokens, grid)
    if former is None:
        return value
    fitted = fit_table(value[:, num_prefix_tokens:].unflatten(1, tuple(former)), grid).flatten(1, 3)
    return torch.cat([value[:, :num_prefix_tokens], fitted], dim=1)


def _grid_of(length: int, grid: Sequence[int]) -> tuple[int, int, int] | None:
    """(T, H, W) of `length` positions: another square in as many frames, or as large a picture in other frames."""
    frames, height, width = grid
    side = math.isqrt(length // frames)
    if frames * side * side == length and height > 1:
        return frames, side, side
    return None if length % (height * width) else (length // (height * width), height, width)
