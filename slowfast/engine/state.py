"""Everything a training run consists of between two batches, and its way into a checkpoint and back.

How a run is spread over processes, and what changes for one that goes on in another number of them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from slowfast.checkpoint.weights import compare_weights, load_weights, rename_keys
from slowfast.config import cfg_to_yaml
from slowfast.config.sources import text_layer
from slowfast.engine.ema import capture_average, restart_average, restore_average
from slowfast.engine.meters import Averages
from slowfast.engine.model_setup import unwrap
from slowfast.engine.optim import get_lr
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.schedule import lr_scale
from slowfast.engine.task import Task
from slowfast.runtime.distributed import all_gather_object, get_rank, get_world_size, is_main_process
from slowfast.runtime.logging import get_logger
from slowfast.runtime.seed import rng_state, set_rng_state

logger = get_logger(__name__)


@dataclasses.dataclass
class TrainState:
    """A run in progress.

    Attributes:
        cfg: the settings of the epoch at hand.
        model: as it is called (`unwrap` gives the model itself).
        loader: training batches; its `batch_sampler.set_epoch` chooses the order.
        epoch: epochs completed.
        iteration: batches done in the epoch under way.
        averages: means over the batches of the epoch under way.
        step: batches done in the whole run.
        data_seconds, step_seconds: of the last iteration: waiting for data, and computing.
        run_cfg: the settings of the whole run, which a checkpoint keeps.
        ema: the average of the weights, None without one.
    """

    cfg: Any
    model: nn.Module
    optimizer: torch.optim.Optimizer
    optim_step: OptimStep
    task: Task
    loader: DataLoader
    device: torch.device
    epoch: int = 0
    iteration: int = 0
    step: int = 0
    averages: Averages = dataclasses.field(default_factory=Averages)
    data_seconds: float = 0.0
    step_seconds: float = 0.0
    run_cfg: Any = None
    ema: AveragedModel | None = None

    def __post_init__(self) -> None:
        self.run_cfg = self.run_cfg or self.cfg

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
        return get_lr(self.optimizer)

    @property
    def evaluated(self) -> nn.Module:
        """The model that is evaluated: with the averaged weights where there are any."""
        return self.models[-1]

    @property
    def models(self) -> list[nn.Module]:
        """The model without a parallel wrapper, and the one with the averaged weights where there are any."""
        return [unwrap(self.model), *([] if self.ema is None else [self.ema.module])]

    @property
    def progress(self) -> float:
        """Epochs done, with fraction."""
        return self.epoch + self.iteration / self.epoch_length


def capture(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds; every process has to call it, as each adds its random state.

    `epoch` counts from 0 and names the last completed epoch (-1: none), as in PySlowFast's files.
    """
    return {
        **({} if state.ema is None else {"ema_state": capture_average(state.ema)}),
        "model_state": unwrap(state.model).state_dict(),
        "optimizer_state": state.optimizer.state_dict(),
        "scaler_state": state.optim_step.scaler.state_dict(),
        "epoch": state.epoch - 1,
        "iteration": state.iteration,
        "step": state.step,
        "epoch_length": state.epoch_length,
        "layout": dataclasses.asdict(Layout.of(state.run_cfg, state.loader)),
        "averages": state.averages.state_dict(),
        "rng_state": all_gather_object(rng_state(state.device)),
        "cfg": cfg_to_yaml(state.run_cfg),
    }


def next_epoch(saved: dict[str, Any]) -> int:
    """The epoch, counted from 0, that training goes on with from what `capture` gave; 0 for weights alone."""
    return int(saved.get("epoch", -1)) + 1 if "optimizer_state" in saved else 0


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
    task = saved_settings(saved).get("TASK", state.cfg.TASK)
    if task != state.cfg.TASK:
        logger.warning(
            "%s is of a run with TASK %r, and goes on with TASK %r. For a run of its own set another OUTPUT_DIR",
            source,
            task,
            state.cfg.TASK,
        )
    load_weights(model, saved["model_state"], source)
    if "optimizer_state" not in saved:
        logger.warning("%s holds weights only; training starts at epoch 1", source)
        return
    restore_progress(state, saved, source)


def saved_settings(saved: dict[str, Any]) -> dict[str, Any]:
    """Of a checkpoint's own settings: TASK and TRAIN.DATASET, as far as it has them in a form that can be read."""
    try:
        values = text_layer(saved.get("cfg") or "", "the checkpoint's cfg").values
    except ValueError:
        return {}
    train = values.get("TRAIN")
    found = {"TASK": values.get("TASK"), "TRAIN.DATASET": train.get("DATASET") if isinstance(train, dict) else None}
    return {key: value for key, value in found.items() if value is not None}


