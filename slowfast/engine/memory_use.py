"""Peak memory of a piece of work, on the CPU or a GPU."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from slowfast.utils.device import peak_memory, reset_peak_memory

_M_MMAP_THRESHOLD = -3  # of mallopt(3)


def memory_of(work: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Calls `work` once, which should not be its first time.

    Returns:
        `process_mib`, the most memory in use at a time (resident on the CPU, allocated on a GPU), and `peak_mib`, how
        much of it is over what is in use when `work` starts.
    """
    _return_freed_memory()
    idle = _reset_peak(device)
    work()
    peak = _peak(device)
    return {"peak_mib": peak - idle, "process_mib": peak}


def _return_freed_memory() -> None:
    """Has the C library give freed memory back at once, so that resident memory is memory in use.

    Otherwise what an earlier iteration freed stays resident, and how much of it depends on how it lies.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.mallopt(_M_MMAP_THRESHOLD, 64 * 1024)
        libc.malloc_trim(0)


def _reset_peak(device: torch.device) -> float:
    """Forgets earlier peaks and gives what is in use now, in MiB."""
    if device.type != "cpu":
        reset_peak_memory(device)
    else:
        # Linux keeps a process's resident peak; writing 5 here sets it back to what is resident now.
        Path("/proc/self/clear_refs").write_text("5")
    return _peak(device)


def _peak(device: torch.device) -> float:
    if device.type != "cpu":
        return peak_memory(device) * 1024
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
