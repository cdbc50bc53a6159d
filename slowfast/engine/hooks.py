"""Hooks of the training loop: statistics, the progress bar, unreadable files, and those of projects.

A project adds hooks by a function `hooks(cfg) -> list[Hook]` of its module, a task by its method `hooks()`.
"""

from __future__ import annotations

import datetime
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from tqdm import tqdm

from slowfast.config.projects import call_project, import_project
from slowfast.datasets.loading.batch import Batch
from slowfast.datasets.loading.unreadable import UnreadableFiles
from slowfast.engine import pyslowfast_rows
from slowfast.engine.state import Averages, TrainState, batch_means
from slowfast.engine.trackers import TensorBoard, build_trackers
from slowfast.runtime.device import peak_memory
from slowfast.runtime.distributed import all_gather_object, is_main_process, reduce_mean
from slowfast.runtime.logging import log_json_stats


class Hook:
    """Base class of hooks. Override the methods that are needed; by default each does nothing.

    Hooks are called in every process, in the order: those of the loop, of the task, of the projects as in `PROJECTS`.
    """

    def before_run(self, state: TrainState) -> None:
        """Run once before training, after weights and progress are restored."""

    def before_epoch(self, state: TrainState) -> None:
        """Run before the first batch of an epoch, also when the epoch is resumed in the middle."""

    def before_step(self, state: TrainState, batch: Batch) -> None:
        """Run before a batch is trained on; `batch` is on the device, with mixup applied."""

    def after_step(self, state: TrainState, batch: Batch, result: dict[str, torch.Tensor]) -> None:
        """Run after a batch.

        Args:
            state: `state.iteration` already counts the batch.
            result: of `Task.train_step`.
        """

    def after_epoch(self, state: TrainState) -> None:
        """Run after the last batch of an epoch; `state.epoch` still counts the epochs before it."""

    def after_evaluation(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Run after an evaluation on the validation split; `state.epoch` counts the epoch before it."""

    def after_run(self, state: TrainState) -> None:
        """Run once when training ends: completed, interrupted or failed."""


class Recorder:
    """Writer of statistics: to the log, `json_stats.jsonl` and the trackers (`TENSORBOARD`, `TRACKER`).

    Attributes:
        boards: files for TensorBoard, which take pictures too; in the main process alone, and with TENSORBOARD.ENABLE.
        least_errors: the least error, percent, of the validations so far, by name.
    """

    def __init__(self, cfg: Any, first_step: int = 0):
        self._trackers = build_trackers(cfg, first_step) if is_main_process() else []
        self.boards = [tracker for tracker in self._trackers if isinstance(tracker, TensorBoard)]
        self._cfg = cfg
        self.least_errors: dict[str, float] = {}

    def record(self, stats: dict[str, Any], tag: str, step: int, for_scripts: Mapping[str, Any] | None = None) -> None:
        """Write one JSON object of statistics; its floats become the scalars `tag/name` of the trackers at `step`.

        Args:
            for_scripts: what PySlowFast's scripts read besides (`LOG_STYLE`).
        """
        added = dict(for_scripts or {})
        if "_type" in stats:  # a project's rows may have none
            added |= pyslowfast_rows.row_type(self._cfg, stats["_type"])
        log_json_stats(stats, added if pyslowfast_rows.is_on(self._cfg) else None)
        values = {name: value for name, value in stats.items() if isinstance(value, float)}
        for tracker in self._trackers:
            tracker.record(tag, values, step)

    def close(self) -> None:
        """End the runs in the trackers."""
        for tracker in self._trackers:
            tracker.close()


class _UnreadableCount(Hook):
    """Count of unreadable files; stops the run if they exceed the allowed fraction.

    Attributes:
        counts: after each epoch, the files unreadable so far and the samples replaced in that epoch.
    """

    def __init__(self, files: UnreadableFiles):
        self.files = files
        self.replaced = 0
        self.counts = {"unreadable_files": 0, "replaced_samples": 0}

    def before_epoch(self, state: TrainState) -> None:
        self.replaced = 0

    def after_step(self, state: TrainState, batch: Batch, result: dict[str, torch.Tensor]) -> None:
        self.replaced += len(batch.unreadable)
        self.files.update_from(batch.unreadable)
        self.files.check()

    def after_epoch(self, state: TrainState) -> None:
        gathered = all_gather_object((dict(self.files), self.replaced))
        for files, _ in gathered:
            self.files.update_from(files.items())
        self.files.check()
        self.counts = {
            "unreadable_files": len(self.files),
            "replaced_samples": sum(replaced for _, replaced in gathered),
        }


class _LossExplosion(Hook):
    """Stop of a run whose loss exceeds `factor` times the mean of the last five of its epoch.

    Losses are means over processes. The batch has changed the weights already, but no checkpoint holds them.
    """

    def __init__(self, factor: float):
        self.factor = factor
        self.recent: deque[float] = deque(maxlen=5)

    def before_epoch(self, state: TrainState) -> None:
        self.recent.clear()

    def after_step(self, state: TrainState, batch: Batch, result: dict[str, torch.Tensor]) -> None:
        loss = reduce_mean([result["loss"]])[0].item()
        mean = sum(self.recent) / max(1, len(self.recent))
        if len(self.recent) == self.recent.maxlen and loss > self.factor * mean:
            raise FloatingPointError(
                f"loss is {loss:g}, over TRAIN.KILL_LOSS_EXPLOSION_FACTOR {self.factor:g} x {mean:g}, the mean of the "
                f"last {len(self.recent)}, {state.optim_step.where}; lower SOLVER.BASE_LR, clip the gradient "
                "(SOLVER.CLIP_GRAD_L2NORM), or set the factor to 0"
            )
        self.recent.append(loss)


class _IterationStats(Hook):
    """Statistics: means every `period` iterations, and every epoch with the counts of `unreadable` files."""

    def __init__(self, recorder: Recorder, period: int, unreadable: _UnreadableCount):
        self.recorder = recorder
        self.period = period
        self.unreadable = unreadable
        self._restart()

    def _restart(self) -> None:
        self.window = Averages()
        self.iterations, self.data_seconds, self.step_seconds = 0, 0.0, 0.0

    def before_epoch(self, state: TrainState) -> None:
        self._restart()
        self.epoch_started, self.epoch_seconds, self.epoch_iterations = time.perf_counter(), [0.0, 0.0], 0

    def after_step(self, state: TrainState, batch: Batch, result: dict[str, torch.Tensor]) -> None:
        means = batch_means(result, batch.labels)
        self.window.add(means, batch.size)
        state.averages.add(means, batch.size)
        self.iterations += 1
        self.data_seconds += state.data_seconds
        self.step_seconds += state.step_seconds
        self.epoch_seconds[0] += state.data_seconds
        self.epoch_seconds[1] += state.step_seconds
        self.epoch_iterations += 1
        if state.iteration % self.period == 0:
            self._report(state)
            self._restart()

    def after_epoch(self, state: TrainState) -> None:
        stats: dict[str, Any] = {
            "_type": "train_epoch",
            "epoch": f"{state.epoch + 1}/{state.max_epoch}",
            "epoch_seconds": time.perf_counter() - self.epoch_started,
            "lr": state.lr,
            **memory_stats(state.device),
            **state.averages.read(),
            **self.unreadable.counts,
        }
        data, step = (seconds / max(1, self.epoch_iterations) for seconds in self.epoch_seconds)
        for_scripts = _times(state, data, step) | pyslowfast_rows.memory(state.device, host=True)
        for_scripts |= pyslowfast_rows.place(state.cfg, "train", stats["epoch"])
        self.recorder.record(stats, "TrainEpoch", state.epoch + 1, for_scripts)

    def _report(self, state: TrainState) -> None:
        data, step = self.data_seconds / self.iterations, self.step_seconds / self.iterations
        stats = {
            "_type": "train_iter",
            "epoch": f"{state.epoch + 1}/{state.max_epoch}",
            "iter": f"{state.iteration}/{state.epoch_length}",
            **_times(state, data, step),
            "lr": state.lr,
            **memory_stats(state.device),
            **self.window.read(),
        }
        if state.optim_step.grad_norm is not None:
            stats["grad_norm"] = float(state.optim_step.grad_norm)
        for_scripts = pyslowfast_rows.memory(state.device)
        for_scripts |= pyslowfast_rows.place(state.cfg, "train", stats["epoch"], stats["iter"])
        self.recorder.record(stats, "Train", state.step, for_scripts)


def _times(state: TrainState, data: float, step: float) -> dict[str, Any]:
    """Return the mean times of an iteration, and what is left of the run at that speed."""
    left = (state.max_epoch - state.epoch) * state.epoch_length - state.iteration
    eta = str(datetime.timedelta(seconds=int((data + step) * left)))
    return {"dt": data + step, "dt_data": data, "dt_net": step, "eta": eta}


class ProgressBar(Hook):
    """Progress bar on a terminal; hidden if the output goes to a file or pipe."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None

    def before_epoch(self, state: TrainState) -> None:
        hidden = not (is_main_process() and sys.stdout.isatty())
        title = f"epoch {state.epoch + 1}/{state.max_epoch}"
        self.bar = tqdm(
            total=state.epoch_length, initial=state.iteration, desc=title, disable=hidden, leave=False, file=sys.stdout
        )

    def after_step(self, state: TrainState, batch: Batch, result: dict[str, torch.Tensor]) -> None:
        self.bar.update()

    def after_epoch(self, state: TrainState) -> None:
        self.bar.close()


def build_hooks(state: TrainState, recorder: Recorder) -> list[Hook]:
    """Return the loop's own hooks, then those of the task and of the projects.

    Raises:
        ValueError: a task or project gives an object that is no `Hook`.
    """
    unreadable = _UnreadableCount(state.loader.dataset.unreadable)
    found: list[Hook] = [unreadable, _IterationStats(recorder, state.cfg.LOG_PERIOD, unreadable), ProgressBar()]
    if state.cfg.TRAIN.KILL_LOSS_EXPLOSION_FACTOR:
        found.append(_LossExplosion(state.cfg.TRAIN.KILL_LOSS_EXPLOSION_FACTOR))
    added = {f"TASK {state.cfg.TASK!r}": state.task.hooks()}
    for name in state.run_cfg.PROJECTS:
        added[f"project {name!r}"] = (
            call_project(import_project(name, "named by PROJECTS"), "hooks", state.run_cfg) or []
        )
    for owner, hooks in added.items():
        for hook in hooks:
            if not isinstance(hook, Hook):
                raise ValueError(f"hooks of {owner}: {hook!r} does not derive from slowfast.engine.hooks.Hook")
            found.append(hook)
    return found


def memory_stats(device: torch.device) -> dict[str, float]:
    """Return the peak memory in GiB, as `ram_gib` or `gpu_mem_gib`."""
    return {"ram_gib" if device.type == "cpu" else "gpu_mem_gib": peak_memory(device)}
