"""The best checkpoint of a run: `checkpoints/checkpoint_best.pyth`, by a metric of the validation."""

from __future__ import annotations

import math
import os

from slowfast.checkpoint.io import best_path, load_checkpoint, save_checkpoint
from slowfast.engine.state import TrainState
from slowfast.runtime.distributed import all_gather_object, barrier, is_main_process
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

# Metrics of which less is better: these, and all that end in `_err`.
_LESS = ("loss",)


class BestCheckpoint:
    """The checkpoint after the validation with the best value of `TRAIN.BEST_METRIC`, the first of equal ones.

    The file holds epoch and value under `best`, so both change at once. A run that goes on from an older checkpoint
    comes to the same values again, and so to the same file.

    Args:
        state: the run, after it was restored; every process makes one.
    """

    def __init__(self, state: TrainState) -> None:
        self._metric = state.run_cfg.TRAIN.BEST_METRIC
        self._path = best_path(state.run_cfg.OUTPUT_DIR, state.task.pretrains)
        self._best = all_gather_object(self._read() if state.run_cfg.TRAIN.AUTO_RESUME else None)[0]

    @property
    def found(self) -> dict | None:
        """Return `metric`, `epoch` (of completed ones) and `value` of the best checkpoint; None before a first one."""
        return self._best

    def update(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Write the file if the validation after `state.epoch` epochs is the best; every process calls it.

        Raises:
            ValueError: the validation has no such metric.
            OSError: the file cannot be written; the former one is unchanged.
        """
        if not self._metric:
            return
        if self._metric not in metrics:
            raise ValueError(
                f"TRAIN.BEST_METRIC is {self._metric!r}, and the validation has {', '.join(metrics)}; set it to one of "
                'them, or to "" for no best checkpoint'
            )
        value = float(metrics[self._metric])
        if not self._improves(state.epoch, value):
            return
        self._best = {"metric": self._metric, "epoch": state.epoch, "value": value}
        saved = {**state.capture(), "best": self._best}
        if is_main_process():
            save_checkpoint(saved, self._path)
            logger.info("saved %s: %s %g after epoch %d", self._path, self._metric, value, state.epoch)
        barrier()

    def _improves(self, epoch: int, value: float) -> bool:
        if self._best is None or epoch == self._best["epoch"]:
            return math.isfinite(value)
        less = self._metric in _LESS or self._metric.endswith("_err")
        return value < self._best["value"] if less else value > self._best["value"]

    def _read(self) -> dict | None:
        """Return what the file says of itself; None if there is none of this metric."""
        if not (self._metric and is_main_process() and os.path.isfile(self._path)):
            return None
        try:
            best = load_checkpoint(self._path).get("best")
        except ValueError as error:
            logger.warning("the next validation replaces the best checkpoint: %s", error)
            return None
        of_this = isinstance(best, dict) and best.keys() == {"metric", "epoch", "value"}
        of_this = of_this and best["metric"] == self._metric and isinstance(best["epoch"], int)
        of_this = of_this and best["epoch"] >= 0
        return best if of_this and isinstance(best["value"], float) and math.isfinite(best["value"]) else None
