"""The progressive model: a clip model called step by step, with its memory as an argument and a result."""

from collections.abc import Sequence

import torch
from torch import nn

from pgt.markov import Carry, Memory


class Progressive(nn.Module):
    """Mixin that makes `model(step_inputs, memory) -> (scores, memory)` of a clip model with Markov operators.

    Nothing is remembered outside of a call: videos can be interleaved, batches be of any size, and a memory can be
    saved, moved and sliced by sample (`select`). It comes before the clip model's class, which gives everything else.
    """

    full_gradient = False
    carries_memory = True
    operators: frozenset[str] = frozenset()

    def forward(self, step_inputs: list[torch.Tensor], memory: Memory | None = None) -> tuple[torch.Tensor, Memory]:
        """One step.

        Args:
            step_inputs: the step's new frames, (B, 3, T, H, W) a pathway.
            memory: what the step before gave; None for the first step of a video.

        Returns:
            scores (B, classes), as of the clip model, and the memory for the next step, operator name -> (B, C, O, H,
            W).

        Raises:
            ValueError: the memory is of another model, batch or size.
        """
        if memory and memory.keys() != self.operators:
            wrong = sorted(memory.keys() ^ self.operators)
            raise ValueError(
                f"the memory has {len(memory)} entries, the model {len(self.operators)} operators with memory; they "
                f"differ in {', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}: it is of another model"
            )
        carry = Carry(memory if self.carries_memory else None, self.full_gradient)
        with carry.active():
            scores = super().forward(step_inputs)
        return scores, carry.new if self.carries_memory else {}

    def whole_clip(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Scores (B, classes) of one ordinary forward over all frames, without memory; the head scores TPOOL_SIZE
        positions.
        """
        return super().forward(inputs)


def select(memory: Memory, samples: Sequence[int] | torch.Tensor) -> Memory:
    """The memory of some samples of a batch, in that order; of one video alone by `[i]`. Copies.

    Args:
        samples: indices into the batch.
    """
    return {name: frames[torch.as_tensor(samples, device=frames.device)] for name, frames in memory.items()}


def to(memory: Memory, device: torch.device | str) -> Memory:
    """The memory on another device."""
    return {name: frames.to(device) for name, frames in memory.items()}
