"""PySlowFast's meters, for training loops of users' own: they time, average and log rows of statistics.

Rows are those that scripts for PySlowFast's logs read (`slowfast.engine.pyslowfast_rows`).
"""

from __future__ import annotations

import datetime
import statistics
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from fvcore.common.timer import Timer
from torch import Tensor

from slowfast.engine import pyslowfast_rows
from slowfast.evaluation.classification import classification_metrics, topk_hits
from slowfast.runtime.device import find_device
from slowfast.runtime.logging import get_logger, log_json_stats

logger = get_logger(__name__)

_ERRORS = ("top1_err", "top5_err")


class ScalarMeter:
    """Values of one scalar: all of them, and the last ones.

    Args:
        window_size: number of the last ones.
    """

    def __init__(self, window_size: int) -> None:
        self.deque: deque[float] = deque(maxlen=window_size)
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self.deque.clear()
        self.total, self.count = 0.0, 0

    def add_value(self, value: float) -> None:
        """Take in a value."""
        self.deque.append(value)
        self.total += value
        self.count += 1

    def get_win_median(self) -> float:
        """Return the median of the last values."""
        return statistics.median(self.deque)

    def get_win_avg(self) -> float:
        """Return the mean of the last values."""
        return statistics.fmean(self.deque)

    def get_current_value(self) -> float:
        """Return the last value."""
        return self.deque[-1]

    def get_global_avg(self) -> float:
        """Return the mean of all values."""
        return self.total / self.count


class EpochTimer:
    """Times of epochs, in seconds."""

    def __init__(self) -> None:
        self.timer = Timer()
        self.epoch_times: list[float] = []

    def reset(self) -> None:
        """Forget all times."""
        self.timer.reset()
        self.epoch_times = []

    def epoch_tic(self) -> None:
        """Start an epoch."""
        self.timer.reset()

    def epoch_toc(self) -> None:
        """End an epoch."""
        self.timer.pause()
        self.epoch_times.append(self.timer.seconds())

    def last_epoch_time(self) -> float:
        """Return the time of the last epoch."""
        return self.epoch_times[-1]

    def avg_epoch_time(self) -> float:
        """Return the mean time of an epoch."""
        return statistics.fmean(self.epoch_times)

    def median_epoch_time(self) -> float:
        """Return the median time of an epoch."""
        return statistics.median(self.epoch_times)


class _Meter:
    """Base class of meters: times of an iteration, its data and its computation."""

    def __init__(self) -> None:
        self.iter_timer, self.data_timer, self.net_timer = Timer(), Timer(), Timer()

    def iter_tic(self) -> None:
        """Start an iteration, which begins with reading data."""
        self.iter_timer.reset()
        self.data_timer.reset()

    def data_toc(self) -> None:
        """Tell that the data is there."""
        self.data_timer.pause()
        self.net_timer.reset()

    def iter_toc(self) -> None:
        """End an iteration."""
        self.iter_timer.pause()
        self.net_timer.pause()

    def _eta(self, iterations: int) -> str:
        return str(datetime.timedelta(seconds=int(self.iter_timer.seconds() * iterations)))


class _EpochMeter(_Meter):
    """Base class of the meters of epochs of training and validation.

    Args:
        epoch_iters: iterations of an epoch.
        cfg: the configuration.
    """

    def __init__(self, epoch_iters: int, cfg: Any) -> None:
        super().__init__()
        self.epoch_iters, self._cfg = epoch_iters, cfg
        self._recent = {name: ScalarMeter(cfg.LOG_PERIOD) for name in _ERRORS}
        self._sums = dict.fromkeys(_ERRORS, 0.0)
        self.num_samples = 0

    def reset(self) -> None:
        """Begin an epoch."""
        for meter in self._recent.values():
            meter.reset()
        self._sums = dict.fromkeys(self._sums, 0.0)
        self.num_samples = 0

    def _add(self, values: dict[str, float], count: int) -> None:
        for name, value in values.items():
            self._recent[name].add_value(value)
            self._sums[name] += value * count

    def _means(self) -> dict[str, float]:
        return {name: value / max(1, self.num_samples) for name, value in self._sums.items()}

    def _medians(self) -> dict[str, float]:
        return {name: meter.get_win_median() for name, meter in self._recent.items() if meter.count}

    def _row(self, name: str, cur_epoch: int, cur_iter: int | None = None) -> dict[str, Any]:
        row = pyslowfast_rows.row_type(self._cfg, name)
        row["epoch"] = f"{cur_epoch + 1}/{self._cfg.SOLVER.MAX_EPOCH}"
        if cur_iter is not None:
            row["iter"] = f"{cur_iter + 1}/{self.epoch_iters}"
        return row | pyslowfast_rows.memory(find_device(None), host=cur_iter is None)


