"""Everything a training run consists of between two batches, and its way into a checkpoint and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from slowfast.checkpoint.weights import compare_weights, load_weights, rename_keys
from slowfast.config import cfg_to_yaml
from slowfast.config.sources import text_layer
from slowfast.engine.meters import Averages
from slowfast.engine.parallel import unwrap
from slowfast.engine.task import Task
from slowfast.engine.update import Update
from slowfast.utils.distributed import all_gather_object, get_rank, get_world_size
from slowfast.utils.env import rng_state, set_rng_state
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)


@dataclasses.dataclass
class TrainState:
    """A run in progress.

    Attributes:
        model: as it is called (`unwrap` gives the model itself).
        loader: training batches; its `batch_sampler.set_epoch` chooses the order.
        epoch: epochs completed.
        iteration: batches done in the epoch under way.
        averages: means over the batches of the epoch under way.
        data_seconds, step_seconds: of the last iteration: waiting for data, and computing.
    """

    cfg: Any
    model: nn.Module
    optimizer: torch.optim.Optimizer
    update: Update
    task: Task
    loader: DataLoader
    device: torch.device
    epoch: int = 0
    iteration: int = 0
    averages: Averages = dataclasses.field(default_factory=Averages)
    data_seconds: float = 0.0
    step_seconds: float = 0.0

    @property
    def epoch_length(self) -> int:
        """Batches of an epoch: whole optimizer steps only, so that no gradient is left over at its end."""
        accum = self.cfg.TRAIN.ACCUM_STEPS
        return len(self.loader) // accum * accum

    @property
    def max_epoch(self) -> int:
        """Epochs of the whole run."""
        return self.cfg.SOLVER.MAX_EPOCH

    @property
    def lr(self) -> float:
        """The learning rate of the iteration."""
        return self.optimizer.param_groups[0]["lr"]

    @property
    def progress(self) -> float:
        """Epochs done, with fraction."""
        return self.epoch + self.iteration / self.epoch_length


def capture(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds; every process has to call it, as each adds its random state.

    `epoch` counts from 0 and names the last completed epoch (-1: none), as in PySlowFast's files.
    """
    return {
        "model_state": unwrap(state.model).state_dict(),
        "optimizer_state": state.optimizer.state_dict(),
        "scaler_state": state.update.scaler.state_dict(),
        "epoch": state.epoch - 1,
        "iteration": state.iteration,
        "epoch_length": state.epoch_length,
        "averages": state.averages.state_dict(),
        "rng_state": all_gather_object(rng_state(state.device)),
        "cfg": cfg_to_yaml(state.cfg),
    }


def restore(state: TrainState, saved: dict[str, Any], source: str) -> None:
    """Continue where `capture` left off.

    A file without an optimizer's state gives its weights alone, and training starts at epoch 0.

    Raises:
        ValueError: weights or optimizer do not fit the config.
    """
    model = unwrap(state.model)
    report = compare_weights(model, rename_keys(saved["model_state"]))
    if not report.is_exact:
        raise ValueError(
            f"the run in OUTPUT_DIR cannot go on: {source} is of another model than this config's. Set OUTPUT_DIR to "
            f"another folder, or mend the config\n  {report.describe()}"
        )
    if saved.get("cfg") and _task_of(saved["cfg"]) != state.cfg.TASK:
        logger.warning(
            "%s is of a run with TASK %r, and goes on with TASK %r. For a run of its own set another OUTPUT_DIR",
            source,
            _task_of(saved["cfg"]),
            state.cfg.TASK,
        )
    load_weights(model, saved["model_state"], source)
    if "optimizer_state" not in saved:
        logger.warning("%s holds weights only; training starts at epoch 1", source)
        return
    restore_progress(state, saved, source)


def _task_of(text: str) -> str:
    """The TASK of a checkpoint's settings, which `cfg_to_yaml` wrote."""
    return text_layer(text, "the checkpoint's cfg").values.get("TASK", "")


def restore_progress(state: TrainState, saved: dict[str, Any], source: str) -> None:
    """All of `restore` but the weights."""
    try:
        state.optimizer.load_state_dict(saved["optimizer_state"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"the optimizer in {source} does not fit this config ({error}); set TRAIN.CHECKPOINT_EPOCH_RESET True to "
            "take the weights alone"
        ) from error
    if saved.get("scaler_state") and state.update.scaler.is_enabled():
        state.update.scaler.load_state_dict(saved["scaler_state"])
    state.epoch = int(saved.get("epoch", -1)) + 1
    random_states = saved.get("rng_state", [])
    if len(random_states) == get_world_size():
        set_rng_state(random_states[get_rank()], state.device)
    else:
        logger.warning("%s is of another number of processes; random draws will differ from that run's", source)
    iteration = int(saved.get("iteration", 0))
    if iteration and (saved["epoch_length"] != state.epoch_length or len(random_states) != get_world_size()):
        logger.warning(
            "epoch %d is started again: its batches are others than when %s was saved", state.epoch + 1, source
        )
        iteration = 0
    state.iteration = iteration
    # Sums over all processes were saved; one process carries them on.
    if iteration and get_rank() == 0:
        state.averages.load_state_dict(saved["averages"])
