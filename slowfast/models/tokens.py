"""Head, position embeddings and base class of models over tokens.

Shapes: tokens are (B, P + T*H*W, C), with P prefix tokens (the class token, if any); a table of position embeddings is
(1, T, H, W, C), some axes 1.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.layers.attention import resize_rel_pos
from slowfast.models.base import VideoModel
from slowfast.models.heads import Classifier, build_activation

layer_norm = partial(nn.LayerNorm, eps=1e-6)


class TokenHead(Classifier):
    """Head of one linear map over P vectors of a clip.

    Train mode returns logits, averaged over the vectors; eval mode applies the activation before averaging.

    Args:
        dim: channels.
        num_classes: outputs.
        dropout: rate before the map.
        activation: see `build_activation`.
        init_std: standard deviation of the initial weights.

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
        """Compute scores (B, num_classes) of vectors (B, P, dim)."""
        scores = self.projection(self.dropout(x))
        return (scores if self.training else self.act(scores)).mean(dim=1)


class TokenModel(VideoModel):
    """Base class of models over the tokens of a clip, with a `head` and position embeddings.

    Attributes:
        undecayed: parameters without weight decay, by the last part of their names.
        position_fit: function of a table (1, T, H, W, C) and a size (T, H, W) that returns the table for that size;
            None for `fit_table`. A project may set another.
    """

    undecayed: tuple[str, ...] = ()
    position_fit: Callable[[torch.Tensor, Sequence[int]], torch.Tensor] | None = None

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a fresh one with `num_classes` outputs."""
        self.head.reset_classifier(num_classes)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters without weight decay."""
        return {name for name, _ in self.named_parameters() if name.rpartition(".")[2] in self.undecayed}

    def fit_positions(self, table: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """Resize a table of position embeddings (1, T, H, W, C) to `size` (T, H, W)."""
        return (self.position_fit or fit_table)(table, size)

    def own_parameters(self) -> nn.Module:
        """Return the parameters that belong to no layer: class token and position embeddings."""
        return nn.ParameterList(self.parameters(recurse=False))


# Relative position embeddings, by the last part of their names.
_RELATIVE = ("rel_pos_h", "rel_pos_w", "rel_pos_t")


def fit_table(table: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize a table of position embeddings (1, T, H, W, C) to `size` (T, H, W), by trilinear interpolation."""
    if tuple(table.shape[1:4]) == tuple(size):
        return table
    return F.interpolate(table.permute(0, 4, 1, 2, 3), size=tuple(size), mode="trilinear").permute(0, 2, 3, 4, 1)


def sincos_3d(dim: int, size: Sequence[int]) -> torch.Tensor:
    """Return fixed 3-D sin-cos position embeddings (1, T, H, W, dim): dim / 4 channels for time, 3/8 each for W and H.

    Source: "Attention Is All You Need" (arXiv 1706.03762), section 3.5; split as in "Masked Autoencoders As
    Spatiotemporal Learners" (arXiv 2205.09113).

    Raises:
        ValueError: 16 does not divide `dim`.
    """
    if dim % 16:
        raise ValueError(f"sin-cos embeddings need a multiple of 16 channels, got {dim}")
    time, height, width = size
    parts = [
        _sincos_1d(time, dim // 4).view(time, 1, 1, -1),
        _sincos_1d(width, dim // 8 * 3).view(1, 1, width, -1),
        _sincos_1d(height, dim // 8 * 3).view(1, height, 1, -1),
    ]
    return torch.cat([part.expand(time, height, width, -1) for part in parts], dim=-1)[None]


@torch.no_grad()
def fill_sincos_3d(table: torch.Tensor, size: Sequence[int], num_prefix_tokens: int) -> None:
    """Fill a table of positions (1, P + T*H*W, C) with fixed 3-D sin-cos embeddings, and zero for prefix tokens."""
    table[:, :num_prefix_tokens] = 0
    table[:, num_prefix_tokens:] = sincos_3d(table.shape[-1], size).flatten(1, 3)


def _sincos_1d(length: int, dim: int) -> torch.Tensor:
    frequency = 10000.0 ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def adapt_positions(
    weights: dict[str, torch.Tensor], model: nn.Module, former: Sequence[int] | None = None
) -> dict[str, torch.Tensor]:
    """Interpolate the position embeddings in `weights`, made for clips of another size, to those of `model`.

    Returns a new dict. Other keys, tables that already fit, and tables whose size is unknown stay.

    Args:
        weights: state-dict key -> tensor.
        model: with absolute (`VideoModel.position_grids`) or relative position embeddings.
        former: (T, H, W) of the tokens of joint tables; None to infer it from their length, as another square in the
            model's number of frames, or as the model's height and width in another number of frames.
    """
    own = model.state_dict()
    grids = model.position_grids() if isinstance(model, VideoModel) else {}
    adapted = dict(weights)
    for key, value in weights.items():
        if key not in own or own[key].shape == value.shape:
            continue
        if key.rpartition(".")[2] in _RELATIVE and own[key].shape[1:] == value.shape[1:]:
            adapted[key] = resize_rel_pos(value, own[key].shape[0])
        elif key in grids and own[key].shape[2:] == value.shape[2:]:
            grid, num_prefix_tokens = grids[key]
            adapted[key] = _resize(value, grid, num_prefix_tokens, former if min(grid) > 1 else None)
    return adapted


def inflate_positions(weights: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Turn the position embeddings in `weights`, of a model of images, into those of `model`, the same at all times.

    Returns a new dict. Embeddings of time, which a model of images has not, are zero. Other keys stay, as do all if
    `weights` are of no model of images, or have class tokens where `model` has none, or the reverse.

    Args:
        weights: state-dict key -> tensor.
        model: over the tokens of clips, with absolute or relative position embeddings.
    """
    own, patches = model.state_dict(), "patch_embed.proj.weight"
    flat = patches in own and patches in weights and weights[patches].dim() == 4 < own[patches].dim()
    if not flat or ("cls_token" in weights) != ("cls_token" in own):
        return dict(weights)
    inflated, grids, prefix = dict(weights), model.position_grids(), int("cls_token" in own)
    if "pos_embed" in weights:
        table = inflated.pop("pos_embed")
        side = math.isqrt(table.shape[1] - prefix)
        if "pos_embed" in grids and side**2 == table.shape[1] - prefix:
            inflated["pos_embed"] = _resize(table, *grids["pos_embed"], (1, side, side))
        elif "pos_embed_spatial" in grids:
            inflated["pos_embed_spatial"] = table[:, prefix:]
            inflated |= {"pos_embed_class": table[:, :1]} if prefix else {}
        else:
            inflated["pos_embed"] = table
    times = [key for key in own if key.rpartition(".")[2] in ("rel_pos_t", "pos_embed_temporal")]
    return inflated | {key: torch.zeros_like(own[key]) for key in times if key not in weights}


def _resize(
    value: torch.Tensor, grid: Sequence[int], num_prefix_tokens: int, former: Sequence[int] | None
) -> torch.Tensor:
    """Resize a table (1, P + L', C) to P + T*H*W positions."""
    former = former or _infer_grid(value.shape[1] - num_prefix_tokens, grid)
    if former is None:
        return value
    fitted = fit_table(value[:, num_prefix_tokens:].unflatten(1, tuple(former)), grid).flatten(1, 3)
    return torch.cat([value[:, :num_prefix_tokens], fitted], dim=1)


def _infer_grid(length: int, grid: Sequence[int]) -> tuple[int, int, int] | None:
    """Infer (T, H, W) of `length` positions; None if neither another square nor another number of frames fits."""
    frames, height, width = grid
    side = math.isqrt(length // frames)
    if frames * side * side == length and height > 1:
        return frames, side, side
    return None if length % (height * width) else (length // (height * width), height, width)