class TrainMeter(_EpochMeter):
    """Meter of training; see `_EpochMeter`."""

    def __init__(self, epoch_iters: int, cfg: Any) -> None:
        super().__init__(epoch_iters, cfg)
        self._recent["loss"], self._sums["loss"] = ScalarMeter(cfg.LOG_PERIOD), 0.0
        self.lr, self.grad_norm = None, None

    def update_stats(
        self,
        top1_err: float | None,
        top5_err: float | None,
        loss: float,
        lr: float,
        grad_norm: float | None,
        mb_size: int | None = None,
    ) -> None:
        """Take in an iteration; errors are None for several labels a video.

        Old versions give no `grad_norm`: the last of five values is `mb_size`, the number of clips.
        """
        if mb_size is None:
            grad_norm, mb_size = None, grad_norm
        self.lr, self.grad_norm = lr, grad_norm
        values = {"loss": loss, "top1_err": top1_err, "top5_err": top5_err}
        self._add({name: float(value) for name, value in values.items() if value is not None}, mb_size)
        self.num_samples += mb_size

    def log_iter_stats(self, cur_epoch: int, cur_iter: int) -> None:
        """Log a row every `LOG_PERIOD` iterations."""
        if (cur_iter + 1) % self._cfg.LOG_PERIOD:
            return
        row = self._row("train_iter", cur_epoch, cur_iter) | self._times(cur_epoch, cur_iter + 1) | self._medians()
        norm = {} if self.grad_norm is None else {"grad_norm": float(self.grad_norm)}
        log_json_stats({**row, "lr": self.lr, **norm}, {})

    def log_epoch_stats(self, cur_epoch: int) -> None:
        """Log the row of an epoch."""
        means = {name: value for name, value in self._means().items() if self._recent[name].count}
        row = self._row("train_epoch", cur_epoch) | self._times(cur_epoch, self.epoch_iters)
        log_json_stats({**row, "lr": self.lr, **means}, {})

    def _times(self, cur_epoch: int, done: int) -> dict[str, Any]:
        timers = {"dt": self.iter_timer, "dt_data": self.data_timer, "dt_net": self.net_timer}
        left = (self._cfg.SOLVER.MAX_EPOCH - cur_epoch) * self.epoch_iters - done
        return {name: timer.seconds() for name, timer in timers.items()} | {"eta": self._eta(left)}


class ValMeter(_EpochMeter):
    """Meter of validation; see `_EpochMeter`.

    Attributes:
        min_top1_err, min_top5_err: the least errors of the epochs so far, percent.
        all_preds, all_labels: what `update_predictions` took in.
    """

    def __init__(self, max_iter: int, cfg: Any) -> None:
        super().__init__(max_iter, cfg)
        self.min_top1_err = self.min_top5_err = 100.0
        self.all_preds: list[Tensor] = []
        self.all_labels: list[Tensor] = []

    def reset(self) -> None:
        super().reset()
        self.all_preds, self.all_labels = [], []

    def update_stats(self, top1_err: float, top5_err: float, mb_size: int) -> None:
        """Take in the errors of an iteration of `mb_size` clips."""
        self._add({"top1_err": float(top1_err), "top5_err": float(top5_err)}, mb_size)
        self.num_samples += mb_size

    def update_predictions(self, preds: Tensor, labels: Tensor) -> None:
        """Take in scores and labels, (B, classes) each, which the mAP of several labels is of."""
        self.all_preds.append(preds.detach().cpu())
        self.all_labels.append(labels.detach().cpu())

    def log_iter_stats(self, cur_epoch: int, cur_iter: int) -> None:
        """Log a row every `LOG_PERIOD` iterations."""
        if (cur_iter + 1) % self._cfg.LOG_PERIOD:
            return
        times = {"time_diff": self.iter_timer.seconds(), "eta": self._eta(self.epoch_iters - cur_iter - 1)}
        log_json_stats(self._row("val_iter", cur_epoch, cur_iter) | times | self._medians(), {})

    def log_epoch_stats(self, cur_epoch: int) -> None:
        """Log the row of an epoch: errors and the least so far, or `map`, from 0 to 1, with DATA.MULTI_LABEL."""
        row = self._row("val_epoch", cur_epoch) | {"time_diff": self.iter_timer.seconds()}
        if self._cfg.DATA.MULTI_LABEL:
            row |= classification_metrics(torch.cat(self.all_preds), torch.cat(self.all_labels))
        else:
            row |= self._means()
            for name in _ERRORS:
                least = min(row[name], getattr(self, f"min_{name}"))
                setattr(self, f"min_{name}", least)
                row[f"min_{name}"] = least
        log_json_stats(row, {})


