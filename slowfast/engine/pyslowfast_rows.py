"""Statistics as scripts for PySlowFast's logs read them (`LOG_STYLE pyslowfast`).

What a row of ours lacks is added to it in the log, and rows that PySlowFast alone has are written besides. With `TASK
ssl` rows of training and validation have a type that ends in "_ssl"; errors are then of the nearest neighbors. They are
in percent, `map` is 0 to 1 in a validation, and in percent as a text in the last row of a test, as in its meters.
"""

from __future__ import annotations

import datetime
import os
import shutil
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from slowfast.datasets.loading.batch import Batch
from slowfast.engine.state import batch_means
from slowfast.evaluation.prediction import Prediction
from slowfast.runtime.device import host_memory, peak_memory
from slowfast.runtime.distributed import is_main_process
from slowfast.runtime.logging import log_json_stats
from slowfast.utils.files import replacing

_ERRORS = ("top1_err", "top5_err")
# Files of boxes of a test -> their names in PySlowFast.
_LATEST = {"detections.csv": "detections_latest.csv", "groundtruth.csv": "groundtruth_latest.csv"}


def is_on(cfg: Any) -> bool:
    """Return True if the config asks for PySlowFast's rows."""
    return cfg.LOG_STYLE == "pyslowfast"


def memory(device: torch.device, host: bool = False) -> dict[str, str]:
    """Return `gpu_mem`, the peak on the GPU (0 on the CPU), and with `host` also `RAM`, in use and in all."""
    found = {"gpu_mem": f"{peak_memory(device) if device.type != 'cpu' else 0.0:.2f}G"}
    return found | ({"RAM": "{:.2f}/{:.2f}G".format(*host_memory())} if host else {})


def row_type(cfg: Any, name: str) -> dict[str, str]:
    """Return `_type` of a row of training or validation: its name, or with `TASK ssl` the name and "_ssl"."""
    return {"_type": f"{name}_ssl" if cfg.TASK == "ssl" else name}


def place(cfg: Any, mode: str, epoch: str = "", iteration: str = "") -> dict[str, str]:
    """Return the keys by which rows of boxes tell where they are: `mode`, `cur_epoch`, `cur_iter`."""
    if not cfg.DETECTION.ENABLE:
        return {}
    named = {"mode": mode, "cur_epoch": epoch.partition("/")[0], "cur_iter": iteration.partition("/")[0]}
    return {name: value for name, value in named.items() if value}


def validation(
    cfg: Any, stats: Mapping[str, Any], least: dict[str, float], seconds: float, device: torch.device
) -> dict[str, Any]:
    """Return what a row `val_epoch` lacks.

    Args:
        least: the least error so far, by name, which is updated.
        seconds: mean time of an iteration.
    """
    for name in _ERRORS:
        if name in stats:
            least[name] = min(stats[name], least.get(name, 100.0))
    added = {"time_diff": seconds, **memory(device, host=True), **place(cfg, "val", stats["epoch"])}
    added |= {f"min_{name}": value for name, value in least.items()}
    return added | ({"map": stats["ava_map"]} if "ava_map" in stats else {})


class PassRows:
    """Rows `val_iter` and `test_iter` of one pass over a split, every `LOG_PERIOD` batches.

    Errors are medians over the batches since the last row, of the main process's share.

    Args:
        cfg: the configuration.
        batches: number of batches.
        device: device of the model.
        epoch: "EPOCH/MAX_EPOCH" of a validation; "" for a test.
    """

    def __init__(self, cfg: Any, batches: int, device: torch.device, epoch: str = "") -> None:
        self._cfg, self._batches, self._device, self._epoch = cfg, batches, device, epoch
        self._done, self._started = 0, time.perf_counter()
        self._last = self._started
        self._errors: dict[str, list[float]] = {}

    @property
    def seconds(self) -> float:
        """Mean time of an iteration so far."""
        return (self._last - self._started) / max(1, self._done)

    def add(self, batch: Batch, prediction: Prediction | None) -> None:
        """Take in a batch, and write a row where one is due."""
        now = time.perf_counter()
        spent, self._last, self._done = now - self._last, now, self._done + 1
        if not is_on(self._cfg):
            return
        if prediction is not None and prediction.boxes is None and self._epoch:
            for name, value in batch_means({"scores": prediction.scores}, batch.labels).items():
                self._errors.setdefault(name, []).append(value.item())
        if self._done % self._cfg.LOG_PERIOD == 0:
            log_json_stats({}, self._row(spent))
            self._errors = {}

    def _row(self, spent: float) -> dict[str, Any]:
        eta = str(datetime.timedelta(seconds=int(spent * (self._batches - self._done))))
        row = {"eta": eta, **place(self._cfg, "val" if self._epoch else "test", self._epoch, str(self._done))}
        if self._cfg.DETECTION.ENABLE:
            return {"_type": f"{row['mode']}_iter", "dt": spent, **row}
        if not self._epoch:
            return {"split": "test_iter", "cur_iter": str(self._done), "time_diff": spent, **row}
        errors = {name: statistics.median(values) for name, values in self._errors.items()}
        iteration = f"{self._done}/{self._batches}"
        kind = {**row_type(self._cfg, "val_iter"), "epoch": self._epoch, "iter": iteration, "time_diff": spent}
        return {**kind, **row, **memory(self._device), **errors}


def log_test(cfg: Any, metrics: Mapping[str, float]) -> None:
    """Write the last row of a test: accuracies in percent as texts of two decimals, the mAP of boxes from 0 to 1."""
    if not is_on(cfg):
        return
    if "ava_map" in metrics:
        log_json_stats({}, {"mode": "test", "map": metrics["ava_map"]})
    elif "map" in metrics:
        # One number under all names, as published.
        percent = f"{100 * metrics['map']:.2f}"
        log_json_stats({}, {"split": "test_final", "map": percent, "top1_acc": percent, "top5_acc": percent})
    else:
        found = {name: f"{metrics[name]:.2f}" for name in ("top1_acc", "top5_acc") if name in metrics}
        log_json_stats({}, {"split": "test_final", **found})


def name_as_published(cfg: Any, written: Iterable[str]) -> None:
    """Give the files of detections and ground truth PySlowFast's names too, in the main process, without a copy.

    Raises:
        OSError: the folder cannot be written.
    """
    for path in written if is_on(cfg) and is_main_process() else ():
        latest = _LATEST.get(os.path.basename(path))
        if latest is None:
            continue
        with replacing(os.path.join(os.path.dirname(path), latest)) as temporary:
            os.remove(temporary)
            try:
                os.link(path, temporary)
            except OSError:  # a file system without hard links
                shutil.copyfile(path, temporary)
