"""Decode files that strangers bring, each in a process of its own that may read this file and nothing else.

The server opens the file and hands over the descriptor. The process (`decoder_child`) imports PyAV, then gives up
everything but that descriptor and a pipe: no file, no socket, no other process; its memory and time are limited. It
sends frames in a small fixed format. The server believes none of it: sizes and times are checked, and text is cut.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np

import slowfast
from slowfast.apps.serve.decoder_child import AGAIN, END, ERROR, FACTS, HEADER, NO_MEMORY, PICTURE
from slowfast.datasets.video.reader import cause_of
from slowfast.utils.files import regular_file
from slowfast.utils.text import one_line

# The packages are registered without their `__init__`, and one module by the one function that decoding needs of it.
# They would import PyTorch, for ten times the time and memory that the decoder itself takes.
_PROGRAM = """
import json, os, sys, types
sys.path.insert(0, sys.argv[1])
import slowfast
for name in ("slowfast.datasets", "slowfast.config", "slowfast.config.defaults"):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [os.path.join(os.path.dirname(slowfast.__file__), *name.split(".")[1:])]
module = sys.modules["slowfast.runtime.distributed"] = types.ModuleType("slowfast.runtime.distributed")
module.is_main_process = lambda: True
from slowfast.apps.serve.decoder_child import main
main(*json.loads(sys.argv[2]))
"""
_PIPE_BYTES = 2**20
_LONGEST_ERROR = 1000
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


@dataclass(frozen=True)
class DecodingLimits:
    """Limits on the decoding of one file.

    Attributes:
        frame_pixels: greatest number of pixels of a frame; the default allows 4K (4096 x 2304).
        seconds: greatest length of a video.
        memory_bytes: memory besides that of a process without a file.
        cpu_s: seconds of computation on one core.
        wait_s: seconds that the server waits for the next frame.
    """

    frame_pixels: int = 4096 * 2304
    seconds: float = 3600.0
    memory_bytes: int = 2**30
    cpu_s: int = 1800
    wait_s: float = 60.0


USUAL_DECODING_LIMITS = DecodingLimits()


@dataclass(frozen=True)
class VideoFacts:
    """Hold what is known of a video before its frames are read.

    Attributes:
        seconds: its length.
        fps: rate of the frames that a model reads: its own if that is constant.
        width, height: of its frames, upright.
    """

    seconds: float
    fps: float
    width: int
    height: int


class DecodedVideo:
    """Frames of a video that is decoded in a process of its own; `decode` makes one. Iterate once, and close it.

    The process decodes ahead by what fits in a pipe. `close` may be called from any thread, and ends an iteration in
    another.

    Attributes:
        facts: what is known of the video.
    """

    def __init__(
        self, path: str | os.PathLike, limits: DecodingLimits, fps: float, start_s: float, with_frames: bool
    ) -> None:
        self._limits = limits
        self._reading = threading.Lock()
        self._closed = False
        self._picture: np.ndarray | None = None
        self._last_s = -math.inf
        self._process = _start(path, limits, fps, start_s, with_frames)
        self._pipe = self._process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        try:
            with self._reading:
                kind, width, height, seconds, rate = self._message()
                if kind != FACTS or not 0 < rate < math.inf or not 0 < seconds < math.inf:
                    raise ValueError("its decoder sent no facts about it")
                self._check_size(width, height)
            self.facts = VideoFacts(seconds, rate, width, height)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> DecodedVideo:
        return self

    def __next__(self) -> tuple[float, np.ndarray]:
        """Return the next frame: its time in seconds, and (H, W, 3) uint8, RGB, upright, which must not be changed.

        Raises:
            ValueError: the file is damaged, or a limit is reached; see `decode`.
        """
        with self._reading:
            try:
                return self._next()
            except BaseException:  # also the end
                self._finish()
                raise

    def _next(self) -> tuple[float, np.ndarray]:
        if self._process.stdout.closed:
            raise StopIteration
        kind, width, height, time_s, _ = self._message()
        if kind == END:
            raise StopIteration
        if kind == PICTURE:
            if (width, height) != (self.facts.width, self.facts.height):
                raise ValueError(
                    f"its frames change from {self.facts.width} x {self.facts.height} to {width} x {height} pixels "
                    f"at {time_s:.2f} s"
                )
            pixels = np.empty((height, width, 3), np.uint8)
            self._fill(memoryview(pixels).cast("B"))
            self._picture = pixels
        elif kind != AGAIN or self._picture is None:
            raise ValueError("its decoder sent something else than a frame")
        if not self._last_s < time_s <= self.facts.seconds:
            raise ValueError(f"its decoder sent a frame of second {time_s:g} after one of {self._last_s:g}")
        self._last_s = time_s
        return time_s, self._picture

    def __enter__(self) -> DecodedVideo:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; may be called twice."""
        self._closed = True
        self._process.kill()  # which ends the wait of another thread
        with self._reading:
            self._finish()

    def _finish(self) -> None:
        self._process.kill()
        self._process.stdout.close()
        self._process.wait()

    def _message(self) -> tuple[bytes, int, int, float, float]:
        """Return the next message; raise ValueError for one that tells an error."""
        data = bytearray(HEADER.size)
        self._fill(memoryview(data))
        message = kind, length, *_ = HEADER.unpack(data)
        if kind == NO_MEMORY:
            raise ValueError(
                f"decoding it takes more memory than the {self._limits.memory_bytes / 2**20:g} MiB that are allowed"
            )
        if kind == ERROR:
            text = bytearray(min(length, _LONGEST_ERROR))
            self._fill(memoryview(text))
            raise ValueError(one_line(text.decode("utf-8", "replace")))
        return message

    def _fill(self, room: memoryview) -> None:
        """Read as many bytes as there is room for.

        Raises:
            ValueError: they do not come in time, or the process ends before.
        """
        deadline = time.monotonic() + self._limits.wait_s
        while room:
            if not self._poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                raise ValueError(f"its decoder sent nothing for {self._limits.wait_s:g} s, which is the limit")
            count = os.readv(self._pipe, [room])
            if not count:
                if self._closed:
                    raise StopIteration
                raise ValueError(self._why_ended())
            room = room[count:]

    def _why_ended(self) -> str:
        status = self._process.wait()
        if status == -signal.SIGXCPU:
            return f"decoding it takes more than the {self._limits.cpu_s} s of computation that are allowed"
        if status < 0:
            return f"its decoder was ended by signal {-status} ({signal.strsignal(-status)})"
        return f"its decoder ended too early, with status {status}"

    def _check_size(self, width: int, height: int) -> None:
        if not 0 < width * height <= self._limits.frame_pixels:
            raise ValueError(
                f"a frame of {width} x {height} has {width * height / 1e6:.1f} million pixels; at most "
                f"{self._limits.frame_pixels / 1e6:g} million are allowed"
            )


