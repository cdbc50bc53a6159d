"""Classification heads. Shapes: x is a list with one (B, C, T, H, W) for each pathway."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from slowfast.layers.pool import TimePool
from slowfast.layers.roi_align import RoIAlign
from slowfast.utils.registry import Registry

# Activations of heads by name: a class or function without arguments that returns a module.
ACTIVATIONS = Registry("MODEL.HEAD_ACT")
ACTIVATIONS.register("softmax")(partial(nn.Softmax, dim=-1))
ACTIVATIONS.register("sigmoid")(nn.Sigmoid)
ACTIVATIONS.register("none")(nn.Identity)


def build_activation(name: str) -> nn.Module:
    """Build the activation of a head: "softmax", "sigmoid", "none", or another one in `ACTIVATIONS`.

    Raises:
        ValueError: unknown name.
    """
    return ACTIVATIONS.get(name, "activation")()


class Classifier(nn.Module):
    """Base class of heads, which end in a linear map, `projection`.

    Attributes:
        num_features: channels in front of the head, summed over pathways.
        takes_boxes: the head scores boxes rather than clips.
        act: activation of the class scores (`build_activation`).
        init_std: standard deviation of the initial weights, drawn by `init_weight`.
    """

    num_features: int
    takes_boxes: bool = False
    projection: nn.Linear
    act: nn.Module
    init_std: float
    init_weight = staticmethod(nn.init.normal_)

    def pathways(self) -> list[list[nn.Module]]:
        """Return the modules of each pathway, without those after the concatenation."""
        return [[self]]

    def pooled_channels(self) -> list[int]:
        """Return the channels of the features that the head pools, per pathway."""
        return [self.num_features]

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the linear map by a fresh one with `num_classes` outputs."""
        old = self.projection
        self.projection = nn.Linear(old.in_features, num_classes).to(old.weight.device, old.weight.dtype)
        self.init_weight(self.projection.weight, std=self.init_std)
        nn.init.zeros_(self.projection.bias)


class ClassificationHead(Classifier):
    """Head that pools every pathway, concatenates channels and applies a linear map at every remaining position.

    Train mode returns logits, averaged over positions. Eval mode applies the activation at every position before
    averaging, as in the published code, so that a larger test crop tests several crops at once.

    Args:
        dims: channels of each pathway.
        num_classes: outputs.
        pools: for each pathway a module (B, C, T, H, W) -> (B, C, T', H', W'), with T', H', W' equal over pathways.
        dropout: rate before the linear map.
        activation: see `build_activation`.

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
        self.num_features, self.dims = sum(dims), list(dims)
        self.init_std = init_std
        for i, pool in enumerate(pools):
            self.add_module(f"pathway{i}_avgpool", pool)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(self.num_features, num_classes)
        self.act = build_activation(activation)

    def pathways(self) -> list[list[nn.Module]]:
        """Return the pooling of each pathway."""
        return [[self.get_submodule(f"pathway{i}_avgpool")] for i in range(self.num_pathways)]

    def pooled_channels(self) -> list[int]:
        """Return the channels of each pathway."""
        return self.dims

    def forward(self, x: list[torch.Tensor]) -> torch.Tensor:
        """Compute scores (B, num_classes)."""
        pooled = [pool(features) for (pool,), features in zip(self.pathways(), x, strict=True)]
        sizes = [tuple(features.shape[2:]) for features in pooled]
        if len(set(sizes)) > 1:
            raise ValueError(
                f"pooling leaves {sizes} positions (T, H, W) of the pathways, which must be equal; give clips of "
                "the size that the model is built for"
            )
        features = torch.cat(pooled, dim=1).permute(0, 2, 3, 4, 1)
        scores = self.projection(self.dropout(features))
        if not self.training:
            scores = self.act(scores)
        return scores.mean(dim=(1, 2, 3))


def apply_head(head: Classifier, x: list[torch.Tensor], boxes: torch.Tensor | None) -> torch.Tensor:
    """Call `head(x)`, or `head(x, boxes)` if the head takes boxes.

    Raises:
        ValueError: boxes are missing, or given to a head for clips.
    """
    if head.takes_boxes and boxes is None:
        raise ValueError(
            "the model scores boxes and got none: call model(inputs, boxes), boxes (N, 5): "
            "index in the batch, x1, y1, x2, y2 in pixels of the clip"
        )
    if boxes is not None and not head.takes_boxes:
        raise ValueError(f"the model scores whole clips, but got {len(boxes)} boxes; build it with a head for boxes")
    return head(x, boxes) if head.takes_boxes else head(x)


class RoIPool(nn.Module):
    """Pooling of boxes: over time, then RoIAlign, then the maximum over the grid.

    Args:
        resolution: bins R along each side of the grid.
        spatial_scale: positions of the features per pixel of the clip.
        aligned: see `slowfast.layers.roi_align.roi_align`.
        temporal: "avg" or "max" over time.
    """

    def __init__(self, resolution: int, spatial_scale: float, aligned: bool = True, temporal: str = "avg"):
        super().__init__()
        self.tpool = TimePool(temporal)
        self.roi = RoIAlign(resolution, spatial_scale, sampling_ratio=0, aligned=aligned)
        self.spool = nn.MaxPool2d(resolution)

    def forward(self, x: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Pool features (B, C, T, H, W) of boxes (N, 5): (N, C, 1, 1, 1)."""
        return self.spool(self.roi(self.tpool(x).squeeze(2), boxes)).unsqueeze(2)


class RoIHead(ClassificationHead):
    """Head for boxes: a `RoIPool` for each pathway, concatenated, a linear map, and the activation in both modes.

    Source: "SlowFast Networks" (arXiv 1812.03982), section 5. Arguments, parameters and their names are those of the
    clip head; `pools` are `RoIPool`s.
    """

    takes_boxes = True

    def forward(self, x: list[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
        """Compute scores (N, classes), in float32 at least.

        Args:
            x: features of each pathway.
            boxes: (N, 5), pixels of the clip, batch index first; N may be 0.

        Raises:
            ValueError: boxes that do not fit the batch, see `slowfast.layers.roi_align.roi_align`.
        """
        pooled = [pool(features, boxes) for (pool,), features in zip(self.pathways(), x, strict=True)]
        return activated_in_float32(self.projection(self.dropout(torch.cat(pooled, dim=1).flatten(1))), self.act)


def activated_in_float32(scores: torch.Tensor, activation: nn.Module) -> torch.Tensor:
    """Apply the activation in float32: half precision cannot resolve probabilities close to 1 in the log-loss."""
    return activation(scores.to(torch.promote_types(scores.dtype, torch.float32)))
