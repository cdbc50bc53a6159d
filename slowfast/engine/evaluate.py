"""Evaluation of a model: on all views of a split, and on the validation split during training.

`OUTPUT_DIR/val_results.json` holds the metrics of a run's last validation, and the number of epochs before it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from slowfast.engine.epoch_config import evaluation_parts
from slowfast.engine.hooks import Recorder, memory_stats
from slowfast.engine.loop import predict_batches
from slowfast.engine.state import TrainState
from slowfast.engine.task import Task
from slowfast.evaluation.evaluators import Evaluator
from slowfast.runtime.distributed import all_gather_object, any_process, is_main_process
from slowfast.utils.files import atomic_write

VAL_RESULTS_NAME = "val_results.json"


def evaluate(
    state: TrainState, loader: DataLoader, recorder: Recorder, should_stop: Callable[[], bool]
) -> dict[str, float]:
    """Measure the model on the validation split, log the metrics as `val_epoch` and write `val_results.json`.

    Metrics of single steps and other ensembles ("step1/...", "max/...") are left to a test.

    Returns:
        The metrics; empty if `should_stop` returned True.

    Raises:
        RuntimeError: too many files cannot be read.
        ValueError: no clip could be read.
    """
    started = time.perf_counter()
    dtype = state.optim_step.autocast_dtype
    task, model = evaluation_parts(state)
    evaluator = run_evaluator(task, model, loader, state.cfg, state.device, dtype, should_stop)
    if any_process(should_stop(), state.device):
        return {}
    metrics = {name: value for name, value in evaluator.evaluate().items() if "/" not in name}
    stats = {
        "_type": "val_epoch",
        "epoch": f"{state.epoch}/{state.max_epoch}",
        "epoch_seconds": time.perf_counter() - started,
        **evaluator.counts(),
        **evaluator.protocol(),
        "unreadable_files": len(evaluator.skipped),
        **memory_stats(state.device),
        **metrics,
    }
    recorder.record(stats, "Val", state.epoch)
    text = json.dumps({"epoch": state.epoch, **metrics, **evaluator.protocol()}, indent=2, sort_keys=True) + "\n"
    atomic_write(os.path.join(state.cfg.OUTPUT_DIR, VAL_RESULTS_NAME), text)
    return metrics


def run_evaluator(
    task: Task,
    model: nn.Module,
    loader: DataLoader,
    cfg: Any,
    device: torch.device,
    dtype: torch.dtype | None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluator:
    """Predict all batches of `loader` and return the data set's evaluator, gathered over the processes.

    Args:
        dtype: of autocast; None for full precision.
        should_stop: asked after each batch; True ends the pass early.

    Raises:
        RuntimeError: more files cannot be read than `DATA.MAX_UNREADABLE_FRACTION` allows.
    """
    dataset = loader.dataset
    evaluator, files = dataset.make_evaluator(cfg), dataset.unreadable
    for batch, prediction in predict_batches(task, model, loader, device, dtype):
        for sample in batch.missing:
            evaluator.skip(sample.video)
        files.update_from(batch.unreadable)
        files.check()
        if prediction is not None:
            evaluator.process(batch, prediction)
        if should_stop():
            break
    for files_of_rank in all_gather_object(dict(files)):
        files.update_from(files_of_rank.items())
    evaluator.gather()
    files.check()
    return evaluator


def last_evaluation(output_dir: str) -> int:
    """Return the number of epochs before the run's last validation, 0 without one; every process calls it."""
    found = 0
    if is_main_process():
        try:
            with open(os.path.join(output_dir, VAL_RESULTS_NAME), encoding="utf-8") as stream:
                found = int(json.load(stream)["epoch"])
        except (OSError, ValueError, KeyError, TypeError):
            found = 0  # no file, or one of another program
    return all_gather_object(found)[0]
