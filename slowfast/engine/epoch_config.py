"""Per-epoch configs (multigrid, variable clip length), and rebuilding the training state when they change.

A phase is a series of epochs with the same config. A new phase builds model, optimizer and loader anew, and restores
what a checkpoint would hold. So a run resumed from a checkpoint equals one that was not interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from slowfast.config.merge import get_key, leaf_keys
from slowfast.datasets.build import build_loader, train_sampler
from slowfast.datasets.step_loading import StepLoader, check_steps
from slowfast.engine import multigrid
from slowfast.engine.ema import build_average
from slowfast.engine.model_setup import ModelSetup, setup_model, unwrap
from slowfast.engine.optim import build_optimizer
from slowfast.engine.optim_step import build_optim_step
from slowfast.engine.state import TrainState
from slowfast.engine.task import Task, build_task, task_class
from slowfast.layers.norm import check_splits
from slowfast.models import build_model
from slowfast.runtime.device import device_of
from slowfast.runtime.distributed import get_rank
from slowfast.runtime.loader_workers import shield_workers
from slowfast.runtime.logging import get_logger
from slowfast.runtime.seed import seed_all
from slowfast.utils.errors import naming_keys

logger = get_logger(__name__)

_LONGEST_SHOWN = 40


def _epoch_config(cfg: Any, epoch: int) -> Any:
    """Return the config of an epoch, counted from 0: changed by multigrid, then by the task."""
    return task_class(cfg).epoch_config(multigrid.epoch_config(cfg, epoch), epoch)


def build_state(run_cfg: Any, epoch: int = 0, former: Dataset | None = None) -> TrainState:
    """Build model, optimizer, task and loader for an epoch.

    Args:
        run_cfg: config of the whole run.
        epoch: counted from 0.
        former: data set of an earlier epoch, whose lists and decoded videos are reused.
    """
    cfg = _epoch_config(run_cfg, epoch)
    device = device_of(cfg)
    seed_all(cfg.RNG_SEED)
    setup = ModelSetup.from_config(cfg)
    model = setup_model(build_model(cfg), device, setup)
    seed_all(cfg.RNG_SEED, get_rank())
    optimizer = build_optimizer(unwrap(model), cfg)
    ema = build_average(cfg, unwrap(model), optimizer, setup.compile_mode)
    task = build_task(cfg)
    loader = build_loader(cfg, "train", former)
    if cfg.DATA_LOADER.IN_STEPS:
        check_steps(cfg, loader.dataset, task.training_steps(cfg.DATA.NUM_FRAMES))
        loader = StepLoader(loader, task.training_steps)
    shield_workers(loader)
    optim_step = build_optim_step(cfg, model, optimizer)
    return TrainState(cfg, model, optimizer, optim_step, task, loader, device, run_cfg=run_cfg, ema=ema)


def enter_epoch(state: TrainState, epoch: int) -> None:
    """Switch `state` to the config of an epoch; if it differs, rebuild the state and restore what it held.

    The old loader is released here, which ends its workers.
    """
    cfg = _epoch_config(state.run_cfg, epoch)
    if cfg == state.cfg:
        return
    logger.info("from epoch %d on: %s", epoch + 1, describe_change(state.cfg, cfg))
    carried = state.capture()
    fresh = build_state(state.run_cfg, epoch, state.loader.dataset)
    fresh.data_facts = state.data_facts
    fresh.restore(carried, "the phase before")
    vars(state).update(vars(fresh))


def describe_change(old: Any, new: Any) -> str:
    """Describe the settings that differ, with their new values; long values are left out."""
    changed = [(key, str(get_key(new, key))) for key in leaf_keys(new) if get_key(new, key) != get_key(old, key)]
    return ", ".join(f"{key} {text}" if len(text) <= _LONGEST_SHOWN else key for key, text in changed)


def phases(run_cfg: Any) -> Iterator[tuple[int, Any]]:
    """Yield the first epoch of each phase of a run, and its config; repeated phases are left out."""
    seen: list[Any] = []
    epoch, last = 0, 1
    while epoch < last:
        cfg = _epoch_config(run_cfg, epoch)
        last = cfg.SOLVER.MAX_EPOCH
        if cfg not in seen:
            seen.append(cfg)
            yield epoch, cfg
        epoch += 1


def check_phases(run_cfg: Any, dataset: Dataset) -> None:
    """Check all phases before training, so that none fails later.

    Raises:
        ValueError: an epoch is shorter than an optimizer step, or the settings of a phase contradict each other.
    """
    for epoch, cfg in phases(run_cfg):
        sampler = train_sampler(cfg, len(dataset))
        batches = len(sampler)
        if cfg.BN.NORM_TYPE == "sub_batchnorm":
            with naming_keys(cfg, "BN.NUM_SPLITS", "TRAIN.BATCH_SIZE"):
                check_splits(sampler.batch_size, cfg.BN.NUM_SPLITS)
        if batches < cfg.TRAIN.ACCUM_STEPS:
            raise ValueError(
                f"epoch {epoch + 1} has {batches} batches of {cfg.TRAIN.BATCH_SIZE}, fewer than TRAIN.ACCUM_STEPS "
                f"{cfg.TRAIN.ACCUM_STEPS}; lower one of them"
            )


def evaluation_parts(state: TrainState) -> tuple[Task, nn.Module]:
    """Return the task and model for evaluation, on clips of the run's shape even if those of the epoch differ."""
    if state.cfg == state.run_cfg:
        return state.task, state.evaluated
    cfg = state.run_cfg.clone()
    cfg.defrost()
    cfg.BN = state.cfg.BN
    cfg.freeze()
    # The initialization is overwritten; it must not advance the random state of the run.
    with torch.random.fork_rng(devices=[]):
        model = build_model(cfg)
    model.load_state_dict(state.evaluated.state_dict())
    # As the model of the other epochs, which is not prepared for inference; compiling would cost more than it gains.
    setup = replace(ModelSetup.from_config(cfg), fold_norms=False, dtype=None, compile_mode="")
    return build_task(cfg), setup_model(model, state.device, setup, training=False)
