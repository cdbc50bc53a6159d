"""What one batch means: forward, loss and backward in training, scores in evaluation.

Shapes: scores are (B, classes); a batch is a `slowfast.datasets.loading.batch.Batch`.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from slowfast.datasets.loading.batch import Batch, Boxes
from slowfast.engine.optim_step import OptimStep
from slowfast.evaluation.evaluators import Prediction
from slowfast.models.losses import build_loss
from slowfast.utils.registry import Registry

# Tasks by the name in `TASK`; each is a class called with the config.
TASK_REGISTRY = Registry("TASK", default="clip")


class Task(Protocol):
    """What the loop asks of a task.

    A task whose settings change from epoch to epoch also has a static `epoch_config(cfg, epoch) -> cfg`, epochs counted
    from 0: a pure function from the settings of a run to those of an epoch, a frozen copy where they differ. One that
    reads clips in steps has a static `steps_config(cfg, steps) -> cfg`: those for clips of that many steps.

    For features of whole videos it has `features(model, inputs, memory)`, which gives those in front of the head,
    (B, C, T, H, W) a pathway, and what the next call for the same videos gets as `memory`, None for their first. With
    `stream_steps(num_frames)` a video of so many sampled frames is read in steps: for each, positions a pathway.
    """

    def train_step(self, model: nn.Module, batch: Batch, update: OptimStep) -> dict[str, torch.Tensor]:
        """Run forwards and backwards of one batch and call `update()` at least once.

        Returns:
            `loss` (scalar), `scores` (B, classes) and any other scalars to log, all detached.
        """

    def predict(self, model: nn.Module, batch: Batch) -> Prediction:
        """Class scores of a batch; called without gradients, in eval mode."""


@TASK_REGISTRY.register("clip")
class ClipTask:
    """A clip in, one score a class out; for a batch with boxes, of every box of its last moment."""

    def __init__(self, cfg: Any):
        self.loss = build_loss(cfg)

    def train_step(self, model: nn.Module, batch: Batch, update: OptimStep) -> dict[str, torch.Tensor]:
        boxes = batch.key_frames[-1] if batch.key_frames else None
        with update.sync():
            with update.autocast():
                scores = model(*model_inputs(batch.inputs, boxes))
                loss = self.loss(scores, batch.targets if boxes is None else boxes.labels)
            update.backward(loss)
        update()
        return {"loss": loss.detach(), "scores": scores.detach()}

    def predict(self, model: nn.Module, batch: Batch) -> Prediction:
        boxes = batch.key_frames[-1] if batch.key_frames else None
        return Prediction(model(*model_inputs(batch.inputs, boxes)), boxes)

    def features(self, model: nn.Module, inputs: list[torch.Tensor], memory: None) -> tuple[list[torch.Tensor], None]:
        return model.forward_features(inputs), None


def model_inputs(inputs: list[Tensor], boxes: Boxes | None) -> tuple[Any, ...]:
    """What a clip model is called with: the clips, and the boxes of those whose boxes it scores."""
    return (inputs,) if boxes is None else (inputs, boxes.boxes)


def task_class(cfg: Any) -> type[Task]:
    """The class of the task named by `TASK` ("" is "clip").

    Raises:
        ValueError: no such task is registered.
    """
    return TASK_REGISTRY.get(cfg.TASK)


def build_task(cfg: Any) -> Task:
    """The task named by `TASK`; ValueError if there is none."""
    return task_class(cfg)(cfg)
