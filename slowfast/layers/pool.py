"""Pooling in front of a classifier. Shapes: x is (B, C, T, H, W)."""

import torch
import torch.nn.functional as F
from torch import nn

KINDS = ("avg", "max")


def pool_space(x: torch.Tensor, size: int | None, kind: str) -> torch.Tensor:
    """Pools windows of `size` x `size` pixels, stride 1 (None: the whole picture): (B, C, T, H', W').

    Raises:
        ValueError: the picture is smaller than the window.
    """
    size_hw = tuple(x.shape[-2:]) if size is None else (size, size)
    if x.shape[-2] < size_hw[0] or x.shape[-1] < size_hw[1]:
        raise ValueError(
            f"the head pools {size_hw[0]}x{size_hw[1]} positions but the features have {x.shape[-2]}x{x.shape[-1]}: "
            f"the clip's crop is smaller than DATA.TRAIN_CROP_SIZE, from which the window is made"
        )
    pool = F.avg_pool3d if kind == "avg" else F.max_pool3d
    return pool(x, (1, *size_hw), stride=1)


def pool_time(x: torch.Tensor, frames: int | None, kind: str) -> torch.Tensor:
    """Pools windows of `frames` frames, stride 1 (None: all of them): (B, C, T', H, W).

    Raises:
        ValueError: fewer frames than the window.
    """
    frames = x.shape[2] if frames is None else frames
    if x.shape[2] < frames:
        raise ValueError(
            f"the head pools {frames} frames but the features have {x.shape[2]}: the clip is shorter than "
            "DATA.NUM_FRAMES"
        )
    pool = F.avg_pool3d if kind == "avg" else F.max_pool3d
    return pool(x, (frames, 1, 1), stride=1)


class SpaceTimePool(nn.Module):
    """Pools over space, then over time, with stride 1; no parameters.

    Args:
        frames: window in time; None pools all frames.
        size: window in space (square); None pools the whole picture.
        spatial, temporal: "avg" or "max" (`MODEL.FINAL_POOL`).

    Raises:
        ValueError: unknown kind; in forward, an input smaller than the window.
    """

    def __init__(self, frames: int | None = None, size: int | None = None, spatial: str = "avg", temporal: str = "avg"):
        super().__init__()
        for kind in (spatial, temporal):
            _check_kind(kind)
        self.frames, self.size, self.spatial, self.temporal = frames, size, spatial, temporal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pool_time(pool_space(x, self.size, self.spatial), self.frames, self.temporal)

    def extra_repr(self) -> str:
        return f"frames={self.frames}, size={self.size}, spatial={self.spatial}, temporal={self.temporal}"


class TimePool(nn.Module):
    """Pools all frames, (B, C, T, H, W) -> (B, C, 1, H, W); no parameters.

    Args:
        kind: "avg" or "max" (the second of `MODEL.FINAL_POOL`).

    Raises:
        ValueError: unknown kind.
    """

    def __init__(self, kind: str = "avg"):
        super().__init__()
        _check_kind(kind)
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pool_time(x, None, self.kind)

    def extra_repr(self) -> str:
        return f"kind={self.kind}"


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"MODEL.FINAL_POOL has {kind!r}; each entry must be one of {KINDS}")
