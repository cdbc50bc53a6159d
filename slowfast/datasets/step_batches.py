"""Batches of long clips, step by step, for models that read a clip in steps: no clip is in memory as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from slowfast.datasets.base import ClipDataset
from slowfast.datasets.loading.batch import Batch, MissingSample, Sample, collate
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video_dataset import VideoDataset

Steps = Sequence[Sequence[Sequence[int]]]
"""For every step and pathway, positions among the frames of a clip."""

# Bytes of the pixels of a clip, float32, from which on it is read step by step, and of the frames that a worker decodes
# ahead. Shorter clips are decoded at once, which is faster: all views of a video share it.
LONG_CLIP_BYTES = 2**26


@dataclass
class StepBatch(Batch):
    """Inputs of one step of the clips of a batch.

    If a video breaks off, the batch begins again at step 0, without it.

    Attributes:
        number: of the batch, among those of its pass.
        step, last_step: numbers of this step and of the last one.
    """

    number: int = 0
    step: int = 0
    last_step: int = 0


class StepBatches(IterableDataset[StepBatch]):
    """The batches of a sampler, each step by step. With several workers, batches take turns.

    Args:
        dataset: val or test.
        batches: indices of the samples of every batch.
        steps: see `Steps`.
    """

    def __init__(self, dataset: VideoDataset, batches: Sequence[Sequence[int]], steps: Steps) -> None:
        self.dataset, self.batches, self.steps = dataset, batches, steps

    def __iter__(self) -> Iterator[StepBatch]:
        worker = get_worker_info()
        # As DataLoader hands out batches.
        first, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for number in range(first, len(self.batches), stride):
            views = [divmod(index, self.dataset.num_views) for index in self.batches[number]]
            yield from self._read(number, views, [])

    def _read(
        self, number: int, views: Sequence[tuple[int, int]], missing: Sequence[MissingSample]
    ) -> Iterator[StepBatch]:
        """Read the views (video, view) of a batch; `missing` are its others."""
        if not views:
            yield StepBatch(**vars(collate(missing)), number=number)
            return
        spatial = self.dataset.clips.settings.spatial_views
        groups = [
            (video, [view for _, view in group])
            for (video, _), group in itertools.groupby(views, lambda each: (each[0], each[1] // spatial))
        ]
        ahead = LONG_CLIP_BYTES // len(groups)
        readers = [self.dataset.evaluation_steps(*group, self.steps, ahead) for group in groups]
        for step in range(len(self.steps)):
            samples: list[Sample] = []
            failed: list[MissingSample] = []
            for (video, numbers), reader in zip(groups, readers, strict=True):
                try:
                    samples += next(reader)
                except VideoError as error:
                    failed += [MissingSample(video, view, error.path, error.cause) for view in numbers]
            if failed:
                lost = {(sample.video, sample.view) for sample in failed}
                rest = [view for view in views if view not in lost]
                yield from self._read(number, rest, [*missing, *failed])
                return
            batch = collate([*samples, *missing])
            yield StepBatch(**vars(batch), number=number, step=step, last_step=len(self.steps) - 1)


def long_clip_steps(task: Any, dataset: ClipDataset) -> Steps | None:
    """Return the steps in which a test reads the clips of a data set; None if it reads them at once.

    Args:
        task: `slowfast.engine.task.Task`.
    """
    if type(dataset).evaluation_sample is not VideoDataset.evaluation_sample:
        return None  # boxes, and views of a data set's own making
    s = dataset.clips.settings
    if 12 * s.num_frames * (s.crop or s.short_sides[0]) ** 2 < LONG_CLIP_BYTES:
        return None
    return task.clip_steps(s.num_frames)


def step_loader(loader: DataLoader, steps: Steps) -> DataLoader:
    """Return a loader of the same batches, of val or test, step by step."""
    batches = [[key.index for key in keys] for keys in loader.batch_sampler]
    return DataLoader(
        StepBatches(loader.dataset, batches, steps),
        batch_size=None,
        num_workers=loader.num_workers,
        prefetch_factor=loader.prefetch_factor,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
        multiprocessing_context=loader.multiprocessing_context,
    )
