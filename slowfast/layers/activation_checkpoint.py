"""Activation checkpointing of blocks.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174), through torch.utils.checkpoint.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from slowfast.layers.norm import BatchNorm


class CheckpointedBlock(nn.Module):
    """Block that can recompute its activations in the backward pass; subclasses define `forward_block`.

    Recomputation is bitwise exact: it repeats random numbers, sees the context variables of the first run, and leaves
    the running statistics of batch norms alone. (Backward runs later, and perhaps in another thread, than the code that
    set those variables.)

    Attributes:
        checkpoint_activations: keep only the inputs for the backward pass (`MODEL.ACT_CHECKPOINT`).
    """

    checkpoint_activations: bool = False

    def forward_block(self, *inputs: Any) -> torch.Tensor:
        """Compute the block's output."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward_block")

    def forward(self, *inputs: Any) -> torch.Tensor:
        if not (self.checkpoint_activations and torch.is_grad_enabled()):
            return self.forward_block(*inputs)
        if torch.compiler.is_compiling():
            # The compiler itself keeps side effects to the first run.
            return checkpoint(self.forward_block, *inputs, use_reentrant=False)
        run, contexts = copy_context().run, partial(_contexts, self)
        return checkpoint(run, self.forward_block, *inputs, use_reentrant=False, context_fn=contexts)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Return the contexts of the first run and of the recomputation."""
    return nullcontext(), _running_stats_preserved(block)


@contextmanager
def _running_stats_preserved(block: nn.Module) -> Iterator[None]:
    """Let batch norms update copies of their buffers; without buffers autograd would save other tensors."""
    kept = {norm: dict(norm._buffers) for norm in block.modules() if isinstance(norm, BatchNorm) and norm.training}
    for norm, buffers in kept.items():
        norm._buffers.update({name: buffer.clone() for name, buffer in buffers.items() if buffer is not None})
    try:
        yield
    finally:
        for norm, buffers in kept.items():
            norm._buffers.update(buffers)
