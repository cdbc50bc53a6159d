"""Pooling of heads with memory. Shapes: x is (B, C, T, H, W), memory (B, C, O, H, W), of whole frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from pgt.memory import active_carry
from pgt.operators.base import MarkovOperator
from slowfast.layers.pool import SpaceTimePool, TimePool, pool_space, pool_time


class MarkovPool(MarkovOperator, SpaceTimePool):
    """Pooling of a classification head over a step's frames and the memory before them.

    In a step it pools space by the clip head's window and time altogether. In a whole clip it pools time to `positions`
    positions, and the classifier scores each.
    """

    positions: int

    def step(self, memory: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
        """Pool [memory; x] to (B, C, 1, H', W')."""
        frames = [pool_space(part, self.size, self.spatial) for part in (memory, x) if part is not None]
        return pool_time(torch.cat(frames, dim=2) if len(frames) > 1 else frames[0], None, self.temporal)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pool a step while a carry is active, otherwise a whole clip."""
        carry = active_carry()
        if carry is not None:
            return self.run(carry, x, x)
        x = pool_space(x, self.size, self.spatial)
        pool = F.adaptive_avg_pool3d if self.temporal == "avg" else F.adaptive_max_pool3d
        return pool(x, (self.positions, *x.shape[3:]))


class MarkovTimePool(MarkovOperator, TimePool):
    """Pooling over time in front of RoIAlign, over a step's frames and the memory before them.

    The memory is of whole frames, so each step may bring boxes of its own.
    """

    def step(self, memory: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
        """Pool [memory; x] to (B, C, 1, H, W)."""
        return TimePool.forward(self, x if memory is None else torch.cat([memory, x], dim=2))


def last_window(
    features: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], step_len: Sequence[int]
) -> list[torch.Tensor]:
    """Return the features that the boxes of a whole clip see: its last `step_len` frames and the one before them.

    This is a step with its memory; the key frame is in the middle of the step. ("PGT", evaluation on AVA.)

    Args:
        features: (B, C, T', H', W') a pathway; with strides in time they have fewer frames, and so has the window.
        inputs: (B, C, T, H, W) a pathway.
        step_len: frames of the first step, a pathway.
    """
    windows = []
    for x, clip, length in zip(features, inputs, step_len, strict=True):
        stride = -(-clip.shape[2] // x.shape[2])
        windows.append(x[:, :, -(-(-length // stride) + 1) :])
    return windows
