"""Checks and log lines before the first batch: config, lists, disk space, model, schedule, norm batches."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from slowfast.checkpoint.io import checkpoint_dir
from slowfast.config import cfg_to_yaml
from slowfast.config.merge import get_key, leaf_keys
from slowfast.datasets.build import build_dataset, clip_class
from slowfast.engine import multigrid
from slowfast.engine.model_setup import unwrap
from slowfast.engine.optim import lr_at, lr_scale
from slowfast.engine.state import TrainState
from slowfast.engine.trackers import check_trackers
from slowfast.evaluation.class_plots import ClassPlots
from slowfast.evaluation.prediction_tables import check_format
from slowfast.layers.norm import SubBatchNorm3d, trainable_batchnorms
from slowfast.models.complexity import complexity
from slowfast.runtime.distributed import atomic_write, get_local_world_size, get_world_size, is_main_process
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

_SMALL_NORM_BATCH = 4
_PREDICTIONS_NAME = "test_predictions.npz"
CONFIG_NAME, RESULTS_NAME, VAL_RESULTS_NAME = "config.yaml", "test_results.json", "val_results.json"


def check_and_announce(state: TrainState) -> None:
    """Check trackers, files of classes, disk and test list; record the config; log model and schedule.

    Small norm batches are warned of.
    """
    cfg, model = state.cfg, unwrap(state.model)
    saves = -(-(state.max_epoch - state.epoch) // max(1, cfg.TRAIN.CHECKPOINT_PERIOD))
    if is_main_process():
        check_trackers(cfg)
        ClassPlots.from_config(cfg, state.loader.dataset.info.class_names)
        _check_places(cfg.OUTPUT_DIR)
        _check_disk_space(cfg.OUTPUT_DIR, state.models, state.optimizer, saves)
        warn_small_norm_batch(model, cfg)
    if cfg.TEST.ENABLE and state.task.evaluates:
        predictions_path(cfg)
        _check_test_list(cfg)
    record_config(state.run_cfg)
    if cfg.LOG_MODEL_INFO and is_main_process():
        logger.info("%s", describe_model(model, cfg))
    cycles = multigrid.describe(state.run_cfg)
    if cycles:
        logger.info("%s", cycles)
    logger.info("%s; %d iterations an epoch", describe_schedule(cfg), state.epoch_length)


def record_config(cfg: Any, log: bool = True) -> None:
    """Write all settings of a run to `OUTPUT_DIR/config.yaml`, which `--cfg` reads, and to the log, in rank 0.

    Args:
        log: False leaves out the log, where a run of the same settings has just told them.

    Raises:
        OSError: the file cannot be written; a former one is unchanged.
    """
    path = os.path.join(cfg.OUTPUT_DIR, CONFIG_NAME)
    atomic_write(path, cfg_to_yaml(cfg))
    if log and is_main_process():
        lines = [f"{key} {get_key(cfg, key)!r}" for key in leaf_keys(cfg)]
        logger.info("all settings, also in %s:\n%s", path, "\n".join(lines))


def _check_test_list(cfg: Any) -> None:
    """Read the list of test videos, to find a mistake in it before training.

    Raises:
        FileNotFoundError, ValueError: as the data set of the test split.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATA.CACHE_VIDEOS = False
    build_dataset(cfg, "test")


def predictions_path(cfg: Any) -> str:
    """Return the path of a test's predictions; with PySlowFast's pickle (see `pickle_path`) the default one.

    Raises:
        ValueError: `TEST.SAVE_RESULTS_PATH` has an unknown ending.
    """
    name = "" if pickle_path(cfg) else cfg.TEST.SAVE_RESULTS_PATH
    try:
        check_format(name or _PREDICTIONS_NAME)
    except ValueError as error:
        raise ValueError(f"TEST.SAVE_RESULTS_PATH {error}, or as PySlowFast's pickle to .pkl") from error
    return os.path.join(cfg.OUTPUT_DIR, name or _PREDICTIONS_NAME)


def pickle_path(cfg: Any) -> str:
    """Return the path of the pickle of predictions that a test writes besides, as PySlowFast does; "" for none."""
    name = cfg.TEST.SAVE_RESULTS_PATH
    return os.path.join(cfg.OUTPUT_DIR, name) if name.endswith(".pkl") else ""


def _check_places(output_dir: str) -> None:
    """Check that nothing in the output folder keeps this run from writing checkpoints and results there.

    Raises:
        OSError: the checkpoints' place is no folder, such as a link to a disk that is not mounted, or a folder has the
            name of a file of results.
    """
    folder = checkpoint_dir(output_dir)
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise OSError(errno.ENOTDIR, "it is no folder, or a link to a folder that is missing; move it away", folder)
    for name in (CONFIG_NAME, RESULTS_NAME, VAL_RESULTS_NAME):
        path = os.path.join(output_dir, name)
        if os.path.isdir(path) and not os.path.islink(path):
            raise OSError(errno.EISDIR, "a folder has the name of a file of this program; move it away", path)


