"""Reversible blocks: the backward pass computes their activations again, from the output of the last block alone.

Source: "The Reversible Residual Network" (arXiv 1707.04585); "Reversible Vision Transformers" (arXiv 2302.04869).
A block maps streams x1, x2 to y1 = x1 + F(x2), y2 = x2 + G(y1). So x2 = y2 - G(y1) and x1 = y1 - F(x2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import get_device_states, set_device_states


@dataclass(frozen=True)
class Branch:
    """Residual branch: a module, and what it is called with.

    Attributes:
        module: called as module(x, *arguments), returns a tensor like `x`.
        arguments: besides `x`, without gradient.
        factor: (B, 1, 1), multiplies the output (stochastic depth); None for no factor.
    """

    module: nn.Module
    arguments: tuple[Any, ...] = ()
    factor: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        y = self.module(x, *self.arguments)
        return y if self.factor is None else y * self.factor


Blocks = Sequence[tuple[Branch, Branch]]


def run_reversible(x: Tensor, blocks: Blocks, recompute: bool = True) -> tuple[Tensor, Tensor]:
    """Run reversible blocks on x1 = x2 = x, and return the streams (y1, y2).

    Streams are float32 under mixed precision too, since the backward pass gets them by subtraction. Gradients are those
    of autograd but for rounding. Dropout repeats its random numbers, and branches see the context variables of the
    forward pass again. What branches read besides `x` and their parameters gets no gradient.

    Args:
        x: (B, L, C).
        blocks: branches (F, G) of each block, in order.
        recompute: keep only the output for the backward pass; False for ordinary autograd.
    """
    if x.dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(x.device.type):
        x = x.float()
    if not (recompute and torch.is_grad_enabled()):
        x1 = x2 = x
        for f, g in blocks:
            x1 = x1 + f(x2)
            x2 = x2 + g(x1)
        return x1, x2
    parameters = dict.fromkeys(p for block in blocks for branch in block for p in _trained(branch))
    return _Reversible.apply(x, blocks, *parameters)


def _trained(branch: Branch) -> list[nn.Parameter]:
    return [parameter for parameter in branch.module.parameters() if parameter.requires_grad]


class _Reversible(torch.autograd.Function):
    """Run of reversible blocks. Parameters are inputs, so that autograd and its hooks see their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, blocks: Blocks, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        kind = x.device.type
        ctx.blocks, ctx.parameters, ctx.states = blocks, parameters, []
        ctx.run = copy_context().run
        # The cache of casts is off: casts that are made here have no gradient.
        ctx.autocast = {
            "device_type": kind,
            "dtype": torch.get_autocast_dtype(kind),
            "enabled": torch.is_autocast_enabled(kind),
            "cache_enabled": False,
        }
        x1 = x2 = x
        with torch.autocast(**ctx.autocast):
            for f, g in blocks:
                ctx.states.append([_random_state(f, x)])
                x1 = x1 + _with_graph(f, x2)[1].detach()
                ctx.states[-1].append(_random_state(g, x))
                x2 = x2 + _with_graph(g, x1)[1].detach()
        ctx.save_for_backward(x1, x2)
        return x1, x2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d1: Tensor, d2: Tensor) -> tuple[Tensor | None, ...]:
        y1, y2 = ctx.saved_tensors
        gradients: dict[Tensor, Tensor] = {}

        def again(branch: Branch, state: Any, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
            """Return the output of a branch and the gradient at its input, and add up those of its parameters."""
            trained = _trained(branch)
            with torch.autocast(**ctx.autocast), _repeating(state):
                x, y = ctx.run(_with_graph, branch, x)
            dx, *of_parameters = torch.autograd.grad(y, [x, *trained], dy.to(y.dtype), allow_unused=True)
            for parameter, gradient in zip(trained, of_parameters, strict=True):
                if gradient is not None:
                    known = gradients.get(parameter)
                    gradients[parameter] = gradient if known is None else known + gradient
            return y.detach(), dx

        for (f, g), (state_f, state_g) in zip(reversed(ctx.blocks), reversed(ctx.states), strict=True):
            y, dx = again(g, state_g, y1, d2)
            y2, d1 = y2 - y, d1 + dx  # x2, dL/dy1
            y, dx = again(f, state_f, y2, d1)
            y1, d2 = y1 - y, d2 + dx  # x1, dL/dx2
        return (d1 + d2, None, *(gradients.get(parameter) for parameter in ctx.parameters))


def _with_graph(branch: Branch, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a copy of `x` without history and the branch's output for it.

    The forward pass, which needs no graph, has one too: layers that choose their formula by whether there is one then
    compute the same numbers in both passes.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        return x, branch(x)


def _random_state(branch: Branch, x: Tensor) -> tuple[Any, ...] | None:
    """Return the state of the random generators; None if the branch draws no number."""
    drops = (module for module in branch.module.modules() if isinstance(module, nn.Dropout))
    if not any(module.training and module.p > 0 for module in drops):
        return None
    return x.device.type, torch.get_rng_state(), *get_device_states(x)


@contextmanager
def _repeating(state: tuple[Any, ...] | None) -> Iterator[None]:
    """Let the random generators start from `state`, and go on afterwards as if nothing had been drawn."""
    if state is None:
        yield
        return
    kind, of_cpu, devices, of_devices = state
    with torch.random.fork_rng(devices, **({"device_type": kind} if devices else {})):
        torch.set_rng_state(of_cpu)
        if devices:
            set_device_states(devices, of_devices, device_type=kind)
        yield
