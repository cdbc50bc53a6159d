"""Where a run's weights come from."""

from __future__ import annotations

from typing import Any

from torch import nn

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint, load_last_checkpoint
from slowfast.checkpoint.weights import load_weights
from slowfast.engine.ema import restart_average, weights_to_test
from slowfast.engine.parallel import unwrap
from slowfast.engine.phase import enter_epoch
from slowfast.engine.state import TrainState, next_epoch, restore, restore_progress
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)


def start_training_from(state: TrainState) -> None:
    """Fill `state` from the run's own last checkpoint, from `TRAIN.CHECKPOINT_FILE_PATH`, or leave it as it is.

    With `TRAIN.CHECKPOINT_EPOCH_RESET`, or after dropping weights that do not fit, a given file's weights alone are
    taken; otherwise training continues after its last epoch.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, foreign or does not fit the config.
    """
    cfg = state.cfg
    if not cfg.TRAIN.AUTO_RESUME and find_checkpoints(cfg.OUTPUT_DIR):
        logger.warning(
            "OUTPUT_DIR %s holds checkpoints of an earlier run, and TRAIN.AUTO_RESUME False starts another beside "
            "them: those of equal epochs are overwritten, and a test takes the furthest. Set OUTPUT_DIR to another",
            cfg.OUTPUT_DIR,
        )
    last = load_last_checkpoint(cfg.OUTPUT_DIR) if cfg.TRAIN.AUTO_RESUME else None
    if last is not None:
        saved, path = last
        enter_epoch(state, next_epoch(saved))
        restore(state, saved, path)
        logger.info("resumed from %s: epoch %d, iteration %d", path, state.epoch + 1, state.iteration + 1)
        return
    path = cfg.TRAIN.CHECKPOINT_FILE_PATH
    if not path:
        logger.info("training starts from random weights")
        return
    check_checkpoint_type("TRAIN", cfg.TRAIN.CHECKPOINT_TYPE)
    if cfg.TRAIN.CHECKPOINT_INFLATE:
        raise ValueError("TRAIN.CHECKPOINT_INFLATE True is not built yet; set it to False")
    saved = load_checkpoint(path)
    report = load_weights(
        unwrap(state.model),
        saved["model_state"],
        path,
        drop_mismatch=cfg.TRAIN.CHECKPOINT_DROP_MISMATCH,
        allow_missing=True,
        clear_patterns=cfg.TRAIN.CHECKPOINT_CLEAR_NAME_PATTERN,
    )
    if state.ema is not None:
        restart_average(state.ema, unwrap(state.model))
    if cfg.TRAIN.CHECKPOINT_EPOCH_RESET or "optimizer_state" not in saved or not report.is_exact:
        logger.info("took the weights of %s; training starts at epoch 1", path)
        return
    enter_epoch(state, next_epoch(saved))
    restore_progress(state, saved, path)
    logger.info("continuing %s after its epoch %d; TRAIN.CHECKPOINT_EPOCH_RESET takes weights alone", path, state.epoch)


def load_test_weights(model: nn.Module, cfg: Any) -> str:
    """Load what `TEST` asks for: its own file, else the run's last checkpoint, else the file training started from.

    Returns:
        The file, "" for random weights, which is also logged as an error.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, foreign or does not fit the model.
    """
    path, kind = cfg.TEST.CHECKPOINT_FILE_PATH, cfg.TEST.CHECKPOINT_TYPE
    if not path:
        last = load_last_checkpoint(cfg.OUTPUT_DIR)
        if last is not None:
            load_weights(model, weights_to_test(last[0], cfg.EMA.ENABLE), last[1], cfg.TEST.CHECKPOINT_DROP_MISMATCH)
            return last[1]
        path, kind = cfg.TRAIN.CHECKPOINT_FILE_PATH, cfg.TRAIN.CHECKPOINT_TYPE
    if not path:
        logger.error(
            "TESTING RANDOM WEIGHTS: there is no checkpoint in OUTPUT_DIR %s, and neither "
            "TEST.CHECKPOINT_FILE_PATH nor TRAIN.CHECKPOINT_FILE_PATH is set",
            cfg.OUTPUT_DIR,
        )
        return ""
    check_checkpoint_type("TEST", kind)
    load_weights(model, weights_to_test(load_checkpoint(path), cfg.EMA.ENABLE), path, cfg.TEST.CHECKPOINT_DROP_MISMATCH)
    return path


def check_checkpoint_type(section: str, kind: str) -> None:
    """Raise ValueError for checkpoints of a kind that cannot be read yet."""
    if kind != "pytorch":
        raise ValueError(
            f"{section}.CHECKPOINT_TYPE {kind!r} is not built yet; give a PyTorch checkpoint and set it to pytorch"
        )
