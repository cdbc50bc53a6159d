"""Rules of memory whose parameters learn what to keep: PGT.CACHE `gate` and `slots`.

Such a rule is applied when the memory is read, rather than when it is written. A step hands over, without gradients,
what it was about to combine: the memory that it has read, and the frames that its own input was pooled to. The next
step combines them as part of its own forward, so that its loss reaches the parameters of the rule:

    handed over after step s:  [m ; p],  p = pool(x)                 detached
    read in step s + 1:        m' = rule(m, p)                       in the graph of step s + 1

No graph outlives a step. So the weights may change between two steps, and nothing is kept for backward but what a step
saves anyhow. The gradient to the parameters is that of one application of the rule. With PGT.GRADIENT_STEPS or
PGT.FULL_GRADIENT what is handed over stays in the graph.

Shapes: frames are (B, C, T, H, W). H and W differ by operator and by video, so no parameter depends on them.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from pgt.memory import CACHE_POLICIES, CachePolicy, MaxFrames

# Initial weight of the difference between old memory and new frames. At 4 the gate keeps 98 % of an old value that is
# larger by 1, and 2 % of one that is smaller by 1: nearly their maximum.
_SHARPNESS = 4.0


class LearnedRule(CachePolicy, nn.Module):
    """Base of rules with parameters: memory is [kept; new], and `combine` joins the two when it is read.

    Args:
        frames: number O of frames that an operator reads.
        momentum: weight of what was kept in what is kept next, as in the published rules.
        channels: channels of the operator's memory; 1 to share each parameter over any number of channels.

    Attributes:
        kept_frames: frames of memory in front of the O new ones.
    """

    def __init__(self, frames: int, momentum: float = 0.0, channels: int = 1):
        nn.Module.__init__(self)
        self.frames, self.momentum, self.channels = frames, momentum, channels

    def for_operator(self, frames: int, channels: int) -> LearnedRule:
        """Return a rule with fresh parameters for an operator."""
        return type(self)(frames, self.momentum, channels)

    @property
    @abstractmethod
    def kept_frames(self) -> int: ...

    @abstractmethod
    def start(self, new: torch.Tensor) -> torch.Tensor:
        """Return the frames kept before the first step, given the pooled frames of that step."""

    @abstractmethod
    def combine(self, kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return what is kept of the frames `kept` and `new`, in the shape of `kept`."""

    def look_up(self, kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return the O frames that an operator reads, given those kept, the frames `new` included."""
        return kept

    def kept(self, memory: torch.Tensor) -> torch.Tensor:
        """Return what is kept of a memory [kept; new], after it has been combined."""
        old, new = memory[:, :, : self.kept_frames], memory[:, :, self.kept_frames :]
        combined = self.combine(old, new)
        return torch.lerp(combined, old, self.momentum) if self.momentum else combined

    def read(self, memory: torch.Tensor) -> torch.Tensor:
        """Return the O frames that an operator reads."""
        return self.look_up(self.kept(memory), memory[:, :, self.kept_frames :])

    def update(self, x: torch.Tensor, memory: torch.Tensor | None) -> torch.Tensor:
        """Return [kept; new]: what is kept of the memory, and the maxima of O windows of the step.

        Raises:
            ValueError: the step is shorter than O frames at the start of a video.
        """
        past = None if memory is None or x.shape[2] >= self.frames else self.read(memory)
        new = MaxFrames(self.frames).update(x, past)
        return torch.cat([self.start(new) if memory is None else self.kept(memory), new], dim=2)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"frames={self.frames}, momentum={self.momentum}, channels={self.channels}"

    def _weight(self, initial: float) -> nn.Parameter:
        return nn.Parameter(torch.full((self.channels,), initial))


@CACHE_POLICIES.register("gate")
class GatedFrames(LearnedRule):
    """Memory behind a gate for each channel, at each position.

        g  = sigmoid(bias + old * m + new * p)
        m' = g * m + (1 - g) * p

    The update gate of a GRU, with diagonal weights. It starts near the maximum of m and p. With old = -new -> inf, m'
    is that maximum. With both 0 it is a running mean. With bias -> -inf it is p, with bias -> inf p of the first step.

    Attributes:
        bias, old, new: parameters, (C,).
    """

    def __init__(self, frames: int, momentum: float = 0.0, channels: int = 1):
        super().__init__(frames, momentum, channels)
        self.bias, self.old, self.new = self._weight(0.0), self._weight(_SHARPNESS), self._weight(-_SHARPNESS)

    @property
    def kept_frames(self) -> int:
        """Return O: memory is as long as what is read."""
        return self.frames

    def start(self, new: torch.Tensor) -> torch.Tensor:
        """Return the new frames: combined with themselves they stay."""
        return new

    def combine(self, kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return g * kept + (1 - g) * new."""
        bias, of_old, of_new = (_over_positions(weight, kept) for weight in (self.bias, self.old, self.new))
        return torch.lerp(new, kept, torch.sigmoid(bias + of_old * kept + of_new * new))


@CACHE_POLICIES.register("slots")
class Slots(LearnedRule):
    """Memory of S slots, written and read by attention at each position.

    Written: of the S slots and the new frame, the one of least worth gives way, softly. The frame n is the maximum of
    the O pooled ones.

        e      = softmax over S + 1 of (order - mean over channels of worth * frame)
        slot_i = (1 - e_i) * slot_i + e_i * n

    Read: each of the O frames is a mean over the slots and the pooled frame p of its place.

        a = softmax over S + 1 of (place + mean over channels of (query + match * p) * frame)

    Attributes:
        worth, query, match: parameters, (C,).
        order, place: parameters, (S + 1,). They tell slots of equal contents apart.
    """

    count = 4

    def __init__(self, frames: int, momentum: float = 0.0, channels: int = 1):
        super().__init__(frames, momentum, channels)
        self.worth, self.query, self.match = self._weight(_SHARPNESS), self._weight(_SHARPNESS), self._weight(0.0)
        self.order = nn.Parameter(torch.linspace(1.0, 0.0, self.count + 1))
        self.place = nn.Parameter(torch.zeros(self.count + 1))

    @property
    def kept_frames(self) -> int:
        """Return the number of slots."""
        return self.count

    def start(self, new: torch.Tensor) -> torch.Tensor:
        """Return empty slots: zeros."""
        return new.new_zeros(*new.shape[:2], self.count, *new.shape[3:])

    def combine(self, kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return the slots after the new frames are written."""
        new = new.amax(dim=2, keepdim=True)
        worth = (torch.cat([kept, new], dim=2) * _over_positions(self.worth, kept)).mean(dim=1, keepdim=True)
        leaves = torch.softmax(_over_frames(self.order, kept) - worth, dim=2)[:, :, : self.count]
        return torch.lerp(kept, new, leaves.to(kept.dtype))  # on a GPU autocast computes a softmax in float32

    def look_up(self, kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return the mean of the slots and each frame of `new` by attention."""
        query, match = (_over_positions(weight, kept) for weight in (self.query, self.match))
        place, frames = _over_frames(self.place, kept), []
        for frame in new.split(1, dim=2):
            values = torch.cat([kept, frame], dim=2)
            scores = place + ((query + match * frame) * values).mean(dim=1, keepdim=True)
            frames.append((torch.softmax(scores, dim=2).to(values.dtype) * values).sum(dim=2, keepdim=True))
        return torch.cat(frames, dim=2)


def _over_positions(weight: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a weight of each channel in the dtype of `like`, to be broadcast over frames and positions."""
    return weight.to(like.dtype).view(-1, 1, 1, 1)


def _over_frames(weight: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a weight of each frame in the dtype of `like`, to be broadcast over channels and positions."""
    return weight.to(like.dtype).view(-1, 1, 1)
