"""Loops over the data: train an epoch, predict a split."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from slowfast.datasets.loading.batch import Batch
from slowfast.datasets.step_batches import StepBatch
from slowfast.engine.hooks import Hook
from slowfast.engine.mixing import Mixing
from slowfast.engine.optim import lr_at, lr_scale, set_lr
from slowfast.engine.optim_step import autocast
from slowfast.engine.state import Averages, TrainState
from slowfast.engine.task import Task
from slowfast.evaluation.prediction import Prediction
from slowfast.utils.errors import naming_keys


def train_epoch(state: TrainState, hooks: Sequence[Hook], should_stop: Callable[[], bool]) -> bool:
    """Train to the end of the epoch, from `state.iteration` on.

    Args:
        state: its epoch and iteration are advanced.
        hooks: called in order.
        should_stop: asked after each optimizer step, when no accumulated gradient would be lost.

    Returns:
        True if the epoch was completed, False if it was stopped.

    Raises:
        NonFiniteError: the loss or a gradient is NaN or infinite; names epoch, iteration, lr and videos.
    """
    cfg = state.cfg
    mixing = Mixing.from_config(cfg)
    state.model.train()
    for hook in hooks:
        hook.before_epoch(state)
    waiting = time.perf_counter()
    for batch in epoch_batches(state.loader, state.epoch, state.iteration, state.epoch_length):
        started = time.perf_counter()
        set_lr(state.optimizer, lr_scale(cfg) * lr_at(cfg.SOLVER, state.progress))
        state.optim_step.where = _describe_position(state, batch)
        batch = batch.to(state.device)
        if mixing is not None:
            batch = mixing(batch, state.epoch, state.iteration)
        for hook in hooks:
            hook.before_step(state, batch)
        with naming_keys(cfg, *_shape_keys(cfg), "DATA.TRAIN_CROP_SIZE", "MODEL.LOSS_FUNC"):
            result = state.task.train_step(state.model, batch, state.optim_step)
        state.iteration, state.step = state.iteration + 1, state.step + 1
        state.data_seconds, state.step_seconds = started - waiting, time.perf_counter() - started
        for hook in hooks:
            hook.after_step(state, batch, result)
        if state.optim_step.at_boundary and state.iteration < state.epoch_length and should_stop():
            state.optim_step.check()
            return False
        waiting = time.perf_counter()
    state.optim_step.check()
    for hook in hooks:
        hook.after_epoch(state)
    state.epoch, state.iteration = state.epoch + 1, 0
    state.averages = Averages()
    return True


def epoch_batches(loader: DataLoader, epoch: int, start: int, stop: int) -> Iterator[Batch]:
    """Yield the batches `start` to `stop` (not included) of an epoch; they depend on these numbers alone."""
    loader.batch_sampler.set_epoch(epoch, start)
    yield from itertools.islice(loader, stop - start)


def _shape_keys(cfg: Any) -> list[str]:
    """Return the keys of the frames of a clip and of what must divide them, for the errors of a model."""
    grouped = any(count > 1 for row in cfg.NONLOCAL.GROUP for count in row)
    return ["DATA.NUM_FRAMES", *(["NONLOCAL.GROUP"] if grouped else [])]


def _describe_position(state: TrainState, batch: Batch) -> str:
    """Return epoch, iteration, learning rate and videos of a batch, for an error message."""
    return (
        f"in epoch {state.epoch + 1}/{state.max_epoch}, iteration {state.iteration + 1}/{state.epoch_length}, "
        f"lr {state.lr:g}, videos (numbers in the list, the first is 0) {batch.video.tolist()}"
    )


@torch.no_grad()
def predict_batches(
    task: Task, model: nn.Module, batches: Any, cfg: Any, device: torch.device, dtype: torch.dtype | None
) -> Iterator[tuple[Batch, Prediction | None]]:
    """Yield each batch with its prediction, float32 on the CPU; None for a batch of which no video could be read.

    Args:
        model: without DDP wrapper; it is set to eval mode.
        cfg: its keys are named if a clip does not fit the model.
        dtype: of autocast; None for full precision.
    """
    model.eval()
    for batch in batches:
        if batch.size == 0:
            yield batch, None
            continue
        crops = ("DATA.TRAIN_CROP_SIZE", "DATA.TEST_CROP_SIZE")
        with autocast(device, dtype), naming_keys(cfg, *_shape_keys(cfg), *crops):
            prediction = task.predict(model, batch.to(device))
        yield batch, prediction.on_cpu()


@torch.no_grad()
def predict_steps(
    task: Task,
    model: nn.Module,
    batches: Iterable[StepBatch],
    cfg: Any,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Iterator[tuple[Batch, Prediction | None]]:
    """Yield each batch, with the inputs of its last step, and its prediction; see `predict_batches`.

    Batches may take turns. Of each one that has begun, the memory and the scores of its steps are kept.
    """
    model.eval()
    begun: dict[int, tuple[list[Tensor], Any]] = {}
    for batch in batches:
        scores, memory = begun.pop(batch.number, ([], None)) if batch.step else ([], None)
        if batch.size == 0:
            yield batch, None
            continue
        crops = ("DATA.TRAIN_CROP_SIZE", "DATA.TEST_CROP_SIZE")
        with autocast(device, dtype), naming_keys(cfg, *_shape_keys(cfg), *crops):
            step, memory = task.predict_step(model, batch.to(device).inputs, memory)
        scores.append(step)
        if batch.step < batch.last_step:
            begun[batch.number] = scores, memory
        else:
            yield batch, task.join_steps(scores).on_cpu()
