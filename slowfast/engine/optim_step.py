"""What turns gradients into new weights: mixed precision, accumulation, checks, clipping, the optimizer's step."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class NonFiniteError(FloatingPointError):
    """The loss or a gradient is NaN or infinite; weights are as before this batch."""


class OptimStep:
    """Handed to a task, which runs its forwards and backwards inside and calls it when a batch's are done.

        with optim_step.sync():
            with optim_step.autocast():
                loss = ...
            optim_step.backward(loss)
        optim_step()

    Every `accum_steps` calls the optimizer steps, on the mean of the accumulated losses' gradients.

    Args:
        model: the model as it is called, wrapped in DDP or not.
        optimizer: over its parameters.
        accum_steps: calls an optimizer step takes.
        autocast_dtype: None for full precision.
        scale_loss: scale the loss against underflow, as float16 needs.
        clip_value: largest absolute value of a gradient's element.
        clip_norm: largest l2 norm of all gradients together.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        accum_steps: int = 1,
        autocast_dtype: torch.dtype | None = None,
        scale_loss: bool = False,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ):
        if clip_value and clip_norm:
            raise ValueError("set SOLVER.CLIP_GRAD_VAL or SOLVER.CLIP_GRAD_L2NORM, not both")
        if accum_steps < 1:
            raise ValueError(f"TRAIN.ACCUM_STEPS must be at least 1, not {accum_steps}")
        self.model = model
        self.optimizer = optimizer
        self.accum_steps = accum_steps
        self.clip_value = clip_value
        self.clip_norm = clip_norm
        self.device = next(model.parameters()).device
        self.autocast_dtype = autocast_dtype
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scale_loss)
        self.where = ""
        self.grad_norm: torch.Tensor | None = None
        self._pending = 0
        self._loss = torch.zeros((), device=self.device)

    @property
    def at_boundary(self) -> bool:
        """No gradient waits for an optimizer step: weights and optimizer are all there is to save."""
        return self._pending == 0

    def sync(self, last: bool = True) -> contextlib.AbstractContextManager:
        """Around a forward and its backward; `last` says that no other backward follows before the call.

        Processes exchange gradients only in the last backward before an optimizer step.
        """
        closing = last and self._pending == self.accum_steps - 1
        if isinstance(self.model, DistributedDataParallel) and not closing:
            return self.model.no_sync()
        return contextlib.nullcontext()

    def autocast(self) -> contextlib.AbstractContextManager:
        """Around forward and loss: lower precision where the config asks for it."""
        return autocast(self.device, self.autocast_dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a scalar loss."""
        self._loss += loss.detach()
        self.scaler.scale(loss / self.accum_steps).backward()

    def __call__(self) -> bool:
        """Count a batch; step the optimizer when enough are there.

        Returns:
            Whether the weights changed hands (also True where a float16 overflow made the scaler skip the step).

        Raises:
            NonFiniteError: before any weight is touched.
        """
        if not torch.isfinite(self._loss):
            raise NonFiniteError(f"loss is {self._loss.item()} {self.where}".rstrip())
        self._loss.zero_()
        self._pending += 1
        if self._pending < self.accum_steps:
            return False
        self.scaler.unscale_(self.optimizer)
        self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._pending = 0
        return True

    def _clip(self) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.grad_norm = nn.utils.get_total_norm([p.grad for p in parameters])
        if not self.scaler.is_enabled() and not torch.isfinite(self.grad_norm):
            raise NonFiniteError(f"a gradient is NaN or infinite (norm {self.grad_norm.item()}) {self.where}".rstrip())
        if self.clip_value:
            nn.utils.clip_grad_value_(parameters, self.clip_value)
        elif self.clip_norm:
            nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, self.grad_norm)


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager:
    """Autocast to `dtype` on `device`; nothing for None."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def autocast_dtype(cfg: Any) -> torch.dtype | None:
    """The dtype of mixed precision, None where it is off.

    Raises:
        ValueError: an unknown `TRAIN.MIXED_PRECISION_DTYPE`.
    """
    if not cfg.TRAIN.MIXED_PRECISION:
        return None
    name = cfg.TRAIN.MIXED_PRECISION_DTYPE
    if name not in _DTYPES:
        raise ValueError(f"TRAIN.MIXED_PRECISION_DTYPE {name!r} is not one of {sorted(_DTYPES)}")
    return _DTYPES[name]


def build_optim_step(cfg: Any, model: nn.Module, optimizer: torch.optim.Optimizer) -> OptimStep:
    """The update rule the config describes."""
    dtype = autocast_dtype(cfg)
    return OptimStep(
        model,
        optimizer,
        accum_steps=cfg.TRAIN.ACCUM_STEPS,
        autocast_dtype=dtype,
        scale_loss=dtype is torch.float16,
        clip_value=cfg.SOLVER.CLIP_GRAD_VAL,
        clip_norm=cfg.SOLVER.CLIP_GRAD_L2NORM,
    )
