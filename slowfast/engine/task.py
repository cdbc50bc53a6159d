"""Tasks: how one batch is trained on and predicted.

Shapes: scores are (B, classes); clips are (B, 3, T, H, W), one tensor per pathway; a batch is a
`slowfast.datasets.loading.batch.Batch`.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from slowfast.datasets.clips.temporal_sampling import slow_indices
from slowfast.datasets.loading.batch import Batch, Boxes
from slowfast.engine.optim_step import OptimStep
from slowfast.evaluation.prediction import Prediction
from slowfast.models.build import MODEL_REGISTRY
from slowfast.models.losses import build_loss
from slowfast.utils.registry import Registry

# Tasks by the name in `TASK`; each is a subclass of Task, called with the config. The evaluation of a pretrained model
# (ssl_eval_k400 and the like) is supervised training; `slowfast.engine.resume` chooses the weights that it starts from.
# With "", "clip" and ssl the model says by which task it is trained (`MODEL_REGISTRY`).
TASK_REGISTRY = Registry("TASK", default="clip", aliases={"ssl*": "clip"})


@dataclasses.dataclass
class Graph:
    """One function of a model, to be exported.

    Attributes:
        name: of the file.
        args: example arguments of the model: tensors whose first dimension is the batch, in dicts and lists.
        inputs, outputs: names of the tensors in the arguments and in the result, in order.
    """

    name: str
    args: tuple[Any, ...]
    inputs: list[str]
    outputs: list[str]


class Task(abc.ABC):
    """Base class of tasks. A subclass defines `train_step` and `predict`; the other methods have defaults.

    Register it with `@TASK_REGISTRY.register(name)`; it is called with the config.

    Attributes:
        num_steps: number of steps in which a clip is read, 1 for the whole clip at once.
        evaluates: `predict` gives class scores, so there are validations and tests.
        pretrains: a run trains without labels. Names of its checkpoints begin with `ssl_`, and a run of TASK
            ssl_eval... in the same folder starts from them.
        steady: the first iteration, on noise too, takes as long as later ones. False: training fills queues first.
    """

    num_steps: int = 1
    evaluates: bool = True
    pretrains: ClassVar[bool] = False
    steady: ClassVar[bool] = True

    @abc.abstractmethod
    def train_step(self, model: nn.Module, batch: Batch, optim_step: OptimStep) -> dict[str, Tensor]:
        """Run the forward and backward passes of one batch and call `optim_step()` at least once.

        Returns:
            `loss` (scalar), `scores` (B, classes) and any other scalars to log, all detached.
        """

    @abc.abstractmethod
    def predict(self, model: nn.Module, batch: Batch) -> Prediction:
        """Return the class scores of a batch; called in eval mode without gradients."""

    @staticmethod
    def epoch_config(cfg: Any, epoch: int) -> Any:
        """Return the config of an epoch, counted from 0.

        Override it as a pure function of the run's config: a frozen copy where settings differ, else `cfg` itself.
        """
        return cfg

    @staticmethod
    def steps_config(cfg: Any, steps: int) -> Any:
        """Return the config for clips of another number of steps.

        Raises:
            ValueError: the task reads a clip at once.
        """
        raise ValueError(f"TASK {cfg.TASK or 'clip'!r} reads a clip at once: it has no number of steps to change")

    def features(self, model: nn.Module, inputs: list[Tensor], memory: Any) -> tuple[list[Tensor], Any]:
        """Return features in front of the head, (B, C, T, H, W) per pathway, and the memory for the next call.

        Args:
            memory: result of the last call for the same videos; None for their first clip.
        """
        return model.forward_features(inputs), None

    def predict_step(self, model: nn.Module, inputs: list[Tensor], memory: Any) -> tuple[Tensor, Any]:
        """Return class scores (B, classes) of one window of a stream, and the memory for the next call.

        Args:
            memory: result of the last call for the same videos; None for their first window.
        """
        return model(inputs), None

    def differentiable_step(self, model: nn.Module, inputs: list[Tensor], memory: Any) -> tuple[Tensor, Any]:
        """Return what `predict_step` returns, with both results in the autograd graph of the inputs and the memory.

        A task whose memory is not None overrides this. The model stays as it is.

        Raises:
            ValueError: the task has a memory and does not say how gradients pass through it.
        """
        scores, after = self.predict_step(model, inputs, memory)
        if after is not None:
            raise ValueError(
                f"{type(self).__name__} has a memory, and does not say how gradients pass through it: it must define "
                "differentiable_step"
            )
        return scores, None

    def join_memories(self, memories: Sequence[Any]) -> Any:
        """Return the memory of a batch of streams for `predict_step`; None if all of them are at their start.

        A task whose memory is not None overrides this and `split_memory`. Tensors in a memory, which may lie in dicts
        and lists, have the batch as their first dimension.

        Args:
            memories: one memory for each stream, whose tensors agree in all sizes; None for a stream at its start.

        Raises:
            ValueError: the task has a memory and does not say how to join it.
        """
        if any(memory is not None for memory in memories):
            raise ValueError(f"{type(self).__name__} has a memory: it must define join_memories and split_memory")
        return None

    def split_memory(self, memory: Any, count: int) -> list[Any]:
        """Return the memory of each of the `count` streams of a batch, given the result of `predict_step`.

        The memories share no storage.
        """
        return [memory] * count

    def stream_steps(self, num_frames: int) -> list[list[list[int]]] | None:
        """Return the frame indices of each step, per pathway, of a video of `num_frames` sampled frames.

        None: videos are not read in steps, and each clip is computed on its own.
        """
        return None

    def clip_steps(self, num_frames: int) -> list[list[list[int]]] | None:
        """Return the frames of a clip of `num_frames` that each step of `predict` reads, per pathway.

        A test then reads long clips step by step: `predict_step` for each of them and `join_steps` take the place of
        `predict`. None: a clip is predicted at once.
        """
        return None

    def training_steps(self, num_frames: int) -> list[list[list[int]]] | None:
        """Return the frames of a training clip of `num_frames` that each step reads, per pathway.

        `train_step` then takes them from `Batch.in_steps`, in order, so that a clip need not be in memory as a whole
        (`DATA_LOADER.IN_STEPS`). None: it needs the whole clip.
        """
        return None

    def join_steps(self, scores: Sequence[Tensor]) -> Prediction:
        """Return the prediction of clips, given the class scores (B, classes) of each step: the last ones."""
        return Prediction(scores[-1])

    def export_graphs(self, model: nn.Module, inputs: list[Tensor]) -> list[Graph]:
        """Return the functions to export; by default one, from clips to class scores.

        Args:
            inputs: example clips.
        """
        return [Graph("model", (inputs,), pathway_names(len(inputs)), ["scores"])]

    def hooks(self) -> list[Any]:
        """Return hooks (`slowfast.engine.hooks.Hook`) to add to the training loop's; called once, before training."""
        return []


