"""Samples, batches, and the collate function between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.utils.data import default_collate

from slowfast.datasets.transforms.pixels import Normalization


@dataclass
class KeyFrame:
    """The boxes of one key frame of a clip.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in pixels of the clip.
        labels: (n, classes) float32 of 0 and 1.
        key_frame: number of the key frame in the data set; -1 if the boxes of another one stand in.
    """

    boxes: Tensor
    labels: Tensor
    key_frame: int = -1


@dataclass
class Sample:
    """One clip.

    Attributes:
        inputs: (3, T, H, W) float32, or uint8 with a `normalization`, one per pathway.
        label: class number, or (classes,) float32 of 0 and 1.
        video, view: number of the video, and of its view.
        replaced: (path, cause) of unreadable files that this sample replaces.
        frame_labels: labels of the N frames of a clip. Of single-label data (N,) int64 class numbers. Of multi-label
            data (2N - 1, classes) uint8 of 0 and 1, interleaved: row 2i is sampled frame i, row 2i + 1 the union over
            the skipped frames between i and i + 1. The labels of frames f..l are rows 2f..2l. None without.
        key_frames: annotated key frames of the clip, in order; the clip was made for the last one. Empty without boxes.
        mask: (T, h, w) bool, True where masked, for masked learning; None without.
        normalization: of inputs that are uint8; None where all are float32.
    """

    inputs: list[Tensor]
    label: int | Tensor
    video: int
    view: int
    replaced: list[tuple[str, str]] = field(default_factory=list)
    frame_labels: Tensor | None = None
    key_frames: list[KeyFrame] = field(default_factory=list)
    mask: Tensor | None = None
    normalization: Normalization | None = None


@dataclass
class MissingSample:
    """Placeholder of a val or test view that cannot be read; its video is left out of the results."""

    video: int
    view: int
    path: str
    cause: str


@dataclass
class Boxes:
    """The boxes of one key frame of every clip of a batch, M in all.

    Attributes:
        boxes: (M, 5) float32, index of the clip in the batch, then x1, y1, x2, y2 in pixels.
        labels: (M, classes) float32.
        key_frame: (M,) int64 number of the key frame in the data set, -1 if the boxes of another one stand in.
        number: (M,) int64 number of the box in its key frame.
    """

    boxes: Tensor
    labels: Tensor
    key_frame: Tensor
    number: Tensor

    def map(self, move: Callable[[Tensor], Tensor]) -> Boxes:
        """Apply `move` to every tensor."""
        return Boxes(**{name: move(value) for name, value in vars(self).items()})


@dataclass
class Batch:
    """A batch of clips.

    Attributes:
        inputs: (B, 3, T, H, W) float32, or uint8 if those of all `Sample`s are, one per pathway; an empty list if no
            clip could be read.
        labels: (B,) int64 class numbers, or (B, classes) float32.
        video: (B,) int64 number of the video in the data set, from 0.
        view: (B,) int64 number of the view of that video; in train of its clip in the batch.
        replaced: train: (path, cause) of unreadable files that other videos replace.
        missing: val and test: views left out because their file cannot be read.
        frame_labels: (B, N) int64 or (B, 2 N - 1, classes) uint8, see `Sample`; None without.
        key_frames: the boxes of each annotated key frame; [] without boxes.
        mixed_labels: (B, classes) float32 soft labels of mixed clips (mixup, CutMix); None without mixing.
        mask: (B, T, h, w) bool, see `Sample`; None without.
        normalization: of inputs that are uint8, see `to`; None without.
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
    mask: Tensor | None = None
    normalization: Normalization | None = None

    @property
    def targets(self) -> Tensor:
        """Targets of the loss: `mixed_labels`, or else `labels`."""
        return self.labels if self.mixed_labels is None else self.mixed_labels

    @property
    def num_frames(self) -> int:
        """Frames of a clip, of its fast pathway if there are two."""
        return self.inputs[-1].shape[2]

    def in_steps(self, split: Callable[[list[Tensor]], Sequence[list[Tensor]]]) -> Iterator[list[Tensor]]:
        """Return the inputs of each step, in order, as `split` divides clips into them."""
        return iter(split(self.inputs))

    @property
    def size(self) -> int:
        """Number of clips in the batch; 0 if none could be read."""
        return len(self.video)

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """(path, cause) of every unreadable file of this batch, replaced or left out."""
        return self.replaced + [(sample.path, sample.cause) for sample in self.missing]

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """Move the tensors to `device`, and normalize 8-bit clips there; copies from pinned memory do not block.

        Boxes stay on the CPU: RoIAlign checks them there, and reading them back would wait for the GPU.
        """
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        kept = [replace(new, boxes=old.boxes) for new, old in zip(moved.key_frames, self.key_frames, strict=True)]
        moved = replace(moved, key_frames=kept)
        return moved if self.normalization is None else moved.map_inputs(self.normalization)

    def map_inputs(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Apply `change` to the clips of every pathway."""
        return replace(self, inputs=[change(tensor) for tensor in self.inputs])

    def pin_memory(self) -> Batch:
        """Copy all tensors to pinned memory; DataLoader calls this if a GPU is used."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, move: Callable[[Tensor], Tensor]) -> Batch:
        names = ("labels", "video", "view", "frame_labels", "mixed_labels", "mask")
        moved = {name: move(value) for name in names if (value := vars(self)[name]) is not None}
        moved |= {"key_frames": [boxes.map(move) for boxes in self.key_frames]}
        return replace(self, inputs=[move(tensor) for tensor in self.inputs], **moved)


def collate(samples: Sequence[Sample | MissingSample | list[Sample]]) -> Batch:
    """Stack samples into a batch without the missing ones; a list of samples is flattened."""
    samples = [one for sample in samples for one in (sample if isinstance(sample, list) else [sample])]
    present = [sample for sample in samples if isinstance(sample, Sample)]
    frame_labels = [sample.frame_labels for sample in present if sample.frame_labels is not None]
    masks = [sample.mask for sample in present if sample.mask is not None]
    return Batch(
        # In a worker, PyTorch's collate stacks directly into shared memory, which saves a copy.
        inputs=[default_collate(pathway) for pathway in zip(*_inputs_of_one_type(present), strict=True)],
        labels=_labels([sample.label for sample in present]),
        video=torch.tensor([sample.video for sample in present], dtype=torch.int64),
        view=torch.tensor([sample.view for sample in present], dtype=torch.int64),
        replaced=[pair for sample in present for pair in sample.replaced],
        missing=[sample for sample in samples if isinstance(sample, MissingSample)],
        frame_labels=torch.stack(frame_labels) if frame_labels else None,
        mask=torch.stack(masks) if masks else None,
        normalization=present[0].normalization if present else None,
        key_frames=[_boxes(key_frames) for key_frames in zip(*(sample.key_frames for sample in present), strict=True)],
    )


def _inputs_of_one_type(samples: Sequence[Sample]) -> list[list[Tensor]]:
    """Return the inputs of each sample; 8-bit clips beside others are normalized, as those of resized frames are."""
    if len({clip.dtype for sample in samples for clip in sample.inputs}) < 2:
        return [sample.inputs for sample in samples]
    return [[sample.normalization(clip[None])[0] for clip in sample.inputs] for sample in samples]


def _boxes(key_frames: Sequence[KeyFrame]) -> Boxes:
    """Collate one key frame of every clip."""
    counts = [len(each.boxes) for each in key_frames]
    clip = torch.repeat_interleave(torch.arange(len(key_frames)), torch.tensor(counts))
    numbers = torch.tensor([each.key_frame for each in key_frames])
    return Boxes(
        boxes=torch.cat([clip[:, None].to(torch.float32), torch.cat([each.boxes for each in key_frames])], dim=1),
        labels=torch.cat([each.labels for each in key_frames]),
        key_frame=numbers[clip],
        number=torch.cat([torch.arange(count) for count in counts]),
    )


def _labels(labels: list[int | Tensor]) -> Tensor:
    if labels and isinstance(labels[0], Tensor):
        return torch.stack(labels)
    return torch.tensor(labels, dtype=torch.int64)
