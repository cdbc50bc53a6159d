"""Memory of a progressive model: the rules that update it, and batches of it.

Shapes: x is (B, C, T, H, W), a step's input of an operator; its memory is (B, C, O, H, W). The memory of a model is a
dictionary, operator name -> memory. `None` stands for the start of a video, the entry `START` for single samples at it.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from slowfast.utils.registry import Registry

Memory = dict[str, torch.Tensor]
Samples = Sequence[int] | torch.Tensor

# Entry of a memory in which some samples are at the start of a video: (B,), True for these. No module's name has a dot
# in front, so no operator can have this one.
START = ".start"

# Rules of memory by the name in PGT.CACHE and PGT.HEAD_CACHE; called with (frames, momentum).
CACHE_POLICIES = Registry("PGT.CACHE")


class CachePolicy(ABC):
    """Rule that updates the memory of an operator.

    A policy may be an `nn.Module` too. Its parameters then belong to the operator, under the name `policy`. Those that
    `read` uses are trained. Those that only `update` uses are trained with PGT.FULL_GRADIENT or PGT.GRADIENT_STEPS;
    without these, memory is written without gradients.

    Attributes:
        frames: number O of frames that an operator reads.
    """

    frames: int

    @abstractmethod
    def update(self, x: torch.Tensor, memory: torch.Tensor | None) -> torch.Tensor:
        """Return the new memory (B, C, O, H, W), which shares no storage with the arguments.

        A rule that defines `read` may hand over another number of frames, the same one after every step.

        Args:
            x: input of the step, (B, C, T, H, W).
            memory: memory that the step was given, in the dtype of x; None at the start of a video.
        """

    def read(self, memory: torch.Tensor) -> torch.Tensor:
        """Return the frames (B, C, O, H, W) that an operator reads of its memory; by default the memory as it is.

        This is part of the step's forward, so the step's loss trains parameters that are used here.
        """
        return memory

    def for_operator(self, frames: int, channels: int) -> CachePolicy:
        """Return a copy of the rule for an operator.

        Args:
            frames: number O of frames that it reads.
            channels: channels C of its memory.
        """
        policy = copy.deepcopy(self)
        policy.frames = frames
        return policy


@dataclass
class PooledFrames(CachePolicy):
    """Base of the published rules: m' = (1 - momentum) * pool([m; x]) + momentum * m. ("PGT", section 3.)

    Args:
        frames: number O of frames of memory.
        momentum: weight of the old memory in the new one.
    """

    frames: int
    momentum: float = 0.0

    @abstractmethod
    def pool(self, z: torch.Tensor) -> torch.Tensor:
        """Reduce z (B, C, T, H, W), T >= O, to O frames; returns a tensor with storage of its own."""

    def needs_memory(self, x: torch.Tensor) -> bool:
        """Return True if the old memory is part of what is pooled."""
        return True

    def update(self, x: torch.Tensor, memory: torch.Tensor | None) -> torch.Tensor:
        """Return the new memory.

        Raises:
            ValueError: memory and step together have fewer frames than the memory holds.
        """
        z = x if memory is None or not self.needs_memory(x) else torch.cat([memory, x], dim=2)
        if z.shape[2] < self.frames:
            raise ValueError(f"a step of {z.shape[2]} frames here cannot fill {self.frames} frames of memory")
        new = self.pool(z)
        return torch.lerp(new, memory.to(new.dtype), self.momentum) if memory is not None and self.momentum else new


@CACHE_POLICIES.register("last")
class LastFrames(PooledFrames):
    """Memory of the last O frames."""

    def needs_memory(self, x: torch.Tensor) -> bool:
        """Return True if the step is shorter than the memory."""
        return x.shape[2] < self.frames

    def pool(self, z: torch.Tensor) -> torch.Tensor:
        """Return a copy of the last O frames."""
        return z[:, :, -self.frames :].clone()


@CACHE_POLICIES.register("max")
class MaxFrames(PooledFrames):
    """Memory by adaptive max pooling over time of memory and step."""

    def pool(self, z: torch.Tensor) -> torch.Tensor:
        """Return the maximum of O windows."""
        return _adaptive_pool(z, self.frames, torch.amax)


@CACHE_POLICIES.register("avg")
class AvgFrames(PooledFrames):
    """Memory by adaptive average pooling over time of memory and step."""

    def pool(self, z: torch.Tensor) -> torch.Tensor:
        """Return the mean of O windows."""
        return _adaptive_pool(z, self.frames, torch.mean)


def _adaptive_pool(z: torch.Tensor, count: int, reduce: Callable[..., torch.Tensor]) -> torch.Tensor:
    frames = z.shape[2]
    windows = [z[:, :, i * frames // count : -(-(i + 1) * frames // count)] for i in range(count)]
    return torch.cat([reduce(window, dim=2, keepdim=True) for window in windows], dim=2)


@dataclass
class WholeStep(CachePolicy):
    """Memory of all frames of the step before."""

    frames: int = 0

    def update(self, x: torch.Tensor, memory: torch.Tensor | None) -> torch.Tensor:
        """Return a copy of x."""
        return x.clone()


# A clip model's forward has no argument for memory, so operators find the memory of the step in a context variable: it
# differs by thread, nests, and activation checkpointing restores it when backward runs a block again.
_active: ContextVar[Carry | None] = ContextVar("carry", default=None)


class _Tracing:
    """Stand-in for `_active` while torch.compile traces a step, because it cannot trace a ContextVar (torch 2.13).

    A trace sets and resets it within one step, so a compiled step leaves nothing in it.
    """

    carry: Carry | None = None


_tracing = _Tracing()


def active_carry() -> Carry | None:
    """Return the carry of the current step; None in a plain forward."""
    return _tracing.carry if torch.compiler.is_compiling() else _active.get()


class Carry:
    """Memory that one step of one call reads, and memory that it leaves.

    Args:
        memory: memory of the step before; None at the start of a video.
        full_gradient: keep the new memory in the autograd graph; otherwise it is detached.
        writes: leave memory. A step with masked tokens only reads.
    """

    def __init__(self, memory: Memory | None, full_gradient: bool = False, writes: bool = True):
        self.old = {name: frames for name, frames in (memory or {}).items() if name != START}
        self.new: Memory = {}
        self.ran: set[str] = set()  # names of the operators that were called
        self.full_gradient, self.writes = full_gradient, writes
        self.start = (memory or {}).get(START)
        self._ending = ""

    @contextmanager
    def beside(self, ending: str) -> Iterator[None]:
        """Give the operators that are called inside other memories, under their names with an ending.

        For a layer that a step calls twice.
        """
        self._ending = ending
        try:
            yield
        finally:
            self._ending = ""

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the operators that are called inside read from and write to this carry."""
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
        """Return the memory of operator `name` in the dtype of x; None at the start of a video.

        Args:
            x: input of the step (B, C, T, H, W), or tokens without a grid (B, C, L).

        Raises:
            ValueError: it does not fit x in batch, channels or size.
        """
        self.ran.add(name + self._ending)
        memory = self.old.get(name + self._ending)
        if memory is None:
            return None
        if memory.shape[:2] != x.shape[:2] or (x.dim() == 5 and memory.shape[3:] != x.shape[3:]):
            kind = "(B, C, T, H, W)" if x.dim() == 5 else "(B, C, tokens)"
            raise ValueError(
                f"memory of {name} has shape {tuple(memory.shape)} (B, C, O, H, W), but the step's features there have "
                f"{tuple(x.shape)} {kind}: batch, channels and size must agree"
            )
        return memory.to(x.dtype)

    def by_sample(
        self, function: Callable[..., torch.Tensor], memory: torch.Tensor | None, *inputs: Any
    ) -> torch.Tensor:
        """Return `function(memory, *inputs)` (B, ...), with None as the memory of samples at the start of a video.

        A batch with samples of both kinds is computed both ways, as zeros are not the same as no memory. No shape
        depends on the kinds, so torch.compile can trace it.
        """
        y = function(memory, *inputs)
        if self.start is None or memory is None:
            return y
        return torch.where(_as_mask(self.start, y), function(None, *inputs), y)

    def write(self, name: str, policy: CachePolicy, x: torch.Tensor, memory: torch.Tensor | None) -> None:
        """Store what operator `name` remembers of its input x, given its memory of the step before.

        Only the first write is kept. Under activation checkpointing the block runs again in backward and would
        overwrite memory already passed on. The value is still computed, because autograd must save the same tensors.
        """
        with torch.set_grad_enabled(self.full_gradient and torch.is_grad_enabled()):
            new = self.by_sample(lambda past, now: policy.update(now, past), memory, x)
        self.new.setdefault(name + self._ending, new)


