"""What a model gives for a batch, and what an evaluator reads of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class Batch(Protocol):
    """Hold what an evaluator reads of a batch of clips; see `slowfast.datasets.loading.batch.Batch`."""

    labels: Tensor
    video: Tensor
    view: Tensor


class Boxes(Protocol):
    """Hold what an evaluator reads of the boxes of a batch; see `slowfast.datasets.loading.batch.Boxes`."""

    key_frame: Tensor
    number: Tensor

    def map(self, move: Callable[[Tensor], Tensor]) -> Boxes:
        """Apply `move` to every tensor."""


@dataclass
class Prediction:
    """Output of a model for a batch.

    Attributes:
        scores: (B, classes) of the clips; of a model that scores boxes (M, classes), one row for each of `boxes`.
        boxes: the boxes that are scored; None where clips are.
        steps: (B, S, classes) scores of each step, for clips that are read in S steps.
        variants: scores of other ways of joining the steps, shaped as `scores`, by name.
        summed: number of scores of which `scores` is the sum.
    """

    scores: Tensor
    boxes: Boxes | None = None
    steps: Tensor | None = None
    variants: dict[str, Tensor] = field(default_factory=dict)
    summed: int = 1

    def on_cpu(self) -> Prediction:
        """Return a copy on the CPU, with scores in float32."""
        return Prediction(
            self.scores.float().cpu(),
            None if self.boxes is None else self.boxes.map(Tensor.cpu),
            None if self.steps is None else self.steps.float().cpu(),
            {name: scores.float().cpu() for name, scores in self.variants.items()},
            self.summed,
        )

    def broken(self, video: Tensor) -> set[int]:
        """Return the videos, or key frames, with a score that is NaN or infinite; `video` (B,) is that of each clip."""
        parts = [self.scores, *self.variants.values(), *([] if self.steps is None else [self.steps])]
        rows = torch.stack([~part.isfinite().flatten(1).all(dim=1) for part in parts]).any(dim=0)
        number = video if self.boxes is None else self.boxes.key_frame
        return set(number[rows].tolist()) - {-1}  # key frame -1 is not of the split
