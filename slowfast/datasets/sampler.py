"""Order of the samples of an epoch, as a function of seed, epoch and world size alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

SampleKey = tuple[int, int]
SPLITS = ("train", "val", "test")


class EpochBatchSampler(Sampler[list[SampleKey]]):
    """Batches of (index, epoch) keys for one process.

    The key carries the epoch, so that what a sample draws at random does not depend on the worker making it.

    Args:
        num_samples: samples of the data set.
        batch_size: samples a batch of this process.
        shuffle: train: a new order each epoch, whole batches only, as many in every process. Otherwise: in
            order, every sample once, so that processes may differ by one sample.
        seed: `RNG_SEED`.
        rank: number of this process, of `world_size`.

    Raises:
        ValueError: no whole batch can be made.
    """

    def __init__(
        self, num_samples: int, batch_size: int, shuffle: bool, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"a process gets {batch_size} samples a batch; raise BATCH_SIZE or lower NUM_GPUS")
        if shuffle and num_samples < batch_size * world_size:
            raise ValueError(
                f"{num_samples} training videos do not fill one batch of {batch_size * world_size}; "
                "lower TRAIN.BATCH_SIZE"
            )
        self.num_samples, self.batch_size, self.shuffle, self.seed = num_samples, batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch, self.start_iteration = 0, 0

    def set_epoch(self, epoch: int, start_iteration: int = 0) -> None:
        """Choose the epoch, and how many of its batches to leave out (they are not read), before a pass."""
        self.epoch, self.start_iteration = epoch, start_iteration

    def __len__(self) -> int:
        """Batches of a whole epoch, those left out by `start_iteration` included."""
        if self.shuffle:
            return self.num_samples // (self.batch_size * self.world_size)
        return -(-len(self._share()) // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order, step = self._order(), self.batch_size
        for batch in range(self.start_iteration, len(self)):
            yield [(index, self.epoch) for index in order[batch * step : (batch + 1) * step]]

    def _order(self) -> list[int]:
        if not self.shuffle:
            return list(self._share())
        permutation = torch.randperm(self.num_samples, generator=generator_of(self.seed, "train", self.epoch))
        return permutation[self.rank :: self.world_size].tolist()

    def _share(self) -> range:
        """Samples of this process in val and test: neighbours, since views of a video share its decoding."""
        bounds = [self.num_samples * rank // self.world_size for rank in (self.rank, self.rank + 1)]
        return range(*bounds)


def generator_of(seed: int, split: str, *numbers: int) -> torch.Generator:
    """A generator whose stream depends on the arguments alone; different arguments give unrelated streams."""
    words = np.random.SeedSequence([seed % 2**64, SPLITS.index(split), *numbers]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)
