"""Masked learning with memory: a step whose tokens are masked is predicted with the memory of steps before it.

Step s of a clip is seen twice. Masked, it reads the memory of the steps before it and is predicted. Unmasked, it is
remembered, as in training with labels:

    loss  = error of model(masked step s, memory)
    memory = memory of model(step s, memory)

So memory never has a masked token in it. It is computed without gradients, or with PGT.GRADIENT_STEPS or
PGT.FULL_GRADIENT as part of one graph over several or all steps. Without memory (PGT.MEMORY False, or one step) this is
masked learning of each step by itself.

Shapes: clips are (B, 3, T, H, W), masks (B, t, h, w) bool, True where masked; see `slowfast.models.masked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import nn

from pgt.config import MASKED_NAME
from pgt.memory import Memory
from pgt.model import ProgressiveModel
from pgt.plan import StepPlan
from pgt.task import StepTraining
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.hooks import Hook
from slowfast.engine.masked import MaskedTask, MaskPictures, draw_masked
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.task import TASK_REGISTRY
from slowfast.models.masked import MaskMViT, Output


class MaskedProgressiveModel(ProgressiveModel):
    """Masked model in steps: `model(step_inputs, memory, mask, seen) -> (predictions and targets, memory)`.

    The encoder has memory. The decoder has none.
    """

    clip_model: MaskMViT

    def forward(
        self,
        step_inputs: list[torch.Tensor],
        memory: Memory | None = None,
        mask: torch.Tensor | None = None,
        seen: list[torch.Tensor] | None = None,
    ) -> tuple[Output, Memory | None]:
        """Predict the masked tokens of a step, and remember frames without a mask.

        Args:
            step_inputs: the step to be masked, (B, 3, T, H, W) in a list.
            memory: result of the step before; None for the first step of a video.
            mask: its mask, from the loader; None to draw one in the model.
            seen: frames behind the memory, to be remembered, as `step_inputs`; None for none.

        Returns:
            What `MaskMViT.forward` returns, and the memory after the frames `seen`.

        Raises:
            ValueError: the memory is of another model, batch or size; or what the clip model raises.
        """
        self.check_memory(memory)
        with self.reading(memory):
            output = self.clip_model(step_inputs, mask)
        if seen is None or not self.carries_memory:
            return output, memory
        return output, self.remember(seen, memory)

    def reading(self, memory: Memory | None) -> Any:
        """Return a context in which the clip model reads a memory and leaves none."""
        return self._carry(memory, self.full_gradient, writes=False).active()

    def remember(self, seen: list[torch.Tensor], memory: Memory | None) -> Memory:
        """Return the memory after frames without a mask, given the memory before them."""
        with torch.set_grad_enabled(self.full_gradient and torch.is_grad_enabled()):
            return self.step_features(seen, memory)[1]


@TASK_REGISTRY.register(MASKED_NAME)
class MaskedProgressiveTask(StepTraining, MaskedTask):
    """Pre-train a `MaskedProgressiveModel` on clips without labels, step by step.

    Attributes:
        ahead: steps between the memory and the masked step.
        patch_frames: frames of a token.
    """

    def __init__(self, cfg: CfgNode):
        StepTraining.__init__(self, cfg)
        MaskedTask.__init__(self, cfg)
        self.ahead, self.patch_frames = cfg.PGT.MASK_AHEAD, cfg.MVIT.PATCH_STRIDE[0]

    def train_step(self, model: nn.Module, batch: Batch, optim_step: OptimStep) -> dict[str, torch.Tensor]:
        """Train on one batch of clips; `loss` is the weighted mean over the masked steps."""
        plan = self.plan.for_clips(batch.inputs)
        inputs, masks = plan.split(batch.inputs), self.step_masks(batch.mask, plan)

        def step_loss(s: int, memory: Memory | None) -> tuple[torch.Tensor, Memory | None]:
            # The frames before the next masked step; behind the last one nothing is to be remembered.
            seen = inputs[s - self.ahead] if s < plan.steps - 1 else None
            (predictions, targets), memory = model(inputs[s], memory, masks[s], seen)
            if not len(predictions[0]):  # the loader's mask has no place in this step
                return torch.stack([prediction.sum() for prediction in predictions]).sum(), memory
            return self.loss(predictions, targets), memory

        return {"loss": self.train_steps(optim_step, range(self.ahead, plan.steps), step_loss)}

    def step_masks(self, mask: torch.Tensor | None, plan: StepPlan) -> Sequence[torch.Tensor | None]:
        """Return the part of a clip's mask for each step."""
        if mask is None:
            return [None] * plan.steps
        return mask.split([len(frames) // self.patch_frames for frames in plan.frame_ranges()], dim=1)

    def hooks(self) -> list[Hook]:
        return [StepPictures(self)] if self.cfg.VIS_MASK.ENABLE else []


class StepPictures(MaskPictures):
    """Pictures of the last step of clips, predicted with the memory of the steps before; see `MaskPictures`."""

    def __init__(self, task: MaskedProgressiveTask):
        super().__init__(ClipSettings.from_config(task.cfg, "train"))
        self.task = task

    @torch.no_grad()
    def draw(self, model: MaskedProgressiveModel, clip: torch.Tensor, mask: torch.Tensor | None) -> np.ndarray:
        plan, memory = self.task.plan.for_clips([clip]), None
        inputs = plan.split([clip])
        for seen in inputs[: plan.steps - 1 - self.task.ahead] if model.carries_memory else []:
            memory = model.remember(seen, memory)
        with model.reading(memory):
            return draw_masked(model.clip_model, inputs[-1][0], self.task.step_masks(mask, plan)[-1], self.settings)
