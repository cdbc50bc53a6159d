"""Batch norms folded into the convolutions before them, for models that only predict."""

import torch
from torch import nn

from slowfast.layers.conv import Conv3d
from slowfast.layers.norm import BatchNorm, FrozenBatchNorm3d

# Convolutions that a norm called "bn" follows, the last one first; another norm follows the convolution whose name it
# bears, as a_bn follows a.
_BEFORE_BN = ("conv", "conv_f2s", "conv_out")


@torch.no_grad()
def fold_norms(model: nn.Module) -> int:
    """Put every batch norm behind a convolution into the convolution's weights, in place; scores in eval mode stay.

    With y = scale * conv(x) + shift, scale becomes part of the weights and shift the bias. State-dict keys change, so a
    folded model is not saved, nor trained.

    Returns:
        How many norms were folded.
    """
    folded = 0
    for module in list(model.modules()):
        for name, norm in list(module.named_children()):
            conv = _convolution_before(module, name)
            if isinstance(norm, (BatchNorm, FrozenBatchNorm3d)) and conv is not None:
                _fold(conv, norm)
                setattr(module, name, nn.Identity())
                folded += 1
    return folded


def _convolution_before(module: nn.Module, norm_name: str) -> Conv3d | None:
    names = _BEFORE_BN if norm_name == "bn" else (norm_name.removesuffix("_bn"),)
    found = [child for child in (getattr(module, name, None) for name in names) if isinstance(child, Conv3d)]
    return found[0] if found else None


def _fold(conv: Conv3d, norm: nn.Module) -> None:
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.double()
    shift = (bias - norm.running_mean) * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    weight = conv.weight * scale.view(-1, 1, 1, 1, 1)
    conv.weight.copy_(weight.to(conv.weight.dtype))
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
