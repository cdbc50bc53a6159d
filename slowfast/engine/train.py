"""Training: from a config to the last checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from slowfast.checkpoint.io import checkpoint_path, remove_superseded, save_checkpoint
from slowfast.datasets.build import build_loader
from slowfast.datasets.loading.batch import Batch
from slowfast.engine import preflight
from slowfast.engine.best import BestCheckpoint
from slowfast.engine.consistency import check_consistency, data_facts, launch_facts, weight_facts
from slowfast.engine.epoch_config import build_state, check_phases, enter_epoch
from slowfast.engine.fastest import settle
from slowfast.engine.hooks import Recorder, build_hooks
from slowfast.engine.loop import epoch_batches, train_epoch
from slowfast.engine.model_setup import CompileError, average_bn_stats, compile_failures_explained, unwrap
from slowfast.engine.multigrid import LongCycle
from slowfast.engine.optim_step import autocast
from slowfast.engine.precise_bn import update_bn_stats
from slowfast.engine.resume import start_training_from
from slowfast.engine.state import TrainState
from slowfast.engine.test import evaluate, last_evaluation
from slowfast.runtime.distributed import all_gather_object, barrier, is_main_process
from slowfast.runtime.loader_workers import shield_workers, worker_deaths_explained
from slowfast.runtime.logging import get_logger
from slowfast.runtime.run_lock import alone_in_output_dir
from slowfast.runtime.signals import StopRequest, TrainingInterrupted

logger = get_logger(__name__)


@alone_in_output_dir
def train(cfg: Any) -> dict[str, float]:
    """Train to `SOLVER.MAX_EPOCH`, with checkpoints and evaluations; resume the run in `OUTPUT_DIR` if there is one.

    `TRAIN.EARLY_STOP_PATIENCE` may end it earlier, see `_ends_early`.

    Returns:
        Metrics of the last evaluation; empty if there was nothing to train.

    Raises:
        TrainingInterrupted: stopped by SIGTERM or Ctrl-C; a checkpoint was saved.
        NonFiniteError: the loss became NaN or infinite.
        FloatingPointError: the loss exploded (`TRAIN.KILL_LOSS_EXPLOSION_FACTOR`).
        CompileError: PyTorch's compiler failed (`MODEL.COMPILE`).
        OSError: `OUTPUT_DIR` cannot be written, the disk is full, or a loader worker died.
        ValueError: a mistake in the config, the data list or a checkpoint; another job runs in `OUTPUT_DIR`; or the
            processes differ in config, code, data or weights.
        RuntimeError: too many files cannot be read.
    """
    check_consistency(lambda: launch_facts(cfg))
    cfg = settle(cfg, training=True)
    state = build_state(cfg)
    check_phases(cfg, state.loader.dataset)
    val_loader = build_loader(cfg, "val") if state.task.evaluates else None
    if val_loader is not None:
        shield_workers(val_loader)
    start_training_from(state)
    check_consistency(lambda: _start_facts(state, val_loader))
    best = BestCheckpoint(state)
    complete = not _evaluation_is_missing(state)
    if complete and state.epoch < state.max_epoch and _ends_early(state, best):
        return {}
    if complete and state.epoch >= state.max_epoch:
        logger.warning(
            "nothing to train: %d epochs are done and SOLVER.MAX_EPOCH is %d. To train longer raise that; to fine-tune "
            "set TRAIN.CHECKPOINT_FILE_PATH to its file, TRAIN.CHECKPOINT_EPOCH_RESET True and another OUTPUT_DIR",
            state.epoch,
            state.max_epoch,
        )
        return {}
    preflight.check_and_announce(state)
    recorder = Recorder(cfg, first_step=state.step)
    try:
        with StopRequest() as stop, worker_deaths_explained(), compile_failures_explained(cfg.MODEL.COMPILE is True):
            return _run_epochs(state, val_loader, recorder, stop, best)
    except CompileError as error:
        if not stop.requested:
            raise
        # The signal also ended the compiler's processes.
        raise TrainingInterrupted(
            "stopped on request while PyTorch compiled; the same command resumes from the last checkpoint", stop.signum
        ) from error
    finally:
        recorder.close()


def _start_facts(state: TrainState, val_loader: DataLoader | None) -> dict[str, Any]:
    """Return what must be equal in all processes before the first batch."""
    return {
        "epochs, iterations done (OUTPUT_DIR has to be one folder for all hosts)": (state.epoch, state.iteration),
        "batches of an epoch": state.epoch_length,
        **data_facts("train", state.loader.dataset),
        **({} if val_loader is None else data_facts("val", val_loader.dataset)),
        **weight_facts(unwrap(state.model)),
    }


def _run_epochs(
    state: TrainState, val_loader: DataLoader | None, recorder: Recorder, stop: StopRequest, best: BestCheckpoint
) -> dict[str, float]:
    """Train epoch by epoch until the last one, an early end or a stop request.

    Returns:
        The metrics of the last evaluation.
    """
    hooks = build_hooks(state, recorder)

    def measure() -> dict[str, float]:
        metrics = evaluate(state, val_loader, recorder, lambda: stop.requested, lambda found: best.update(state, found))
        for hook in hooks if metrics else ():
            hook.after_evaluation(state, metrics)
        return metrics

    metrics: dict[str, float] = {}
    for hook in hooks:
        hook.before_run(state)
    try:
        if _evaluation_is_missing(state):
            logger.info("the evaluation after epoch %d was interrupted, and is done first", state.epoch)
            metrics = measure()
        while not stop.agreed(state.device):
            if state.epoch >= state.max_epoch:
                return metrics
            if _ends_early(state, best):
                if not _is_saved(state):
                    _save(state)
                return metrics
            enter_epoch(state, state.epoch)
            if train_epoch(state, hooks, lambda: stop.agreed_late(state.device)):
                metrics = _finish_epoch(state, measure) or metrics
        raise TrainingInterrupted(f"stopped on request; the same command continues from {_save(state)}", stop.signum)
    finally:
        for hook in hooks:
            hook.after_run(state)


def _finish_epoch(state: TrainState, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Do what is due after an epoch, in this order: batch norm statistics, checkpoint, evaluation by `measure`.

    Returns:
        The metrics; empty if no evaluation was due.
    """
    stages = LongCycle.from_config(state.run_cfg).stages
    period = state.cfg.TRAIN.CHECKPOINT_PERIOD
    save_due = _is_due(state, state.epoch, period) or any(state.epoch == stage.end for stage in stages)
    eval_due = _evaluation_is_due(state, state.epoch)
    if save_due or eval_due:
        _settle_norms(state)
    if save_due:
        _save(state)
    return measure() if eval_due else {}


