"""Initialisation of video networks."""

from torch import nn


def init_weights(model: nn.Module, fc_std: float = 0.01) -> None:
    """He normal (fan out) for convolutions, N(0, fc_std) for linear maps, one and zero for norms.

    A layer that carries `zero_init = True` starts at zero instead: the last norm or convolution of a residual branch or
    of a non-local block, so that the block starts as the identity ("Accurate, Large Minibatch SGD", section 5.1).
    """
    for module in model.modules():
        zero = getattr(module, "zero_init", False)
        if isinstance(module, nn.Conv3d):
            if zero:
                nn.init.zeros_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=fc_std)
            nn.init.zeros_(module.bias)
        elif getattr(module, "running_mean", None) is not None:
            nn.init.constant_(module.weight, 0.0 if zero else 1.0)
            nn.init.zeros_(module.bias)
