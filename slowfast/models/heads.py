"""Classification heads. Shapes: x is (B, C, T, H, W) a pathway."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

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

    projection: nn.Linear
    init_std: float
    init_weight = staticmethod(nn.init.normal_)

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

    def forward(self, x: list[torch.Tensor]) -> torch.Tensor:
        """Scores (B, num_classes)."""
        pooled = [getattr(self, f"pathway{i}_avgpool")(x[i]) for i in range(self.num_pathways)]
        features = torch.cat(pooled, dim=1).permute(0, 2, 3, 4, 1)
        scores = self.projection(self.dropout(features))
        if not self.training:
            scores = self.act(scores)
        return scores.mean(dim=(1, 2, 3))


def apply_head(head: nn.Module, x: list[torch.Tensor], boxes: torch.Tensor | None) -> torch.Tensor:
    """`head(x)`, or `head(x, boxes)` of a head that scores boxes.

    Raises:
        ValueError: such a head without boxes, or another with them.
    """
    takes_boxes = getattr(head, "takes_boxes", False)
    if takes_boxes and boxes is None:
        raise ValueError(
            "the model scores boxes (DETECTION.ENABLE True) and got none: call model(inputs, boxes), boxes (N, 5): "
            "index in the batch, x1, y1, x2, y2 in pixels of the clip"
        )
    if boxes is not None and not takes_boxes:
        raise ValueError(f"the model scores whole clips, but got {len(boxes)} boxes; set DETECTION.ENABLE True")
    return head(x, boxes) if takes_boxes else head(x)
