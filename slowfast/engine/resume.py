"""Choose and load the weights that a run starts from or tests, and the config that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from torch import nn

import slowfast
from slowfast.checkpoint.io import find_checkpoints, load_checkpoint, load_last_checkpoint
from slowfast.checkpoint.weights import LoadReport, load_weights
from slowfast.checkpoint.zoo.entries import PREFIX, find_entry
from slowfast.config import cfg_from_yaml, get_cfg, load_config
from slowfast.config.sources import override_layer, text_layer
from slowfast.engine.changed_settings import saved_settings
from slowfast.engine.ema import weights_to_test
from slowfast.engine.epoch_config import enter_epoch
from slowfast.engine.model_setup import unwrap
from slowfast.engine.saved_state import check_epoch, naming_source
from slowfast.engine.state import TrainState, next_epoch
from slowfast.engine.task import task_class
from slowfast.runtime.device import device_count
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

_CONFIGS = Path(slowfast.__file__).parents[1] / "configs"


def start_training_from(state: TrainState) -> None:
    """Restore `state` from the run's last checkpoint, else from `TRAIN.CHECKPOINT_FILE_PATH`, if there is one.

    A run of TASK ssl_eval... with `TRAIN.AUTO_RESUME` takes, before that file, the weights of the newest pretraining
    checkpoint in `OUTPUT_DIR`, as published; weights that do not fit keep their initialization.

    Only weights are taken from that file if `TRAIN.CHECKPOINT_EPOCH_RESET` is True, if it is of another task or data
    set (`TRAIN.TRANSFER_WEIGHT`), or if weights were dropped or transformed. Otherwise its run is resumed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, of another program, does not fit the config, or has done all its epochs.
    """
    cfg, pretrains = state.cfg, state.task.pretrains
    if not cfg.TRAIN.AUTO_RESUME and find_checkpoints(cfg.OUTPUT_DIR, pretrains):
        logger.warning(
            "OUTPUT_DIR %s holds checkpoints of an earlier run, and TRAIN.AUTO_RESUME is False: this run overwrites "
            "those of equal epochs, and a test takes the one of the last epoch. Set OUTPUT_DIR to another folder",
            cfg.OUTPUT_DIR,
        )
    last = None
    if cfg.TRAIN.AUTO_RESUME:
        last = load_last_checkpoint(cfg.OUTPUT_DIR, cfg.TRAIN.CHECKPOINT_FILE_EPOCH, pretrains)
    if last is not None:
        saved, path = last
        with naming_source(path):
            check_epoch(saved)
        enter_epoch(state, next_epoch(saved))
        state.restore(saved, path)
        logger.info("resumed from %s: epoch %d, iteration %d", path, state.epoch + 1, state.iteration + 1)
        if cfg.TRAIN.CHECKPOINT_FILE_EPOCH >= 0:
            logger.warning(
                "with TRAIN.CHECKPOINT_FILE_EPOCH %d the same command starts there again; set it to -1 to resume from "
                "the newest. Until they are overwritten, checkpoints of later epochs are those of the earlier run",
                cfg.TRAIN.CHECKPOINT_FILE_EPOCH,
            )
        return
    follows = cfg.TRAIN.AUTO_RESUME and cfg.TASK.startswith("ssl_eval")
    pretrained = find_checkpoints(cfg.OUTPUT_DIR, pretraining=True) if follows else []
    path = pretrained[-1].path if pretrained else cfg.TRAIN.CHECKPOINT_FILE_PATH
    if not path:
        if cfg.TASK.startswith("ssl_eval"):
            logger.warning(
                "TASK %s evaluates a pre-training, but training starts from random weights: TRAIN.CHECKPOINT_FILE_PATH "
                "is empty, and no ssl_checkpoint_epoch_NUMBER.pyth is taken from OUTPUT_DIR %s (TRAIN.AUTO_RESUME %s)",
                cfg.TASK,
                cfg.OUTPUT_DIR,
                cfg.TRAIN.AUTO_RESUME,
            )
        else:
            logger.info("training starts from random weights")
        return
    saved, report = take_weights(unwrap(state.model), cfg, path, drop_mismatch=bool(pretrained))
    if state.ema is not None:
        state.ema.restart(unwrap(state.model))
    if pretrained or _only_weights(saved, cfg) or not report.is_exact or report.transformed:
        logger.info("took the weights of %s; training starts at epoch 1", path)
        return
    with naming_source(path):
        check_epoch(saved)
    enter_epoch(state, next_epoch(saved))
    state.restore_progress(saved, path)
    if state.epoch >= state.max_epoch:
        raise ValueError(
            f"TRAIN.CHECKPOINT_FILE_PATH {path} has done {state.epoch} epochs and SOLVER.MAX_EPOCH is "
            f"{state.max_epoch}, so there is nothing to train. To start at epoch 1 with its weights set "
            "TRAIN.CHECKPOINT_EPOCH_RESET True; to train it longer raise MAX_EPOCH; to test it set TRAIN.ENABLE False"
        )
    logger.info("resuming %s after epoch %d; TRAIN.CHECKPOINT_EPOCH_RESET True takes only weights", path, state.epoch)


def load_test_weights(model: nn.Module, cfg: Any) -> str:
    """Load `TEST.CHECKPOINT_FILE_PATH`, else the run's last checkpoint, else `TRAIN.CHECKPOINT_FILE_PATH`.

    Returns:
        The file; "" for random weights (`TEST.ALLOW_RANDOM_WEIGHTS`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: there is no file, or it is damaged, of another program, or does not fit the model.
    """
    path, kind, key = cfg.TEST.CHECKPOINT_FILE_PATH, cfg.TEST.CHECKPOINT_TYPE, "TEST.CHECKPOINT_TYPE"
    if not path:
        last = load_last_checkpoint(cfg.OUTPUT_DIR, cfg.TEST.CHECKPOINT_FILE_EPOCH, task_class(cfg).pretrains)
        if last is not None:
            _load_to_test(model, *last, cfg)
            return last[1]
        path, kind, key = cfg.TRAIN.CHECKPOINT_FILE_PATH, cfg.TRAIN.CHECKPOINT_TYPE, "TRAIN.CHECKPOINT_TYPE"
    if not path:
        if not cfg.TEST.ALLOW_RANDOM_WEIGHTS:
            raise ValueError(
                f"there are no weights to test: OUTPUT_DIR {cfg.OUTPUT_DIR} holds no checkpoint, and neither "
                "TEST.CHECKPOINT_FILE_PATH nor TRAIN.CHECKPOINT_FILE_PATH is set. Set one of them, or "
                "TEST.ALLOW_RANDOM_WEIGHTS True to test random weights"
            )
        logger.warning("testing random weights (TEST.ALLOW_RANDOM_WEIGHTS True): there is no checkpoint")
        return ""
    _load_to_test(model, load_checkpoint(path, kind, key), path, cfg)
    return path


def _load_to_test(model: nn.Module, saved: dict[str, Any], path: str, cfg: Any) -> None:
    weights = weights_to_test(saved, cfg.EMA.ENABLE, path)
    load_weights(model, weights, path, cfg.TEST.CHECKPOINT_DROP_MISMATCH, strict=cfg.TEST.CHECKPOINT_STRICT)


def take_weights(
    model: nn.Module, cfg: Any, path: str, drop_mismatch: bool = False
) -> tuple[dict[str, Any], LoadReport]:
    """Load a file's weights into a model to be trained, by the settings `TRAIN.CHECKPOINT_*`.

    The classifier may have another number of classes if it is trained anew in any case: for files of another program
    or of an image model, and with `TRAIN.CHECKPOINT_EPOCH_RESET`.

    Args:
        drop_mismatch: weights of another shape keep the model's initialization, whatever the settings say.

    Returns:
        The content of the file, and the report on its keys.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, not of type `TRAIN.CHECKPOINT_TYPE`, or does not fit the model.
    """
    options = cfg.TRAIN
    saved = load_checkpoint(path, options.CHECKPOINT_TYPE, "TRAIN.CHECKPOINT_TYPE")
    of_images = options.CHECKPOINT_INFLATE or options.CHECKPOINT_IN_INIT
    report = load_weights(
        model,
        saved["model_state"],
        path,
        drop_mismatch=options.CHECKPOINT_DROP_MISMATCH or drop_mismatch,
        allow_missing=True,
        clear_patterns=options.CHECKPOINT_CLEAR_NAME_PATTERN,
        drop_classifier=of_images or options.CHECKPOINT_EPOCH_RESET or options.CHECKPOINT_TYPE != "pytorch",
        inflate=of_images,
        strict=options.CHECKPOINT_STRICT,
    )
    return saved, report


def _only_weights(saved: dict[str, Any], cfg: Any) -> bool:
    """Return True if only the weights of a file are used, False if its run is resumed."""
    if cfg.TRAIN.CHECKPOINT_EPOCH_RESET or "optimizer_state" not in saved:
        return True
    before = saved_settings(saved)
    another = [
        f"{key} {before[key]!r}, and here {here!r}"
        for key, here in (("TASK", cfg.TASK), ("TRAIN.DATASET", cfg.TRAIN.DATASET))
        if before.get(key) not in (None, here)
    ]
    if another and cfg.TRAIN.TRANSFER_WEIGHT:
        logger.info("the file is of a run with %s; TRAIN.TRANSFER_WEIGHT False would resume it", "; ".join(another))
    return bool(another) and cfg.TRAIN.TRANSFER_WEIGHT


def load_run_config(file: str | None, overrides: Sequence[Any]) -> CfgNode:
    """Load the config of a YAML file, or without one (None) that of the checkpoint `TEST.CHECKPOINT_FILE_PATH`.

    Without a file the run only tests, see `load_checkpoint_config`.

    Raises:
        FileNotFoundError, ValueError: as `load_config` and `load_checkpoint_config`; without a file also if no
            checkpoint is named, or training is asked for.
    """
    return load_config(file, overrides) if file else _load_test_config(overrides)


def _load_test_config(overrides: Sequence[Any]) -> CfgNode:
    given = override_layer(overrides).values
    path = given.get("TEST", {}).get("CHECKPOINT_FILE_PATH", "")
    if not path:
        raise ValueError(
            "--cfg FILE is missing. Without it a checkpoint can be tested with its own config: "
            "TEST.CHECKPOINT_FILE_PATH FILE"
        )
    if str(given.get("TRAIN", {}).get("ENABLE", False)).lower() == "true":
        raise ValueError("training needs --cfg FILE; without it a checkpoint can only be tested (TRAIN.ENABLE False)")
    return load_checkpoint_config(path, overrides)


def load_checkpoint_config(path: str, overrides: Sequence[Any] = ()) -> CfgNode:
    """Load the config stored in a checkpoint, changed for testing on this host, with `overrides` on top.

    The run only tests, on this host, with at most the GPUs there are, and with the default OUTPUT_DIR. A zoo file
    without a config takes the one that its zoo entry names.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file holds no config, or one that cannot be used.
    """
    return checkpoint_config(load_checkpoint(path), path, overrides)


def checkpoint_config(saved: dict[str, Any], path: str, overrides: Sequence[Any] = ()) -> CfgNode:
    """Return the config of a checkpoint that was read from `path`, see `load_checkpoint_config`."""
    text, origin = saved.get("cfg"), f"the config in {path}"
    if isinstance(text, str) and text.strip():
        logger.info("config: stored in %s", path)
        asked = text_layer(text, origin).values.get("NUM_GPUS")
        return cfg_from_yaml(text, origin, [*_here(asked), *overrides], foreign=True)
    file = _CONFIGS / f"{find_entry(path).config}.yaml" if path.startswith(PREFIX) else None
    if file is None or not file.is_file():
        raise ValueError(
            f"{path} holds no config. Give the one it was trained with, --cfg FILE, where the command has that option; "
            f"else pack both into one file: python tools/zoo.py pack {path} OUT.safetensors --cfg FILE"
        )
    logger.info("config: %s", file)
    return load_config(file, [*_here(load_config(file).NUM_GPUS), *overrides])


def _here(num_gpus: Any) -> list[Any]:
    """Return the overrides that turn a training config into one for testing on this host."""
    defaults = get_cfg()
    wanted = num_gpus if isinstance(num_gpus, int) else defaults.NUM_GPUS
    return [
        *("TRAIN.ENABLE", False, "TEST.ENABLE", True, "OUTPUT_DIR", defaults.OUTPUT_DIR),
        *("TEST.SAVE_RESULTS_PATH", defaults.TEST.SAVE_RESULTS_PATH, "DEMO.OUTPUT_FILE", defaults.DEMO.OUTPUT_FILE),
        *("NUM_GPUS", min(wanted, device_count()), "NUM_SHARDS", 1, "SHARD_ID", 0),
    ]
