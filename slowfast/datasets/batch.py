"""What travels from the loader to the loop: samples, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass
class Sample:
    """One clip: `inputs` (3, T, H, W) float32, one a pathway; `replaced`: (path, cause) it stands in for."""

    inputs: list[Tensor]
    label: int | Tensor
    video: int
    view: int
    replaced: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class MissingSample:
    """A view of val or test that cannot be read; left out, since another video's scores are no substitute."""

    video: int
    view: int
    path: str
    cause: str


@dataclass
class Batch:
    """A batch of clips.

    Attributes:
        inputs: (B, 3, T, H, W) float32, one a pathway; an empty list where none could be read.
        labels: (B,) int64 class numbers, or (B, classes) float32.
        video: (B,) int64 number of the video in the CSV, the first is 0.
        view: (B,) int64 number of the view of that video (0 in train and val).
        replaced: (path, cause) of unreadable files in whose place other videos are in this batch (train).
        missing: views left out of this batch because their file cannot be read (val and test).
    """

    inputs: list[Tensor]
    labels: Tensor
    video: Tensor
    view: Tensor
    replaced: list[tuple[str, str]] = field(default_factory=list)
    missing: list[MissingSample] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Clips in the batch; 0 if none of them could be read."""
        return len(self.video)

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """(path, cause) of every unreadable file this batch met, replaced or left out."""
        return self.replaced + [(sample.path, sample.cause) for sample in self.missing]

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The batch with its tensors on `device`; copies from pinned memory do not block."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory (the loader calls this where a GPU is used)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, move) -> Batch:
        moved = {name: move(getattr(self, name)) for name in ("labels", "video", "view")}
        return replace(self, inputs=[move(tensor) for tensor in self.inputs], **moved)


def collate(samples: Sequence[Sample | MissingSample]) -> Batch:
    """Stack samples into a batch, leaving the missing ones out."""
    present = [sample for sample in samples if isinstance(sample, Sample)]
    return Batch(
        inputs=[torch.stack(pathway) for pathway in zip(*(sample.inputs for sample in present), strict=True)],
        labels=_labels([sample.label for sample in present]),
        video=torch.tensor([sample.video for sample in present], dtype=torch.int64),
        view=torch.tensor([sample.view for sample in present], dtype=torch.int64),
        replaced=[pair for sample in present for pair in sample.replaced],
        missing=[sample for sample in samples if isinstance(sample, MissingSample)],
    )


def _labels(labels: list[int | Tensor]) -> Tensor:
    if labels and isinstance(labels[0], Tensor):
        return torch.stack(labels)
    return torch.tensor(labels, dtype=torch.int64)
