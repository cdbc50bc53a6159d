"""Order of the samples of an epoch, as a function of seed, epoch and world size alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from slowfast.datasets.batch_shapes import BatchShapes, ClipShape
from slowfast.datasets.random_streams import generator_of


class SampleKey(NamedTuple):
    """What a data set makes a sample from: its number, the epoch, and the shape of its batch where batches differ."""

    index: int
    epoch: int = 0
    shape: ClipShape | None = None


class EpochBatchSampler(Sampler[list[SampleKey]]):
    """Batches of keys for one process.

    A key carries the epoch, so that what a sample draws at random does not depend on the worker making it, and the
    shape of its batch.

    Args:
        num_samples: samples of the data set.
        batch_size: samples a batch of this process, before `shapes` enlarges it.
        shuffle: train: a new order each epoch, whole batches only, as many in every process. Otherwise: in
            order, every sample once, so that processes may differ by one sample.
        seed: `RNG_SEED`.
        rank: number of this process, of `world_size`.
        shapes: of the batches of training, by iteration.

    Raises:
        ValueError: no whole batch can be made.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        shapes: BatchShapes | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"a process gets {batch_size} samples a batch; raise BATCH_SIZE or lower NUM_GPUS")
        self.num_samples, self.batch_size, self.shuffle, self.seed = num_samples, batch_size, shuffle, seed
        self.rank, self.world_size, self.shapes = rank, world_size, shapes or BatchShapes()
        self.epoch, self.start_iteration = 0, 0
        if shuffle and len(self) == 0:
            first = batch_size * world_size * self.shapes.size_factor(0)
            raise ValueError(f"{num_samples} training videos do not fill one batch of {first}; lower TRAIN.BATCH_SIZE")

    def set_epoch(self, epoch: int, start_iteration: int = 0) -> None:
        """Choose the epoch, and how many of its batches to leave out (they are not read), before a pass."""
        self.epoch, self.start_iteration = epoch, start_iteration

    def __len__(self) -> int:
        """Batches of a whole epoch, those left out by `start_iteration` included."""
        if self.shuffle:
            return self.shapes.batches_in(self.num_samples // (self.batch_size * self.world_size))
        return -(-len(self._share()) // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order = self._order()
        for iteration in range(self.start_iteration, len(self)):
            start = self.shapes.plain_before(iteration) * self.batch_size
            stop = start + self.shapes.size_factor(iteration) * self.batch_size
            shape = self.shapes.clip_shape(self.seed, self.epoch, iteration)
            yield [SampleKey(index, self.epoch, shape) for index in order[start:stop]]

    def _order(self) -> list[int]:
        if not self.shuffle:
            return list(self._share())
        permutation = torch.randperm(self.num_samples, generator=generator_of(self.seed, "train", self.epoch))
        return permutation[self.rank :: self.world_size].tolist()

    def _share(self) -> range:
        """Samples of this process in val and test: neighbours, since views of a video share its decoding."""
        bounds = [self.num_samples * rank // self.world_size for rank in (self.rank, self.rank + 1)]
        return range(*bounds)