def select(memory: Memory, samples: Samples) -> Memory | None:
    """Return the memory of some samples of a batch, in the given order; None if all of them are at their start.

    The tensors are copies.

    Args:
        samples: indices into the batch; `[i]` gives the memory of one video.
    """
    return _settled({name: x[torch.as_tensor(samples, device=x.device)] for name, x in memory.items()})


def join(memories: Sequence[Memory | None]) -> Memory | None:
    """Join the memories of several videos into the memory of one batch; None if all are at their start.

    Args:
        memories: memories of one or more samples each; None for one sample at the start of a video.

    Raises:
        ValueError: the memories are of different models, or differ in size.
    """
    known = [memory for memory in memories if memory is not None]
    if not known:
        return None
    names = [name for name in known[0] if name != START]
    wrong = sorted({name for memory in known for name in (memory.keys() ^ set(names)) - {START}})
    if wrong:
        raise ValueError(f"the memories differ in {', '.join(wrong[:5])}: they are of different models")
    if not names:
        return {}
    joined = {}
    for name in names:
        like = known[0][name]
        parts = [like.new_zeros(1, *like.shape[1:]) if memory is None else memory[name] for memory in memories]
        sizes = sorted({tuple(part.shape[1:]) for part in parts})
        if len(sizes) > 1:
            raise ValueError(
                f"the memories of {name} have sizes (C, O, H, W) {', '.join(map(str, sizes))}: join memories of one "
                "size, as videos of one resolution have after as many frames"
            )
        joined[name] = torch.cat(parts)
    starts = [torch.tensor([True]) if memory is None else _starts(memory) for memory in memories]
    # On the device of the frames, or every operator would copy it there, and wait.
    device = joined[names[0]].device
    return _settled({**joined, START: torch.cat([start.to(device) for start in starts])})


