"""Steps of a progressive model as functions to export, for programs that read a video step by step."""

from __future__ import annotations

import torch

from pgt.memory import Memory
from pgt.model import ProgressiveModel
from pgt.plan import StepPlan
from slowfast.engine.task import Graph, pathway_names

# Steps after which the sizes of a memory must have settled; no memory is as long.
_MOST_STEPS = 32


@torch.no_grad()
def step_graphs(model: ProgressiveModel, inputs: list[torch.Tensor], plan: StepPlan) -> list[Graph]:
    """Return `first_step`, without memory, and `next_step`, with inputs `memory.NAME` and outputs `new_memory.NAME`.

    Where the memory has other sizes after the second step than after the first, `step_2` comes in between, and so on
    until the sizes stay.

    Args:
        inputs: one clip (B, 3, T, H, W) a pathway, at least as long as a step.

    Raises:
        ValueError: the sizes of the memory never settle.
    """
    lengths = list(zip(inputs, plan.step_len, plan.overlap, strict=True))
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
