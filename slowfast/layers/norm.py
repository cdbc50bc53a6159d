"""Normalization layers of video networks. Shapes: x is (B, C, T, H, W)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable

BatchNorm = nn.modules.batchnorm._BatchNorm


class FreezableBatchNorm(BatchNorm):
    """Batch norm that can stay in eval mode while the network around it trains.

    Attributes:
        stats_frozen: normalize by the running statistics, and keep them, in train mode too.
        zero_init: start with weights of zero.
    """

    stats_frozen: bool = False
    zero_init: bool = False

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(mode and not self.stats_frozen)


class BatchNorm3d(FreezableBatchNorm, nn.BatchNorm3d):
    """`nn.BatchNorm3d` that is exact in channels-last layout too.

    In that layout PyTorch accumulates a channel's positions one by one on the CPU, which leaves an error of 1e-5 in the
    outputs. Mean and variance are computed by pairwise summation instead (docs/performance.md). Outputs in half
    precision have a larger error of their own, and are PyTorch's.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.training and self.affine and self.momentum is not None and _is_channels_last_on_cpu(x)):
            return super().forward(x)
        count = x.numel() // x.shape[1]
        y, mean, var = _ExactBatchNorm.apply(x, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), self.momentum)
        return y


def _is_channels_last_on_cpu(x: torch.Tensor) -> bool:
    """Return True for float32 on the CPU in channels-last layout; False while compiling, which has its own sums."""
    if x.device.type != "cpu" or x.dtype in (torch.bfloat16, torch.float16) or torch.compiler.is_compiling():
        return False
    return x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()


class _ExactBatchNorm(torch.autograd.Function):
    """Normalize x (B, C, T, H, W) by its own statistics; return the output, means (C) and biased variances (C)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        dims, dtype = (0, 2, 3, 4), weight.dtype
        mean = x.mean(dims, dtype=dtype)
        var = (x - mean.view(1, -1, 1, 1, 1)).square_().mean(dims)
        y = torch.ops.aten.native_batch_norm(x, weight, bias, mean, var, False, 0.0, eps)[0]
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt())
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, invstd = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last_3d)
        mask = list(ctx.needs_input_grad[:3])
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, invstd, True, ctx.eps, mask
        )
        return *grads, None


class FrozenBatchNorm3d(nn.Module):
    """Batch norm with fixed statistics and a fixed affine map.

    All four tensors are buffers and never change. State-dict keys are those of `nn.BatchNorm3d` without
    `num_batches_tracked`, so that checkpoints of one load into the other. (torchvision's and fvcore's are for images.)

    Args:
        num_features: channels C.
        eps: added to the variance.

    Attributes:
        zero_init: start with weights of zero.
    """

    zero_init: bool = False

    def __init__(self, num_features: int, eps: float = 1e-5):
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        # Checkpoints of trained batch norms have this counter of updates.
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"


class SubBatchNorm3d(FreezableBatchNorm, nn.BatchNorm3d):
    """Batch norm over `num_splits` parts of a batch, each normalized as if on a device of its own.

    In training, sample i belongs to part i mod `num_splits`, and each part has running statistics. Eval mode uses
    `running_mean` and `running_var`, those of all parts together: the mean of their means, and the mean of their
    variances plus the variance of their means. Source: "A Multigrid Method for Efficiently Training Video Models"
    (arXiv 1912.00998), section 3; parts as in the published code.

    State-dict keys are those of `nn.BatchNorm3d` with `split_mean` and `split_var` (num_splits, C). If a checkpoint
    lacks these, or has another number of parts, every part starts at its running statistics.

    Args:
        num_features: channels C.
        num_splits: parts S of a batch.
        eps, momentum: see `nn.BatchNorm3d`.

    Raises:
        ValueError: in training, S does not divide the batch.
    """

    def __init__(self, num_features: int, num_splits: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__(num_features, eps, momentum)
        self.num_splits = num_splits
        self.register_buffer("split_mean", torch.zeros(num_splits, num_features))
        self.register_buffer("split_var", torch.ones(num_splits, num_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        batch, splits = x.shape[0], self.num_splits
        check_splits(batch, splits)
        # Parts become channels, so that one call normalizes all of them.
        parts = x.reshape(batch // splits, splits * self.num_features, *x.shape[2:])
        tracked = self.track_running_stats
        y = F.batch_norm(
            parts,
            self.split_mean.view(-1) if tracked else None,
            self.split_var.view(-1) if tracked else None,
            self.weight.repeat(splits),
            self.bias.repeat(splits),
            True,
            self.momentum,
            self.eps,
        )
        if tracked:
            self.num_batches_tracked.add_(1)
            self.aggregate()
        return y.reshape(x.shape)

    @torch.no_grad()
    def aggregate(self) -> None:
        """Compute `running_mean` and `running_var` from those of the parts."""
        self.running_mean.copy_(self.split_mean.mean(dim=0))
        self.running_var.copy_(self.split_var.mean(dim=0) + self.split_mean.var(dim=0, correction=0))

    @torch.no_grad()
    def spread(self) -> None:
        """Set the statistics of every part to `running_mean` and `running_var`."""
        self.split_mean.copy_(self.running_mean.expand_as(self.split_mean))
        self.split_var.copy_(self.running_var.expand_as(self.split_var))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        wanted = self.split_mean.shape
        for split, running in (("split_mean", "running_mean"), ("split_var", "running_var")):
            whole, parts = state_dict.get(prefix + running), state_dict.get(prefix + split)
            if whole is not None and whole.shape == wanted[1:] and (parts is None or parts.shape != wanted):
                state_dict[prefix + split] = whole.expand(wanted)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_splits={self.num_splits}"


def check_splits(batch: int, splits: int) -> None:
    """Raise ValueError unless a `SubBatchNorm3d` can divide `batch` clips into `splits` parts."""
    if batch % splits:
        raise ValueError(
            f"{splits} splits do not divide the {batch} clips of a process's batch; take a divisor, or another batch"
        )


class SyncBatchNorm(FreezableBatchNorm, nn.SyncBatchNorm):
    """`nn.SyncBatchNorm` that can be frozen."""


class _OtherBatchNorm(FreezableBatchNorm):
    """Freezable batch norm of any rank, for the norms of models that use PyTorch's classes."""

    @classmethod
    def from_layer(cls, norm: BatchNorm) -> FreezableBatchNorm:
        """Return a layer with the parameters and buffers of `norm`."""
        layer = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        layer._parameters.update(norm._parameters)
        layer._buffers.update(norm._buffers)
        return layer

    def _check_input_dim(self, x: torch.Tensor) -> None:
        pass


def freeze_bn_stats(model: nn.Module, prefix: str = "") -> None:
    """Keep the batch norms of `model` at their running statistics, in place; state-dict keys stay.

    Args:
        prefix: name of the submodule that is frozen; "" for all of the model.
    """
    for name, norm in list(model.get_submodule(prefix).named_modules(prefix=prefix)):
        if not isinstance(norm, BatchNorm):
            continue
        if not isinstance(norm, FreezableBatchNorm):
            norm = _OtherBatchNorm.from_layer(norm)
            model.set_submodule(name, norm)
        norm.stats_frozen = True
        norm.eval()


def trainable_batchnorms(model: nn.Module) -> list[nn.Module]:
    """Return the batch norms of `model` that update running statistics in training."""
    norms = [m for m in model.modules() if isinstance(m, BatchNorm) and m.track_running_stats]
    return [norm for norm in norms if not (isinstance(norm, FreezableBatchNorm) and norm.stats_frozen)]
