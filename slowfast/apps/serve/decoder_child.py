"""The process that decodes one untrusted file; `slowfast.apps.serve.decoder` starts it and checks what it says.

Standard input is the file, standard output a pipe to the server. Once its modules are imported, the process gives up
whatever else it could do: it can open no file and no socket, start no process, and has limits on memory and time.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import pkgutil
import resource
import struct
from collections.abc import Iterator
from typing import BinaryIO

import av
import av.logging
import numpy as np

from slowfast.datasets.video.limits import MediaLimits
from slowfast.datasets.video.pyav import DECODE_ERRORS, PyAVReader
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video.timing import Timeline

# A message: kind, two numbers and two times; pixels or a text follow.
HEADER = struct.Struct("<c3xIIdd")
# Kinds: width, height, seconds and frames a second; width, height and time of a picture; time at which the last picture
# is shown once more; the end; bytes of an error's text; the limit of memory was reached.
FACTS, PICTURE, AGAIN, END, ERROR, NO_MEMORY = b"F", b"P", b"A", b"Z", b"E", b"M"

# Of linux/prctl.h, linux/capability.h and linux/landlock.h; the numbers of these calls are those of every machine.
_NO_NEW_PRIVILEGES, _CAPABILITIES_VERSION = 38, 0x20080522
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_EVERY_ACCESS = 2**13 - 1  # to files, in the first version of Landlock


class _File(io.FileIO):
    """Standard input, which ends this process if the server is gone, as no one else would."""

    def __init__(self, name: str, parent: int) -> None:
        super().__init__(0, "rb")
        self.name = name
        self._parent = parent

    def readinto(self, buffer: object) -> int:
        if os.getppid() != self._parent:
            os._exit(0)
        return super().readinto(buffer)

    def read(self, size: int = -1) -> bytes:
        if os.getppid() != self._parent:
            os._exit(0)
        return super().read(size)


def confine(memory_bytes: int, cpu_s: int) -> None:
    """Give up what this process could do besides reading and writing what is open.

    Args:
        memory_bytes: address space besides that of now.
        cpu_s: seconds of computation.
    """
    with open("/proc/self/statm") as stream:
        pages = int(stream.read().split()[0])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _forbid_files(libc)
    memory = pages * resource.getpagesize() + memory_bytes
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))  # a signal, then another that nothing can ignore
    # Capabilities would let root raise the limits again.
    header = struct.pack("<Ii", _CAPABILITIES_VERSION, 0)
    libc.capset(header, bytes(24))


def _forbid_files(libc: ctypes.CDLL) -> None:
    """Forbid every path by Landlock, where the kernel has it."""
    handled = struct.pack("<Q", _EVERY_ACCESS)
    ruleset = libc.syscall(_CREATE_RULESET, handled, len(handled), 0)
    if ruleset >= 0:
        libc.syscall(_RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)


def _send(kind: bytes, first: int = 0, second: int = 0, time_s: float = 0.0, fps: float = 0.0) -> None:
    _write(HEADER.pack(kind, first, second, time_s, fps))


def _write(data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


def _pictures(video: PyAVReader, indices: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the pictures at sorted indices in order, each once."""
    early, place = {}, 0  # of a damaged file some come out of order, or again
    for index, picture in video.each(indices):
        if place < len(indices) and index >= indices[place]:
            early[index] = picture
        while place < len(indices) and indices[place] in early:
            yield indices[place], early.pop(indices[place])
            place += 1


def _send_video(video: PyAVReader, fps: float, start_s: float, longest_s: float, with_frames: bool) -> None:
    """Send the facts of a video, and the frames that a model reads of it.

    Raises:
        VideoError: it is too long, or does not decode.
    """
    if video.duration > longest_s:
        raise VideoError(video.path, f"it lasts {video.duration:.1f} s, and at most {longest_s:g} s are allowed")
    grid = Timeline.of(video).grid(fps)
    first = min(int(start_s * grid.fps + 1e-6), grid.num_frames - 1)
    wanted = grid.frames(range(first, grid.num_frames))
    _, picture = next(_pictures(video, [0]))
    height, width = picture.shape[:2]
    _send(FACTS, width, height, grid.num_frames / grid.fps, grid.fps)
    slot = 0
    for index, picture in _pictures(video, sorted(set(wanted))) if with_frames else ():
        kind = PICTURE
        while slot < len(wanted) and wanted[slot] == index:
            _send(kind, picture.shape[1], picture.shape[0], (first + slot) / grid.fps)
            if kind == PICTURE:
                _write(np.ascontiguousarray(picture).reshape(-1).data)
            slot, kind = slot + 1, AGAIN
    _send(END)


def _lacks_memory(cause: str, file: BinaryIO, limits: MediaLimits) -> bool:
    """Return True if the cause of an error is the limit of memory.

    Some decoders of FFmpeg tell that to its log alone, so the first frame is decoded once more.
    """
    if not cause.startswith("no frame of it decodes"):
        return "Cannot allocate memory" in cause
    file.seek(0)
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    with (
        av.logging.Capture() as lines,
        contextlib.suppress(*DECODE_ERRORS),
        av.open(file, options=limits.options, metadata_errors="replace") as container,
    ):
        container.streams.video[0].codec_context.thread_count = 1
        next(container.decode(video=0), None)
    return any("get_buffer() failed" in text or "alloc" in text for _, _, text in lines)


def _told(cause: str) -> str:
    """Return the cause without the settings that it names, which are none of who brings the file."""
    return cause.split("; DATA.MEDIA_FORMATS_EXTRA")[0].replace("DATA.MAX_FRAME_PIXELS allows", "the limit is")


def main(
    parent: int,
    name: str,
    limits: tuple[int, float, int, int],
    fps: float,
    start_s: float,
    with_frames: bool,
) -> None:
    """Decode standard input into standard output.

    Args:
        parent: process id of the server.
        name: name of the file, for its suffix.
        limits: pixels of a frame, seconds of the video, and the arguments of `confine`.
        fps: frames a second for a model if the video has a variable rate.
        start_s: time of the first frame that is sent.
        with_frames: send frames; or else the facts alone.
    """
    pixels, longest_s, memory_bytes, cpu_s = limits
    # PyAV imports some of its modules when it first needs them, which then is too late.
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    confine(memory_bytes, cpu_s)
    file, media_limits = _File(name, parent), MediaLimits(frame_pixels=pixels)
    try:
        with PyAVReader(name, limits=media_limits, file=file) as video:
            _send_video(video, fps, start_s, longest_s, with_frames)
    except BrokenPipeError:
        pass  # the server has enough
    except MemoryError:
        _send(NO_MEMORY)
    except VideoError as error:
        if _lacks_memory(error.cause, file, media_limits):
            _send(NO_MEMORY)
        else:
            text = _told(error.cause).encode("utf-8", "replace")[:1000]
            _send(ERROR, len(text))
            _write(text)
    os._exit(0)  # what is open needs no closing