@TASK_REGISTRY.register("clip")
class ClipTask(Task):
    """Classify whole clips, or the boxes of each clip's last key frame."""

    def __init__(self, cfg: Any):
        self.loss = build_loss(cfg)

    def train_step(self, model: nn.Module, batch: Batch, optim_step: OptimStep) -> dict[str, Tensor]:
        boxes = batch.key_frames[-1] if batch.key_frames else None
        with optim_step.sync():
            with optim_step.autocast():
                scores = model(*model_inputs(batch.inputs, boxes))
                loss = self.loss(scores, batch.targets if boxes is None else boxes.labels)
            optim_step.backward(loss)
        optim_step()
        return {"loss": loss.detach(), "scores": scores.detach()}

    def predict(self, model: nn.Module, batch: Batch) -> Prediction:
        boxes = batch.key_frames[-1] if batch.key_frames else None
        return Prediction(model(*model_inputs(batch.inputs, boxes)), boxes)


def model_inputs(inputs: list[Tensor], boxes: Boxes | None) -> tuple[Any, ...]:
    """Return a model's arguments: the clips, and their boxes if there are any."""
    return (inputs,) if boxes is None else (inputs, boxes.boxes)


def pathway_names(pathways: int) -> list[str]:
    """Return the names of a model's input clips: `clip`, or `slow` and `fast`."""
    return ["clip"] if pathways == 1 else ["slow", "fast"]


def task_class(cfg: Any) -> type[Task]:
    """Return the class of the task named by `TASK`: for "", "clip" and ssl the one that the model is registered with.

    A project's task for such a model derives from that one.

    Raises:
        ValueError: no such task is registered, it does not derive from `Task`, or labels are asked for from a model
            that takes none, or of no model that does.
    """
    name, model = cfg.TASK, cfg.MODEL.MODEL_NAME
    own = MODEL_REGISTRY.fact(model, "task") if model in MODEL_REGISTRY else ""
    if name == "ssl" and not own:
        fitting = " or ".join(known for known in MODEL_REGISTRY if MODEL_REGISTRY.fact(known, "task"))
        raise ValueError(
            f"TASK ssl pre-trains without labels, and MODEL.MODEL_NAME {model} is trained with labels; set TASK "
            f"ssl_eval for that, or MODEL_NAME {fitting}"
        )
    if own and name in ("", "clip", "ssl"):
        name = own
    found = TASK_REGISTRY.get(name)
    if own and not (isinstance(found, type) and issubclass(found, TASK_REGISTRY.get(own))):
        raise ValueError(f"MODEL.MODEL_NAME {model} is trained without labels; set TASK ssl, not {name}")
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ValueError(f"TASK {name!r} is {found!r}, no subclass of slowfast.engine.task.Task; derive it from that")
    return found


def build_task(cfg: Any) -> Task:
    """Build the task named by `TASK`; ValueError if there is none."""
    return task_class(cfg)(cfg)


def check_classes(cfg: Any) -> None:
    """Check that a trained model names classes, for programs that show its scores or export it.

    Raises:
        ValueError: it is pre-trained without labels.
    """
    if task_class(cfg).pretrains:
        raise ValueError(
            f"MODEL.MODEL_NAME {cfg.MODEL.MODEL_NAME} is pre-trained without labels and names no classes; fine-tune "
            "its weights first (TASK ssl_eval, see docs/pretraining.md)"
        )


def dummy_inputs(cfg: Any, count: int, crop: int, generator: Generator | None = None) -> list[Tensor]:
    """Return `count` clips of noise (count, C, T, crop, crop), one tensor per pathway, of the config's frames."""
    channels, frames = cfg.DATA.INPUT_CHANNEL_NUM, cfg.DATA.NUM_FRAMES
    clip = torch.randn(count, channels[-1], frames, crop, crop, generator=generator)
    if len(channels) == 1:
        return [clip]
    return [clip[:, :, slow_indices(frames, cfg.SLOWFAST.ALPHA, cfg.SLOWFAST.SLOW_INDICES)], clip]