def reset(memory: Memory, samples: Samples) -> Memory | None:
    """Put some samples of a batch at the start of a video; None if all of them are.

    In the next step such a sample is computed as with memory None, and the others with their memory. The argument stays
    as it is.

    Args:
        samples: indices into the batch.
    """
    if not memory:
        return memory
    start = _starts(memory).clone()
    start[torch.as_tensor(samples, device=start.device)] = True
    frames = {name: x.masked_fill(_as_mask(start, x), 0) for name, x in memory.items() if name != START}
    return _settled({**frames, START: start})


def detached(memory: Memory) -> Memory:
    """Cut a memory out of the autograd graph."""
    return {name: x.detach() for name, x in memory.items()}


def to(memory: Memory, device: torch.device | str) -> Memory:
    """Move a memory to another device."""
    return {name: x.to(device) for name, x in memory.items()}


def _starts(memory: Memory) -> torch.Tensor:
    """Return (B,), True for the samples at the start of a video."""
    if START in memory:
        return memory[START]
    frames = next(iter(memory.values()))
    return torch.zeros(len(frames), dtype=torch.bool, device=frames.device)


def _as_mask(start: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return start.to(x.device).view(-1, *[1] * (x.dim() - 1))


def _settled(memory: Memory) -> Memory | None:
    """Drop the entry START where no sample is at its start; return None where all are."""
    start = memory.get(START)
    if start is None:
        return memory
    if bool(start.all()):
        return None
    return memory if bool(start.any()) else {name: x for name, x in memory.items() if name != START}
