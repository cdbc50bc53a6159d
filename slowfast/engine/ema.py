"""Exponential moving average (EMA) of the weights.

Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging"; torch.optim.swa_utils.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from slowfast.checkpoint.weights import replace_weights
from slowfast.engine.model_setup import compile_model
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)


def build_average(
    cfg: Any, model: nn.Module, optimizer: torch.optim.Optimizer, compile_mode: str = ""
) -> AveragedModel | None:
    """Build the moving average of the section EMA; None if it is off.

    The optimizer updates it after each step: average = decay * average + (1 - decay) * weights, from the weights after
    the first step on. Steps that GradScaler skips do not count. Buffers are copies of the model's.

    Args:
        model: without a parallel wrapper.
        optimizer: of its parameters.
        compile_mode: see `ModelSetup`; "" to evaluate uncompiled.
    """
    if not cfg.EMA.ENABLE:
        return None
    average = _average_of(model, cfg.EMA.DECAY).eval()
    if compile_mode:
        compile_model(average.module, compile_mode, next(model.parameters()).device)
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(model))
    return average


def _average_of(model: nn.Module, decay: float) -> AveragedModel:
    """Build torch's average over a copy of `model`; process groups, which cannot be copied, are shared."""
    groups = {norm: norm.process_group for norm in model.modules() if isinstance(norm, nn.SyncBatchNorm)}
    for norm in groups:
        norm.process_group = None
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    for norm, copied in zip(model.modules(), average.module.modules(), strict=True):
        if norm in groups:
            norm.process_group = copied.process_group = groups[norm]
    return average


def capture_average(average: AveragedModel) -> dict[str, Any]:
    """Return the checkpoint entry: `model_state`, under the model's own keys, and `updates`, their number."""
    return {"model_state": average.module.state_dict(), "updates": int(average.n_averaged)}


def restore_average(average: AveragedModel, saved: dict[str, Any]) -> None:
    """Restore the average from the entry that `capture_average` returned."""
    replace_weights(average.module, saved["model_state"])
    average.n_averaged.fill_(saved["updates"])


def restart_average(average: AveragedModel, model: nn.Module) -> None:
    """Reset the average to the current weights of `model`."""
    average.module.load_state_dict(model.state_dict())
    average.n_averaged.zero_()


def weights_to_test(saved: dict[str, Any], averaged: bool) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint to test: the averaged ones if asked for (`EMA.ENABLE`) and present."""
    if averaged and "ema_state" in saved:
        logger.info("EMA.ENABLE True: testing the averaged weights")
        return saved["ema_state"]["model_state"]
    if averaged:
        logger.warning("EMA.ENABLE True, but the checkpoint has no averaged weights; testing the plain ones")
    elif "ema_state" in saved:
        logger.info("the checkpoint has averaged weights too; EMA.ENABLE True tests those")
    return saved["model_state"]
