"""Batches of sample keys for one process, and the shapes of their clips.

Both are functions of seed, epoch and iteration, and of the share of the process.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.data import Sampler

from slowfast.runtime.seed import seeded_generator


class ClipShape(NamedTuple):
    """Frames and crop size (pixels) of the clips of one batch; 0 for those of the settings."""

    frames: int = 0
    crop: int = 0


@dataclass(frozen=True)
class BatchShapes:
    """Schedule of batch shapes, a function of seed, epoch and iteration alone, so that all processes agree.

    Args:
        lengths: numbers of frames; every len(lengths) batches use each once, in random order. () for one length.
        crops: (crop size in pixels, factor of the batch size), which batches use in turn.
    """

    lengths: tuple[int, ...] = ()
    crops: tuple[tuple[int, int], ...] = ((0, 1),)

    @staticmethod
    def from_config(cfg: Any) -> BatchShapes:
        """Read lengths from DATA.TRAIN_NUM_FRAMES and crops from MULTIGRID.SHORT_CYCLE."""
        lengths, options = tuple(cfg.DATA.TRAIN_NUM_FRAMES), cfg.MULTIGRID
        if not options.SHORT_CYCLE:
            return BatchShapes(lengths)
        crop = cfg.DATA.TRAIN_CROP_SIZE
        return BatchShapes(
            lengths, BatchShapes.short_cycle(crop, options.DEFAULT_S or crop, options.SHORT_CYCLE_FACTORS)
        )

    @staticmethod
    def short_cycle(crop: int, full_crop: int, factors: Sequence[float]) -> tuple[tuple[int, int], ...]:
        """Return `crops` of the short cycle, for about equal pixels per batch.

        Source: as `slowfast.engine.multigrid`.

        Args:
            crop: crop of the epoch, in pixels.
            full_crop: crop without multigrid, in pixels.
            factors: smaller crops relative to `full_crop`.
        """
        smaller = [
            (int(round(factor * full_crop)), int(round((crop / (factor * full_crop)) ** 2))) for factor in factors
        ]
        return (*smaller, (crop, 1))

    def size_factor(self, iteration: int) -> int:
        """Return the factor of the batch size at `iteration`."""
        return self.crops[iteration % len(self.crops)][1]

    def batches_in(self, plain: int) -> int:
        """Return how many full batches the clips of `plain` batches of the plain size make."""
        cycle = sum(factor for _, factor in self.crops)
        rounds, left = divmod(plain, cycle)
        sizes = itertools.accumulate(factor for _, factor in self.crops)
        return rounds * len(self.crops) + sum(size <= left for size in sizes)

    def plain_before(self, iteration: int) -> int:
        """Return the clips of all batches before `iteration`, in batches of the plain size."""
        rounds, left = divmod(iteration, len(self.crops))
        factors = [factor for _, factor in self.crops]
        return rounds * sum(factors) + sum(factors[:left])

    def clip_shape(self, seed: int, epoch: int, iteration: int) -> ClipShape | None:
        """Return the shape of the clips at `iteration`; None if all have that of the settings."""
        if not self.lengths and len(self.crops) == 1:
            return None
        frames = self.lengths[self._length_index(seed, epoch, iteration)] if self.lengths else 0
        return ClipShape(frames, self.crops[iteration % len(self.crops)][0])

    def _length_index(self, seed: int, epoch: int, iteration: int) -> int:
        count = len(self.lengths)
        turn, place = divmod(iteration, count)
        # The last number sets this stream apart from those of samples.
        generator = seeded_generator(seed, "train", epoch, turn, 1)
        return int(torch.randperm(count, generator=generator)[place])


class SampleKey(NamedTuple):
    """Key of a sample: its index, the epoch, and the shape of its batch if batches differ."""

    index: int
    epoch: int = 0
    shape: ClipShape | None = None


class EpochBatchSampler(Sampler[list[SampleKey]]):
    """Batch sampler of one process.

    Keys carry the epoch, so that the randomness of a sample does not depend on the worker that makes it.

    DataLoader hands out batches to its workers round-robin. In training that is all. In val and test, consecutive
    samples are views of one video, which its worker decodes once. So batches are interleaved in such a way that
    each worker gets a contiguous block of samples. `workers` changes the order of the batches, not their contents.
    (One sample per video would hold all its views at once, 755 MB for 30 of 32 x 256 x 256. One sample per block of
    views would decode overlapping views repeatedly.)

    Args:
        num_samples: samples of the data set.
        batch_size: samples per batch of this process, before `shapes` enlarges it.
        shuffle: train: a new order each epoch, full batches only, as many in every process. val and test: every sample
            once, so that processes may differ by one sample.
        seed: `RNG_SEED`.
        rank, world_size: number of this process, and of all.
        shapes: shapes of the training batches, by iteration.
        workers: val and test: loader workers; 0 or 1 for batches in order.
        groups: val and test: group of each sample; a batch holds samples of one group. None for no such rule.
        chunk: train: samples of an epoch; 0 for all. Epochs take one chunk of the list after the other, the last one
            goes on at its start.
        chunked: train: first samples that chunks are taken from; 0 for all.

    Raises:
        ValueError: there is no full batch.
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
        chunk: int = 0,
        chunked: int = 0,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"a process gets {batch_size} samples a batch; it needs at least 1")
        self._chunked = min(chunked, num_samples) if chunk and chunked else num_samples
        num_samples = min(chunk, self._chunked) if chunk else num_samples
        self.num_samples, self.batch_size, self.shuffle, self.seed = num_samples, batch_size, shuffle, seed
        self.rank, self.world_size, self.shapes = rank, world_size, shapes or BatchShapes()
        self.epoch, self.start_iteration = 0, 0
        self._batches = [] if shuffle else _interleave(_contiguous_batches(self._share(), batch_size, groups), workers)
        if shuffle and len(self) == 0:
            first = batch_size * world_size * self.shapes.size_factor(0)
            raise ValueError(f"{num_samples} training videos do not fill one batch of {first}; lower the batch size")

    def set_epoch(self, epoch: int, start_iteration: int = 0) -> None:
        """Choose the epoch, and the number of its first batches to skip without reading them, before a pass."""
        self.epoch, self.start_iteration = epoch, start_iteration

    def __len__(self) -> int:
        """Return the number of batches of a full epoch, including those that `start_iteration` skips."""
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
        first = self.epoch % math.ceil(self._chunked / self.num_samples) * self.num_samples
        order = ((permutation + first) % self._chunked)[self.rank :: self.world_size].tolist()
        for iteration in range(len(self)):
            start = self.shapes.plain_before(iteration) * self.batch_size
            yield iteration, order[start : start + self.shapes.size_factor(iteration) * self.batch_size]

    def _share(self) -> range:
        """Return the samples of this process in val and test: contiguous, since views of a video share its decoding."""
        bounds = [self.num_samples * rank // self.world_size for rank in (self.rank, self.rank + 1)]
        return range(*bounds)


def _contiguous_batches(samples: range, batch_size: int, groups: Sequence[int] | None = None) -> list[range]:
    """Cut samples into batches of `batch_size`, smaller at the end and where the group changes."""
    batches: list[range] = []
    start = samples.start
    for stop in range(samples.start + 1, samples.stop + 1):
        ends = stop == samples.stop or (groups is not None and groups[stop] != groups[start])
        if ends or stop - start == batch_size:
            batches.append(range(start, stop))
            start = stop
    return batches


def _interleave(batches: Sequence[range], workers: int) -> list[range]:
    """Reorder batches so that each of `workers`, served round-robin, gets a contiguous run of them."""
    shares = [len(range(worker, len(batches), workers)) for worker in range(workers)] or [len(batches)]
    starts = [sum(shares[:worker]) for worker in range(len(shares))]
    return [batches[starts[i % len(shares)] + i // len(shares)] for i in range(len(batches))]
