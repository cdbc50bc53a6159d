"""The training state, saving it to checkpoints and restoring it, also on another number of processes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from slowfast.checkpoint.weights import compare_weights, load_weights, plain_weights, rename_keys
from slowfast.config import cfg_to_yaml
from slowfast.config.merge import leaf_keys
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.engine.changed_settings import check_optimizer_goes_on, describe_changes, saved_settings
from slowfast.engine.consistency import data_facts
from slowfast.engine.ema import WeightAverage
from slowfast.engine.model_setup import unwrap
from slowfast.engine.optim import get_lr, load_optimizer_state, lr_scale
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.saved_state import check_saved, describe_unknown, naming_source
from slowfast.engine.task import Task
from slowfast.evaluation.classification import TOP5_CLASSES, topk_hits
from slowfast.runtime.distributed import all_gather_object, get_rank, get_world_size, is_distributed, is_main_process
from slowfast.runtime.logging import get_logger
from slowfast.runtime.seed import rng_state, set_rng_state
from slowfast.utils.errors import short

logger = get_logger(__name__)


class Averages:
    """Sample-weighted means of named scalars, kept on the device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._samples = 0

    def add(self, values: dict[str, torch.Tensor], samples: int) -> None:
        """Add the means of a batch of `samples` clips."""
        for name, value in values.items():
            total = value.detach().double() * samples
            self._sums[name] = self._sums[name].to(total.device) + total if name in self._sums else total
        self._samples += samples

    def state_dict(self) -> dict[str, Any]:
        """Return sums and count over all processes; every process calls it."""
        names = list(self._sums)
        if not names:
            return {"sums": {}, "samples": 0}
        count = self._sums[names[0]].new_tensor(self._samples)
        totals = torch.stack([*self._sums.values(), count])
        if is_distributed():
            dist.all_reduce(totals)
        *sums, samples = totals.tolist()
        return {"sums": dict(zip(names, sums, strict=True)), "samples": int(samples)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Continue from the result of `state_dict`, on the device of the values to come; every process calls it.

        The sums are over all processes. Rank 0 takes them, and the others zeros under the same names: a sum over
        processes needs a part of each.
        """
        first = is_main_process()
        self._sums = {
            name: torch.tensor(total if first else 0.0, dtype=torch.float64, device=device)
            for name, total in state["sums"].items()
        }
        self._samples = state["samples"] if first else 0

    def read(self) -> dict[str, float]:
        """Return the means over all batches and processes; every process calls it."""
        state = self.state_dict()
        return {name: total / state["samples"] for name, total in state["sums"].items()}


@dataclasses.dataclass
class TrainState:
    """State of a training run between two batches.

    Attributes:
        cfg: config of the current epoch.
        model: the model, with its parallel wrapper (`unwrap` removes it).
        loader: training batches; `batch_sampler.set_epoch` sets their order.
        epoch: number of completed epochs.
        iteration: number of completed batches of the current epoch.
        step: number of completed batches of the whole run.
        averages: running means over the batches of the current epoch.
        data_seconds, step_seconds: time of the last iteration, waiting for data and computing.
        run_cfg: config of the whole run, which checkpoints hold.
        ema: exponential moving average of the weights; None if it is off.
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
    ema: WeightAverage | None = None

    def __post_init__(self) -> None:
        self.run_cfg = self.run_cfg or self.cfg

    @functools.cached_property
    def data_facts(self) -> dict[str, str]:
        """Number of the training samples, and a digest of their names and labels in order."""
        return {name: str(fact) for name, fact in data_facts("train", self.loader.dataset).items()}

    @property
    def epoch_length(self) -> int:
        """Number of batches of an epoch, a multiple of TRAIN.ACCUM_STEPS: no gradient is left at its end."""
        accum = self.cfg.TRAIN.ACCUM_STEPS
        return len(self.loader) // accum * accum

    @property
    def max_epoch(self) -> int:
        """Number of epochs of the whole run."""
        return self.cfg.SOLVER.MAX_EPOCH

    @property
    def lr(self) -> float:
        """Learning rate of the iteration."""
        return get_lr(self.optimizer)

    @property
    def evaluated(self) -> nn.Module:
        """Model to evaluate: the EMA model if there is one."""
        return self.models[-1]

    @property
    def models(self) -> list[nn.Module]:
        """Model without parallel wrapper, and the EMA model if there is one."""
        return [unwrap(self.model), *([] if self.ema is None else [self.ema.module])]

    @property
    def progress(self) -> float:
        """Completed epochs, with the fraction of the current one."""
        return self.epoch + self.iteration / self.epoch_length

    def capture(self) -> dict[str, Any]:
        """Return the content of a checkpoint; every process calls it, since each adds its random state.

        `epoch` is the last completed epoch, counted from 0 (-1: none), as in PySlowFast's checkpoints.
        """
        return {
            **({} if self.ema is None else {"ema_state": self.ema.capture()}),
            "model_state": unwrap(self.model).state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "scaler_state": self.optim_step.scaler.state_dict(),
            "epoch": self.epoch - 1,
            "iteration": self.iteration,
            "step": self.step,
            "epoch_length": self.epoch_length,
            "layout": dataclasses.asdict(Layout.of(self.run_cfg, self.loader)),
            "data": self.data_facts,
            "averages": self.averages.state_dict(),
            "rng_state": all_gather_object(rng_state(self.device)),
            "cfg": cfg_to_yaml(self.run_cfg),
            "preprocessing": ClipSettings.from_config(self.run_cfg, "test").facts(),
            "class_names": dict(self.loader.dataset.info.class_names or {}),
        }

    def restore(self, saved: dict[str, Any], source: str) -> None:
        """Restore what `capture` returned; without an optimizer state in it, only the weights.

        Raises:
            ValueError: weights or optimizer do not fit the config.
        """
        model = unwrap(self.model)
        report = compare_weights(model, rename_keys(saved["model_state"]))
        if not report.is_exact:
            advice = report.class_count_advice()
            raise ValueError(
                f"the run in OUTPUT_DIR cannot be resumed: {source} holds another model than this config's. Set "
                f"OUTPUT_DIR to another folder, or correct the config{f' ({advice})' if advice else ''}\n"
                f"  {report.describe()}"
            )
        task = saved_settings(saved).get("TASK")
        if task not in (None, self.cfg.TASK):
            logger.warning(
                "%s is of a run with TASK %r, and is resumed with TASK %r. For a separate run set another OUTPUT_DIR",
                source,
                task,
                self.cfg.TASK,
            )
        load_weights(model, saved["model_state"], source)
        if "optimizer_state" not in saved:
            logger.warning("%s holds weights only; training starts at epoch 1", source)
            return
        self.restore_progress(saved, source)

    def restore_progress(self, saved: dict[str, Any], source: str) -> None:
        """Restore all but the weights: optimizer, scaler, averaged weights, random states, place in the epoch."""
        scaler = self.optim_step.scaler
        layout = dataclasses.asdict(Layout.of(self.run_cfg, self.loader))
        check_saved(saved, source, layout, scaler.state_dict())
        before = saved_settings(saved)
        unknown = describe_unknown(saved, before.keys() - set(leaf_keys(self.run_cfg)))
        if unknown and is_main_process():
            logger.warning("%s holds what this version does not know, and leaves out: %s", source, unknown)
        try:
            check_optimizer_goes_on(before, self.run_cfg)
            load_optimizer_state(self.optimizer, unwrap(self.model), saved["optimizer_state"], before, self.cfg)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
            cause = short(error, 300) if isinstance(error, ValueError) else f"{type(error).__name__}: {short(error)}"
            raise ValueError(
                f"the optimizer in {source} does not fit this config ({cause}). Undo the change of the trained "
                "parameters or of the optimizer (MODEL.FREEZE_STAGES, SOLVER.OPTIMIZING_METHOD ...), or start "
                f"another run from its weights: another OUTPUT_DIR, TRAIN.CHECKPOINT_FILE_PATH {source} and "
                "TRAIN.CHECKPOINT_EPOCH_RESET True"
            ) from error
        change = describe_changes(before, self.run_cfg)
        if change and is_main_process():
            logger.warning("resuming %s with other settings; %s", source, change)
        with naming_source(source):
            if saved.get("scaler_state") and scaler.is_enabled():
                scaler.load_state_dict(saved["scaler_state"])
            self._restore_average(saved, source)
            self.epoch = next_epoch(saved)
            random_states = saved.get("rng_state", [])
            if len(random_states) == get_world_size():
                set_rng_state(random_states[get_rank()], self.device)
            iteration = self._place_in_epoch(saved, source)
            done = saved.get("step", self.epoch * self.epoch_length + saved.get("iteration", 0))
            self.iteration, self.step = iteration, done - saved.get("iteration", 0) + iteration
            if iteration:
                self.averages.load_state_dict(saved["averages"], self.device)

    def _place_in_epoch(self, saved: dict[str, Any], source: str) -> int:
        """Return how many batches of the current epoch need not be repeated; log what differs from the saved run."""
        now = Layout.of(self.run_cfg, self.loader)
        before = Layout(**saved["layout"]) if "layout" in saved else now
        change = before.describe_change(now)
        same_data = saved.get("data", self.data_facts) == self.data_facts
        if not same_data and before.samples == now.samples:
            other = f"the {now.samples} training samples have other names, labels or another order"
            change = f"{change}; {other}" if change else other
        if change and is_main_process():
            logger.warning("resuming %s with another layout: %s", source, change)
        iteration = saved.get("iteration", 0)
        if not iteration:
            return 0
        if saved["epoch_length"] == self.epoch_length and before.same_batches(now) and same_data:
            return iteration
        if is_main_process():
            logger.warning(
                "epoch %d is started again: its batches differ from those when %s was saved", self.epoch + 1, source
            )
        return 0

    def _restore_average(self, saved: dict[str, Any], source: str) -> None:
        if self.ema is None:
            if "ema_state" in saved:
                logger.warning("%s holds averaged weights (EMA); with EMA.ENABLE False they are not used", source)
        elif "ema_state" in saved:
            weights = plain_weights(saved["ema_state"]["model_state"], f"ema_state in {source}")
            self.ema.restore(saved["ema_state"] | {"model_state": weights})
        else:
            self.ema.restart(unwrap(self.model))
            logger.info("%s holds no averaged weights (EMA); the average starts from the weights", source)


def next_epoch(saved: dict[str, Any]) -> int:
    """Return the epoch, counted from 0, at which a checkpoint is resumed; 0 if it holds only weights."""
    return saved.get("epoch", -1) + 1 if "optimizer_state" in saved else 0


@dataclasses.dataclass(frozen=True)
class Layout:
    """Layout of a run: what determines the clips of a batch, and how processes share them.

    Batch i of an epoch holds the same clips for any number of processes (`EpochBatchSampler`). So a run can be resumed
    in the middle of an epoch on another number of processes.

    Attributes:
        processes: number of processes on all hosts.
        hosts: number of hosts.
        batch: clips of a batch, over all processes.
        accum_steps: batches per optimizer step.
        samples: number of training samples.
        seed: seed of their order.
        lr_scale: factor on every learning rate, see `lr_scale`.
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
        """Return the layout of a run with this config on the current processes."""
        train = cfg.TRAIN
        batch, samples = train.BATCH_SIZE * cfg.NUM_SHARDS, len(loader.dataset)
        return cls(
            get_world_size(), cfg.NUM_SHARDS, batch, train.ACCUM_STEPS, samples, cfg.RNG_SEED, float(lr_scale(cfg))
        )

    @property
    def share(self) -> int:
        """Clips of a batch per process."""
        return self.batch // self.processes

    def same_batches(self, other: Layout) -> bool:
        """Return True if batches and optimizer steps use the same clips."""
        return dataclasses.replace(self, processes=other.processes, hosts=other.hosts, lr_scale=other.lr_scale) == other

    def describe_change(self, now: Layout) -> str:
        """Describe what changes when a run with this layout resumes under `now`; "" if nothing does."""
        changes = []
        if (self.processes, self.hosts) != (now.processes, now.hosts):
            changes.append(f"{now._place()} instead of {self._place()}, with other random numbers (dropout)")
        if self.share != now.share:
            changes.append(f"each process, and so each batch norm layer, sees {now.share} clips, not {self.share}")
        update, former = now.batch * now.accum_steps, self.batch * self.accum_steps
        if update != former:
            changes.append(f"an optimizer step uses {update} clips, not {former}")
        if now.lr_scale != self.lr_scale:
            changes.append(f"learning rates are multiplied by {now.lr_scale / self.lr_scale:g}")
        elif update != former:
            changes.append("learning rates are unchanged")
        if now.samples != self.samples:
            changes.append(f"the training set has {now.samples} samples, not {self.samples}")
        if now.seed != self.seed:
            changes.append(f"the order of samples is that of RNG_SEED {now.seed}, not {self.seed}")
        return "; ".join(changes)

    def _place(self) -> str:
        return f"{self.processes} process(es) on {self.hosts} host(s)"


def batch_means(result: dict[str, torch.Tensor], labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the scalars of a task's result; with one label a sample also top-1 (and top-5) errors in percent."""
    means = {name: value for name, value in result.items() if name != "scores"}
    if labels.dim() == 1 and "scores" in result:
        top1, top5 = 100.0 * (1.0 - topk_hits(result["scores"], labels).double().mean(dim=1))
        means["top1_err"] = top1
        if result["scores"].shape[1] >= TOP5_CLASSES:
            means["top5_err"] = top5
    return means
