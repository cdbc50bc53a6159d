"""The convolution that every model is built of. Shapes: x is (B, C, T, H, W)."""

from torch import nn


class Conv3d(nn.Conv3d):
    """A 3-D convolution: same parameters, arguments and results as `nn.Conv3d`."""
