"""Heads that score boxes instead of clips. Shapes: x is (B, C, T, H, W) a pathway, boxes are (N, 5)."""

from __future__ import annotations

import torch
from torch import nn

from slowfast.layers.pool import TimePool
from slowfast.layers.roi_align import RoIAlign
from slowfast.models.heads import ClassificationHead
from slowfast.models.x3d import X3DHead


class RoIPool(nn.Module):
    """The features of every box: time pooled, then RoIAlign, then the largest number of the grid.

    Args:
        resolution: side R of the grid.
        spatial_scale: positions of the features for one pixel of the clip.
        aligned: see `slowfast.layers.roi_align.roi_align`.
        temporal: "avg" or "max" over time.
    """

    def __init__(self, resolution: int, spatial_scale: float, aligned: bool = True, temporal: str = "avg"):
        super().__init__()
        self.tpool = TimePool(temporal)
        self.roi = RoIAlign(resolution, spatial_scale, sampling_ratio=0, aligned=aligned)
        self.spool = nn.MaxPool2d(resolution)

    def forward(self, x: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """(N, C, 1, 1, 1), a sample for every box."""
        return self.spool(self.roi(self.tpool(x).squeeze(2), boxes)).unsqueeze(2)


class RoIHead(ClassificationHead):
    """Scores of boxes: the pathways' `RoIPool`s, concatenated, a linear map and the activation, in train mode too.

    Source: "SlowFast Networks" (arXiv 1812.03982), section 5. Parameters and their names are the clip head's, which
    gives the arguments too; `pools` are `RoIPool`s.
    """

    takes_boxes = True

    def forward(self, x: list[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
        """Scores (N, classes), in 32 bits at least.

        Args:
            x: features a pathway.
            boxes: index of the sample in the batch, x1, y1, x2, y2 in pixels of the clip; none gives (0, classes).

        Raises:
            ValueError: boxes that are not of this batch, see `slowfast.layers.roi_align.roi_align`.
        """
        pooled = [getattr(self, f"pathway{i}_avgpool")(x[i], boxes) for i in range(self.num_pathways)]
        return _activated(self.projection(self.dropout(torch.cat(pooled, dim=1).flatten(1))), self.act)


class X3DRoIHead(X3DHead):
    """`X3DHead` whose pooling is a `RoIPool`: the first convolution sees whole frames, the wide one boxes.

    So a clip model's weights fit, all but the classes'. No such head is published.
    """

    takes_boxes = True

    def forward(self, x: list[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
        """As of `RoIHead`."""
        return _activated(self.projection(self.dropout(self.widened(x, boxes).flatten(1))), self.act)


def _activated(scores: torch.Tensor, activation: nn.Module) -> torch.Tensor:
    """Near 1, numbers of 16 bits are too few for the loss's logarithm."""
    return activation(scores.to(torch.promote_types(scores.dtype, torch.float32)))
