"""Training clips that do not fit into memory: the frames of a step are decoded when it needs them.

A worker yields the steps of a batch in order, and decodes a bounded number of frames ahead. Clips are those that the
plain loader makes: the random numbers of a clip are drawn again, from the same state, for every part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from slowfast.datasets.base import ClipDataset
from slowfast.datasets.loading.batch import Batch, collate
from slowfast.datasets.loading.sampler import SampleKey
from slowfast.datasets.step_batches import LONG_CLIP_BYTES, StepBatch, Steps
from slowfast.datasets.video_dataset import VideoDataset


@dataclass
class SteppedBatch(Batch):
    """A batch of training clips without `inputs`, whose steps are read in order, once.

    Attributes:
        reader: yields the inputs of each step, one tensor (B, 3, T, H, W) per pathway. A file that breaks off on the
            way is added to `replaced`.
        frames: of a clip.
    """

    reader: Iterator[list[Tensor]] = field(default_factory=lambda: iter(()))
    frames: int = 0

    @property
    def num_frames(self) -> int:
        return self.frames

    def in_steps(self, split: Callable[[list[Tensor]], Sequence[list[Tensor]]]) -> Iterator[list[Tensor]]:
        return self.reader

    def map_inputs(self, change: Callable[[Tensor], Tensor]) -> SteppedBatch:
        return replace(self, reader=([change(tensor) for tensor in inputs] for inputs in self.reader))

    def _map(self, move: Callable[[Tensor], Tensor]) -> SteppedBatch:
        moved = super()._map(move)
        moved.reader = ([move(tensor) for tensor in inputs] for inputs in self.reader)
        return moved


class _Share(IterableDataset[StepBatch]):
    """The batches of one worker, step by step.

    Args:
        dataset: train.
        batches: keys of the samples of every batch.
        steps: number of frames of a clip -> its steps.
    """

    def __init__(
        self, dataset: VideoDataset, batches: Sequence[Sequence[SampleKey]], steps: Mapping[int, Steps]
    ) -> None:
        self.dataset, self.batches, self.steps = dataset, batches, steps

    def __iter__(self) -> Iterator[StepBatch]:
        for number, keys in enumerate(self.batches):
            steps = self.steps[_frames_of(self.dataset, keys)]
            ahead = LONG_CLIP_BYTES // len(keys)
            readers = [self.dataset.training_steps(key, steps, ahead) for key in keys]
            for step in range(len(steps)):
                batch = collate([next(reader) for reader in readers])
                yield StepBatch(**vars(batch), number=number, step=step, last_step=len(steps) - 1)


class StepLoader:
    """Loader of training batches that are read step by step; it stands in for the `DataLoader` of whole clips.

    Each worker has a loader of its own, since one loader takes from its workers in turn: the next batches would have to
    wait in memory until a batch is through.

    Args:
        loader: of whole clips; it never starts.
        steps: number of frames of a clip -> its steps.

    Attributes:
        dataset, batch_sampler, worker_init_fn: as of a `DataLoader`.
    """

    def __init__(self, loader: DataLoader, steps: Callable[[int], Steps]) -> None:
        self.dataset, self.batch_sampler = loader.dataset, loader.batch_sampler
        self.worker_init_fn = loader.worker_init_fn
        self._loader, self._steps = loader, steps

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[SteppedBatch]:
        batches = list(self.batch_sampler)
        lengths = {_frames_of(self.dataset, keys) for keys in batches}
        steps = {frames: self._steps(frames) for frames in sorted(lengths)}
        shares = max(1, min(self._loader.num_workers, len(batches)))
        readers = [iter(self._share(batches[first::shares], steps)) for first in range(shares)]
        for number, keys in enumerate(batches):
            items = readers[number % shares]
            first = next(items)
            if first.step:
                raise RuntimeError("a batch was left before its last step: with DATA_LOADER.IN_STEPS a task reads all")
            frames = _frames_of(self.dataset, keys)
            about = {name: value for name, value in vars(first).items() if name in Batch.__dataclass_fields__}
            reader = _in_order(first, items, first.replaced)
            yield SteppedBatch(**about | {"inputs": []}, frames=frames, reader=reader)

    def _share(self, batches: Sequence[Sequence[SampleKey]], steps: Mapping[int, Steps]) -> DataLoader:
        loader, parallel = self._loader, self._loader.num_workers > 0
        return DataLoader(
            _Share(self.dataset, batches, steps),
            batch_size=None,
            num_workers=int(parallel),
            prefetch_factor=loader.prefetch_factor,
            pin_memory=loader.pin_memory,
            worker_init_fn=self.worker_init_fn,
            generator=loader.generator,
            multiprocessing_context=loader.multiprocessing_context,
        )


def _in_order(first: StepBatch, items: Iterator[StepBatch], replaced: list[tuple[str, str]]) -> Iterator[list[Tensor]]:
    """Yield the inputs of the steps of a batch; add to `replaced` what later steps name there."""
    item, last = first, first.last_step
    while True:
        inputs, step = item.inputs, item.step
        del item  # so that a step's frames are freed with the step
        yield inputs
        del inputs
        if step == last:
            return
        item = next(items)
        replaced += item.replaced


def _frames_of(dataset: VideoDataset, keys: Sequence[SampleKey]) -> int:
    shape = keys[0].shape
    return (shape.frames if shape else 0) or dataset.clips.settings.num_frames


def check_steps(cfg: Any, dataset: ClipDataset, steps: Steps | None) -> None:
    """Check that training clips can be read step by step (`DATA_LOADER.IN_STEPS`).

    Args:
        steps: of a clip; None for a task that reads a clip at once.

    Raises:
        ValueError: they cannot, with the setting that is in the way.
    """
    augmentation = dataset.clips.settings.augmentation if isinstance(dataset, VideoDataset) else None
    causes = {
        f"TASK {cfg.TASK or 'clip'!r} trains on a clip at once": steps is None,
        f"TRAIN.DATASET {cfg.TRAIN.DATASET} makes its clips in a way of its own": (
            type(dataset).training_sample is not VideoDataset.training_sample
        ),
        "MIXUP.ENABLE mixes whole clips": cfg.MIXUP.ENABLE,
        "BN.USE_PRECISE_STATS predicts whole clips": cfg.BN.USE_PRECISE_STATS,
        "DATA.DUMMY_LOAD repeats a whole clip": cfg.DATA.DUMMY_LOAD,
        "DATA.TRAIN_CROP_NUM_TEMPORAL takes several clips of a video": cfg.DATA.TRAIN_CROP_NUM_TEMPORAL > 1,
    }
    if augmentation is not None:
        erasing = augmentation.erasing
        causes |= {
            "AUG.GEN_MASK_LOADER masks a whole clip": dataset.draw_mask is not None,
            "DATA.TRAIN_JITTER_MOTION_SHIFT moves the crop through the clip": augmentation.moving,
            "DATA.SSL_COLOR_JITTER changes the colors of a clip at once": augmentation.view_color is not None,
            "DATA.TIME_DIFF_PROB takes differences across steps": augmentation.time_differences > 0,
            f"AUG.RE_MODE {cfg.AUG.RE_MODE} draws noise for a whole clip (set const, or AUG.RE_PROB 0)": (
                erasing is not None and erasing.mode != "const"
            ),
        }
    found = [cause for cause, holds in causes.items() if holds]
    if found:
        raise ValueError(f"DATA_LOADER.IN_STEPS True reads training clips step by step, but {found[0]}")
