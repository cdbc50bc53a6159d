"""Shapes of training batches that change from iteration to iteration: clip length, and multigrid's short cycle."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

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
        return BatchShapes(lengths, short_cycle(crop, options.DEFAULT_S or crop, options.SHORT_CYCLE_FACTORS))

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


def short_cycle(crop: int, full_crop: int, factors: Sequence[float]) -> tuple[tuple[int, int], ...]:
    """Return the crops of the short cycle and the factors of their batch sizes, for about equal pixels per batch.

    Source: as `slowfast.engine.multigrid`.

    Args:
        crop: crop of the epoch, in pixels.
        full_crop: crop without multigrid, in pixels.
        factors: smaller crops relative to `full_crop`.
    """
    smaller = [(int(round(factor * full_crop)), int(round((crop / (factor * full_crop)) ** 2))) for factor in factors]
    return (*smaller, (crop, 1))
