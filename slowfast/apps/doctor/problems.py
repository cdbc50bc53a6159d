"""What is wrong with a machine, each with its remedy in one line."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from slowfast.apps.doctor.machine import Machine
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.step_batches import LONG_CLIP_BYTES
from slowfast.runtime.loader_workers import check_workers

_OLDEST_PYTORCH = (2, 6)
_CUDNN_WITH_FAST_BF16_3D = (9, 15)
_PYTORCH_WITH_SLOW_BF16_3D = (2, 9)
_LEAST_FREE = 2 * 1024**3
_MIB = 1024**2


@dataclass(frozen=True)
class Problem:
    """A problem of a machine.

    Attributes:
        what: what is wrong, with the numbers.
        remedy: what to do.
        fault: runs fail; otherwise they are slow, or some of them fail.
    """

    what: str
    remedy: str
    fault: bool = False

    def line(self) -> str:
        """Return it as one line."""
        return f"{'FAULT' if self.fault else 'note'}: {self.what}; {self.remedy}"


@dataclass(frozen=True)
class Loading:
    """Say what the data loaders of a run ask of a machine.

    Attributes:
        workers: loader workers of each process.
        processes: of the run on this machine.
        batch_bytes: bytes of the training batches that wait in shared memory, of all processes, at most.
        planned: the settings are those of a run to come, and not the defaults.
    """

    workers: int
    processes: int = 1
    batch_bytes: int = 0
    planned: bool = True

    @classmethod
    def from_config(cls, cfg: Any, gpus: int, planned: bool = True) -> Loading:
        """Read the settings of a run on a machine with so many GPUs."""
        processes = max(1, min(cfg.NUM_GPUS, gpus))
        s = ClipSettings.from_config(cfg, "train").for_loader(cfg)
        frames = s.num_frames + (s.num_frames // s.alpha if s.alpha else 0)
        clips = -(-cfg.TRAIN.BATCH_SIZE // processes) * s.augmentation.copies * s.temporal_clips
        batch = clips * frames * s.crop**2 * (3 if s.as_bytes else 12)
        if cfg.DATA_LOADER.IN_STEPS:  # a worker hands over single steps, mostly smaller than what it decodes ahead
            batch = min(batch, LONG_CLIP_BYTES)
        workers = cfg.DATA_LOADER.NUM_WORKERS
        return cls(workers, processes, processes * workers * cfg.DATA_LOADER.PREFETCH_FACTOR * batch, planned)


def find_problems(machine: Machine, loading: Loading) -> list[Problem]:
    """Return the problems of a machine for a run that loads so, faults first."""
    found = [*_of_gpus(machine), *_of_versions(machine), *_of_loading(machine, loading), *_of_files(machine)]
    return sorted(found, key=lambda problem: not problem.fault)


def _of_gpus(machine: Machine) -> Iterator[Problem]:
    """Yield what keeps PyTorch from the GPUs, or makes them slow."""
    if machine.driver_gpus and not machine.gpus:
        built = machine.packages.get("CUDA of PyTorch")
        cause = f"it is built for CUDA {built}" if built else "it is a build for the CPU"
        remedy = (
            "install the build for your driver (INSTALL.md, CPU or GPU), and see that CUDA_VISIBLE_DEVICES is right"
        )
        yield Problem(f"nvidia-smi lists {machine.driver_gpus} GPU(s), and PyTorch sees none: {cause}", remedy, True)
    for gpu in machine.gpus:
        major, minor = gpu.capability
        if not _has_kernels(machine.arches, major, minor):
            lowest = min(int(number) for number in re.findall(r"_(\d+)", " ".join(machine.arches)))
            yield Problem(
                f"{gpu.name} has compute capability {major}.{minor}; PyTorch is built for {' '.join(machine.arches)}",
                f"install {'an older' if 10 * major + minor < lowest else 'a newer'} PyTorch, which has it",
                True,
            )
        elif major < 8:
            yield Problem(
                f"{gpu.name} (compute capability {major}.{minor}) has no fast bf16",
                "for mixed precision set TRAIN.MIXED_PRECISION_DTYPE fp16",
            )


def _has_kernels(arches: Sequence[str], major: int, minor: int) -> bool:
    """Return True if a build for these architectures has kernels of a compute capability, or names none that we know.

    Kernels of sm_XY run on capabilities X.Y to X.9, those of compute_XY, which the driver compiles, on all from X.Y on.
    """
    known = [match for arch in arches if (match := re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]*", arch))]
    fits = [
        (major, minor) >= (int(match[2]), int(match[3])) and (match[1] == "compute" or int(match[2]) == major)
        for match in known
    ]
    return any(fits) or not known


def _of_versions(machine: Machine) -> Iterator[Problem]:
    """Yield versions with known faults."""
    pytorch, cudnn = (_numbers(machine.packages.get(name, "")) for name in ("PyTorch", "cuDNN"))
    if pytorch and pytorch < _OLDEST_PYTORCH:
        yield Problem(f"PyTorch {machine.packages['PyTorch']} is older than 2.6", "pip install torch==2.13.0", True)
    if machine.gpus and cudnn and cudnn < _CUDNN_WITH_FAST_BF16_3D and pytorch >= _PYTORCH_WITH_SLOW_BF16_3D:
        yield Problem(
            f"cuDNN {machine.packages['cuDNN']}: before 9.15, 3-D convolutions in bf16 are slow and take much memory "
            "(PyTorch's release notes of 2.9.1)",
            "pip install -U 'nvidia-cudnn-cu12>=9.15' (cu13 for CUDA 13), or train in fp32",
        )
    if not machine.gpus and "avx512_bf16" not in machine.cpu_flags:
        yield Problem(
            "the processor has no AVX-512 with bf16, and mixed precision is slower than fp32 on it",
            "leave TRAIN.MIXED_PRECISION False on the CPU",
        )
    codec = machine.packages.get("torchcodec")
    if codec and pytorch and _numbers(codec)[1:2] != pytorch[1:2]:
        yield Problem(
            f"torchcodec {codec} is not made for PyTorch {machine.packages['PyTorch']}",
            f"pip install 'torchcodec==0.{pytorch[1]}.*', or leave DATA.DECODING_BACKEND pyav",
        )


def _of_loading(machine: Machine, loading: Loading) -> Iterator[Problem]:
    """Yield limits that loader workers meet, and codecs without a decoder."""
    workers, batch_bytes = loading.workers * loading.processes, loading.batch_bytes
    try:
        check_workers(loading.workers)
    except ValueError as error:
        yield Problem(*str(error).split(": ", 1), fault=True)
    soft, hard = machine.open_files
    if 0 <= soft < 1024:
        can = "unlimited" if hard == resource.RLIM_INFINITY else hard
        yield Problem(f"a process may open {soft} files (at most {can})", "ulimit -n 4096 before a run")
    if machine.shared_memory is not None and workers:
        free, whole = machine.shared_memory
        if free < batch_bytes:
            yield Problem(
                f"shared memory (/dev/shm) has {free / _MIB:.0f} of {whole / _MIB:.0f} MiB free, and the batches of "
                f"{workers} loader workers take up to {batch_bytes / _MIB:.0f}",
                "start the container with --shm-size, or lower DATA_LOADER.NUM_WORKERS or PREFETCH_FACTOR"
                + ("" if loading.planned else " (these are the defaults: --cfg FILE asks about your run)"),
                loading.planned,
            )
    if workers > machine.cores:
        yield Problem(
            f"{workers} loader workers share {machine.cores} core(s)",
            f"set DATA_LOADER.NUM_WORKERS {machine.cores // loading.processes}",
        )
    for codec, decoder in machine.decoders.items():
        if not decoder:
            yield Problem(
                f"FFmpeg in PyAV has no decoder of {codec}",
                "pip install --force-reinstall av, which brings its own FFmpeg",
                codec == "H.264",
            )


def _of_files(machine: Machine) -> Iterator[Problem]:
    """Yield a full disk of downloads."""
    folder, free = machine.cache
    if free < _LEAST_FREE:
        yield Problem(
            f"the disk of the cache folder {folder} has {free / _MIB:.0f} MiB free",
            "free some, or set SLOWFAST_CACHE to a folder on another disk",
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version; () without."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return tuple(map(int, match.groups())) if match else ()