def _evaluation_is_due(state: TrainState, epoch: int) -> bool:
    """Return True if an evaluation follows after `epoch` epochs."""
    if not state.task.evaluates:
        return False
    cycle = LongCycle.from_config(state.run_cfg)
    if cycle.stages:
        return cycle.evaluation_due(epoch, state.cfg.MULTIGRID.EVAL_FREQ)
    return _is_due(state, epoch, state.cfg.TRAIN.EVAL_PERIOD)


def _evaluation_is_missing(state: TrainState) -> bool:
    """Return True if the run was stopped during the evaluation after its last checkpoint; every process calls it."""
    cfg = state.cfg
    ours = cfg.TRAIN.AUTO_RESUME and _is_saved(state)
    at_end = state.epoch > 0 and state.iteration == 0 and _evaluation_is_due(state, state.epoch)
    return last_evaluation(cfg.OUTPUT_DIR) < state.epoch and ours and at_end


def _ends_early(state: TrainState, best: BestCheckpoint) -> bool:
    """Return True, and say why, if `TRAIN.EARLY_STOP_PATIENCE` ends training after the last completed epoch.

    Evaluations are counted from the epoch of the best checkpoint, not while they are done: a run that was stopped
    comes to the same count.
    """
    patience, found = state.run_cfg.TRAIN.EARLY_STOP_PATIENCE, best.found
    if not patience or found is None or state.iteration:
        return False
    waited = sum(_evaluation_is_due(state, epoch) for epoch in range(found["epoch"] + 1, state.epoch + 1))
    if waited < patience:
        return False
    logger.info(
        "training ends early, after epoch %d of %d: %s was best after epoch %d (%g), and %d validation(s) since were "
        "not better. To train longer raise TRAIN.EARLY_STOP_PATIENCE %d, or set it to 0",
        *(state.epoch, state.max_epoch, found["metric"], found["epoch"], found["value"], waited, patience),
    )
    return True


def _is_saved(state: TrainState) -> bool:
    """Return True if there is a checkpoint after the last completed epoch; every process calls it."""
    return all_gather_object(os.path.exists(_path(state)))[0]


def _is_due(state: TrainState, epoch: int, period: int) -> bool:
    """Return True if something done every `period` epochs and after the last one is due (0: the last one only)."""
    return epoch == state.max_epoch or (period > 0 and epoch % period == 0)


def _settle_norms(state: TrainState) -> None:
    """Prepare batch norm statistics for evaluation: recomputed if configured, and equal in all processes."""
    cfg = state.cfg
    if not cfg.BN.USE_PRECISE_STATS:
        for model in state.models:
            average_bn_stats(model)
        return
    # Batches of the coming epoch with training augmentation; reading them does not advance training.
    count = min(cfg.BN.NUM_BATCHES_PRECISE, len(state.loader))
    batches = epoch_batches(state.loader, state.epoch, 0, count)

    def forward(model: nn.Module, batch: Batch) -> None:
        state.task.predict(model, batch.to(state.device))

    with autocast(state.device, state.optim_step.autocast_dtype):
        update_bn_stats(state.evaluated, batches, forward)


def _save(state: TrainState) -> str:
    """Write a checkpoint in the main process, while the others wait; return its path."""
    path = _path(state)
    for model in state.models:
        average_bn_stats(model)
    saved = state.capture()
    if is_main_process():
        save_checkpoint(saved, path)
        remove_superseded(state.cfg.OUTPUT_DIR, state.task.pretrains)
        logger.info("saved %s", path)
    barrier()
    return path


def _path(state: TrainState) -> str:
    """Return the file of a checkpoint at this place in training."""
    return checkpoint_path(state.cfg.OUTPUT_DIR, state.epoch, state.iteration, state.task.pretrains)
