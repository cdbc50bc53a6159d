"""The progressive model: a clip model called step by step, with its memory as an argument and a result."""

from collections.abc import Sequence

import torch
from torch import nn

from pgt.detection import last_window
from pgt.markov import Carry, Memory
from slowfast.models.heads import apply_head


class Progressive(nn.Module):
    """Mixin that makes `model(step_inputs, memory, boxes) -> (scores, memory)` of a clip model with Markov operators.

    Nothing is remembered outside of a call: videos can be interleaved, batches be of any size, and a memory can be
    saved, moved and sliced by sample (`select`). It comes before the clip model's class, which gives everything else.
    """

    full_gradient = False
    carries_memory = True
    operators: frozenset[str] = frozenset()
    step_len: tuple[int, ...] = ()

    def forward(
        self, step_inputs: list[torch.Tensor], memory: Memory | None = None, boxes: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Memory]:
        """One step.

        Args:
            step_inputs: the step's new frames, (B, 3, T, H, W) a pathway.
            memory: what the step before gave; None for the first step of a video.
            boxes: of this step, for a model that scores boxes, (N, 5) as the clip model takes them; each step may have
                another number of them.

        Returns:
            scores (B, classes), or (N, classes) of boxes, as of the clip model, and the memory for the next step,
            operator name -> (B, C, O, H, W).

        Raises:
            ValueError: the memory is of another model, batch or size; or what the clip model raises.
        """
        if memory and memory.keys() != self.operators:
            wrong = sorted(memory.keys() ^ self.operators)
            raise ValueError(
                f"the memory has {len(memory)} entries, the model {len(self.operators)} operators with memory; they "
                f"differ in {', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}: it is of another model"
            )
        carry = Carry(memory if self.carries_memory else None, self.full_gradient)
        with carry.active():
            scores = super().forward(*([step_inputs] if boxes is None else [step_inputs, boxes]))
        return scores, carry.new if self.carries_memory else {}

    def step_features(
        self, step_inputs: list[torch.Tensor], memory: Memory | None = None
    ) -> tuple[list[torch.Tensor], Memory]:
        """One step without the head.

        Args:
            step_inputs: as of a call.
            memory: what this method gave for the step before; None for the first step of a video.

        Returns:
            Features (B, C, T', H', W') a pathway, and the memory for the next step, without the head's.

        Raises:
            ValueError: the memory is of another model, batch or size; or what the clip model raises.
        """
        if memory and not memory.keys() <= self.operators:
            raise ValueError(f"the memory of {min(memory.keys() - self.operators)} is of another model")
        carry = Carry(memory if self.carries_memory else None, self.full_gradient)
        with carry.active():
            features = super().forward_features(step_inputs)
        return features, carry.new if self.carries_memory else {}

    def whole_clip(self, inputs: list[torch.Tensor], boxes: torch.Tensor | None = None) -> torch.Tensor:
        """Scores of one ordinary forward over all frames, without memory.

        (B, classes): the head scores TPOOL_SIZE positions. With boxes (N, classes): they see `last_window`.

        Raises:
            ValueError: boxes for a model that scores clips, or the reverse.
        """
        if boxes is None:
            return super().forward(inputs)
        features = last_window(self.forward_features(inputs), inputs, self.step_len)
        return apply_head(self.head, features, boxes)


def select(memory: Memory, samples: Sequence[int] | torch.Tensor) -> Memory:
    """The memory of some samples of a batch, in that order; of one video alone by `[i]`. Copies.

    Args:
        samples: indices into the batch.
    """
    return {name: frames[torch.as_tensor(samples, device=frames.device)] for name, frames in memory.items()}


def to(memory: Memory, device: torch.device | str) -> Memory:
    """The memory on another device."""
    return {name: frames.to(device) for name, frames in memory.items()}
