"""Class scores of a clip by steps. Shapes: scores of steps are (S, B, classes)."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from pgt.markov import Memory
from pgt.plan import StepPlan
from pgt.targets import step_boxes
from slowfast.datasets.loading.batch import Batch, Boxes
from slowfast.evaluation.evaluators import Prediction

MemoryFilter = Callable[[int, Memory], Memory | None]


def step_scores(
    model: nn.Module, inputs: list[torch.Tensor], plan: StepPlan, memory_filter: MemoryFilter | None = None
) -> torch.Tensor:
    """Scores of every step, (S, B, classes).

    Args:
        model: a progressive model.
        inputs: one clip (B, 3, T, H, W) a pathway.
        memory_filter: called as f(s, memory) before each step s >= 1; the step gets what it returns, None for no
            memory.
    """
    scores, memory = [], None
    for s, step_inputs in enumerate(plan.split(inputs)):
        if memory is not None and memory_filter is not None:
            memory = memory_filter(s, memory)
        step, memory = model(step_inputs, memory)
        scores.append(step)
    return torch.stack(scores)


def box_scores(model: nn.Module, batch: Batch, plan: StepPlan) -> list[Prediction]:
    """Scores of the boxes of every step, in order.

    Raises:
        ValueError: another number of annotated moments than of steps.
    """
    predictions, memory = [], None
    for step_inputs, boxes in zip(plan.split(batch.inputs), step_boxes(batch, plan), strict=True):
        scores, memory = model(step_inputs, memory, boxes.boxes)
        predictions.append(Prediction(scores, boxes))
    return predictions


def together(predictions: Sequence[Prediction]) -> Prediction:
    """The boxes of several steps as one prediction."""
    columns = [vars(prediction.boxes) for prediction in predictions]
    boxes = Boxes(**{name: torch.cat([column[name] for column in columns]) for name in columns[0]})
    return Prediction(torch.cat([prediction.scores for prediction in predictions]), boxes)


def ensemble(scores: torch.Tensor, method: str) -> torch.Tensor:
    """Scores (B, classes) of the clip from those of its steps (S, B, classes), by "sum", "max" or the "last" step's.

    Raises:
        ValueError: another method.
    """
    if method == "sum":
        return scores.sum(dim=0)
    if method == "max":
        return scores.amax(dim=0)
    if method == "last":
        return scores[-1]
    raise ValueError(f"PGT.ENSEMBLE_METHOD is {method!r}; it must be sum, max or last")