def decode(
    path: str | os.PathLike,
    limits: DecodingLimits = USUAL_DECODING_LIMITS,
    *,
    fps: float = 30.0,
    start_s: float = 0.0,
) -> DecodedVideo:
    """Decode an untrusted file in a process of its own.

        with decode(path) as video:
            for time_s, frame in video:
                ...

    Frames are those that `Predictor.stream` reads: the video's own, at n / its rate, if the rate is constant, else the
    images that are extracted from it at `fps`.

    Args:
        path: the file.
        limits: on its size, length, memory and time.
        fps: frames a second of a video of a variable rate.
        start_s: begin with the frame that is shown at this second.

    Raises:
        ValueError: it is no video, is damaged, or a limit is reached, which the message names; it does not name the
            path. While frames are read: the same.
        OSError: the server itself has no more descriptors, processes or memory.
    """
    return DecodedVideo(path, limits, fps, start_s, with_frames=True)


def probe(path: str | os.PathLike, limits: DecodingLimits = USUAL_DECODING_LIMITS, *, fps: float = 30.0) -> VideoFacts:
    """Return the facts of an untrusted file, whose first frame decodes; arguments and errors as of `decode`."""
    with DecodedVideo(path, limits, fps, 0.0, with_frames=False) as video:
        return video.facts


def _start(
    path: str | os.PathLike, limits: DecodingLimits, fps: float, start_s: float, with_frames: bool
) -> subprocess.Popen:
    """Start the process, with the file as its standard input and a pipe as its standard output."""
    suffix = os.path.splitext(os.fspath(path))[1]
    name = "video" + (suffix if _SUFFIX.fullmatch(suffix) else "")
    most = limits.frame_pixels, limits.seconds, limits.memory_bytes, limits.cpu_s
    told = os.getpid(), name, most, fps, start_s, with_frames
    try:
        descriptor = regular_file(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(cause_of(error)) from error
    root = os.path.dirname(os.path.dirname(os.path.abspath(slowfast.__file__)))
    try:
        process = subprocess.Popen(
            # -I: neither variables nor the current folder choose what is imported.
            [sys.executable, "-I", "-c", _PROGRAM, root, json.dumps(told)],
            stdin=descriptor,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        )
    finally:
        os.close(descriptor)
    with contextlib.suppress(OSError):  # root alone may have many large ones
        fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process
