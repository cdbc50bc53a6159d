"""Clips of noise, for benchmarks and exports, which need no data set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from slowfast.datasets.clips.temporal_sampling import slow_indices


def dummy_inputs(cfg: Any, count: int, crop: int, generator: Generator | None = None) -> list[Tensor]:
    """Return `count` clips of noise (count, C, T, crop, crop), one tensor a pathway, of the config's frames."""
    channels, frames = cfg.DATA.INPUT_CHANNEL_NUM, cfg.DATA.NUM_FRAMES
    clip = torch.randn(count, channels[-1], frames, crop, crop, generator=generator)
    if len(channels) == 1:
        return [clip]
    return [clip[:, :, slow_indices(frames, cfg.SLOWFAST.ALPHA, cfg.SLOWFAST.SLOW_INDICES)], clip]
