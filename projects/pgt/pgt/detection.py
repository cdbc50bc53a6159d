"""Steps of models that score boxes: memory in their heads, and what a whole clip's boxes see.

Shapes: x is (B, C, T, H, W), memory (B, C, O, H, W): of whole frames, so each step may bring boxes of its own.
"""

from collections.abc import Sequence

import torch

from pgt.markov import CacheRule, active_carry
from slowfast.layers.pool import TimePool


class MarkovTimePool(TimePool):
    """Pooling over time of [memory; step], in front of RoIAlign; in a whole clip over the frames that it gets."""

    name: str
    rule: CacheRule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        carry = active_carry()
        if carry is None:
            return super().forward(x)
        memory = carry.read(self.name, x)
        y = super().forward(x if memory is None else torch.cat([memory.to(x.dtype), x], dim=2))
        carry.write(self.name, self.rule, x, memory)
        return y


def last_window(
    features: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], step_len: Sequence[int]
) -> list[torch.Tensor]:
    """What the boxes of a whole clip see: the features of its last `step_len` frames, a step with its memory, and of
    the one frame before them. ("PGT", evaluation on AVA; the key frame is in the middle of that step.)

    Args:
        features, inputs: one (B, C, T, H, W) a pathway; where a network has strides in time, its features have fewer
            frames, and the window with them.
        step_len: frames of the first step, a pathway.
    """
    windows = []
    for x, clip, length in zip(features, inputs, step_len, strict=True):
        stride = -(-clip.shape[2] // x.shape[2])
        windows.append(x[:, :, -(-(-length // stride) + 1) :])
    return windows
