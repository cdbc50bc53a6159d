"""The one place where a built model is moved and wrapped, in this order."""

from __future__ import annotations

import inspect

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from slowfast.utils.distributed import get_world_size, reduce_mean

# Copying buffers between forwards would break a backward through several of them. PyTorch has renamed the option.
_OPTIONS = inspect.signature(DistributedDataParallel).parameters
_BUFFER_OPTION = "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers"


def place_model(model: nn.Module, device: torch.device, memory_format: str = "contiguous") -> nn.Module:
    """Move `model` to `device`, its convolutions' weights laid out as MODEL.MEMORY_FORMAT says; clips follow them."""
    layout = torch.channels_last_3d if memory_format == "channels_last" else torch.preserve_format
    return model.to(device, memory_format=layout)


def prepare_model(model: nn.Module, device: torch.device, memory_format: str = "contiguous") -> nn.Module:
    """Place `model` (see `place_model`) and, where several processes train together, average their gradients.

    The statistics of norm layers stay each process's own until `average_norm_buffers`.
    """
    model = place_model(model, device, memory_format)
    if get_world_size() == 1:
        return model
    ids = [device] if device.index is not None else None
    return DistributedDataParallel(model, device_ids=ids, **{_BUFFER_OPTION: False})


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a parallel wrapper."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def average_norm_buffers(model: nn.Module) -> None:
    """Give every process the mean of the processes' running statistics, before evaluating or saving."""
    if get_world_size() == 1:
        return
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    buffers = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
    for buffer, mean in zip(buffers, reduce_mean(buffers), strict=True):
        buffer.copy_(mean)
