"""What travels from the loader to the loop: samples, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.utils.data import default_collate


@dataclass
class KeyFrame:
    """The boxes of one annotated moment of a clip.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in pixels of the clip.
        labels: (n, classes) float32 of 0 and 1.
        key_frame: number of the key frame in the data set; -1 where the boxes of another moment stand in.
    """

    boxes: Tensor
    labels: Tensor
    key_frame: int = -1


@dataclass
class Sample:
    """One clip.

    Attributes:
        inputs: (3, T, H, W) float32, one a pathway.
        label: class number, or (classes,) float32 of 0 and 1.
        video, view: numbers of the video and of its view.
        replaced: (path, cause) of the unreadable files that it stands in for.
        frame_labels: (2 N - 1, classes) uint8 for a clip of N frames whose labels change on the way: row 2 i is of
            frame i, row 2 i + 1 of all frames of the video between it and the next; so frames f to l show what rows
            2 f to 2 l say. None for a data set without.
        key_frames: annotated key frames of the clip, in order; the clip was made for the last one. Empty for a data
            set without boxes.
    """

    inputs: list[Tensor]
    label: int | Tensor
    video: int
    view: int
    replaced: list[tuple[str, str]] = field(default_factory=list)
    frame_labels: Tensor | None = None
    key_frames: list[KeyFrame] = field(default_factory=list)


@dataclass
class MissingSample:
    """A view of val or test that cannot be read; left out, since another video's scores are no substitute."""

    video: int
    view: int
    path: str
    cause: str


@dataclass
class Boxes:
    """The boxes of one moment of every clip of a batch, M in all.

    Attributes:
        boxes: (M, 5) float32, number of the clip in the batch, then x1, y1, x2, y2 in pixels.
        labels: (M, classes) float32.
        key_frame: (M,) int64 number of the key frame in the data set, -1 where another moment's boxes stand in.
        number: (M,) int64 number of the box in its key frame.
    """

    boxes: Tensor
    labels: Tensor
    key_frame: Tensor
    number: Tensor

    def map(self, move: Callable[[Tensor], Tensor]) -> Boxes:
        """The boxes with every tensor moved."""
        return Boxes(**{name: move(value) for name, value in vars(self).items()})


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
        frame_labels: (B, 2 N - 1, classes) uint8, see `Sample`; None for a data set without.
        key_frames: the boxes of each annotated key frame; [] for a data set without.
        mixed_labels: (B, classes) float32 class probabilities of clips that are blended of several; None for others.
    """

    inputs: list[Tensor]
    labels: Tensor
    video: Tensor
    view: Tensor
    replaced: list[tuple[str, str]] = field(default_factory=list)
    missing: list[MissingSample] = field(default_factory=list)
    frame_labels: Tensor | None = None
    key_frames: list[Boxes] = field(default_factory=list)
    mixed_labels: Tensor | None = None

    @property
    def targets(self) -> Tensor:
        """What the loss of whole clips is taken on: `mixed_labels`, or else `labels`."""
        return self.labels if self.mixed_labels is None else self.mixed_labels

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

    def _map(self, move: Callable[[Tensor], Tensor]) -> Batch:
        names = ("labels", "video", "view", "frame_labels", "mixed_labels")
        moved = {name: move(value) for name in names if (value := getattr(self, name)) is not None}
        moved |= {"key_frames": [moment.map(move) for moment in self.key_frames]}
        return replace(self, inputs=[move(tensor) for tensor in self.inputs], **moved)


def collate(samples: Sequence[Sample | MissingSample | list[Sample]]) -> Batch:
    """Stack samples into a batch, leaving the missing ones out; a list stands for all the samples in it."""
    samples = [one for sample in samples for one in (sample if isinstance(sample, list) else [sample])]
    present = [sample for sample in samples if isinstance(sample, Sample)]
    frame_labels = [sample.frame_labels for sample in present if sample.frame_labels is not None]
    return Batch(
        # PyTorch's own stacks in memory that is shared at once, where a worker calls it, and saves a copy.
        inputs=[default_collate(pathway) for pathway in zip(*(sample.inputs for sample in present), strict=True)],
        labels=_labels([sample.label for sample in present]),
        video=torch.tensor([sample.video for sample in present], dtype=torch.int64),
        view=torch.tensor([sample.view for sample in present], dtype=torch.int64),
        replaced=[pair for sample in present for pair in sample.replaced],
        missing=[sample for sample in samples if isinstance(sample, MissingSample)],
        frame_labels=torch.stack(frame_labels) if frame_labels else None,
        key_frames=[_boxes(moments) for moments in zip(*(sample.key_frames for sample in present), strict=True)],
    )


def _boxes(moments: Sequence[KeyFrame]) -> Boxes:
    """One moment of every clip, as a batch."""
    counts = [len(moment.boxes) for moment in moments]
    clip = torch.repeat_interleave(torch.arange(len(moments)), torch.tensor(counts))
    key_frames = torch.tensor([moment.key_frame for moment in moments])
    return Boxes(
        boxes=torch.cat([clip[:, None].to(torch.float32), torch.cat([moment.boxes for moment in moments])], dim=1),
        labels=torch.cat([moment.labels for moment in moments]),
        key_frame=key_frames[clip],
        number=torch.cat([torch.arange(count) for count in counts]),
    )


def _labels(labels: list[int | Tensor]) -> Tensor:
    if labels and isinstance(labels[0], Tensor):
        return torch.stack(labels)
    return torch.tensor(labels, dtype=torch.int64)
