"""Optimizer steps: mixed precision, gradient accumulation, NaN checks and clipping."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from slowfast.runtime.device import HostCopy, reading_waits
from slowfast.utils.errors import naming_keys
from slowfast.utils.registry import CHOICES

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
CHOICES["TRAIN.MIXED_PRECISION_DTYPE"] = tuple(_DTYPES)


class NonFiniteError(FloatingPointError):
    """The loss or a gradient is NaN or infinite; the weights are those from before this update."""


class OptimStep:
    """Mixed-precision optimizer step, given to a task for its forward and backward passes::

        with optim_step.sync():
            with optim_step.autocast():
                loss = ...
            optim_step.backward(loss)
        optim_step()

    The optimizer steps at every `accum_steps`-th call, with the mean gradient of these losses.

    On a GPU, loss and gradient norm are read one call late, so that the host does not wait for the update that it has
    just queued. From the first loss or gradient on that is not finite, the GPU itself skips every optimizer step:
    GradScaler does, or the fused optimizer as for GradScaler. Other optimizers are waited for, once a call.

    Args:
        model: the model, wrapped in DDP or not.
        optimizer: optimizer of its parameters.
        accum_steps: calls per optimizer step, at least 1.
        autocast_dtype: None for full precision.
        scale_loss: use a GradScaler, against underflow in float16.
        clip_value: clip each element of the gradient to this absolute value.
        clip_norm: clip the l2 norm of the whole gradient to this value.

    Attributes:
        where: position in training, for messages.
        grad_norm: l2 norm of the last gradient before clipping.

    Raises:
        ValueError: both kinds of clipping, or a bound that is not over 0.
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
        bounds = [bound for bound in (clip_value, clip_norm) if bound is not None]
        if not all(bound > 0 for bound in bounds):
            raise ValueError(f"gradients are clipped to a bound over 0, or None for off, got {bounds}")
        if len(bounds) == 2:
            raise ValueError("gradients are clipped by value or by norm, not both; set one to None")
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
        skipping = scale_loss or all(group.get("fused") for group in optimizer.param_groups)
        self._late = skipping and reading_waits(self.device)
        # 0, or NaN from the first update on whose loss or gradient was not finite.
        self._poison = torch.zeros((), device=self.device)
        self._unread: tuple[HostCopy, str] | None = None

    @property
    def at_boundary(self) -> bool:
        """True if no accumulated gradient waits for the optimizer step."""
        return self._pending == 0

    def sync(self, last: bool = True) -> contextlib.AbstractContextManager:
        """Enter around a forward and backward pass; DDP exchanges gradients only in the last one before a step.

        Args:
            last: no other backward pass follows before the call.
        """
        closing = last and self._pending == self.accum_steps - 1
        if isinstance(self.model, DistributedDataParallel) and not closing:
            return self.model.no_sync()
        return contextlib.nullcontext()

    def autocast(self) -> contextlib.AbstractContextManager:
        """Enter around forward pass and loss: autocast to `autocast_dtype`."""
        return autocast(self.device, self.autocast_dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a scalar loss."""
        self._loss += loss.detach()
        self.scaler.scale(loss / self.accum_steps).backward()

    def __call__(self) -> bool:
        """End an update, and step the optimizer at every `accum_steps`-th call.

        Returns:
            True if the optimizer stepped (also when GradScaler skipped the step on inf or NaN).

        Raises:
            NonFiniteError: the loss or the gradient of this call, or on a GPU of the call before, is NaN or infinite;
                the weights are those from before that call.
        """
        loss, self._loss = self._loss, torch.zeros_like(self._loss)
        self._pending += 1
        if self._pending < self.accum_steps:
            self._check(loss, torch.zeros_like(loss))
            return False
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if self.scaler.is_enabled():  # infinite gradients are its own matter
            self._check(loss, torch.zeros_like(loss))
            parameters[0].grad.add_(self._poison)
            self.scaler.unscale_(self.optimizer)
            self.grad_norm = nn.utils.get_total_norm([p.grad for p in parameters])
        else:
            self.grad_norm = nn.utils.get_total_norm([p.grad for p in parameters])
            self._check(loss, self.grad_norm)
        self._clip(parameters)
        self._step()
        self.optimizer.zero_grad(set_to_none=True)
        self._pending = 0
        return True

    def check(self) -> None:
        """Wait for the last update, and raise NonFiniteError if its loss or gradient is NaN or infinite."""
        if self._unread is not None:
            (copy, where), self._unread = self._unread, None
            _raise_if_not_finite(copy.read(), where)

    def _check(self, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Raise NonFiniteError if a number is not finite: of this call, or if they are read late, of the one before."""
        numbers = torch.stack([loss, norm.to(loss.dtype)])
        if not self._late:
            _raise_if_not_finite(numbers, self.where)
            return
        self._poison += (numbers * 0).sum()
        copy = HostCopy(numbers)
        self.check()
        self._unread = (copy, self.where)

    def _clip(self, parameters: list[nn.Parameter]) -> None:
        if self.clip_value:
            nn.utils.clip_grad_value_(parameters, self.clip_value)
        elif self.clip_norm:
            nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, self.grad_norm)

    def _step(self) -> None:
        if self.scaler.is_enabled() or not self._late:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            return
        # As GradScaler tells a fused optimizer: it skips the step where found_inf is 1.
        self.optimizer.grad_scale, self.optimizer.found_inf = None, self._poison.isnan().float()
        self.optimizer.step()
        del self.optimizer.grad_scale, self.optimizer.found_inf


def _raise_if_not_finite(numbers: torch.Tensor, where: str) -> None:
    """Raise NonFiniteError if the loss or the gradient norm, (2,), is NaN or infinite."""
    loss, norm = numbers.tolist()
    if not math.isfinite(loss):
        raise NonFiniteError(f"loss is {loss} {where}".rstrip())
    if not math.isfinite(norm):
        raise NonFiniteError(f"a gradient is NaN or infinite (norm {norm}) {where}".rstrip())


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager:
    """Return autocast to `dtype` on `device`; disabled for None."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def autocast_dtype(cfg: Any) -> torch.dtype | None:
    """Return the dtype of mixed precision; None if it is off, or `auto` and not settled (`slowfast.engine.fastest`)."""
    return _DTYPES[cfg.TRAIN.MIXED_PRECISION_DTYPE] if cfg.TRAIN.MIXED_PRECISION is True else None


def build_optim_step(cfg: Any, model: nn.Module, optimizer: torch.optim.Optimizer) -> OptimStep:
    """Build the optimizer step of the config; ValueError as `OptimStep`."""
    dtype = autocast_dtype(cfg)
    with naming_keys(cfg, "SOLVER.CLIP_GRAD_VAL", "SOLVER.CLIP_GRAD_L2NORM"):
        return OptimStep(
            model,
            optimizer,
            accum_steps=cfg.TRAIN.ACCUM_STEPS,
            autocast_dtype=dtype,
            scale_loss=dtype is torch.float16,
            clip_value=cfg.SOLVER.CLIP_GRAD_VAL,
            clip_norm=cfg.SOLVER.CLIP_GRAD_L2NORM,
        )
