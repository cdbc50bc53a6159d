"""Self-test of the devices of a machine: are the numbers right, how fast are they, do the GPUs talk to each other.

One model does all, Slow 8x8 R50 with random weights, on clips of noise.
"""

from __future__ import annotations

import copy
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from slowfast.apps.benchmark.compare import compare, make_variant
from slowfast.config import load_config
from slowfast.engine.model_setup import move_model
from slowfast.engine.optim_step import autocast
from slowfast.models import VideoModel, build_model
from slowfast.runtime.device import device_count, find_device, select_device
from slowfast.utils.errors import first_line

# Largest accepted error of features and of the stem's gradient, over the largest number; a device that computes wrongly
# is far above, and that of zeros is 1. Measured on a CPU: 2e-6 and 5e-3 in fp32, 1e-2 and 0.4 in bf16. Where rounding
# decides which of two values is the maximum, the gradient takes another way.
_TOLERANCE = {"fp32": (1e-4, 0.05), "tf32": (0.02, 0.5), "bf16": (0.1, 0.9)}
_ROUNDS = 5
_REDUCED = 16 * 1024**2  # float32 numbers, 64 MiB: the gradient of a model of 16 M parameters
_PATIENCE_S = 180.0
_MODEL = [
    "MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow", "MODEL.NUM_CLASSES", 400, "MODEL.DROPOUT_RATE", 0.0,
    "RESNET.DEPTH", 50, "RESNET.NUM_BLOCK_TEMP_KERNEL", [[3], [4], [6], [3]],
    "RESNET.ZERO_INIT_FINAL_BN", False, "DATA.INPUT_CHANNEL_NUM", [3], "DATA.NUM_FRAMES", 8,
]  # fmt: skip


_SMALL = ["DATA.TRAIN_CROP_SIZE", 64, "DATA.TEST_CROP_SIZE", 64, "DATA.TRAIN_JITTER_SCALES", [64, 80]]


@dataclass(frozen=True)
class Numbers:
    """Errors of a precision on a device, over the largest number of the float64 reference; or what failed."""

    device: str
    precision: str
    output: float = 0.0
    gradient: float = 0.0
    failure: str = ""

    @property
    def wrong(self) -> bool:
        """True if an error is over the tolerance, or NaN, or if nothing was computed."""
        most = _TOLERANCE[self.precision]
        return bool(self.failure) or not (self.output <= most[0] and self.gradient <= most[1])


@dataclass(frozen=True)
class Speed:
    """Milliseconds of a variant of the model: of the first call, and the median of the later ones; or what failed."""

    name: str
    work: str
    first_ms: float = 0.0
    ms: float = 0.0
    failure: str = ""


@dataclass(frozen=True)
class Exchange:
    """All-reduce over processes: GB/s through each of them; or what failed."""

    backend: str
    processes: int
    gb_per_s: float = 0.0
    failure: str = ""


def devices() -> list[torch.device]:
    """Return the GPUs; without any, the CPU."""
    return [find_device(number) for number in range(device_count())] or [torch.device("cpu")]


def check_numbers(where: list[torch.device]) -> Iterator[Numbers]:
    """Yield the errors of each device and precision, of features and of a gradient.

    Norms are in eval mode: over few samples, those in train mode make much of small errors.
    """
    torch.manual_seed(0)
    model = build_model(load_config(None, [*_MODEL, "NUM_GPUS", 0, *_SMALL])).eval()
    clip, weights = torch.randn(2, 3, 8, 64, 64), torch.randn(2, model.num_features, 8, 2, 2)
    reference = _outputs(copy.deepcopy(model).double(), clip.double(), weights.double(), None)
    for device in where:
        for precision in ["fp32", "bf16"] if device.type == "cpu" else ["fp32", "tf32", "bf16"]:
            dtype = torch.bfloat16 if precision == "bf16" else None
            try:
                # Without `enabled` PyTorch switches cuDNN off here, and another library would be checked.
                with torch.backends.cudnn.flags(enabled=True, allow_tf32=precision != "fp32"):
                    moved = move_model(copy.deepcopy(model), device)
                    found = _outputs(moved, clip.to(device), weights.to(device), dtype)
                errors = [
                    ((ours.cpu().double() - truth).abs().max() / truth.abs().max()).item()
                    for ours, truth in zip(found, reference, strict=True)
                ]
            except RuntimeError as error:  # of a broken library, or no memory
                yield Numbers(str(device), precision, failure=first_line(error))
            else:
                yield Numbers(str(device), precision, *errors)


