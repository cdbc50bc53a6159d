"""Histograms of oriented gradients. Shapes: images are (N, C, H, W)."""

import torch
import torch.nn.functional as F
from torch import nn

_SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))


class Hog(nn.Module):
    """Histograms of oriented gradients of each channel, over square cells.

    Each pixel adds the length of its gradient to one bin of its cell: that of its direction, whose sign does not count.
    The bins of a cell and channel are divided by their L2 norm. ("Histograms of Oriented Gradients for Human
    Detection", CVPR 2005; as target in MaskFeat, arXiv 2112.09133.)

    Args:
        bins: directions from 0 to 180 degrees.
        cell: side of a cell, pixels.
        channels: C.
    """

    weight_x: torch.Tensor
    weight_y: torch.Tensor

    def __init__(self, bins: int = 9, cell: int = 8, channels: int = 3):
        super().__init__()
        self.bins, self.cell = bins, cell
        # Buffers, since published checkpoints hold them.
        kernel = torch.tensor(_SOBEL)
        self.register_buffer("weight_x", kernel.repeat(channels, 1, 1, 1))
        self.register_buffer("weight_y", kernel.t().repeat(channels, 1, 1, 1))

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute histograms (N, C, bins, H / cell, W / cell), float32.

        Raises:
            ValueError: cells do not divide the image.
        """
        height, width = images.shape[-2:]
        if height % self.cell or width % self.cell:
            raise ValueError(
                f"HOG has cells of {self.cell} x {self.cell} pixels, which do not divide {height} x {width}; crop to a "
                f"multiple of {self.cell}"
            )
        with torch.autocast(images.device.type, enabled=False):
            padded = F.pad(images.float(), (1, 1, 1, 1), mode="reflect")
            x, y = (F.conv2d(padded, weight.float(), groups=len(weight)) for weight in (self.weight_x, self.weight_y))
            bins = (torch.atan2(x, y) / torch.pi * self.bins).floor().long() % self.bins
            votes = x.new_zeros(*x.shape[:2], self.bins, height, width)
            votes.scatter_(2, bins[:, :, None], torch.hypot(x, y)[:, :, None])
            cells = F.avg_pool2d(votes.flatten(0, 1), self.cell, divisor_override=1)
            return F.normalize(cells.unflatten(0, x.shape[:2]), dim=2)
