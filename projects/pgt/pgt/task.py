"""Training and testing in steps. Shapes: inputs are (B, 3, T, H, W) a pathway, scores (B, classes)."""

from dataclasses import replace

import torch
from fvcore.common.config import CfgNode
from torch import nn

from pgt import mgrid
from pgt.config import ENSEMBLES, NAME
from pgt.evaluate import box_scores, ensemble, step_scores, together
from pgt.outputs import StepOutputs
from pgt.plan import StepPlan
from pgt.targets import step_boxes, step_target
from pgt.truncation import StepGradients
from slowfast.datasets.loading.batch import Batch
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.task import TASK_REGISTRY, Task, model_inputs
from slowfast.evaluation.evaluators import Prediction
from slowfast.models.losses import build_loss


@TASK_REGISTRY.register(NAME)
class ProgressiveTask(StepGradients, StepOutputs, Task):
    """For each step of a clip: forward with the memory of the step before, loss, backward. ("PGT", section 3.)

    One update a clip, on the sum of the steps' gradients (PGT.TRAIN_TOGETHER), or one a step.
    """

    def __init__(self, cfg: CfgNode):
        options = cfg.PGT
        self.plan = StepPlan.from_config(cfg)
        self.loss = build_loss(cfg)
        self.weights = list(options.STEP_WEIGHTS) or [1.0] * max(options.STEPS, *options.STEPS_RANGE, 0)
        self.together = options.TRAIN_TOGETHER
        self.full_gradient = options.FULL_GRADIENT
        self.progressive_eval = options.PG_EVAL
        self.ensemble_method = options.ENSEMBLE_METHOD
        self.all_steps = options.ALL_STEP_TEST

    @staticmethod
    def epoch_config(cfg: CfgNode, epoch: int) -> CfgNode:
        """The settings of an epoch, counted from 0: steps, their length and the learning rate of multigrid."""
        return mgrid.epoch_config(cfg, epoch)

    @staticmethod
    def steps_config(cfg: CfgNode, steps: int) -> CfgNode:
        """The settings for clips of another number of steps, all of which weigh the same."""
        cfg = replace(StepPlan.from_config(cfg), steps=steps).applied_to(cfg)
        cfg.defrost()
        cfg.PGT.STEP_WEIGHTS = []
        cfg.freeze()
        return cfg

    def train_step(self, model: nn.Module, batch: Batch, optim_step: OptimStep) -> dict[str, torch.Tensor]:
        """Trains on one batch of clips, in as many steps as they are long; the reported loss is the weighted mean over
        steps, the scores the steps' mean.
        """
        memory, losses, scores = None, [], []
        plan = self.plan.for_clips(batch.inputs)
        moments, final = step_boxes(batch, plan), plan.steps - 1
        for s, step_inputs in enumerate(plan.split(batch.inputs)):
            with optim_step.sync(last=s == final or not self.together):
                with optim_step.autocast():
                    if moments is None:
                        logits, memory = model(step_inputs, memory)
                        target = step_target(batch, plan, s)
                    else:
                        logits, memory = model(step_inputs, memory, moments[s].boxes)
                        target = moments[s].labels
                    loss = self.weights[s] * self.loss(logits, target)
                if not self.full_gradient:
                    optim_step.backward(loss)
                    loss = loss.detach()
                elif s == final:
                    optim_step.backward(torch.stack([*losses, loss]).sum())
            losses.append(loss)
            scores.append(logits.detach())
            if not self.together:
                optim_step()
        if self.together:
            optim_step()
        mean_loss = torch.stack(losses).detach().sum() / sum(self.weights[: plan.steps])
        # Steps have boxes of their own, so their scores have no mean.
        return {"loss": mean_loss, "scores": torch.stack(scores).mean(dim=0) if moments is None else scores[-1]}

    def predict(self, model: nn.Module, batch: Batch) -> Prediction:
        """Class scores of the clips: the steps' ensemble (PGT.PG_EVAL), or one forward over the whole clip; of boxes
        those of the last step, or of all (PGT.ALL_STEP_TEST).
        """
        if not self.progressive_eval:
            boxes = batch.key_frames[-1] if batch.key_frames else None
            return Prediction(model.whole_clip(*model_inputs(batch.inputs, boxes)), boxes)
        plan = self.plan.for_clips(batch.inputs)
        if batch.key_frames:
            predictions = box_scores(model, batch, plan)
            return together(predictions) if self.all_steps else predictions[-1]
        steps = step_scores(model, batch.inputs, plan)
        variants = {method: ensemble(steps, method) for method in ENSEMBLES}
        return Prediction(variants[self.ensemble_method], steps=steps.transpose(0, 1), variants=variants)
