"""Running means of training statistics, over batches and processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from slowfast.evaluation.classification import TOP5_CLASSES, topk_hits
from slowfast.runtime.distributed import is_distributed


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

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the result of `state_dict`."""
        self._sums = {name: torch.tensor(total, dtype=torch.float64) for name, total in state["sums"].items()}
        self._samples = state["samples"]

    def read(self) -> dict[str, float]:
        """Return the means over all batches and processes; every process calls it."""
        state = self.state_dict()
        return {name: total / state["samples"] for name, total in state["sums"].items()}


def batch_means(result: dict[str, torch.Tensor], labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the scalars of a task's result; with one label a sample also top-1 (and top-5) errors in percent."""
    means = {name: value for name, value in result.items() if name != "scores"}
    if labels.dim() == 1 and "scores" in result:
        top1, top5 = 100.0 * (1.0 - topk_hits(result["scores"], labels).double().mean(dim=1))
        means["top1_err"] = top1
        if result["scores"].shape[1] >= TOP5_CLASSES:
            means["top5_err"] = top5
    return means