def restore_progress(state: TrainState, saved: dict[str, Any], source: str) -> None:
    """All of `restore` but the weights."""
    try:
        state.optimizer.load_state_dict(saved["optimizer_state"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"the optimizer in {source} does not fit this config ({error}). Undo the change of what is trained and how "
            "(MODEL.FREEZE_STAGES, SOLVER.LAYER_DECAY, SOLVER.OPTIMIZING_METHOD ...), or begin another run with the "
            f"weights alone: another OUTPUT_DIR, TRAIN.CHECKPOINT_FILE_PATH {source} and TRAIN.CHECKPOINT_EPOCH_RESET "
            "True"
        ) from error
    if saved.get("scaler_state") and state.optim_step.scaler.is_enabled():
        state.optim_step.scaler.load_state_dict(saved["scaler_state"])
    _restore_average(state, saved, source)
    state.epoch = next_epoch(saved)
    random_states = saved.get("rng_state", [])
    if len(random_states) == get_world_size():
        set_rng_state(random_states[get_rank()], state.device)
    iteration = _place_in_epoch(state, saved, source)
    done = int(saved.get("step", state.epoch * state.epoch_length + int(saved.get("iteration", 0))))
    state.iteration, state.step = iteration, done - int(saved.get("iteration", 0)) + iteration
    # Sums over all processes were saved; one process carries them on.
    if iteration and get_rank() == 0:
        state.averages.load_state_dict(saved["averages"])


def _place_in_epoch(state: TrainState, saved: dict[str, Any], source: str) -> int:
    """Batches of the epoch under way that need not be done again; says what differs from the run that was saved."""
    now = Layout.of(state.run_cfg, state.loader)
    before = Layout(**saved["layout"]) if "layout" in saved else now
    change = before.describe_change(now)
    if change and is_main_process():
        logger.warning("going on from %s, what is new: %s", source, change)
    iteration = int(saved.get("iteration", 0))
    if not iteration or (saved["epoch_length"] == state.epoch_length and before.same_batches(now)):
        return iteration
    if is_main_process():
        logger.warning(
            "epoch %d is started again: its batches are others than when %s was saved", state.epoch + 1, source
        )
    return 0


def _restore_average(state: TrainState, saved: dict[str, Any], source: str) -> None:
    if state.ema is None:
        if "ema_state" in saved:
            logger.warning("%s holds averaged weights; with EMA.ENABLE False they are left behind", source)
    elif "ema_state" in saved:
        restore_average(state.ema, saved["ema_state"])
    else:
        restart_average(state.ema, unwrap(state.model))
        logger.info("%s holds no averaged weights; their average begins anew", source)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What decides which clips make a batch, and who computes on which of them; a checkpoint keeps it.

    Batch number i of an epoch is the same set of clips whatever the number of processes that share it
    (`EpochBatchSampler`), so a run can go on in the middle of an epoch in more or fewer of them.

    Attributes:
        processes: of all hosts.
        batch: clips of a batch, over all processes.
        accum_steps: batches of an update.
        samples: of the training set.
        seed: of their order.
        lr_scale: factor on every learning rate.
    """

    processes: int
    hosts: int
    batch: int
    accum_steps: int
    samples: int
    seed: int
    lr_scale: float

    @classmethod
    def of(cls, cfg: Any, loader: DataLoader) -> Layout:
        """The layout of a run with these settings in the processes there are."""
        train = cfg.TRAIN
        batch, samples = train.BATCH_SIZE * cfg.NUM_SHARDS, len(loader.dataset)
        return cls(
            get_world_size(), cfg.NUM_SHARDS, batch, train.ACCUM_STEPS, samples, cfg.RNG_SEED, float(lr_scale(cfg))
        )

    @property
    def share(self) -> int:
        """Clips of a batch for each process."""
        return self.batch // self.processes

    def same_batches(self, other: Layout) -> bool:
        """Whether batches and updates are of the same clips."""
        keys = ("batch", "accum_steps", "samples", "seed")
        return all(getattr(self, key) == getattr(other, key) for key in keys)

    def describe_change(self, now: Layout) -> str:
        """What becomes other for a run of this layout that goes on with layout `now`; "" for nothing."""
        changes = []
        if (self.processes, self.hosts) != (now.processes, now.hosts):
            changes.append(f"{now._place()} instead of {self._place()}, whose random draws (dropout) are others")
        if self.share != now.share:
            changes.append(f"each process, and with it each batch norm layer, sees {now.share} clips, not {self.share}")
        update, former = now.batch * now.accum_steps, self.batch * self.accum_steps
        if update != former:
            changes.append(f"an update is made of {update} clips, not {former}")
        if now.lr_scale != self.lr_scale:
            changes.append(f"learning rates are multiplied by {now.lr_scale / self.lr_scale:g}")
        elif update != former:
            changes.append("learning rates stay as they are")
        if now.samples != self.samples:
            changes.append(f"an epoch draws from {now.samples} videos, not {self.samples}")
        if now.seed != self.seed:
            changes.append(f"the order is that of RNG_SEED {now.seed}, not {self.seed}")
        return "; ".join(changes)

    def _place(self) -> str:
        return f"{self.processes} process(es) on {self.hosts} host(s)"
