"""Training, testing and exporting in steps. Shapes: inputs are (B, 3, T, H, W) per pathway, scores (B, classes)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from fvcore.common.config import CfgNode
from torch import nn

from pgt import mgrid
from pgt.config import ENSEMBLES, NAME
from pgt.memory import Memory, detached, join, select
from pgt.model import ProgressiveModel
from pgt.plan import StepPlan
from slowfast.datasets.loading.batch import Batch, Boxes
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.task import TASK_REGISTRY, Graph, Task, model_inputs, pathway_names
from slowfast.evaluation.prediction import Prediction
from slowfast.models.losses import build_loss

# Steps after which the sizes of a memory must have settled; no memory is as long.
_MOST_STEPS = 32

MemoryFilter = Callable[[int, Memory], Memory | None]


class StepTraining:
    """Mixin of tasks that train on a clip in steps.

    Steps follow in groups, with one backward pass through each group: 1 step (truncated), PGT.GRADIENT_STEPS, or all
    steps of a clip (PGT.FULL_GRADIENT). The weights are updated once a clip, by the sum of the groups' gradients
    (PGT.TRAIN_TOGETHER), or after each group.

    Attributes:
        plan: steps of a clip.
        weights: weight of each step's loss.
        together: update once a clip.
        gradient_steps: steps of a group.
    """

    def __init__(self, cfg: CfgNode):
        options = cfg.PGT
        self.plan = StepPlan.from_config(cfg)
        self.num_steps = self.plan.steps
        self.weights = list(options.STEP_WEIGHTS) or [1.0] * max(options.STEPS, *options.STEPS_RANGE, 0)
        self.together = options.TRAIN_TOGETHER
        self.gradient_steps = len(self.weights) if options.FULL_GRADIENT else options.GRADIENT_STEPS

    @staticmethod
    def epoch_config(cfg: CfgNode, epoch: int) -> CfgNode:
        """Return the config of an epoch, counted from 0: multigrid changes steps, step length and learning rate."""
        return mgrid.epoch_config(cfg, epoch)

    @staticmethod
    def steps_config(cfg: CfgNode, steps: int) -> CfgNode:
        """Return the config for clips of another number of steps, with equal weights."""
        cfg = replace(StepPlan.from_config(cfg), steps=steps).applied_to(cfg)
        cfg.defrost()
        cfg.PGT.STEP_WEIGHTS = []
        cfg.freeze()
        return cfg

    def train_steps(
        self,
        optim_step: OptimStep,
        steps: Sequence[int],
        step_loss: Callable[[int, Memory | None], tuple[torch.Tensor, Memory | None]],
    ) -> torch.Tensor:
        """Run forward and backward of the steps, and update the weights.

        Args:
            steps: numbers of the steps, in order.
            step_loss: runs the forward of step s with a memory, and returns its loss and the new memory.

        Returns:
            The weighted mean of the losses, detached.
        """
        losses, group, memory = [], [], None
        for count, s in enumerate(steps, start=1):
            ends = count % self.gradient_steps == 0 or s == steps[-1]
            with optim_step.sync(last=s == steps[-1] or (ends and not self.together)):
                with optim_step.autocast():
                    loss, memory = step_loss(s, memory)
                    group.append(self.weights[s] * loss)
                if ends:
                    optim_step.backward(torch.stack(group).sum())
                    losses += [loss.detach() for loss in group]
                    group, memory = [], memory and detached(memory)
            if ends and not self.together:
                optim_step()
        if self.together:
            optim_step()
        return torch.stack(losses).sum() / sum(self.weights[s] for s in steps)


@TASK_REGISTRY.register(NAME)
class ProgressiveTask(StepTraining, Task):
    """Forward with the memory of the step before, loss and backward, for each step of a clip. ("PGT", section 3.)"""

    def __init__(self, cfg: CfgNode):
        super().__init__(cfg)
        self.loss = build_loss(cfg)
        self.progressive_eval = cfg.PGT.PG_EVAL
        self.ensemble_method = cfg.PGT.ENSEMBLE_METHOD
        self.all_steps = cfg.PGT.ALL_STEP_TEST

    def train_step(self, model: nn.Module, batch: Batch, optim_step: OptimStep) -> dict[str, torch.Tensor]:
        """Train on one batch of clips, in as many steps as they are long.

        Returns:
            `loss`, the weighted mean over steps; `scores`, the mean over steps, or with boxes those of the last step.
        """
        scores, plan = [], self.plan.for_frames(batch.num_frames)
        key_frames, inputs = step_boxes(batch, plan), batch.in_steps(plan.split)

        def step_loss(s: int, memory: Memory | None) -> tuple[torch.Tensor, Memory]:
            if key_frames is None:
                logits, memory = model(next(inputs), memory)
                target = step_target(batch, plan, s)
            else:
                logits, memory = model(next(inputs), memory, key_frames[s].boxes)
                target = key_frames[s].labels
            scores.append(logits.detach())
            return self.loss(logits, target), memory

        mean_loss = self.train_steps(optim_step, range(plan.steps), step_loss)
        # Steps have boxes of their own, so their scores have no mean.
        return {"loss": mean_loss, "scores": torch.stack(scores).mean(dim=0) if key_frames is None else scores[-1]}

    def predict(self, model: ProgressiveModel, batch: Batch) -> Prediction:
        """Return the ensemble of the steps' scores (PGT.PG_EVAL), or the scores of one forward over the whole clip.

        With boxes: the scores of the last step's boxes, or of all steps' boxes (PGT.ALL_STEP_TEST).
        """
        if not self.progressive_eval:
            boxes = batch.key_frames[-1] if batch.key_frames else None
            return Prediction(model.whole_clip(*model_inputs(batch.inputs, boxes)), boxes)
        plan = self.plan.for_clips(batch.inputs)
        if batch.key_frames:
            predictions = _box_scores(model, batch, plan)
            return _join_predictions(predictions) if self.all_steps else predictions[-1]
        return self.join_steps(step_scores(model, batch.inputs, plan))

    def clip_steps(self, num_frames: int) -> list[list[list[int]]] | None:
        """Return the frames of a clip that each step reads, per pathway; None without PGT.PG_EVAL."""
        return self.plan.for_frames(num_frames).positions() if self.progressive_eval else None

    def training_steps(self, num_frames: int) -> list[list[list[int]]]:
        """Return the frames of a training clip that each step reads, per pathway."""
        return self.plan.for_frames(num_frames).positions()

    def join_steps(self, scores: Sequence[torch.Tensor]) -> Prediction:
        """Return the ensemble of the steps' scores, S of (B, classes)."""
        steps = torch.stack(list(scores))
        variants = {method: ensemble(steps, method) for method in ENSEMBLES}
        summed = len(steps) if self.ensemble_method == "sum" else 1
        return Prediction(variants[self.ensemble_method], steps=steps.transpose(0, 1), variants=variants, summed=summed)

    def features(
        self, model: ProgressiveModel, inputs: list[torch.Tensor], memory: Memory | None
    ) -> tuple[list[torch.Tensor], Memory]:
        """Return the features of a step, (B, C, T', H', W') per pathway, and the memory for the next."""
        return model.step_features(inputs, memory)

    def predict_step(
        self, model: ProgressiveModel, inputs: list[torch.Tensor], memory: Memory | None
    ) -> tuple[torch.Tensor, Memory]:
        """Return the scores of a step, (B, classes), and the memory for the next."""
        return model(inputs, memory)

    def differentiable_step(
        self, model: ProgressiveModel, inputs: list[torch.Tensor], memory: Memory | None
    ) -> tuple[torch.Tensor, Memory]:
        """Return what `predict_step` returns, with the memory in the autograd graph."""
        return model(inputs, memory, full_gradient=True)

    def join_memories(self, memories: Sequence[Memory | None]) -> Memory | None:
        """Return the memory of a batch of streams; None in it stands for a stream at its start."""
        return join(memories)

    def split_memory(self, memory: Memory, count: int) -> list[Memory]:
        """Return the memory of each stream of a batch, as copies."""
        return [select(memory, [number]) for number in range(count)]

    def stream_steps(self, num_frames: int) -> list[list[list[int]]]:
        """Return the frame indices of each step, per pathway, of a video of `num_frames` sampled frames.

        The last step may reach past the end.
        """
        return self.plan.covering(num_frames).positions()

    def export_graphs(self, model: ProgressiveModel, inputs: list[torch.Tensor]) -> list[Graph]:
        """Return the functions to export, see `_step_graphs`."""
        return _step_graphs(model, inputs, self.plan)


