"""Ranks and small collectives between the processes of a run.

Every function works without a process group, where there is one process of rank 0.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.distributed as dist


def is_distributed() -> bool:
    """Whether this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def get_rank() -> int:
    """Number of this process, 0 to `get_world_size() - 1`."""
    return dist.get_rank() if is_distributed() else 0


def get_world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if is_distributed() else 1


def get_local_world_size() -> int:
    """How many of them run on this host."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if is_distributed() else 1


@cache
def norm_group(everywhere: bool, neighbors: int) -> Any:
    """The processes that share the statistics of synchronized norms with this one; all of them have to ask.

    Args:
        everywhere: all processes of all hosts.
        neighbors: otherwise groups of this many processes of a host; 1 for all of a host.

    Returns:
        A process group; None for all processes.

    Raises:
        ValueError: the processes of a host are no multiple of `neighbors`.
    """
    local = get_local_world_size()
    size = local if neighbors == 1 else neighbors
    if everywhere or not is_distributed() or size == get_world_size():
        return None
    if local % size:
        raise ValueError(
            f"BN.NUM_SYNC_DEVICES {neighbors} does not divide the {local} processes of a host; set it to a divisor, "
            "or to 1 for all of them"
        )
    group, _ = dist.new_subgroups(size)
    return group


def is_main_process() -> bool:
    """Whether this process is the one that writes files and speaks."""
    return get_rank() == 0


def barrier() -> None:
    """Wait until every process has come this far."""
    if is_distributed():
        dist.barrier()


def all_gather_object(item: Any) -> list[Any]:
    """The `item` of every process, in the order of ranks; items are pickled, so keep them small."""
    if not is_distributed():
        return [item]
    gathered: list[Any] = [None] * get_world_size()
    dist.all_gather_object(gathered, item)
    return gathered


def reduce_mean(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The mean of each tensor over the processes; the inputs are left as they are."""
    copies = [tensor.detach().clone() for tensor in tensors]
    if is_distributed():
        for tensor in copies:
            dist.all_reduce(tensor)
            tensor.div_(get_world_size())
    return copies


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is true in any process; all of them have to ask."""
    if not is_distributed():
        return flag
    votes = torch.tensor(int(flag), device=device)
    dist.all_reduce(votes)
    return bool(votes)
