"""Activation checkpointing: what a block keeps for its backward pass is computed again there instead.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174), through torch.utils.checkpoint.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from slowfast.layers.norm import BatchNorm


class Recomputed(nn.Module):
    """Mixin in front of a block's class: of a forward with gradients only the inputs are kept.

    The second computation equals the first: random draws are repeated, context variables have the values that they had
    (the backward pass runs after, and perhaps in another thread than, the code that set them), and running statistics
    stay as they are.
    """

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return super().forward(*inputs)
        if torch.compiler.is_compiling():
            # The compiler keeps to the first computation's effects by itself.
            return checkpoint(super().forward, *inputs, use_reentrant=False)
        run, contexts = copy_context().run, partial(_both_contexts, self)
        return checkpoint(run, super().forward, *inputs, use_reentrant=False, context_fn=contexts)


def _both_contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Around the first computation and around the second."""
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Has the norms work on copies of their running statistics, for without any they would save other tensors."""
    kept = {norm: dict(norm._buffers) for norm in block.modules() if isinstance(norm, BatchNorm) and norm.training}
    for norm, buffers in kept.items():
        norm._buffers.update({name: buffer.clone() for name, buffer in buffers.items() if buffer is not None})
    try:
        yield
    finally:
        for norm, buffers in kept.items():
            norm._buffers.update(buffers)


@cache
def _recomputed(cls: type[nn.Module]) -> type[nn.Module]:
    return type(f"Recomputed{cls.__name__}", (Recomputed, cls), {})


def recompute(block: nn.Module) -> Any:
    """Let `block` compute its activations again in the backward pass, in place; state-dict keys stay as they are."""
    if not isinstance(block, Recomputed):
        block.__class__ = _recomputed(type(block))
