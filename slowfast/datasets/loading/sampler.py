"""Order of the samples of an epoch, as a function of seed, epoch and world size alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from slowfast.datasets.loading.batch_shapes import BatchShapes, ClipShape
from slowfast.utils.rng import seeded_generator


class SampleKey(NamedTuple):
    """What a data set makes a sample from: its number, the epoch, and the shape of its batch where batches differ."""

    index: int
    epoch: int = 0
    shape: ClipShape | None = None


class EpochBatchSampler(Sampler[list[SampleKey]]):
    """Batches of keys for one process.

    A key carries the epoch, so that what a sample draws at random does not depend on the worker making it, and the
    shape of its batch.

    In val and test neighboring samples are views of one video, which a worker that makes them one after the other
    decodes once. Since PyTorch deals batches to the workers in turn, the first `workers` batches of a pass are the
    first ones of as many blocks of neighbors, the next ones their second, and so on: each worker has a block of its
    own. Which samples make a batch does not depend on `workers`; the order of the batches does.

    Args:
        num_samples: samples of the data set.
        batch_size: samples a batch of this process, before `shapes` enlarges it.
        shuffle: train: a new order each epoch, whole batches only, as many in every process. Otherwise: every sample
            once, so that processes may differ by one sample.
        seed: `RNG_SEED`.
        rank: number of this process, of `world_size`.
        shapes: of the batches of training, by iteration.
        workers: processes of the loader in val and test; 0 or 1 for batches in order.
        groups: val and test: a number for each sample; samples of other numbers than their neighbors' do not share a
            batch with these. None for no such rule.

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
        workers: int = 0,
        groups: Sequence[int] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"a process gets {batch_size} samples a batch; raise BATCH_SIZE or lower NUM_GPUS")
        self.num_samples, self.batch_size, self.shuffle, self.seed = num_samples, batch_size, shuffle, seed
        self.rank, self.world_size, self.shapes = rank, world_size, shapes or BatchShapes()
        self.epoch, self.start_iteration = 0, 0
        self._batches = [] if shuffle else deal(neighbors(self._share(), batch_size, groups), workers)
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
        return len(self._batches)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        batches = self._shuffled() if self.shuffle else enumerate(self._batches)
        for iteration, samples in batches:
            if iteration >= self.start_iteration:
                shape = self.shapes.clip_shape(self.seed, self.epoch, iteration)
                yield [SampleKey(index, self.epoch, shape) for index in samples]

    def _shuffled(self) -> Iterator[tuple[int, list[int]]]:
        permutation = torch.randperm(self.num_samples, generator=seeded_generator(self.seed, "train", self.epoch))
        order = permutation[self.rank :: self.world_size].tolist()
        for iteration in range(len(self)):
            start = self.shapes.plain_before(iteration) * self.batch_size
            yield iteration, order[start : start + self.shapes.size_factor(iteration) * self.batch_size]

    def _share(self) -> range:
        """Samples of this process in val and test: neighbors, since views of a video share its decoding."""
        bounds = [self.num_samples * rank // self.world_size for rank in (self.rank, self.rank + 1)]
        return range(*bounds)


def neighbors(samples: range, batch_size: int, groups: Sequence[int] | None = None) -> list[range]:
    """Samples in order as batches of `batch_size` and, at the end and wherever the group changes, smaller ones."""
    batches: list[range] = []
    start = samples.start
    for stop in range(samples.start + 1, samples.stop + 1):
        ends = stop == samples.stop or (groups is not None and groups[stop] != groups[start])
        if ends or stop - start == batch_size:
            batches.append(range(start, stop))
            start = stop
    return batches


def deal(batches: Sequence[range], workers: int) -> list[range]:
    """The batches in such an order that `workers` who take them in turn have a run of neighbors each."""
    shares = [len(range(worker, len(batches), workers)) for worker in range(workers)] or [len(batches)]
    starts = [sum(shares[:worker]) for worker in range(len(shares))]
    return [batches[starts[i % len(shares)] + i // len(shares)] for i in range(len(batches))]
