"""Base class of video models. Shapes: a clip is (B, C, T, H, W); boxes are (N, 5), pixels, batch index first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class VideoModel(nn.Module):
    """Video model: clips in, class scores out.

    A subclass sets `num_features` and defines `forward(inputs, boxes=None)`. `inputs` is a list of one clip for each
    pathway. Scores are (B, classes): logits in train mode, class scores in eval mode. A model with `takes_boxes` gets
    boxes (index in the batch, x1, y1, x2, y2) and returns (N, classes), activated in both modes.

    The other methods serve single features of the framework, which name the method where it is missing.

    Attributes:
        num_pathways: clips in `inputs`, slow pathway first.
        in_channels: channels of the clip of each pathway; () to leave them unchecked.
        min_size: smallest (T, H, W) of a clip.
        num_features: channels in front of the classifier, summed over pathways.
        takes_boxes: the model scores boxes rather than clips.
    """

    num_pathways: int = 1
    in_channels: Sequence[int] = ()
    min_size: Sequence[int] = (1, 1, 1)
    num_features: int
    takes_boxes: bool = False

    def __call__(self, inputs: list[torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        # The compiler and the exporter specialize on shapes by themselves.
        if not torch.compiler.is_compiling():
            self.check_inputs(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def check_inputs(self, inputs: list[torch.Tensor]) -> None:
        """Check the number, shape and dtype of the clips.

        Raises:
            ValueError: with what the model takes and what it got.
        """
        fits = isinstance(inputs, (list, tuple)) and len(inputs) == self.num_pathways
        if not fits or not all(isinstance(clip, torch.Tensor) and clip.dim() == 5 for clip in inputs):
            raise ValueError(f"{self._expected_inputs()}; got {_described(inputs)}")
        channels = list(self.in_channels) or [clip.shape[1] for clip in inputs]
        for clip, count in zip(inputs, channels, strict=True):
            batch, found, *size = clip.shape
            fits = batch == inputs[0].shape[0] and found == count and clip.is_floating_point()
            if not fits or any(n < least for n, least in zip(size, self.min_size, strict=True)):
                raise ValueError(f"{self._expected_inputs()}; got {_described(inputs)}")

    def _expected_inputs(self) -> str:
        channels = list(self.in_channels) or ["C"] * self.num_pathways
        clips = ", ".join(f"(B, {count}, T, H, W)" for count in channels)
        order = ", the slow pathway first" if self.num_pathways > 1 else ""
        least = ", ".join(f"{axis} >= {n}" for axis, n in zip("THW", self.min_size, strict=True) if n > 1)
        return (
            f"{type(self).__name__} takes a list of {self.num_pathways} clip(s) {clips} of floating type{order}"
            f"{least and f', with {least}'}"
        )

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the features (B, C, T', H', W') of each pathway in front of the head.

        Raises:
            ValueError: the model does not define this method.
        """
        raise ValueError(self._undefined("forward_features(inputs) -> [(B, C, T, H, W), ...]"))

    def depth_groups(self) -> list[list[nn.Module]]:
        """Return the layers by depth, stem first and head last, for layer-wise learning rates.

        Raises:
            ValueError: the model does not define this method.
        """
        raise ValueError(self._undefined("depth_groups() -> [[stem], [block], ..., [head]]"))

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters without weight decay."""
        return set()

    def position_grids(self) -> dict[str, tuple[tuple[int, int, int], int]]:
        """Return (T, H, W) and the number of prefix tokens of each position embedding, by state-dict key."""
        return {}

    def token_grids(self, size: tuple[int, int, int]) -> tuple[list[tuple[int, int, int]], int]:
        """Return the grids (T, H, W) of the tokens inside the model, and the number of prefix tokens.

        Args:
            size: (T, H, W) of the clip.

        Raises:
            ValueError: the model does not define this method.
        """
        raise ValueError(self._undefined("token_grids((T, H, W)) -> ([(t, h, w), ...], prefix tokens)"))

    def pathways(self) -> list[list[nn.Module]]:
        """Return the modules of each pathway, without those between pathways.

        Raises:
            ValueError: a model of several pathways does not define this method.
        """
        if self.num_pathways > 1:
            raise ValueError(self._undefined("pathways() -> [[modules of the slow pathway], ...]"))
        return [[self]]

    def _undefined(self, method: str) -> str:
        return f"{type(self).__name__} has no {method.partition('(')[0]}; define {method}"


def _described(inputs: Any) -> str:
    """Describe what was passed as inputs, for messages."""
    if isinstance(inputs, torch.Tensor):
        return f"a tensor {tuple(inputs.shape)}"
    if not isinstance(inputs, (list, tuple)):
        return f"a {type(inputs).__name__}"
    parts = [f"{tuple(x.shape)} {x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__ for x in inputs]
    return f"a list of {len(parts)}: {', '.join(parts)}"
