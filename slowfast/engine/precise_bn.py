"""Statistics of batch norm layers measured with the present weights, in place of their running average.

Source: Wu and Johnson, "Rethinking Batch in BatchNorm" (arXiv 2105.07576), population statistics of many batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from slowfast.layers.norm import SubBatchNorm3d, trainable_batchnorms
from slowfast.runtime.distributed import is_distributed


class _Moments:
    """Counts, sums and sums of squares of a norm layer's input by channel, in double precision."""

    def __init__(self, norm: nn.Module):
        # One row each of count, sum and sum of squares; (3, C).
        self.totals = torch.zeros(3, norm.num_features, dtype=torch.float64, device=norm.running_mean.device)

    def add(self, x: torch.Tensor) -> None:
        """Take in a batch (B, C, ...)."""
        dims = [d for d in range(x.dim()) if d != 1]
        variance, mean = torch.var_mean(x.float(), dim=dims, correction=0)
        mean, variance = mean.double(), variance.double()
        count = x.numel() / x.shape[1]
        self.totals += count * torch.stack([torch.ones_like(mean), mean, variance + mean.square()])

    def store(self, norm: nn.Module) -> None:
        """Write mean and unbiased variance, over all processes, into the layer's buffers, those of its parts too."""
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
    """Replace the running statistics of all batch norm layers by those of `batches`.

    Each layer normalizes by the batch at hand, as in training, while everything else (dropout) is in eval mode.
    Frozen norms and norms without running statistics are left alone, as is the mode of every module.

    Args:
        model: without a parallel wrapper.
        batches: what to measure on.
        forward: called as `forward(model, batch)`.

    Returns:
        How many layers were measured; with none no batch is read.
    """
    norms = trainable_batchnorms(model)
    if not norms:
        return 0
    modes = {module: module.training for module in model.modules()}
    counters = [norm.num_batches_tracked.clone() for norm in norms]
    moments = [_Moments(norm) for norm in norms]
    hooks = [
        n.register_forward_pre_hook(lambda _, args, m=m: m.add(args[0])) for n, m in zip(norms, moments, strict=True)
    ]
    try:
        model.eval()
        for norm in norms:
            norm.train()
        # Compiling a model with these hooks takes longer than the measuring.
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
