"""What tools get of a progressive model besides scores: features of whole videos, and its steps as graphs."""

import torch

from pgt.markov import Memory
from pgt.plan import StepPlan
from pgt.progressive import Progressive
from slowfast.engine.task import Graph, pathway_names

# Steps after which the sizes of a memory must have settled; no memory is as long.
_MOST_STEPS = 32


class StepOutputs:
    """The part of the task that `tools/extract_features.py` and `tools/export.py` ask."""

    plan: StepPlan

    def features(
        self, model: Progressive, inputs: list[torch.Tensor], memory: Memory | None
    ) -> tuple[list[torch.Tensor], Memory]:
        """Features of a step, (B, C, T', H', W') a pathway, and the memory for the next."""
        return model.step_features(inputs, memory)

    def stream_steps(self, num_frames: int) -> list[list[list[int]]]:
        """The frames of every step, a pathway, of a video of so many sampled frames; the last may go past its end."""
        return self.plan.covering(num_frames).positions()

    @torch.no_grad()
    def export_graphs(self, model: Progressive, inputs: list[torch.Tensor]) -> list[Graph]:
        """`first_step` without memory, and `next_step` with it, as inputs `memory.NAME` and outputs `new_memory.NAME`.

        Where the memory has other sizes after the second step than after the first, `step_2` comes in between, and so
        on until they stay.

        Args:
            inputs: one clip (B, 3, T, H, W) a pathway, at least as long as a step.
        """
        lengths = list(zip(inputs, self.plan.step_len, self.plan.overlap, strict=True))
        first = [clip[:, :, :length].clone() for clip, length, _ in lengths]
        later = [clip[:, :, : length - overlap].clone() for clip, length, overlap in lengths]
        _, memory = model(first)
        graphs = [_graph("first_step", first, None, memory)]
        while len(graphs) < _MOST_STEPS:
            _, new = model(later, memory)
            settled = all(new[name].shape == frames.shape for name, frames in memory.items())
            graphs.append(_graph("next_step" if settled else f"step_{len(graphs) + 1}", later, memory, new))
            if settled:
                return graphs
            memory = new
        raise ValueError(f"the memory still grows after {_MOST_STEPS} steps, so that no graph fits all later ones")


def _graph(name: str, step: list[torch.Tensor], memory: Memory | None, new: Memory) -> Graph:
    return Graph(
        name,
        (step,) if memory is None else (step, memory),
        [*pathway_names(len(step)), *(f"memory.{operator}" for operator in memory or {})],
        ["scores", *(f"new_memory.{operator}" for operator in new)],
    )
