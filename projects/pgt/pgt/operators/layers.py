"""Operators with memory: base class, convolutions, lateral connections, pooling of heads.

Shapes: x is (B, C, T, H, W), memory (B, C, O, H, W); that of a head is of whole frames.

Lateral connections of SlowFast. In a clip, slow frame j gets the output of the lateral convolution (kernel k, stride a)
around fast frame j * a. A step has a new fast frames for every slow one (`StepPlan.check_fusion`), so with memory its
output i is the convolution around its new fast frame i * a. In front of the first new frame lies the memory of the
fast pathway: its last k // 2 frames count, zeros stand for missing ones. Behind the last frame lie zeros, which no
output meets where k // 2 < a. If so, and if the memory is the last k // 2 frames or more, the steps have the outputs of
one convolution over the whole clip. PGT.SLOW_SAMPLING, which chooses frames of the slow pathway, does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pgt.memory import CachePolicy, Carry, active_carry
from slowfast.layers.conv import Conv3d
from slowfast.layers.pool import SpaceTimePool, TimePool, pool_space, pool_time
from slowfast.models.slowfast import FuseFastToSlow


def adopt(cls: type[nn.Module], layer: nn.Module) -> nn.Module:
    """Make a module of class `cls` from `layer`, with its parameters, buffers, submodules, hooks and mode.

    All of these are shared, so `layer` is to be replaced by the result. `cls` derives from the class of `layer`.
    """
    module = cls.__new__(cls)
    module.__dict__.update(layer.__dict__)
    return module


class MarkovOperator(nn.Module):
    """Mixin in front of the class of a layer: reads memory, computes the step, writes memory.

    A subclass defines `step`. One whose memory is not that of its input calls `run` where its memory comes in.

    Attributes:
        name: key in the memory, the name of the module in the model.
        policy: rule of its memory; None for an operator without memory.
    """

    name: str
    policy: CachePolicy | None

    @classmethod
    def from_layer(cls, layer: nn.Module, name: str, policy: CachePolicy | None, **settings: Any) -> MarkovOperator:
        """Make an operator of a layer; it shares the layer's parameters, hooks and mode, see `adopt`.

        Args:
            settings: further attributes of the operator.
        """
        operator = adopt(cls, layer)
        for key, value in {"name": name, "policy": policy, **settings}.items():
            setattr(operator, key, value)
        return operator

    def step(self, memory: torch.Tensor | None, *inputs: Any) -> torch.Tensor:
        """Compute the outputs of the new frames.

        Args:
            memory: (B, C, O, H, W); None at the start of a video.
            inputs: arguments of the layer, for the same samples.
        """
        raise NotImplementedError

    def run(self, carry: Carry, remembered: torch.Tensor, *inputs: Any) -> torch.Tensor:
        """Read memory, compute `step(memory, *inputs)`, write the memory of `remembered` if the carry writes."""
        if self.policy is None:
            return self.step(None, *inputs)
        memory = carry.read(self.name, remembered)
        frames = None if memory is None else self.policy.read(memory)
        y = carry.by_sample(self.step, frames, *inputs)
        if frames is None and isinstance(self.policy, nn.Module):
            y = _Beside.apply(y, *self.policy.parameters())
        if carry.writes:
            carry.write(self.name, self.policy, remembered, memory)
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute a step while a carry is active, otherwise what the layer does."""
        carry = active_carry()
        return super().forward(x) if carry is None else self.run(carry, x, x)


class _Beside(torch.autograd.Function):
    """Identity of y, with a gradient of zero for parameters that a step has not used.

    Processes that train together (DDP) wait for a gradient of every parameter. A rule with parameters has none in the
    first step of a video, which reads no memory.
    """

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        ctx.like = [(parameter.shape, parameter.dtype) for parameter in parameters]
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return gradient, *(gradient.new_zeros(shape, dtype=dtype) for shape, dtype in ctx.like)


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
    """Lateral connection without memory: drops the surplus outputs at the start of a step, as the published code.

    With kernel k and stride a the outputs are around new fast frames 0, a, 2a, ...; zeros stand for frames outside of
    the step. One surplus output dropped, new slow frame i meets the output around new fast frame (i + 1) a.
    """

    @classmethod
    def from_layer(cls, layer: FuseFastToSlow) -> StepFusion:
        """Make one of the clip model's lateral connection; they share everything."""
        return adopt(cls, layer)

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        """Join the lateral features to the slow ones.

        Raises:
            ValueError: fewer lateral frames than slow ones, or outside of a step another number.
        """
        if active_carry() is None:
            return super().forward(x)
        slow, fast = x
        lateral = self.lateral(fast)
        surplus = lateral.shape[2] - slow.shape[2]
        if surplus < 0:
            raise ValueError(
                f"a step's {fast.shape[2]} fast frames give {lateral.shape[2]} lateral frames for {slow.shape[2]} slow "
                "ones; choose PGT.STEP_LEN and PGT.OVERLAP as SLOWFAST.ALPHA times the slow pathway's"
            )
        return [torch.cat([slow, lateral[:, :, surplus:]], dim=1), fast]


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
        features: (B, C, T', H', W') per pathway; with strides in time they have fewer frames, and so has the window.
        inputs: (B, C, T, H, W) per pathway.
        step_len: frames of the first step, per pathway.
    """
    windows = []
    for x, clip, length in zip(features, inputs, step_len, strict=True):
        stride = -(-clip.shape[2] // x.shape[2])
        windows.append(x[:, :, -(-(-length // stride) + 1) :])
    return windows
