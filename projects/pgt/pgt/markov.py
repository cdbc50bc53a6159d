"""Markov operators: drop-in layers that carry a few frames of their input from one step to the next.

Shapes: x is (B, C, T, H, W), the new frames of a step at an operator's input; memory is (B, C, O, H, W). With z =
[memory; x] an operator gives y = op(z) without the outputs of the memory frames, and remembers (1 - m) * pool(z) + m *
memory, where pool takes O frames from z and m is a momentum. ("PGT", section 3.)

An operator neither owns nor keeps memory. While a `Carry` is active (one step of one model call) it reads its memory
there and leaves the new one; with none active it is the plain layer it was made from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from slowfast.layers.conv import Conv3d
from slowfast.layers.nonlocal_ import NonLocal
from slowfast.layers.pool import SpaceTimePool, pool_space, pool_time
from slowfast.models.slowfast import FuseFastToSlow

Memory = dict[str, torch.Tensor]

_active: ContextVar[Carry | None] = ContextVar("carry", default=None)


class _Tracing:
    """Stands in for `_active` while torch.compile traces a step, for it cannot look into a ContextVar.

    What is traced is set and reset within one step, so nothing of it is left when the compiled step runs.
    """

    carry: Carry | None = None


_tracing = _Tracing()


def active_carry() -> Carry | None:
    """The carry of the step under way; None in a plain forward."""
    return _tracing.carry if torch.compiler.is_compiling() else _active.get()


class Carry:
    """The memory that one step reads, and the one it leaves.

    Args:
        memory: operator name -> (B, C, O, H, W); None at the start of a video.
        full_gradient: the new memory stays in the graph; otherwise it is cut from it.
    """

    def __init__(self, memory: Memory | None, full_gradient: bool = False):
        self.old = memory or {}
        self.new: Memory = {}
        self.full_gradient = full_gradient

    @contextmanager
    def active(self) -> Iterator[None]:
        """Operators called inside read from and write to this object."""
        if torch.compiler.is_compiling():
            _tracing.carry = self
            try:
                yield
            finally:
                _tracing.carry = None
            return
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)

    def read(self, name: str, x: torch.Tensor) -> torch.Tensor | None:
        """The memory of operator `name`, None at the start of a video.

        Raises:
            ValueError: it does not fit x in batch, channels or size.
        """
        memory = self.old.get(name)
        if memory is not None and (memory.shape[:2], memory.shape[3:]) != (x.shape[:2], x.shape[3:]):
            raise ValueError(
                f"memory of {name} has shape {tuple(memory.shape)} (B, C, O, H, W), but the step's features there have "
                f"{tuple(x.shape)} (B, C, T, H, W): batch, channels and size must agree"
            )
        return memory

    def write(self, name: str, rule: CacheRule | WholeStep, x: torch.Tensor, memory: torch.Tensor | None) -> None:
        """Leaves what operator `name` remembers of its input x, given its old memory.

        The first word counts: a block whose activations are computed again in the backward pass writes a second time,
        when the step's memory has long been handed on. It is worked out again all the same, since a full gradient needs
        what autograd keeps of it.
        """
        with torch.set_grad_enabled(self.full_gradient and torch.is_grad_enabled()):
            new = rule.remember(x, memory)
        self.new.setdefault(name, new)


@dataclass(frozen=True)
class CacheRule:
    """What an operator remembers of its frames.

    Args:
        frames: O, frames of memory.
        kind: "last" frames, or "max" / "avg" adaptive pooling over time.
        momentum: weight of the old memory in the new one.
    """

    frames: int
    kind: str = "last"
    momentum: float = 0.0

    def remember(self, x: torch.Tensor, memory: torch.Tensor | None) -> torch.Tensor:
        """The new memory (B, C, O, H, W); it shares no storage with its arguments, so nothing of a step stays alive."""
        if self.kind == "last" and x.shape[2] >= self.frames:
            z = x  # the old memory is too old, so that nothing need be joined
        else:
            z = x if memory is None else torch.cat([memory.to(x.dtype), x], dim=2)
        if z.shape[2] < self.frames:
            raise ValueError(f"a step of {z.shape[2]} frames here cannot fill {self.frames} frames of memory")
        new = self._pool(z)
        if memory is not None and self.momentum:
            new = torch.lerp(new, memory.to(new.dtype), self.momentum)
        return new

    def _pool(self, z: torch.Tensor) -> torch.Tensor:
        if self.kind == "last":
            return z[:, :, -self.frames :].clone()
        frames = z.shape[2]
        windows = [z[:, :, i * frames // self.frames : -(-(i + 1) * frames // self.frames)] for i in range(self.frames)]
        pool = torch.amax if self.kind == "max" else torch.mean
        return torch.cat([pool(window, dim=2, keepdim=True) for window in windows], dim=2)


class WholeStep:
    """The rule of an operator that remembers all frames of its step."""

    def remember(self, x: torch.Tensor, memory: torch.Tensor | None) -> torch.Tensor:
        """A copy of x."""
        return x.clone()


class MarkovConv3d(Conv3d):
    """A 3-D convolution over a step's frames and the memory before them; same parameters as the one it replaces."""

    name: str
    rule: CacheRule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        carry = active_carry()
        if carry is None:
            return super().forward(x)
        memory = carry.read(self.name, x)
        y = super().forward(x)
        if memory is not None:
            reached = self._from_memory(memory.to(x.dtype))[:, :, : y.shape[2]]
            y[:, :, : reached.shape[2]] += reached
        carry.write(self.name, self.rule, x, memory)
        return y

    def _from_memory(self, memory: torch.Tensor) -> torch.Tensor:
        """What memory adds to the first k // 2 frames of the output.

        A convolution is linear: over [memory; x] it is that over [0; x], which keeps nothing for the backward pass but
        x itself, plus that over [memory; 0]. Only the last k // 2 frames of memory reach an output frame that is kept,
        and the first k // 2 taps of the kernel are all that they meet.
        """
        reach = self.kernel_size[0] // 2
        past = memory[:, :, -reach:]
        # Zeros before: frames that the memory lacks. Zeros behind: where the kernel leaves the memory.
        past = F.pad(past, (0, 0, 0, 0, reach - past.shape[2], reach - 1))
        return self.convolve(past, self.weight[:, :, :reach], None, (0, *self.padding[1:]))


