"""Facts of a machine that runs depend on: versions, GPUs, memory, limits, decoders."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
from dataclasses import dataclass, field

import torch

from slowfast.checkpoint.zoo.entries import cache_folder
from slowfast.runtime.device import Gpu, available_cores, gpu_arches, gpu_libraries, gpus, host_memory, processor

_GIB = 1024.0**3
# Decoder of each video codec, as FFmpeg names them; the first that is there decodes.
_DECODERS = {"H.264": ("h264",), "HEVC": ("hevc",), "VP9": ("vp9", "libvpx-vp9"), "AV1": ("libdav1d", "libaom-av1")}


@dataclass(frozen=True)
class Machine:
    """Facts of a machine; a version is "" for what is missing, a number None for what the system does not tell.

    Attributes:
        packages: name -> version of what computes and decodes.
        driver: version of the NVIDIA driver, as nvidia-smi tells.
        driver_gpus: number of GPUs that nvidia-smi lists.
        gpus: those that PyTorch can use.
        arches: GPU architectures that PyTorch was built for, such as sm_90.
        cpu: name of the processor.
        cpu_flags: of its instructions those that matter for speed.
        cores: cores that this process may use.
        memory: (used, whole) memory of the host, GiB; 0 where the system does not tell.
        shared_memory: (free, whole) bytes of /dev/shm.
        open_files: (soft, hard) limit of open files.
        decoders: codec -> decoder, "" for none.
        cache: (folder, free bytes) of downloads.
    """

    packages: dict[str, str] = field(default_factory=dict)
    driver: str = ""
    driver_gpus: int = 0
    gpus: tuple[Gpu, ...] = ()
    arches: tuple[str, ...] = ()
    cpu: str = ""
    cpu_flags: tuple[str, ...] = ()
    cores: int = 1
    memory: tuple[float, float] = (0.0, 0.0)
    shared_memory: tuple[int, int] | None = None
    open_files: tuple[int, int] = (0, 0)
    decoders: dict[str, str] = field(default_factory=dict)
    cache: tuple[str, int] = ("", 0)

    @classmethod
    def here(cls) -> Machine:
        """Look at this machine."""
        driver, listed = _driver()
        cpu, flags = processor()
        shared = shutil.disk_usage("/dev/shm") if os.path.isdir("/dev/shm") else None
        return cls(
            packages=_packages(),
            driver=driver,
            driver_gpus=listed,
            gpus=tuple(gpus()),
            arches=tuple(gpu_arches()),
            cpu=cpu,
            cpu_flags=flags,
            cores=available_cores(),
            memory=host_memory(),
            shared_memory=(shared.free, shared.total) if shared else None,
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE),
            decoders=_decoders(),
            cache=_cache(),
        )

    def rows(self) -> list[tuple[str, str]]:
        """Return (name, value) of each fact, for people."""
        found = [f"{gpu.name}, {gpu.memory:.0f} GiB, {gpu.capability[0]}.{gpu.capability[1]}" for gpu in self.gpus]
        decoders = ", ".join(f"{codec} {name or 'missing'}" for codec, name in self.decoders.items())
        shared = (
            "none" if self.shared_memory is None else "{:.1f} of {:.1f} GiB free".format(*map(_gib, self.shared_memory))
        )
        soft, hard = (("unlimited" if limit == resource.RLIM_INFINITY else limit) for limit in self.open_files)
        return [
            ("system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"),
            *((name, version or "missing") for name, version in self.packages.items()),
            ("NVIDIA driver", f"{self.driver}, {self.driver_gpus} GPU(s)" if self.driver else "none"),
            ("GPUs of PyTorch", "; ".join(found) or "none"),
            ("processor", f"{self.cpu}, {self.cores} core(s), {' '.join(self.cpu_flags) or 'no AVX2'}"),
            ("memory", "{:.1f} of {:.1f} GiB in use".format(*self.memory) if self.memory[1] else "not known"),
            ("shared memory", shared),
            ("open files", f"{soft} (ulimit -n), at most {hard}"),
            ("decoders", decoders),
            ("cache folder", f"{self.cache[0]}, {_gib(self.cache[1]):.1f} GiB free"),
        ]


def _gib(size: float) -> float:
    return size / _GIB


def _packages() -> dict[str, str]:
    """Return name -> version of what computes and decodes."""
    import av
    import cv2

    codec = av.library_versions.get("libavcodec", ())
    return {
        "slowfast-pgt": _version("slowfast-pgt"),
        "PyTorch": torch.__version__,
        **gpu_libraries(),
        "PyAV": f"{av.__version__} (libavcodec {'.'.join(map(str, codec))})",
        "torchcodec": _version("torchcodec"),
        "OpenCV": cv2.__version__,
        "NumPy": _version("numpy"),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _driver() -> tuple[str, int]:
    """Return the driver's version and its number of GPUs; "" and 0 without nvidia-smi or an answer of it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "", 0
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return "", 0
    return (told[0], len(told)) if told else ("", 0)


def _decoders() -> dict[str, str]:
    """Return codec -> the decoder that FFmpeg takes; "" for none."""
    import av

    return {codec: next((n for n in names if n in av.codecs_available), "") for codec, names in _DECODERS.items()}


def _cache() -> tuple[str, int]:
    """Return the folder of downloads, and the free bytes of the disk that it is, or will be, on."""
    folder = cache_folder()
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return str(folder), shutil.disk_usage(there).free