def _outputs(model: VideoModel, clip: Tensor, weights: Tensor, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """Return the features, and the gradient of the stem's weights."""
    with autocast(clip.device, dtype):
        (features,) = model.forward_features([clip])
    (features * weights).sum().backward()
    return features.detach(), next(model.parameters()).grad


def measure_speed(compiled: bool = True, crop: int = 0, batch: int = 0) -> Iterator[Speed]:
    """Yield the speed of each variant, measured in turn on the first GPU, or on the CPU.

    Args:
        compiled: compile the forward pass too, which takes a minute.
        crop, batch: pixels and clips; 0 for 224 and 8 on a GPU, 112 and 1 on the CPU.
    """
    gpu = device_count() > 0
    names = ["fp32+contiguous", "fp32+channels_last", "bf16+contiguous", "bf16+channels_last"]
    crop, batch = crop or (224 if gpu else 112), batch or (8 if gpu else 1)
    settings = [
        *_MODEL, "NUM_GPUS", int(gpu), "DATA.TRAIN_CROP_SIZE", crop, "DATA.TEST_CROP_SIZE", crop,
        "TRAIN.BATCH_SIZE", batch,
    ]  # fmt: skip
    works = [("forward", [*names, *(["bf16+compile"] if compiled else [])]), ("train", names)]
    for work, variants in works:
        for name in variants:
            try:
                variant = make_variant(lambda more: load_config(None, [*settings, *more]), work, name)
                (found,) = compare([variant], work == "train", _ROUNDS)
            except (RuntimeError, ValueError) as error:  # one that does not work here
                yield Speed(name, work, failure=first_line(error))
            else:
                yield Speed(name, work, 1000 * found["first"], 1000 * statistics.median(found["seconds"]))


def measure_exchange(processes: int = 0) -> Exchange | None:
    """Measure the all-reduce over all GPUs by NCCL, on the CPU between two processes by gloo; None for one GPU.

    Args:
        processes: number of them; 0 for the GPUs, or two.
    """
    gpus = device_count()
    backend, processes = ("nccl", processes or gpus) if gpus else ("gloo", processes or 2)
    if processes < 2:
        return None
    port = _free_port()
    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    running = torch.multiprocessing.start_processes(
        _all_reduce, (processes, backend, port, results), processes, join=False, start_method="spawn"
    )
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while not running.join(timeout=1.0):
            if time.monotonic() > deadline:
                return Exchange(backend, processes, failure=f"no answer in {_PATIENCE_S:.0f} s")
    except Exception as error:  # of a process
        return Exchange(backend, processes, failure=first_line(error))
    finally:
        for process in running.processes:
            process.kill()
    seconds, right = results.get()
    # Each process sends and receives 2 (n - 1) / n of the data.
    moved = 2 * (processes - 1) / processes * 4 * _REDUCED / 1e9
    return Exchange(backend, processes, moved / seconds, "" if right else "the sums are wrong")


def _free_port() -> int:
    """Return a TCP port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _all_reduce(rank: int, processes: int, backend: str, port: int, results: torch.multiprocessing.SimpleQueue) -> None:
    """Measure in one of the processes; rank 0 puts the median seconds, and if the sums are right."""
    gpu = backend == "nccl"
    if gpu:
        select_device(rank)
    dist.init_process_group(backend, f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
    values = torch.full((_REDUCED,), rank + 1.0, device=find_device(rank if gpu else "cpu"))
    dist.all_reduce(values)
    right = bool((values == processes * (processes + 1) / 2).all())
    seconds = []
    for _ in range(_ROUNDS):
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(values)
        right &= bool(values[0].isfinite())  # waits for the GPU
        seconds.append(time.perf_counter() - start)
    if rank == 0:
        results.put((statistics.median(seconds), right))
    dist.destroy_process_group()
