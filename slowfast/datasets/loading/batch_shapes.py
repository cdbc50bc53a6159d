"""What shape the clips of each training batch have, where that changes from batch to batch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from slowfast.utils.rng import seeded_generator


class ClipShape(NamedTuple):
    """Frames and side (pixels) of the clips of one batch; 0 for what the settings say."""

    frames: int = 0
    crop: int = 0


@dataclass(frozen=True)
class BatchShapes:
    """Shape and size of every batch as a function of seed, epoch and iteration alone, so the same in all processes.

    Args:
        lengths: numbers of frames, drawn evenly: each comes once in as many batches as there are, in an order that is
            drawn anew every time. () for clips of one length.
        crops: (side in pixels, size of the batch over the plain one), which batches take in turn.
    """

    lengths: tuple[int, ...] = ()
    crops: tuple[tuple[int, int], ...] = ((0, 1),)

    @staticmethod
    def from_config(cfg: Any) -> BatchShapes:
        """The lengths of DATA.TRAIN_NUM_FRAMES, the crops of MULTIGRID.SHORT_CYCLE."""
        lengths, options = tuple(cfg.DATA.TRAIN_NUM_FRAMES), cfg.MULTIGRID
        if not options.SHORT_CYCLE:
            return BatchShapes(lengths)
        crop = cfg.DATA.TRAIN_CROP_SIZE
        return BatchShapes(lengths, short_cycle(crop, options.DEFAULT_S or crop, options.SHORT_CYCLE_FACTORS))

    def size_factor(self, iteration: int) -> int:
        """Clips of that batch over those of a plain one."""
        return self.crops[iteration % len(self.crops)][1]

    def batches_in(self, plain: int) -> int:
        """How many whole batches, from the first on, as many clips as `plain` plain ones make."""
        cycle = sum(factor for _, factor in self.crops)
        rounds, left = divmod(plain, cycle)
        sizes = itertools.accumulate(factor for _, factor in self.crops)
        return rounds * len(self.crops) + sum(size <= left for size in sizes)

    def plain_before(self, iteration: int) -> int:
        """Clips of all batches before that one, in plain batches."""
        rounds, left = divmod(iteration, len(self.crops))
        factors = [factor for _, factor in self.crops]
        return rounds * sum(factors) + sum(factors[:left])

    def clip_shape(self, seed: int, epoch: int, iteration: int) -> ClipShape | None:
        """The shape of that batch's clips; None where all are as the settings say."""
        if not self.lengths and len(self.crops) == 1:
            return None
        frames = self.lengths[self._draw(seed, epoch, iteration)] if self.lengths else 0
        return ClipShape(frames, self.crops[iteration % len(self.crops)][0])

    def _draw(self, seed: int, epoch: int, iteration: int) -> int:
        count = len(self.lengths)
        turn, place = divmod(iteration, count)
        # The last number sets this stream apart from those of samples.
        generator = seeded_generator(seed, "train", epoch, turn, 1)
        return int(torch.randperm(count, generator=generator)[place])


def short_cycle(crop: int, full_crop: int, factors: Sequence[float]) -> tuple[tuple[int, int], ...]:
    """Crops of the short cycle and how much larger their batches are: about the same number of pixels in each.

    Source: as `slowfast.engine.multigrid`.

    Args:
        crop: of the epoch, pixels.
        full_crop: without a cycle, pixels.
        factors: the smaller crops as shares of `full_crop`.
    """
    smaller = [(int(round(factor * full_crop)), int(round((crop / (factor * full_crop)) ** 2))) for factor in factors]
    return (*smaller, (crop, 1))