class MarkovPool(SpaceTimePool):
    """The head's pooling over a step's frames and the memory before them.

    In a step: space by the clip head's window, time altogether. In a whole clip (no carry active): time to `positions`
    positions, each of which the classifier scores.
    """

    name: str
    rule: CacheRule | None  # None: no memory in the head
    positions: int

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        carry = active_carry()
        if carry is None:
            return self._pool_whole_clip(x)
        frames = pool_space(x, self.size, self.spatial)
        if self.rule is not None:
            memory = carry.read(self.name, x)
            if memory is not None:
                frames = torch.cat([pool_space(memory.to(x.dtype), self.size, self.spatial), frames], dim=2)
            carry.write(self.name, self.rule, x, memory)
        return pool_time(frames, None, self.temporal)

    def _pool_whole_clip(self, x: torch.Tensor) -> torch.Tensor:
        x = pool_space(x, self.size, self.spatial)
        pool = F.adaptive_avg_pool3d if self.temporal == "avg" else F.adaptive_max_pool3d
        return pool(x, (self.positions, *x.shape[3:]))


class MarkovNonLocal(NonLocal):
    """A non-local block whose queries are the step's frames, and keys and values the frames of the step before.

    In the first step of a video, and in a whole clip, keys and values are the frames themselves.
    """

    name: str
    rule: WholeStep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        carry = active_carry()
        if carry is None:
            return super().forward(x)
        memory = carry.read(self.name, x)
        y = super().forward(x) if memory is None else x + self.attend(x, memory.to(x.dtype))
        carry.write(self.name, self.rule, x, memory)
        return y


class StepFusion(FuseFastToSlow):
    """Lateral connection within a step: no memory; surplus outputs at its start are dropped, as in the published
    code.
    """

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        slow, fast = x
        lateral = self.lateral(fast)
        surplus = lateral.shape[2] - slow.shape[2]
        if surplus < 0:
            raise ValueError(
                f"a step's {fast.shape[2]} fast frames give {lateral.shape[2]} lateral frames for {slow.shape[2]} slow "
                "ones; choose PGT.STEP_LEN and PGT.OVERLAP as SLOWFAST.ALPHA times the slow pathway's"
            )
        return [torch.cat([slow, lateral[:, :, surplus:]], dim=1), fast]