class TestMeter(_Meter):
    """Meter of a test: scores of the clips of each video, joined.

    Args:
        num_videos, num_clips, num_cls: of the data set, of each video, of the scores.
        overall_iters: iterations of the test.
        multi_label: labels are (B, classes) of 0 and 1.
        ensemble_method: "sum" or "max".

    Attributes:
        video_preds: (videos, classes) joined scores.
        video_labels: (videos,) labels, or (videos, classes).
        clip_count: (videos,) clips so far.
        stats: the last row, after `finalize_metrics`.

    Raises:
        ValueError: another method.
    """

    __test__ = False  # pytest collects classes of this name

    def __init__(
        self,
        num_videos: int,
        num_clips: int,
        num_cls: int,
        overall_iters: int,
        multi_label: bool = False,
        ensemble_method: str = "sum",
    ) -> None:
        super().__init__()
        if ensemble_method not in ("sum", "max"):
            raise ValueError(f"scores of clips are joined by sum or max, not by {ensemble_method!r}")
        self.num_clips, self.overall_iters = num_clips, overall_iters
        self.multi_label, self.ensemble_method = multi_label, ensemble_method
        self.video_preds = torch.zeros(num_videos, num_cls)
        self.video_labels = torch.zeros(num_videos, num_cls) if multi_label else torch.zeros(num_videos).long()
        self.reset()

    def reset(self) -> None:
        """Begin a test."""
        self.video_preds.fill_(0.0 if self.ensemble_method == "sum" else -torch.inf)
        self.video_labels.zero_()
        self.clip_count = torch.zeros(len(self.video_preds), dtype=torch.int64)
        self.stats: dict[str, Any] = {}

    def update_stats(self, preds: Tensor, labels: Tensor, clip_ids: Tensor) -> None:
        """Take in scores (B, classes) and labels of clips; clip i is of video i // num_clips."""
        video = clip_ids.detach().cpu() // self.num_clips
        preds = preds.detach().float().cpu()
        self.video_labels[video] = labels.detach().cpu().to(self.video_labels.dtype)
        if self.ensemble_method == "sum":
            self.video_preds.index_add_(0, video, preds)
        else:
            self.video_preds.scatter_reduce_(0, video.view(-1, 1).expand_as(preds), preds, "amax")
        self.clip_count.index_add_(0, video, torch.ones_like(video))

    def log_iter_stats(self, cur_iter: int) -> None:
        """Log a row."""
        times = {"eta": self._eta(self.overall_iters - cur_iter), "time_diff": self.iter_timer.seconds()}
        log_json_stats({}, {"split": "test_iter", "cur_iter": str(cur_iter + 1), **times})

    def finalize_metrics(self, ks: Sequence[int] = (1, 5)) -> None:
        """Log the last row: accuracies in percent as texts; several labels have their mAP under all names."""
        wrong = (self.clip_count != self.num_clips).nonzero().flatten().tolist()
        if wrong:
            shown = ", ".join(f"{video} ({int(self.clip_count[video])})" for video in wrong[:5])
            logger.warning("%d videos have other than %d clips: %s", len(wrong), self.num_clips, shown)
        names = [f"top{k}_acc" for k in ks]
        if self.multi_label:
            value = f"{100 * classification_metrics(self.video_preds, self.video_labels)['map']:.2f}"
            found = dict.fromkeys(["map", *names], value)
        else:
            hits = topk_hits(self.video_preds, self.video_labels, ks).double().mean(dim=1)
            found = {name: f"{100 * share:.2f}" for name, share in zip(names, hits.tolist(), strict=True)}
        self.stats = {"split": "test_final", **found}
        log_json_stats({}, self.stats)
