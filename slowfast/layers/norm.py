"""Normalisation layers of video networks. Shapes: x is (B, C, T, H, W)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn


class FrozenBatchNorm3d(nn.Module):
    """Batch normalisation with fixed statistics and a fixed affine map.

    All four tensors are buffers: nothing is trained or updated, in train mode as in eval mode. State-dict keys are
    those of `nn.BatchNorm3d` without `num_batches_tracked`, so the checkpoints of one load into the other.

    Args:
        num_features: channels C.
        eps: added to the variance.
    """

    def __init__(self, num_features: int, eps: float = 1e-5):
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        shape = (1, -1, 1, 1, 1)
        return x * scale.to(x.dtype).view(shape) + shift.to(x.dtype).view(shape)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        # Present in checkpoints of trained batch norm; it counts updates, which a frozen norm does not make.
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"


def norm_layer(kind: str, eps: float = 1e-5, momentum: float = 0.1) -> Callable[[int], nn.Module]:
    """A constructor `norm(channels)` for the norm of that name.

    Args:
        kind: "batchnorm", "frozen_batchnorm", or "sync_batchnorm", PyTorch's, which counts the batches of all
            processes and trains on GPUs only (`BN.NORM_TYPE`).
        eps: added to the variance.
        momentum: weight of a new batch in the running statistics.

    Raises:
        ValueError: for another name.
    """
    kinds = {
        "batchnorm": partial(nn.BatchNorm3d, eps=eps, momentum=momentum),
        "frozen_batchnorm": partial(FrozenBatchNorm3d, eps=eps),
        "sync_batchnorm": partial(nn.SyncBatchNorm, eps=eps, momentum=momentum),
    }
    if kind not in kinds:
        raise ValueError(f"BN.NORM_TYPE is {kind!r}; norms that can be built are {', '.join(sorted(kinds))}")
    return kinds[kind]
