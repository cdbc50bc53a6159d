"""Convolutions and lateral connections with memory. Shapes: x is (B, C, T, H, W), memory (B, C, O, H, W).

Lateral connections of SlowFast. In a clip, slow frame j gets the output of the lateral convolution (kernel k, stride a)
around fast frame j * a. A step has a new fast frames for every slow one (`StepPlan.check_fusion`), so with memory its
output i is the convolution around its new fast frame i * a. In front of the first new frame lies the memory of the
fast pathway: its last k // 2 frames count, zeros stand for missing ones. Behind the last frame lie zeros, which no
output meets where k // 2 < a. Then, and with a memory of the last k // 2 frames or more, the outputs of the steps are
those of one convolution over the whole clip, whatever PGT.SLOW_SAMPLING gives to the slow pathway.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from pgt.operators.base import MarkovOperator, adopt
from slowfast.layers.conv import Conv3d
from slowfast.models.slowfast import FuseFastToSlow


class MarkovConv3d(MarkovOperator, Conv3d):
    """3-D convolution over a step's frames and the memory before them."""

    def step(self, memory: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
        """Convolve [memory; x]; returns the outputs of x.

        A convolution is linear: over [memory; x] it is that over [0; x], which keeps nothing for backward but x itself,
        plus that over [memory; 0]. The second reaches the first k // 2 outputs alone.
        """
        y = Conv3d.forward(self, x)
        if memory is not None:
            reached = self._from_memory(memory)[:, :, : y.shape[2]]
            y[:, :, : reached.shape[2]] += reached
        return y

    def _from_memory(self, memory: torch.Tensor) -> torch.Tensor:
        """Return what memory adds to the first k // 2 outputs: its last k // 2 frames meet the first k // 2 taps."""
        reach = self.kernel_size[0] // 2
        past = memory[:, :, -reach:]
        # Zeros before: frames that the memory lacks. Zeros behind: where the kernel leaves the memory.
        past = F.pad(past, (0, 0, 0, 0, reach - past.shape[2], reach - 1))
        return self.convolve(past, self.weight[:, :, :reach], None, (0, *self.padding[1:]))


class StepFusion(FuseFastToSlow):
    """Lateral connection without memory: drops the surplus outputs at the start of a step, as the published code."""

    @classmethod
    def from_layer(cls, layer: FuseFastToSlow) -> StepFusion:
        """Make one of the clip model's lateral connection; they share everything."""
        return adopt(cls, layer)

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        """Join the lateral features to the slow ones.

        Raises:
            ValueError: fewer lateral frames than slow ones.
        """
        slow, fast = x
        lateral = self.lateral(fast)
        surplus = lateral.shape[2] - slow.shape[2]
        if surplus < 0:
            raise ValueError(
                f"a step's {fast.shape[2]} fast frames give {lateral.shape[2]} lateral frames for {slow.shape[2]} slow "
                "ones; choose PGT.STEP_LEN and PGT.OVERLAP as SLOWFAST.ALPHA times the slow pathway's"
            )
        return [torch.cat([slow, lateral[:, :, surplus:]], dim=1), fast]
