"""Exponential moving average (EMA) of the weights.

Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging"; torch.optim.swa_utils.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from slowfast.checkpoint.weights import plain_weights, replace_weights
from slowfast.engine.model_setup import compile_model
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)


class WeightAverage(AveragedModel):
    """Moving average of a model's weights: average = decay * average + (1 - decay) * weights.

    Buffers are copies of the model's. Process groups of synchronized norms, which cannot be copied, are shared.

    Attributes:
        module: the model with the averaged weights.

    Args:
        model: without a parallel wrapper.
        decay: share of the average that an update keeps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        groups = {norm: norm.process_group for norm in model.modules() if isinstance(norm, nn.SyncBatchNorm)}
        for norm in groups:
            norm.process_group = None
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        for norm, copied in zip(model.modules(), self.module.modules(), strict=True):
            if norm in groups:
                norm.process_group = copied.process_group = groups[norm]

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the weights of `model`, and copy its buffers.

        PyTorch's own method copies the counter to the GPU at every update, and waits for that copy.
        """
        averages, weights = list(self.module.parameters()), list(model.parameters())
        if self.n_averaged:  # on the CPU
            self.multi_avg_fn(averages, weights, self.n_averaged)
        else:
            torch._foreach_copy_(averages, weights)
        for average, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
        self.n_averaged += 1

    def capture(self) -> dict[str, Any]:
        """Return the checkpoint entry: `model_state`, under the model's own keys, and `updates`, their number."""
        return {"model_state": self.module.state_dict(), "updates": int(self.n_averaged)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Restore the average from the entry that `capture` returned."""
        replace_weights(self.module, saved["model_state"])
        self.n_averaged.fill_(saved["updates"])

    def restart(self, model: nn.Module) -> None:
        """Reset the average to the current weights of `model`."""
        self.module.load_state_dict(model.state_dict())
        self.n_averaged.zero_()


def build_average(
    cfg: Any, model: nn.Module, optimizer: torch.optim.Optimizer, compile_mode: str = ""
) -> WeightAverage | None:
    """Build the moving average of the section EMA; None if it is off.

    The optimizer updates it after each step, from the weights after the first step on. Steps that GradScaler skips do
    not count.

    Args:
        model: without a parallel wrapper.
        optimizer: of its parameters.
        compile_mode: see `ModelSetup`; "" to evaluate uncompiled.
    """
    if not cfg.EMA.ENABLE:
        return None
    average = WeightAverage(model, cfg.EMA.DECAY).eval()
    if compile_mode:
        compile_model(average.module, compile_mode, next(model.parameters()).device)
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(model))
    return average


def weights_to_test(saved: dict[str, Any], averaged: bool, source: str) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint to test: the averaged ones if asked for (`EMA.ENABLE`) and present.

    Raises:
        ValueError: the averaged ones are not such weights; with `source`, the file.
    """
    if averaged and "ema_state" in saved:
        logger.info("EMA.ENABLE True: testing the averaged weights")
        average = saved["ema_state"]
        return plain_weights(
            average.get("model_state") if isinstance(average, dict) else None, f"ema_state in {source}"
        )
    if averaged:
        logger.warning("EMA.ENABLE True, but the checkpoint has no averaged weights; testing the plain ones")
    elif "ema_state" in saved:
        logger.info("the checkpoint has averaged weights too; EMA.ENABLE True tests those")
    return saved["model_state"]
