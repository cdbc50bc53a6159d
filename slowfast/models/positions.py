"""Positions of a clip's tokens: tables that fit clips of any size. Shapes: a table is (1, T, H, W, C), some axes 1."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.layers.relative_positions import fit_rows

_RELATIVE = ("rel_pos_h", "rel_pos_w", "rel_pos_t")


def fit_table(table: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """A table (1, T, H, W, C) as one of `size` positions (T, H, W), trilinearly interpolated where they differ."""
    if tuple(table.shape[1:4]) == tuple(size):
        return table
    return F.interpolate(table.permute(0, 4, 1, 2, 3), size=tuple(size), mode="trilinear").permute(0, 2, 3, 4, 1)


def waves(dim: int, size: Sequence[int]) -> torch.Tensor:
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
    grids = getattr(model, "position_grids", dict)()
    adapted = dict(weights)
    for key, value in weights.items():
        if key not in own or own[key].shape == value.shape:
            continue
        if key.rpartition(".")[2] in _RELATIVE and own[key].shape[1:] == value.shape[1:]:
            adapted[key] = fit_rows(value, own[key].shape[0])
        elif key in grids and own[key].shape[2:] == value.shape[2:]:
            grid, unplaced = grids[key]
            adapted[key] = _refit(value, grid, unplaced, former if min(grid) > 1 else None)
    return adapted


def _refit(value: torch.Tensor, grid: Sequence[int], unplaced: int, former: Sequence[int] | None) -> torch.Tensor:
    """A table (1, U + L', C) as one of U + T*H*W positions."""
    former = former or _grid_of(value.shape[1] - unplaced, grid)
    if former is None:
        return value
    fitted = fit_table(value[:, unplaced:].unflatten(1, tuple(former)), grid).flatten(1, 3)
    return torch.cat([value[:, :unplaced], fitted], dim=1)


def _grid_of(length: int, grid: Sequence[int]) -> tuple[int, int, int] | None:
    """(T, H, W) of `length` positions: another square in as many frames, or as large a picture in other frames."""
    frames, height, width = grid
    side = math.isqrt(length // frames)
    if frames * side * side == length and height > 1:
        return frames, side, side
    return None if length % (height * width) else (length // (height * width), height, width)
