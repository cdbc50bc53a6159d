"""Time and peak memory of training iterations on random clips, for one configuration in one process."""

import ctypes
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode

from slowfast.datasets.batch import Batch
from slowfast.datasets.sampling import slow_indices
from slowfast.engine.optim import build_optimizer
from slowfast.engine.parallel import Preparation, prepare_model
from slowfast.engine.task import build_task
from slowfast.engine.update import build_update
from slowfast.models import build_model
from slowfast.utils.device import device_of, peak_memory, reset_peak_memory, synchronize
from slowfast.utils.env import seed_all

_M_MMAP_THRESHOLD = -3  # of mallopt(3)


def random_batch(cfg: CfgNode) -> Batch:
    """A training batch of TRAIN.BATCH_SIZE clips of noise, of the configuration's frames, crop and pathways."""
    count, frames, crop = cfg.TRAIN.BATCH_SIZE, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE
    clip = torch.randn(count, cfg.DATA.INPUT_CHANNEL_NUM[-1], frames, crop, crop)
    inputs = [clip]
    if len(cfg.DATA.INPUT_CHANNEL_NUM) == 2:
        inputs = [clip[:, :, slow_indices(frames, cfg.SLOWFAST.ALPHA, cfg.SLOWFAST.SLOW_INDICES)], clip]
    labels = torch.randint(cfg.MODEL.NUM_CLASSES, (count,))
    if cfg.DATA.MULTI_LABEL:
        labels = torch.nn.functional.one_hot(labels, cfg.MODEL.NUM_CLASSES).float()
    index = torch.arange(count)
    return Batch(inputs=inputs, labels=labels, video=index, view=torch.zeros_like(index))


def benchmark_training(cfg: CfgNode, iterations: int) -> dict[str, float]:
    """Trains on one random batch: once to warm up, `iterations` times by the clock, once more to see the memory.

    Returns:
        `seconds`, the median of an iteration; `process_mib`, the most memory in use at a time, and `peak_mib`, how
        much of it is over what the idle process holds: libraries, model, optimizer state and batch.
    """
    seed_all(cfg.RNG_SEED)
    device = device_of(cfg)
    model = prepare_model(build_model(cfg), device, Preparation.from_config(cfg)).train()
    update = build_update(cfg, model, build_optimizer(model, cfg))
    task, batch = build_task(cfg), random_batch(cfg).to(device)

    def iterate() -> float:
        synchronize(device)
        start = time.perf_counter()
        task.train_step(model, batch, update)
        synchronize(device)
        return time.perf_counter() - start

    iterate()
    seconds = statistics.median(iterate() for _ in range(iterations))
    return {"seconds": seconds, **memory_of(iterate, device)}


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