def _check_disk_space(
    output_dir: str, models: Sequence[nn.Module], optimizer: torch.optim.Optimizer, count: int
) -> None:
    """Check the free disk space; warn if it does not hold `count` checkpoints of these models.

    Raises:
        OSError: there is no space for one checkpoint.
    """
    checkpoint_size = _checkpoint_bytes(models, optimizer)
    free = shutil.disk_usage(output_dir).free
    folder = checkpoint_dir(output_dir)
    if free < checkpoint_size:
        raise OSError(
            f"a checkpoint takes about {_mib(checkpoint_size)} and {folder} has {_mib(free)} free; "
            "free some space or set OUTPUT_DIR to another disk"
        )
    if free < checkpoint_size * count:
        logger.warning(
            "%d checkpoints of about %s are planned and %s has %s free; "
            "raise TRAIN.CHECKPOINT_PERIOD or free some space",
            count,
            _mib(checkpoint_size),
            folder,
            _mib(free),
        )


def describe_model(model: nn.Module, cfg: Any) -> str:
    """Describe a model in one line: parameters and, if they can be counted, multiply-adds."""
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    line = f"{type(model).__name__}: {total:,} parameters, {trained:,} trained"
    try:
        size = complexity(cfg)
    except Exception as error:  # a project's model may fail on dummy inputs; the run goes on
        logger.debug("multiply-adds of %s could not be counted: %s", type(model).__name__, error)
        return line
    what = "an image" if _unit(cfg) == "images" else "a training clip read at once"
    return f"{line}; {size.multiply_adds / 1e9:.4g} GFLOPs (multiply-adds) {what}"


def describe_schedule(cfg: Any) -> str:
    """Describe the batch of an optimizer step and the learning rate in one line.

    Raises:
        ValueError: the schedule of SOLVER cannot be computed.
    """
    batch, accum, scale = cfg.TRAIN.BATCH_SIZE * cfg.NUM_SHARDS, cfg.TRAIN.ACCUM_STEPS, lr_scale(cfg)
    place = f"{get_world_size()} process(es) on {cfg.NUM_SHARDS} host(s)"
    line = (
        f"batch of an optimizer step: {batch * accum} {_unit(cfg)} ({batch} in {place}, {accum} accumulated); "
        f"learning rate {lr_at(cfg.SOLVER, 0.0) * scale:g} at epoch 0, base {cfg.SOLVER.BASE_LR * scale:g}"
    )
    if scale != 1.0:
        line += f" (SOLVER.BASE_LR {cfg.SOLVER.BASE_LR:g} scaled by {scale:g})"
    return line


def _unit(cfg: Any) -> str:
    """Return what TRAIN.BATCH_SIZE counts."""
    if clip_class(cfg.TRAIN.DATASET).unit == "images":
        return "images"
    return "videos" if cfg.DATA.TRAIN_CROP_NUM_TEMPORAL * cfg.DATA.TRAIN_CROP_NUM_SPATIAL > 1 else "clips"


def warn_small_norm_batch(model: nn.Module, cfg: Any) -> None:
    """Warn if batch norm estimates its statistics from too few clips."""
    norms = trainable_batchnorms(model)
    splits = max((norm.num_splits for norm in norms if isinstance(norm, SubBatchNorm3d)), default=1)
    processes = get_local_world_size()
    seen = cfg.TRAIN.BATCH_SIZE // processes // splits
    if seen >= _SMALL_NORM_BATCH or not norms:
        return
    parts = f" and BN.NUM_SPLITS {splits}" if splits > 1 else ""
    logger.warning(
        "batch norm takes its statistics over %d %s (TRAIN.BATCH_SIZE %d over %d process(es)%s); fewer than %d are "
        "too noisy to train well. Raise TRAIN.BATCH_SIZE%s, or set BN.NORM_TYPE frozen_batchnorm and start from a "
        "checkpoint. TRAIN.ACCUM_STEPS does not change the batch of norm layers",
        seen,
        _unit(cfg),
        cfg.TRAIN.BATCH_SIZE,
        processes,
        parts,
        _SMALL_NORM_BATCH,
        ", lower BN.NUM_SPLITS" if parts else "",
    )


def _checkpoint_bytes(models: Sequence[nn.Module], optimizer: torch.optim.Optimizer) -> int:
    """Estimate the size of a checkpoint: weights, buffers and optimizer state."""
    tensors = [tensor for model in models for tensor in model.state_dict().values()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    trained = sum(p.numel() * p.element_size() for group in optimizer.param_groups for p in group["params"])
    copies = 2 if isinstance(optimizer, torch.optim.Adam) else int(optimizer.defaults.get("momentum", 0) > 0)
    return weights + copies * trained


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
