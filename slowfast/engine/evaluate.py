"""Measuring a model on all views of a split, and on validation clips during training.

`OUTPUT_DIR/val_results.json`: the metrics of a run's last evaluation, and the epochs it came after.
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
from slowfast.evaluation.evaluators import Results
from slowfast.runtime.distributed import all_gather_object, any_process, is_main_process
from slowfast.utils.files import atomic_write


def evaluate(
    state: TrainState, loader: DataLoader, recorder: Recorder, should_stop: Callable[[], bool]
) -> dict[str, float]:
    """Metrics of `loader`'s clips, each counted once over all processes.

    They are logged as `val_epoch`, and those of the last evaluation are in `OUTPUT_DIR/val_results.json`.

    Returns:
        The metrics; empty if `should_stop` said so on the way.

    Raises:
        RuntimeError: too many files cannot be read.
        ValueError: no clip could be read.
    """
    started = time.perf_counter()
    dtype = state.optim_step.autocast_dtype
    task, model = evaluation_parts(state)
    results = gather_scores(task, model, loader, state.cfg, state.device, dtype, should_stop)
    if any_process(should_stop(), state.device):
        return {}
    predictions = results.predictions({})
    # Those of single steps, and of other ways to join them, are for a test.
    metrics = {name: value for name, value in predictions.metrics().items() if "/" not in name}
    stats = {
        "_type": "val_epoch",
        "epoch": f"{state.epoch}/{state.max_epoch}",
        "epoch_seconds": time.perf_counter() - started,
        "videos": results.num_counted,
        "unreadable_files": results.num_skipped,
        **memory_stats(state.device),
        **metrics,
    }
    recorder.record(stats, "Val", state.epoch)
    write_val_results(state.cfg.OUTPUT_DIR, state.epoch, metrics)
    return metrics


def gather_scores(
    task: Task,
    model: nn.Module,
    loader: DataLoader,
    cfg: Any,
    device: torch.device,
    dtype: torch.dtype | None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Results:
    """Run the model over all views of `loader` and join the scores of all processes.

    Videos that cannot be read are skipped; `should_stop` ends the pass early, with what there is by then.

    Raises:
        RuntimeError: more files cannot be read than `DATA.MAX_UNREADABLE_FRACTION` allows.
    """
    dataset = loader.dataset
    results = dataset.make_evaluator(cfg)
    files = dataset.unreadable
    for batch, prediction in predict_batches(task, model, loader, device, dtype):
        for sample in batch.missing:
            results.skip(sample.video)
        files.update_from(batch.unreadable)
        files.check()
        if prediction is not None:
            results.add(batch, prediction)
        if should_stop():
            break
    parts, files_of_ranks = zip(*all_gather_object((results.part, dict(files))), strict=True)
    results.join(parts)
    for files_of_rank in files_of_ranks:
        files.update_from(files_of_rank.items())
    files.check()
    return results


NAME = "val_results.json"


def write_val_results(output_dir: str, epoch: int, metrics: dict[str, float]) -> None:
    """Keep the metrics measured after `epoch` epochs; the main process writes."""
    text = json.dumps({"epoch": epoch, **metrics}, indent=2, sort_keys=True) + "\n"
    atomic_write(os.path.join(output_dir, NAME), text)


def last_evaluation(output_dir: str) -> int:
    """After how many epochs the last evaluation was made, 0 for none; all processes ask, the main one looks."""
    found = 0
    if is_main_process():
        try:
            with open(os.path.join(output_dir, NAME), encoding="utf-8") as stream:
                found = int(json.load(stream)["epoch"])
        except (OSError, ValueError, KeyError, TypeError):
            found = 0  # none yet, or not ours
    return all_gather_object(found)[0]
