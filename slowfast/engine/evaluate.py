"""Measuring a model on all views of a split, and on validation clips during training."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from slowfast.engine.hooks import Recorder, memory_stats
from slowfast.engine.loop import predict_batches
from slowfast.engine.phase import evaluation_parts
from slowfast.engine.state import TrainState
from slowfast.engine.task import Task
from slowfast.engine.val_results import write_val_results
from slowfast.evaluation.classification import ViewEnsemble, classification_metrics
from slowfast.utils.distributed import all_gather_object, any_process


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
    dtype = state.update.autocast_dtype
    task, model = evaluation_parts(state)
    ensemble = gather_scores(task, model, loader, state.cfg, state.device, dtype, should_stop)
    if any_process(should_stop(), state.device):
        return {}
    scores, labels, videos = ensemble.result()
    metrics = classification_metrics(scores, labels)
    stats = {
        "_type": "val_epoch",
        "epoch": f"{state.epoch}/{state.max_epoch}",
        "epoch_seconds": time.perf_counter() - started,
        "videos": len(videos),
        "unreadable_files": len(ensemble.skipped),
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
) -> ViewEnsemble:
    """Run the model over all views of `loader` and join the scores of all processes.

    Videos that cannot be read are skipped; `should_stop` ends the pass early, with what there is by then.

    Raises:
        RuntimeError: more files cannot be read than `DATA.MAX_UNREADABLE_FRACTION` allows.
    """
    dataset = loader.dataset
    ensemble = ViewEnsemble(dataset.num_videos, dataset.num_views, cfg.DATA.ENSEMBLE_METHOD, dataset.paths)
    files = dataset.unreadable
    for batch, scores in predict_batches(task, model, loader, device, dtype):
        for sample in batch.missing:
            ensemble.skip(sample.video)
        files.update_from(batch.unreadable)
        files.check()
        if batch.size:
            ensemble.add(scores, batch.labels, batch.video, batch.view)
        if should_stop():
            break
    first, *others = all_gather_object((ensemble, dict(files)))
    for ensemble_of_rank, files_of_rank in others:
        first[0].merge(ensemble_of_rank)
        files.update_from(files_of_rank.items())
    files.check()
    return first[0]
