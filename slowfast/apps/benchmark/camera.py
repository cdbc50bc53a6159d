"""A source like a camera, for benchmarks: a server of this machine that stalls, falls silent, hangs up and comes back.

It sends a file over and over, as MPEG-TS through HTTP without a length, as fast as its frames are taken.
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, BinaryIO

import av

# Frames that may be on their way, and seconds after which the next is sent even so: FFmpeg reads some to find out what
# it gets.
_AHEAD, _LONGEST_WAIT_S = 64, 0.05


class Camera:
    """A server in a process of its own; use it as a context manager.

    Every connection stalls halfway, and sends a burst of frames after that. At the end it hangs up, and the next one
    falls silent instead.

    Args:
        path: video file in MPEG-TS.
        frames: number of frames of a connection.
        burst: number of frames after the stall that are sent at once.
        stall_s: seconds of a stall.

    Attributes:
        address: of the stream.
    """

    def __init__(self, path: str, frames: int, burst: int, stall_s: float) -> None:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        self._taken = context.Value("q", 0)
        args = (path, frames, burst, stall_s, self._taken, sender)
        self._process = context.Process(target=_serve, args=args, daemon=True)
        self._process.start()
        sender.close()
        self.address = f"http://127.0.0.1:{receiver.recv()}/camera.ts"

    def take(self, count: int) -> None:
        """Tell the camera how many frames were taken so far."""
        self._taken.value = count

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.join()


def _serve(path: str, frames: int, burst: int, stall_s: float, taken: Any, port: Connection) -> None:
    """Serve until the process is killed; tell the port first."""
    numbers = itertools.count()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            with contextlib.suppress(OSError, av.FFmpegError):  # the other side hung up
                _send(self.wfile, path, frames, burst, stall_s, taken)
                if next(numbers) % 2:
                    self.connection.recv(1)  # silent, until the other side hangs up

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.send(server.server_port)
    server.serve_forever()


def _send(stream: BinaryIO, path: str, frames: int, burst: int, stall_s: float, taken: Any) -> None:
    """Send the frames of a connection."""
    before = taken.value
    with av.open(_Unseekable(stream), "w", format="mpegts") as target:
        for number, packet in enumerate(itertools.islice(_packets(path, target), frames)):
            if number == frames // 2:
                time.sleep(stall_s)
            until = time.monotonic() + _LONGEST_WAIT_S
            at_once = 0 <= number - frames // 2 < burst
            while not at_once and number - (taken.value - before) > _AHEAD and time.monotonic() < until:
                time.sleep(0.001)
            target.mux(packet)


def _packets(path: str, target: Any) -> Iterator[av.Packet]:
    """Yield the packets of a file over and over, with times that go on."""
    stream, shift = None, 0
    while True:
        with av.open(path) as source:
            video = source.streams.video[0]
            stream = stream or target.add_stream_from_template(video)
            step = round(1 / (video.average_rate * video.time_base))
            first = None
            for packet in source.demux(video):
                if packet.dts is None:  # the end
                    continue
                first = packet.dts if first is None else first
                last = packet.dts + step - first
                packet.pts, packet.dts = packet.pts - first + shift, packet.dts - first + shift
                packet.stream = stream
                yield packet
            shift += last


class _Unseekable:
    """A stream to write to, of which PyAV sees nothing else."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        """Send all bytes."""
        self._stream.write(data)
        return len(data)
