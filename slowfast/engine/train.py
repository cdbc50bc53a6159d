"""Training, from a config to the last checkpoint."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from slowfast.checkpoint.io import checkpoint_path, remove_superseded, save_checkpoint
from slowfast.datasets.build import build_loader
from slowfast.engine import preflight
from slowfast.engine.evaluate import evaluate
from slowfast.engine.hooks import IterationStats, ProgressBar, Recorder, UnreadableCount
from slowfast.engine.interrupt import StopRequest, TrainingInterrupted, shield_workers
from slowfast.engine.loop import epoch_batches, train_epoch
from slowfast.engine.optim import build_optimizer
from slowfast.engine.parallel import average_norm_buffers, prepare_model, unwrap
from slowfast.engine.precise_bn import update_norm_statistics
from slowfast.engine.startup import start_training_from
from slowfast.engine.state import TrainState, capture
from slowfast.engine.task import build_task
from slowfast.engine.update import autocast, build_update
from slowfast.models import build_model
from slowfast.utils.device import device_of
from slowfast.utils.distributed import barrier, get_rank, is_main_process
from slowfast.utils.env import seed_all
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)


def train(cfg: Any) -> dict[str, float]:
    """Train to `SOLVER.MAX_EPOCH`, saving and evaluating on the way; continues the run in `OUTPUT_DIR` if there is one.

    Returns:
        The metrics of the last evaluation.

    Raises:
        TrainingInterrupted: a SIGTERM came; everything needed to go on is saved.
        NonFiniteError: the loss became NaN or infinite.
        OSError: `OUTPUT_DIR` cannot be written, or the disk is full.
        ValueError: a mistake in the config, the data list or a checkpoint.
        RuntimeError: too many files cannot be read.
    """
    preflight.check_output_dir(cfg.OUTPUT_DIR)
    state = build_state(cfg)
    start_training_from(state)
    if state.epoch >= state.max_epoch:
        logger.warning(
            "nothing to train: %d epochs are done and SOLVER.MAX_EPOCH is %d. To fine-tune from a checkpoint set "
            "TRAIN.CHECKPOINT_EPOCH_RESET True",
            state.epoch,
            state.max_epoch,
        )
        return {}
    announce(state)
    val_loader = build_loader(cfg, "val")
    shield_workers(val_loader)
    recorder = Recorder(cfg, first_step=state.epoch * state.epoch_length + state.iteration)
    try:
        with StopRequest() as stop:
            return run_epochs(state, val_loader, recorder, stop)
    finally:
        recorder.close()


def build_state(cfg: Any) -> TrainState:
    """Model, optimizer, task and data of a config, before the first batch.

    Raises:
        ValueError: an epoch holds no whole update.
    """
    device = device_of(cfg)
    seed_all(cfg.RNG_SEED)
    model = prepare_model(build_model(cfg), device, cfg.MODEL.MEMORY_FORMAT)
    seed_all(cfg.RNG_SEED, get_rank())
    optimizer = build_optimizer(unwrap(model), cfg)
    loader = build_loader(cfg, "train")
    shield_workers(loader)
    if len(loader) < cfg.TRAIN.ACCUM_STEPS:
        raise ValueError(
            f"an epoch has {len(loader)} batches of {cfg.TRAIN.BATCH_SIZE}, fewer than TRAIN.ACCUM_STEPS "
            f"{cfg.TRAIN.ACCUM_STEPS}; lower one of them"
        )
    return TrainState(cfg, model, optimizer, build_update(cfg, model, optimizer), build_task(cfg), loader, device)


def announce(state: TrainState) -> None:
    """Check the disk and the list to test on, say what is about to happen, warn of what is known to go badly."""
    cfg, model = state.cfg, unwrap(state.model)
    saves = -(-(state.max_epoch - state.epoch) // max(1, cfg.TRAIN.CHECKPOINT_PERIOD))
    if is_main_process():
        size = preflight.checkpoint_bytes(model, state.optimizer)
        preflight.check_disk_space(cfg.OUTPUT_DIR, size, saves)
        preflight.warn_small_norm_batch(model, cfg)
    if cfg.TEST.ENABLE:
        preflight.check_test_list(cfg)
    if cfg.LOG_MODEL_INFO:
        logger.info("%s", preflight.describe_model(model))
    logger.info("%s; %d iterations an epoch", preflight.describe_schedule(cfg), state.epoch_length)


def run_epochs(state: TrainState, val_loader: DataLoader, recorder: Recorder, stop: StopRequest) -> dict[str, float]:
    """Train epoch by epoch until the last or until asked to stop; returns the metrics of the last evaluation."""
    unreadable = UnreadableCount(state.loader.dataset.unreadable)
    hooks = [unreadable, IterationStats(recorder, state.cfg.LOG_PERIOD, unreadable), ProgressBar()]
    metrics: dict[str, float] = {}
    while state.epoch < state.max_epoch:
        if train_epoch(state, hooks, lambda: stop.agreed(state.device)):
            metrics = finish_epoch(state, val_loader, recorder, stop) or metrics
        if stop.agreed(state.device):
            raise TrainingInterrupted(f"stopped on request; the same command continues from {save(state)}")
    return metrics


def finish_epoch(state: TrainState, val_loader: DataLoader, recorder: Recorder, stop: StopRequest) -> dict[str, float]:
    """Do what is due after an epoch, in this order: norm statistics, checkpoint, evaluation.

    Returns:
        The metrics, empty if no evaluation was due.
    """
    save_due = is_due(state, state.cfg.TRAIN.CHECKPOINT_PERIOD)
    eval_due = is_due(state, state.cfg.TRAIN.EVAL_PERIOD)
    if save_due or eval_due:
        settle_norms(state)
    if save_due:
        save(state)
    return evaluate(state, val_loader, recorder, lambda: stop.requested) if eval_due else {}


def is_due(state: TrainState, period: int) -> bool:
    """Whether something done every `period` epochs, and after the last one, is due (0: after the last one only)."""
    return state.epoch == state.max_epoch or (period > 0 and state.epoch % period == 0)


def settle_norms(state: TrainState) -> None:
    """Make norm statistics fit to evaluate with: measured anew if configured, the same in all processes."""
    cfg, model = state.cfg, unwrap(state.model)
    if not cfg.BN.USE_PRECISE_STATS:
        average_norm_buffers(model)
        return
    # The coming epoch's batches, as they are in train mode; reading them changes nothing.
    count = min(cfg.BN.NUM_BATCHES_PRECISE, len(state.loader))
    batches = epoch_batches(state.loader, state.epoch, 0, count)
    with autocast(state.device, state.update.autocast_dtype):
        update_norm_statistics(model, batches, lambda m, batch: state.task.predict(m, batch.to(state.device)))


def save(state: TrainState) -> str:
    """Write the state's checkpoint (the main process does, the others wait) and return its path."""
    path = checkpoint_path(state.cfg.OUTPUT_DIR, state.epoch, state.iteration)
    average_norm_buffers(unwrap(state.model))
    saved = capture(state)
    if is_main_process():
        save_checkpoint(saved, path)
        remove_superseded(state.cfg.OUTPUT_DIR)
        logger.info("saved %s", path)
    barrier()
    return path
