"""Pooling in front of a classifier. Shapes: x is (B, C, T, H, W)."""

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.utils.errors import check_choice

KINDS = ("avg", "max")


def pool_space(x: torch.Tensor, size: int | None, kind: str) -> torch.Tensor:
    """Pool windows of `size` x `size` positions with stride 1, or all of them for None: (B, C, T, H', W').

    Raises:
        ValueError: the features are smaller than the window.
    """
    size_hw = tuple(x.shape[-2:]) if size is None else (size, size)
    if x.shape[-2] < size_hw[0] or x.shape[-1] < size_hw[1]:
        raise ValueError(
            f"the head pools {size_hw[0]}x{size_hw[1]} positions but the features have {x.shape[-2]}x{x.shape[-1]}: "
            "the clip's crop is smaller than that of the training clips, which sets the window"
        )
    return _pool(x, (1, *size_hw), kind)


def pool_time(x: torch.Tensor, frames: int | None, kind: str) -> torch.Tensor:
    """Pool windows of `frames` frames with stride 1, or all frames for None: (B, C, T', H, W).

    Raises:
        ValueError: the features have fewer frames than the window.
    """
    frames = x.shape[2] if frames is None else frames
    if x.shape[2] < frames:
        raise ValueError(
            f"the head pools {frames} frames but the features have {x.shape[2]}: the clip is shorter than those that "
            "the model is built for"
        )
    return _pool(x, (frames, 1, 1), kind)


def _pool(x: torch.Tensor, window: tuple[int, int, int], kind: str) -> torch.Tensor:
    if kind == "max":
        return F.max_pool3d(x, window, stride=1)
    return AvgPool3d(window, stride=1)(x)


class AvgPool3d(nn.AvgPool3d):
    """`nn.AvgPool3d` that also takes half precision on the CPU, where PyTorch averages it under autocast only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.dtype in (torch.bfloat16, torch.float16)
        if half and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            return super().forward(x.float()).to(x.dtype)
        return super().forward(x)


class SpaceTimePool(nn.Module):
    """Pooling over space, then over time, with stride 1.

    Args:
        frames: frames of the window; None pools all frames.
        size: side of the square window; None pools all positions.
        spatial, temporal: "avg" or "max".

    Raises:
        ValueError: unknown kind; in forward, an input smaller than the window.
    """

    def __init__(self, frames: int | None = None, size: int | None = None, spatial: str = "avg", temporal: str = "avg"):
        super().__init__()
        check_choice("spatial", spatial, KINDS)
        check_choice("temporal", temporal, KINDS)
        self.frames, self.size, self.spatial, self.temporal = frames, size, spatial, temporal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pool_time(pool_space(x, self.size, self.spatial), self.frames, self.temporal)

    def extra_repr(self) -> str:
        return f"frames={self.frames}, size={self.size}, spatial={self.spatial}, temporal={self.temporal}"


class TimePool(nn.Module):
    """Pooling over all frames, (B, C, T, H, W) -> (B, C, 1, H, W).

    Args:
        kind: "avg" or "max".

    Raises:
        ValueError: unknown kind.
    """

    def __init__(self, kind: str = "avg"):
        super().__init__()
        check_choice("kind", kind, KINDS)
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pool_time(x, None, self.kind)

    def extra_repr(self) -> str:
        return f"kind={self.kind}"
