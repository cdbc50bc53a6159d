"""Cores, device selection, synchronization, random state and peak memory. No other module names an accelerator."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import platform
import re
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_GIB = 1024.0**3
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def available_cores() -> int:
    """Return the number of cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_count() -> int:
    """Return the number of usable GPUs of this host."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def check_device_count(num_gpus: int) -> None:
    """Raise ValueError if this host has fewer than `num_gpus` GPUs."""
    found = device_count()
    if num_gpus < 0:
        raise ValueError(f"NUM_GPUS is {num_gpus}; set NUM_GPUS 0 for the CPU or the number of GPUs to use")
    if num_gpus > 0 and found == 0:
        raise ValueError(f"NUM_GPUS is {num_gpus} but no usable GPU was found; set NUM_GPUS 0 to run on the CPU")
    if num_gpus > found:
        raise ValueError(
            f"NUM_GPUS is {num_gpus} but this host has {found}; set NUM_GPUS {found}, or NUM_GPUS 0 for the CPU"
        )


def select_device(index: int) -> None:
    """Select GPU number `index` for this process."""
    torch.cuda.set_device(index)


def device_of(cfg: Any) -> torch.device:
    """Return the device of this process: the CPU with `NUM_GPUS` 0, otherwise its GPU.

    Raises:
        ValueError: the host has fewer than `NUM_GPUS` GPUs.
    """
    check_device_count(cfg.NUM_GPUS)
    if cfg.NUM_GPUS == 0:
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def find_device(name: str | int | torch.device | None) -> torch.device:
    """Return the device of a name such as "cpu" or "cuda:1", or of a GPU's number; of None, the GPU if there is one.

    Raises:
        ValueError: there is no such device on this host.
    """
    try:
        device = torch.device("cuda", name) if isinstance(name, int) else torch.device(name or _best_device())
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; give cpu, cuda or cuda:NUMBER") from error
    if device.type != "cpu" and (device.index or 0) >= device_count():
        raise ValueError(f"device is {str(device)!r}, and this host has {device_count()} GPUs; give another, or cpu")
    return device


def _best_device() -> str:
    return "cuda" if device_count() else "cpu"


def device_name(device: torch.device) -> str:
    """Return the name of the GPU; "cpu" for the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def processor() -> tuple[str, tuple[str, ...]]:
    """Return the name of the CPU, and those of its instructions that matter for speed, such as avx512_bf16."""
    told = _cpu_facts()
    if not told:
        return platform.processor() or platform.machine(), ()
    name = re.search(r"^model name\s*:\s*(.+)$", told, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", told, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    return name[1] if name else platform.machine(), tuple(flag for flag in _CPU_FLAGS if flag in known)


def has_fast_float32_products() -> bool:
    """Return True on a processor whose float32 matrix products are as fast as its convolutions.

    MKL, which computes PyTorch's products, has code for AVX-512 on Intel's processors alone. oneDNN, which computes
    convolutions, has it on all.
    """
    return "GenuineIntel" in _cpu_facts()


@functools.cache
def _cpu_facts() -> str:
    """Return what Linux tells about the processor, once for all that ask; "" on other systems."""
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


@dataclass(frozen=True)
class Gpu:
    """A GPU as PyTorch sees it; memory in GiB."""

    name: str
    memory: float
    capability: tuple[int, int]


def gpus() -> list[Gpu]:
    """Return the usable GPUs of this host."""
    found = [torch.cuda.get_device_properties(number) for number in range(device_count())]
    return [Gpu(each.name, each.total_memory / _GIB, (each.major, each.minor)) for each in found]


def gpu_arches() -> list[str]:
    """Return the architectures of GPUs that PyTorch is built for, such as sm_90; [] for a build for the CPU."""
    return torch.cuda.get_arch_list()


def gpu_libraries() -> dict[str, str]:
    """Return the versions of PyTorch's libraries for GPUs by name; "" for one that it is built without."""
    cudnn = torch.backends.cudnn.version()
    nccl = torch.cuda.nccl.version() if torch.distributed.is_nccl_available() else ()
    return {
        "CUDA of PyTorch": torch.version.cuda or "",
        "cuDNN": "" if cudnn is None else cudnn_version(cudnn),
        "NCCL": ".".join(map(str, nccl)),
    }


def cudnn_version(number: int) -> str:
    """Return the version of a number of cuDNN: 9.10.2 of 91002, and 8.9.2 of 8902."""
    major, rest = divmod(number, 10000 if number >= 90000 else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def synchronize(device: torch.device) -> None:
    """Wait for queued kernels, so that a clock read afterwards measures them."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reading_waits(device: torch.device) -> bool:
    """Return True if reading a tensor of `device` waits until the device has done all that was queued."""
    return device.type != "cpu"


class HostCopy:
    """Copy of a tensor on its way to the host; reading it does not wait for work that was queued after it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._copy = tensor.detach().to("cpu", non_blocking=True)  # into pinned memory
        self._event = None
        if reading_waits(tensor.device):
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> torch.Tensor:
        """Return the copy, on the CPU, once it is there."""
        if self._event is not None:
            self._event.synchronize()
        return self._copy


def peak_memory(device: torch.device) -> float:
    """Return the peak memory in GiB: allocated on the GPU, or resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _GIB if sys.platform == "darwin" else peak * 1024 / _GIB


def release_memory(device: torch.device) -> None:
    """Return the unused memory of a GPU to its driver, and measure its peak anew; do nothing on the CPU."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def host_memory() -> tuple[float, float]:
    """Return the memory of this host in use, and in all, in GiB; where the system does not tell, 0."""
    try:
        told = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text()))
        whole, free = (int(told[name]) * 1024 / _GIB for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError):
        return 0.0, 0.0
    return whole - free, whole


def device_rng_state(device: torch.device) -> torch.Tensor | None:
    """Return the state of the device's random generator; None on the CPU."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def set_device_rng_state(state: torch.Tensor | None, device: torch.device) -> None:
    """Restore a state of `device_rng_state`; do nothing on the CPU or for None."""
    if device.type == "cuda" and state is not None:
        torch.cuda.set_rng_state(state, device)


_M_MMAP_THRESHOLD = -3  # of mallopt(3)


def peak_memory_of(work: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Measure the peak memory of a call of `work`, after another call to warm up.

    On the CPU do this first in a process: free pieces that earlier work left in the heap are used again, and count.

    Returns:
        `process_mib`, the peak memory in use (resident on the CPU, allocated on a GPU), and `peak_mib`, the part above
        the memory in use before the call.
    """
    _return_freed_memory()
    work()
    _return_freed_memory()
    idle = _reset_peak(device)
    work()
    peak = _peak(device)
    return {"peak_mib": peak - idle, "process_mib": peak}


def _return_freed_memory() -> None:
    """Make the C library return freed memory at once, so that resident memory is memory in use.

    Otherwise a part of the memory of earlier iterations stays resident.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.mallopt(_M_MMAP_THRESHOLD, 64 * 1024)
        libc.malloc_trim(0)


def _reset_peak(device: torch.device) -> float:
    """Reset the peak, and return the memory in use in MiB."""
    if device.type != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        # On Linux, writing 5 resets the peak resident memory of the process (VmHWM) to the present value.
        Path("/proc/self/clear_refs").write_text("5")
    return _peak(device)


def _peak(device: torch.device) -> float:
    if device.type != "cpu":
        return peak_memory(device) * 1024
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
