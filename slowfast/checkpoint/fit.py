"""Turning weights of another form into those that a model's parameters have."""

from __future__ import annotations

import re

import torch
from torch import nn

from slowfast.models.positions import adapt_positions

# How batch norm of parts of a batch is saved raw by other code: the norm of the whole inside, and one of the parts.
_WHOLE = re.compile(r"\.bn\.(running_mean|running_var|num_batches_tracked|weight|bias)$")
_PARTS = re.compile(r"\.split_bn\.\w+$")


def fit_weights(
    model: nn.Module, weights: dict[str, torch.Tensor], inflate: bool = False
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Weights in the form that `model` has them, as far as that can be worked out; the others as they came.

    - Dimensions of size 1 at the end are added or taken off (a linear map kept as a 1x1x1 convolution, or back).
    - Norms of parts of a batch saved as a norm inside a norm become plain ones.
    - With `inflate`, kernels without time, or with one frame, are repeated over the T frames of the model's kernel and
      divided by T, so that a video of equal frames gives what the image gave ("Quo Vadis, Action Recognition?",
      section 2.4).
    - Tables of positions made for clips of another size are interpolated (`slowfast.models.positions`).

    Returns:
        The weights, and for every changed key what was done to it.
    """
    own = model.state_dict()
    weights, transformed = _plain_norms(weights, own)
    for key, value in weights.items():
        wanted = own[key].shape if key in own else value.shape
        if value.shape == wanted:
            continue
        if _without_ones(value.shape) == _without_ones(wanted):
            weights[key], transformed[key] = value.reshape(wanted), "dimensions of size 1 added or taken off"
        elif inflate and is_inflatable(value.shape, wanted):
            flat = value if value.dim() == 5 else value.unsqueeze(2)
            weights[key] = flat.expand(wanted) / wanted[2]
            transformed[key] = f"repeated over {wanted[2]} frames, divided by {wanted[2]}"
    placed = adapt_positions(weights, model)
    interpolated = [key for key, value in placed.items() if value is not weights[key]]
    return placed, transformed | dict.fromkeys(interpolated, "positions interpolated")


def is_inflatable(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a kernel `given`, (O, I, H, W) or (O, I, 1, H, W), repeated over time is `wanted`, (O, I, T, H, W)."""
    flat = (*given[:2], *given[3:]) if len(given) == 5 and given[2] == 1 else tuple(given)
    return len(wanted) == 5 and flat == (*wanted[:2], *wanted[3:])


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the dimensions of size 1 at its end."""
    kept = list(shape)
    while kept and kept[-1] == 1:
        kept.pop()
    return tuple(kept)


def _plain_norms(
    weights: dict[str, torch.Tensor], own: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A copy in which nested norms have plain names, and what was renamed."""
    if not any(_PARTS.search(key) for key in weights):
        return dict(weights), {}
    plain, renamed = {}, {}
    for key, value in weights.items():
        name = _WHOLE.sub(r".\1", key) if key not in own else key
        if _PARTS.search(key):
            continue
        plain[name] = value
        if name != key:
            renamed[name] = "taken from a norm of parts of a batch"
    return plain, renamed
