"""A model without this package's own way of computing convolutions: what the fast way is measured against."""

from torch import nn

from slowfast.layers.conv import Conv3d


def use_plain_convolutions(model: nn.Module) -> nn.Module:
    """Have every convolution computed by PyTorch's `nn.Conv3d`, in place; parameters and their names stay.

    Raises:
        ValueError: a convolution does more than convolve, such as reading memory; that cannot be taken away.
    """
    for name, module in model.named_modules():
        if not isinstance(module, Conv3d):
            continue
        if type(module) is not Conv3d:
            raise ValueError(f"{name} is a {type(module).__name__}, which is more than a convolution; none is plain")
        module.__class__ = nn.Conv3d
    return model
