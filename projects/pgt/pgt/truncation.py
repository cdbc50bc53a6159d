"""The gradient of the first steps of a clip, cut between steps or not, as `pgt.analysis.truncation` asks for it."""

import copy
from dataclasses import replace

import torch
from torch import nn

from pgt.plan import StepPlan
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.optim_step import OptimStep


class StepGradients:
    """Mixin of the task in steps."""

    plan: StepPlan

    @property
    def num_steps(self) -> int:
        """Steps of a clip."""
        return self.plan.steps

    def add_gradient(
        self, model: nn.Module, batch: Batch, update: OptimStep, steps: int, truncated: bool
    ) -> torch.Tensor:
        """Runs the task's own training on the first `steps` steps of the clips, with one update at their end.

        Args:
            update: does nothing when called, so that the gradients stay.
            truncated: cut at every memory; otherwise they flow through all steps.

        Returns:
            The loss, the weighted mean over steps.
        """
        task = copy.copy(self)
        task.plan = replace(self.plan, steps=steps)
        task.weights = self.weights[:steps]
        task.together, task.full_gradient = True, not truncated
        inputs = [clip[:, :, : task.plan.pathway_frames(p)] for p, clip in enumerate(batch.inputs)]
        former = model.full_gradient
        model.full_gradient = not truncated
        try:
            return task.train_step(model, replace(batch, inputs=inputs), update)["loss"]
        finally:
            model.full_gradient = former
