"""Ranks and small collectives.

Every function also works without a process group, in a single process of rank 0.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.distributed as dist

from slowfast.runtime.device import HostCopy, reading_waits
from slowfast.utils.files import Content, atomic_write_local


def is_distributed() -> bool:
    """Return True if this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def get_rank() -> int:
    """Return the rank of this process, 0 to `get_world_size() - 1`."""
    return dist.get_rank() if is_distributed() else 0


def get_world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if is_distributed() else 1


def get_local_world_size() -> int:
    """Return the number of processes on this host."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if is_distributed() else 1


@cache
def norm_group(everywhere: bool, neighbors: int) -> Any:
    """Return the process group for synchronized batch norm, None for all processes; all ranks have to call.

    Args:
        everywhere: synchronize over all hosts.
        neighbors: otherwise the size of groups within a host; 1 for all processes of a host.

    Raises:
        ValueError: the number of processes of a host is not a multiple of `neighbors`.
    """
    local = get_local_world_size()
    size = local if neighbors == 1 else neighbors
    if everywhere or not is_distributed() or size == get_world_size():
        return None
    if local % size:
        raise ValueError(
            f"{neighbors} processes that share statistics do not divide the {local} of a host; take a divisor, or 1 "
            "for all of them"
        )
    group, _ = dist.new_subgroups(size)
    return group


def is_main_process() -> bool:
    """Return True on rank 0, which writes files and logs."""
    return get_rank() == 0


def atomic_write(path: str | os.PathLike, content: Content) -> None:
    """Write a file from rank 0, with its folder; other ranks do nothing. See `atomic_write_local`."""
    if is_main_process():
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        atomic_write_local(path, content)


def barrier() -> None:
    """Wait for all processes."""
    if is_distributed():
        dist.barrier()


def all_gather_object(item: Any) -> list[Any]:
    """Gather `item` from every process in rank order. Items are pickled, so keep them small."""
    if not is_distributed():
        return [item]
    gathered: list[Any] = [None] * get_world_size()
    dist.all_gather_object(gathered, item)
    return gathered


def reduce_mean(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the mean of each tensor over the processes; the inputs are unchanged."""
    copies = [tensor.detach().clone() for tensor in tensors]
    if is_distributed():
        for tensor in copies:
            dist.all_reduce(tensor)
            tensor.div_(get_world_size())
    return copies


def any_process(flag: bool, device: torch.device) -> bool:
    """Return True if `flag` is true on any rank; all ranks have to call."""
    if not is_distributed():
        return flag
    return bool(_votes(flag, device))


class LateVote:
    """Vote of all ranks, whose result on GPUs is that of the call before: no rank then waits for its GPU."""

    def __init__(self) -> None:
        self._last: HostCopy | None = None

    def __call__(self, flag: bool, device: torch.device) -> bool:
        """Return True if any rank's flag was true; all ranks have to call."""
        if not is_distributed():
            return flag
        before, self._last = self._last, HostCopy(_votes(flag, device))
        known = before if reading_waits(device) else self._last
        return known is not None and bool(known.read())


def _votes(flag: bool, device: torch.device) -> torch.Tensor:
    """Return the number of ranks whose flag is true."""
    votes = torch.full((), int(flag), device=device)
    dist.all_reduce(votes)
    return votes
