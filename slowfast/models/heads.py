"""Classification heads. Shapes: x is (B, C, T, H, W) a pathway."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from slowfast.layers.pool import TimePool
from slowfast.layers.roi_align import RoIAlign

_ACTIVATIONS = {"softmax": partial(nn.Softmax, dim=-1), "sigmoid": nn.Sigmoid, "none": nn.Identity}


def build_activation(name: str) -> nn.Module:
    """What a head makes of its logits in eval mode: "softmax", "sigmoid" or "none" (`MODEL.HEAD_ACT`).

    Raises:
        ValueError: another name.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"MODEL.HEAD_ACT is {name!r}; it must be one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]()


class Classifier(nn.Module):
    """What every head is: something that ends in a linear map, `projection`.

    Attributes:
        init_std: of the normal distribution that the map starts from; `init_weight` draws from it.
    """

    num_features: int
    takes_boxes: bool = False
    projection: nn.Linear
    init_std: float
    init_weight = staticmethod(nn.init.normal_)

    def pathways(self) -> list[list[nn.Module]]:
        """Return the modules of each pathway, without those behind their concatenation."""
        return [[self]]

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new linear map with `num_classes` outputs in place of the old one."""
        old = self.projection
        self.projection = nn.Linear(old.in_features, num_classes).to(old.weight.device, old.weight.dtype)
        self.init_weight(self.projection.weight, std=self.init_std)
        nn.init.zeros_(self.projection.bias)


class ClassificationHead(Classifier):
    """Pools every pathway, concatenates the channels and applies one linear map at every position that is left.

    Train mode gives logits (mean over positions); eval mode applies the activation at every position, then averages, as
    in the published code, so that a larger test crop is a test on several crops at once.

    Args:
        dims: channels a pathway.
        num_classes: outputs.
        pools: for every pathway a module (B, C, T, H, W) -> (B, C, T', H', W') with equal T', H', W' over pathways.
        dropout: rate in front of the linear map.
        activation: "softmax", "sigmoid" or "none" (`MODEL.HEAD_ACT`).

    Raises:
        ValueError: unknown activation.
    """

    def __init__(
        self,
        dims: Sequence[int],
        num_classes: int,
        pools: Sequence[nn.Module],
        dropout: float = 0.0,
        activation: str = "softmax",
        init_std: float = 0.01,
    ):
        super().__init__()
        self.num_pathways = len(pools)
        self.num_features = sum(dims)
        self.init_std = init_std
        for i, pool in enumerate(pools):
            self.add_module(f"pathway{i}_avgpool", pool)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(self.num_features, num_classes)
        self.act = build_activation(activation)

    def pathways(self) -> list[list[nn.Module]]:
        """Return the pooling of each pathway."""
        return [[self.get_submodule(f"pathway{i}_avgpool")] for i in range(self.num_pathways)]

    def forward(self, x: list[torch.Tensor]) -> torch.Tensor:
        """Scores (B, num_classes)."""
        pooled = [pool(features) for (pool,), features in zip(self.pathways(), x, strict=True)]
        features = torch.cat(pooled, dim=1).permute(0, 2, 3, 4, 1)
        scores = self.projection(self.dropout(features))
        if not self.training:
            scores = self.act(scores)
        return scores.mean(dim=(1, 2, 3))


def apply_head(head: Classifier, x: list[torch.Tensor], boxes: torch.Tensor | None) -> torch.Tensor:
    """`head(x)`, or `head(x, boxes)` of a head that scores boxes.

    Raises:
        ValueError: such a head without boxes, or another with them.
    """
    if head.takes_boxes and boxes is None:
        raise ValueError(
            "the model scores boxes (DETECTION.ENABLE True) and got none: call model(inputs, boxes), boxes (N, 5): "
            "index in the batch, x1, y1, x2, y2 in pixels of the clip"
        )
    if boxes is not None and not head.takes_boxes:
        raise ValueError(f"the model scores whole clips, but got {len(boxes)} boxes; set DETECTION.ENABLE True")
    return head(x, boxes) if head.takes_boxes else head(x)


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
        pooled = [pool(features, boxes) for (pool,), features in zip(self.pathways(), x, strict=True)]
        return activated_in_float32(self.projection(self.dropout(torch.cat(pooled, dim=1).flatten(1))), self.act)


def activated_in_float32(scores: torch.Tensor, activation: nn.Module) -> torch.Tensor:
    """Apply the activation in float32: half precision cannot resolve probabilities close to 1 in the log-loss."""
    return activation(scores.to(torch.promote_types(scores.dtype, torch.float32)))
