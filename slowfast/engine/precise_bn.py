"""Precise batch norm: population statistics under the current weights, in place of running averages.

Source: Wu and Johnson, "Rethinking Batch in BatchNorm" (arXiv 2105.07576), section 3. fvcore's precise_bn neither
reduces over processes nor knows `SubBatchNorm3d`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from slowfast.layers.norm import SubBatchNorm3d, trainable_batchnorms
from slowfast.runtime.distributed import is_distributed


class _RunningMoments:
    """Count, sum and sum of squares of a norm's input, per channel in float64."""

    def __init__(self, norm: nn.Module):
        # (3, C): count, sum, sum of squares.
        self.totals = torch.zeros(3, norm.num_features, dtype=torch.float64, device=norm.running_mean.device)

    def add(self, x: torch.Tensor) -> None:
        """Accumulate a batch (B, C, ...)."""
        dims = [d for d in range(x.dim()) if d != 1]
        variance, mean = torch.var_mean(x.float(), dim=dims, correction=0)
        mean, variance = mean.double(), variance.double()
        count = x.numel() / x.shape[1]
        self.totals += count * torch.stack([torch.ones_like(mean), mean, variance + mean.square()])

    def store(self, norm: nn.Module) -> None:
        """Write mean and unbiased variance over all processes to the norm's buffers, those of its parts too."""
        if is_distributed():
            dist.all_reduce(self.totals)
        count, total, squares = self.totals
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0) * count / (count - 1)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        if isinstance(norm, SubBatchNorm3d):
            norm.spread()


@torch.no_grad()
def update_bn_stats(model: nn.Module, batches: Iterable[Any], forward: Callable[[nn.Module, Any], Any]) -> int:
    """Replace the running statistics of all batch norms by the statistics of `batches`.

    Each norm uses batch statistics, as in training; other layers are in eval mode. Frozen norms, norms without running
    statistics and the mode of all modules stay.

    Args:
        model: without a parallel wrapper.
        batches: inputs of `forward`; not read if there is no norm to update.
        forward: called as `forward(model, batch)`.

    Returns:
        Number of norms that were updated.
    """
    norms = trainable_batchnorms(model)
    if not norms:
        return 0
    modes = {module: module.training for module in model.modules()}
    counters = [norm.num_batches_tracked.clone() for norm in norms]
    moments = [_RunningMoments(norm) for norm in norms]
    hooks = [
        n.register_forward_pre_hook(lambda _, args, m=m: m.add(args[0])) for n, m in zip(norms, moments, strict=True)
    ]
    try:
        model.eval()
        for norm in norms:
            norm.train()
        # Compiling the model with these hooks takes longer than running it.
        with torch.compiler.set_stance("force_eager"):
            for batch in batches:
                forward(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    for norm, moment, counter in zip(norms, moments, counters, strict=True):
        moment.store(norm)
        norm.num_batches_tracked.copy_(counter)
    return len(norms)
