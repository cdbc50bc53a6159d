"""The process that decodes one untrusted file; `slowfast.apps.serve.decoder` starts it and checks what it says.

Standard input is the file, standard output a pipe to the server. Once its modules are imported, the process gives up
whatever else it could do: it can open no file and no socket, start no process, and has limits on memory and time.
"""

from __future__ import annotations

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
import numpy as np

from slowfast.datasets.video.limits import MediaLimits
from slowfast.datasets.video.pyav import PyAVReader
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video.timing import FrameGrid, Timeline

# A message: kind, two numbers and two times; pixels or a text follow.
HEADER = struct.Struct("<c3xIIdd")
# Kinds: width, height, seconds and frames a second; width, height and time of a picture; time at which the last picture
# is shown once more; the end; bytes of an error's text; the limit of memory was reached.
FACTS, PICTURE, AGAIN, END, ERROR, NO_MEMORY = b"F", b"P", b"A", b"Z", b"E", b"M"

# Of linux/prctl.h, linux/capability.h and linux/landlock.h; the numbers of these calls are those of every machine.
_NO_NEW_PRIVILEGES, _CAPABILITIES_VERSION = 38, 0x20080522
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_SPARE_BYTES = 16  # for each pixel of the largest frame
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


def confine(memory_bytes: int, cpu_s: int, spare_bytes: int = 0) -> None:
    """Give up what this process could do besides reading and writing what is open.

    Args:
        memory_bytes: address space besides that of now.
        cpu_s: seconds of computation.
        spare_bytes: memory that the process may still allow itself, to find out what it lacked.
    """
    with open("/proc/self/statm") as stream:
        pages = int(stream.read().split()[0])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _forbid_files(libc)
    memory = pages * resource.getpagesize() + memory_bytes
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory + spare_bytes))
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


def _send_error(cause: str) -> None:
    text = cause.encode("utf-8", "replace")[:1000]
    _send(ERROR, len(text))
    _write(text)


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


def _send_facts(video: PyAVReader, fps: float, longest_s: float) -> FrameGrid:
    """Send the facts of a video, whose first frame decodes, and return the frames that a model reads of it.

    Raises:
        ValueError: it is too long.
        VideoError: it does not decode.
    """
    if video.duration > longest_s:
        raise ValueError(f"it lasts {video.duration:.1f} s, and at most {longest_s:g} s are allowed")
    grid = Timeline.of(video).grid(fps)
    _, picture = next(_pictures(video, [0]))
    height, width = picture.shape[:2]
    _send(FACTS, width, height, grid.num_frames / grid.fps, grid.fps)
    return grid


def _send_frames(video: PyAVReader, grid: FrameGrid, start_s: float) -> None:
    """Send the frames that a model reads from a second on; VideoError if they do not decode."""
    first = min(int(start_s * grid.fps + 1e-6), grid.num_frames - 1)
    wanted = grid.frames(range(first, grid.num_frames))
    slot = 0
    for index, picture in _pictures(video, sorted(set(wanted))):
        kind = PICTURE
        while slot < len(wanted) and wanted[slot] == index:
            _send(kind, picture.shape[1], picture.shape[0], (first + slot) / grid.fps)
            if kind == PICTURE:
                _write(np.ascontiguousarray(picture).reshape(-1).data)
            slot, kind = slot + 1, AGAIN


def _decodes_with_more(name: str, file: BinaryIO, limits: MediaLimits) -> bool:
    """Return True if the first frame decodes with a little more memory; FFmpeg may call a lack of it invalid data."""
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        with PyAVReader(name, limits=limits, file=file) as video:
            return len(video.frames([0])) == 1
    except (VideoError, MemoryError):
        return False


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
    confine(memory_bytes, cpu_s, pixels * _SPARE_BYTES)
    file, media_limits, facts_sent = _File(name, parent), MediaLimits(frame_pixels=pixels), False
    try:
        with PyAVReader(name, limits=media_limits, file=file) as video:
            grid = _send_facts(video, fps, longest_s)
            facts_sent = True
            if with_frames:
                _send_frames(video, grid, start_s)
            _send(END)
    except BrokenPipeError:
        pass  # the server has enough
    except MemoryError:
        _send(NO_MEMORY)
    except VideoError as error:
        if "Cannot allocate memory" in error.cause or (not facts_sent and _decodes_with_more(name, file, media_limits)):
            _send(NO_MEMORY)
        else:
            _send_error(_told(error.cause))
    except ValueError as error:
        _send_error(str(error))
    os._exit(0)  # what is open needs no closing
