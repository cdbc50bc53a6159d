"""Base of the Markov operators: drop-in layers that carry some frames of their input from one step to the next.

Shapes: x is (B, C, T, H, W), the new frames of a step at an operator's input; memory is (B, C, O, H, W). With z =
[memory; x] an operator returns op(z) without the outputs of the memory frames. ("PGT", section 3.)

An operator holds no memory. While a `Carry` is active (one step of one call of the model) it reads its memory there and
leaves the new one; otherwise it is the layer that it was made from.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pgt.memory import CachePolicy, Carry, active_carry


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
        """Read memory, compute `step(memory, *inputs)`, write the memory of `remembered`."""
        if self.policy is None:
            return self.step(None, *inputs)
        memory = carry.read(self.name, remembered)
        y = carry.by_sample(self.step, memory, *inputs)
        carry.write(self.name, self.policy, remembered, memory)
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute a step while a carry is active, otherwise what the layer does."""
        carry = active_carry()
        return super().forward(x) if carry is None else self.run(carry, x, x)
