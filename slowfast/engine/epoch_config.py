"""The settings of each epoch of a run, and the way from one epoch's to the next's.

Clips, batches, norms and rates may change from epoch to epoch. Every such phase is a plain run with other settings; all
that a checkpoint holds is carried over, so that a run continued from a checkpoint is the same as one that went on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from slowfast.config.merge import get_key, leaf_keys
from slowfast.datasets.build import build_loader, train_sampler
from slowfast.engine import multigrid
from slowfast.engine.ema import build_average
from slowfast.engine.model_setup import ModelSetup, move_model, setup_model, unwrap
from slowfast.engine.optim import build_optimizer
from slowfast.engine.optim_step import build_optim_step
from slowfast.engine.state import TrainState, capture, restore
from slowfast.engine.task import Task, build_task, task_class
from slowfast.models import build_model
from slowfast.runtime.device import device_of
from slowfast.runtime.distributed import get_rank
from slowfast.runtime.loader_workers import shield_workers
from slowfast.runtime.logging import get_logger
from slowfast.runtime.seed import seed_all

logger = get_logger(__name__)

_LONGEST_SHOWN = 40


def epoch_config(cfg: Any, epoch: int) -> Any:
    """The settings of an epoch, counted from 0, of a run: what multigrid makes of them, then what the task does."""
    return task_class(cfg).epoch_config(multigrid.epoch_config(cfg, epoch), epoch)


def build_state(run_cfg: Any, epoch: int = 0, former: Dataset | None = None) -> TrainState:
    """Model, optimizer, task and data of an epoch of a run, before the first batch.

    Args:
        run_cfg: the settings of the whole run.
        former: the data set of an earlier epoch; what it has read or decoded is used again.
    """
    cfg = epoch_config(run_cfg, epoch)
    device = device_of(cfg)
    seed_all(cfg.RNG_SEED)
    setup = ModelSetup.from_config(cfg)
    model = setup_model(build_model(cfg), device, setup)
    seed_all(cfg.RNG_SEED, get_rank())
    optimizer = build_optimizer(unwrap(model), cfg)
    ema = build_average(cfg, unwrap(model), optimizer, setup.compile_mode)
    loader = build_loader(cfg, "train", former)
    shield_workers(loader)
    optim_step = build_optim_step(cfg, model, optimizer)
    return TrainState(cfg, model, optimizer, optim_step, build_task(cfg), loader, device, run_cfg=run_cfg, ema=ema)


def enter_epoch(state: TrainState, epoch: int) -> None:
    """Give `state` the settings of an epoch; where they are others, everything is built anew and carried over.

    The loader's workers end with the last use of the old loader, which is here.
    """
    cfg = epoch_config(state.run_cfg, epoch)
    if cfg == state.cfg:
        return
    logger.info("from epoch %d on: %s", epoch + 1, describe_change(state.cfg, cfg))
    carried = capture(state)
    fresh = build_state(state.run_cfg, epoch, state.loader.dataset)
    restore(fresh, carried, "the settings before")
    vars(state).update(vars(fresh))


def describe_change(old: Any, new: Any) -> str:
    """The settings that differ, with their new values; long ones by name only."""
    changed = [(key, str(get_key(new, key))) for key in leaf_keys(new) if get_key(new, key) != get_key(old, key)]
    return ", ".join(f"{key} {text}" if len(text) <= _LONGEST_SHOWN else key for key, text in changed)


def phases(run_cfg: Any) -> Iterator[tuple[int, Any]]:
    """The first epoch of every phase of a run, with its settings; phases that come again are left out."""
    seen: list[Any] = []
    epoch, last = 0, 1
    while epoch < last:
        cfg = epoch_config(run_cfg, epoch)
        last = cfg.SOLVER.MAX_EPOCH
        if cfg not in seen:
            seen.append(cfg)
            yield epoch, cfg
        epoch += 1


def check_phases(run_cfg: Any, dataset: Dataset) -> None:
    """Look ahead at every phase, so that none fails when its turn comes.

    Raises:
        ValueError: an epoch holds no whole update, or settings of a phase contradict each other.
    """
    for epoch, cfg in phases(run_cfg):
        sampler = train_sampler(cfg, len(dataset))
        batches, splits = len(sampler), cfg.BN.NUM_SPLITS
        if cfg.BN.NORM_TYPE == "sub_batchnorm" and sampler.batch_size % splits:
            raise ValueError(
                f"BN.NUM_SPLITS {splits} does not divide the {sampler.batch_size} clips that a process has of a batch; "
                "set BN.NUM_SPLITS to a divisor, or change TRAIN.BATCH_SIZE"
            )
        if batches < cfg.TRAIN.ACCUM_STEPS:
            raise ValueError(
                f"epoch {epoch + 1} has {batches} batches of {cfg.TRAIN.BATCH_SIZE}, fewer than TRAIN.ACCUM_STEPS "
                f"{cfg.TRAIN.ACCUM_STEPS}; lower one of them"
            )


def evaluation_parts(state: TrainState) -> tuple[Task, nn.Module]:
    """Task and model to evaluate with: for clips of the run's own shape, whatever the epoch's are."""
    if state.cfg == state.run_cfg:
        return state.task, state.evaluated
    cfg = state.run_cfg.clone()
    cfg.defrost()
    cfg.BN = state.cfg.BN
    cfg.freeze()
    # Random weights are drawn and thrown away; the run's own draws must not notice.
    with torch.random.fork_rng(devices=[]):
        model = build_model(cfg)
    model.load_state_dict(state.evaluated.state_dict())
    return build_task(cfg), move_model(model, state.device, cfg.MODEL.MEMORY_FORMAT)