def step_boxes(batch: Batch, plan: StepPlan) -> list[Boxes] | None:
    """Return the boxes of each step, those of the key frame nearest its center; None for a batch without boxes.

    Raises:
        ValueError: the batch has another number of key frames than of steps.
    """
    if not batch.key_frames:
        return None
    if len(batch.key_frames) != plan.steps:
        raise ValueError(
            f"the data set gives the boxes of {len(batch.key_frames)} key frames of a clip, but {plan.steps} steps "
            "need one each; it has to follow AVA.BOX_FRAMES"
        )
    return batch.key_frames


def step_target(batch: Batch, plan: StepPlan, step: int) -> torch.Tensor:
    """Return the target of the clips in one step. ("PGT", section 3, training on Kinetics, Charades and AVA.)

    With a class for each frame: that of the step's last frame, (B,). With any number of them, (B, classes): the union
    over all frames of the video from the first frame of the step's memory to the step's last frame. Otherwise the
    target of the clip.
    """
    if batch.frame_labels is None:
        return batch.targets
    frames = plan.span(step)
    if batch.frame_labels.dim() == 2:
        return batch.frame_labels[:, frames[-1]]
    return batch.frame_labels[:, 2 * frames[0] : 2 * frames[-1] + 1].amax(dim=1).to(torch.float32)


def step_scores(
    model: nn.Module, inputs: list[torch.Tensor], plan: StepPlan, memory_filter: MemoryFilter | None = None
) -> torch.Tensor:
    """Return the scores of every step, (S, B, classes).

    Args:
        model: progressive model.
        inputs: one clip (B, 3, T, H, W) per pathway.
        memory_filter: called as f(s, memory) before each step s >= 1; the step gets its result, None for no memory.
    """
    scores, memory = [], None
    for s, step_inputs in enumerate(plan.split(inputs)):
        if memory is not None and memory_filter is not None:
            memory = memory_filter(s, memory)
        step, memory = model(step_inputs, memory)
        scores.append(step)
    return torch.stack(scores)


def _box_scores(model: nn.Module, batch: Batch, plan: StepPlan) -> list[Prediction]:
    """Return the scores of the boxes of every step, in order.

    Raises:
        ValueError: the batch has another number of key frames than of steps.
    """
    predictions, memory = [], None
    for step_inputs, boxes in zip(plan.split(batch.inputs), step_boxes(batch, plan), strict=True):
        scores, memory = model(step_inputs, memory, boxes.boxes)
        predictions.append(Prediction(scores, boxes))
    return predictions


def _join_predictions(predictions: Sequence[Prediction]) -> Prediction:
    """Join the boxes of several steps into one prediction."""
    columns = [vars(prediction.boxes) for prediction in predictions]
    boxes = Boxes(**{name: torch.cat([column[name] for column in columns]) for name in columns[0]})
    return Prediction(torch.cat([prediction.scores for prediction in predictions]), boxes)


def ensemble(scores: torch.Tensor, method: str) -> torch.Tensor:
    """Reduce the scores of the steps (S, B, classes) to those of the clip (B, classes).

    Args:
        method: "sum", "max", or "last" for the last step's.

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


@torch.no_grad()
def _step_graphs(model: ProgressiveModel, inputs: list[torch.Tensor], plan: StepPlan) -> list[Graph]:
    """Return `first_step`, without memory, and `next_step`, with inputs `memory.NAME` and outputs `new_memory.NAME`.

    Where the memory has other sizes after the second step than after the first, `step_2` comes in between, and so on
    until the sizes stay.

    Args:
        inputs: one clip (B, 3, T, H, W) per pathway, at least as long as a step.

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
