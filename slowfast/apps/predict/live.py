"""Frames of a live source: a camera, a stream from the network, or standard input."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from slowfast.apps.predict.live_address import LiveAddress, has_an_end
from slowfast.apps.predict.resample import StreamClock
from slowfast.datasets.video.index_file import DECODE_STAMPED
from slowfast.datasets.video.limits import USUAL_LIMITS, MediaLimits
from slowfast.datasets.video.open_stream import DECODE_ERRORS
from slowfast.datasets.video.orientation import ONE_THREAD, upright
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video.streams import choose_stream
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

# Frames per second that a header may claim.
_RATES = (0.1, 240.0)
# Failed openings, one after the other, after which a file on a server is given up.
_MAX_FAILURES = 5
_FIRST_WAIT_S = 1.0
# The reader thread of a closed source that waits for the network ends by itself, when it has waited `timeout_s`.
_JOIN_S = 1.0


@dataclass(frozen=True)
class LiveFrame:
    """A frame of a live source.

    Attributes:
        stamp_s: its time in the stream, in seconds; increases, also where the source was lost and came back.
        pixels: (H, W, 3) uint8, RGB.
        arrived_s: when it arrived, by `time.monotonic()`.
        connection: number of the connection that it came through, from 0.
    """

    stamp_s: float
    pixels: np.ndarray
    arrived_s: float
    connection: int


class LiveSource:
    """Frames of a camera, of an address or of standard input, as they come.

    A thread reads and decodes. Of a live source it keeps the newest frames and drops older ones, so that it never waits
    for who takes the frames. A live source that stalls, breaks off or ends is opened again, until it is back; the pause
    doubles from a second on. Its time goes on meanwhile. Only HLS and tcp tell an end from a loss. Standard input, and
    an address that tells its length, are read as files are: no frame is dropped. A file on a server that breaks off
    goes on after the last frame.

        with LiveSource("rtsp://camera/stream") as source:
            for frame in source:
                print(frame.stamp_s, frame.pixels.shape, source.dropped)

    Args:
        address: "-", "/dev/video0", the number of a camera, or an address: http, https, rtsp, rtsps, rtmp, rtmps, udp
            or tcp.
        timeout_s: seconds without data after which a source counts as lost.
        longest_wait_s: longest pause before it is opened again.
        max_waiting: frames that wait to be taken, at most.
        limits: on the size of the frames.

    Attributes:
        name: the address, without the user's name and password.
        is_live: frames are dropped if they are not taken in time.
        fps: frames a second that the source claims; None if it claims none.
        received, dropped: frames that were decoded, and those of them that were dropped.
        damaged: packets that did not decode, and frames that could not be converted.
        losses: times that the source was lost.

    Raises:
        VideoError: the source cannot be opened, or has no video. While frames are taken: their size changes, or a file
            on a server does not come back.
        ValueError: no such kind of source.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = 10.0,
        longest_wait_s: float = 30.0,
        max_waiting: int = 32,
        limits: MediaLimits = USUAL_LIMITS,
    ) -> None:
        self._address = LiveAddress(address)
        self.name = self._address.name
        self._timeout_s, self._longest_wait_s, self._max_waiting = timeout_s, longest_wait_s, max_waiting
        self._limits = limits
        self.is_live, self.fps = True, None
        self.received = self.dropped = self.damaged = self.losses = 0
        self._size: tuple[int, int] | None = None
        self._clock: StreamClock | None = None  # None before the first opening
        self._waiting: deque[tuple[float, av.VideoFrame, float, int] | None] = deque()  # None: a loss
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._ended = False
        self._error: Exception | None = None
        self._reformatter = VideoReformatter()
        self._thread = threading.Thread(target=self._work, name=f"reader of {self.name}", daemon=True)
        self._thread.start()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._clock is not None or self._ended)
        except KeyboardInterrupt:
            self._closing.set()
            raise
        if self._clock is None and self._error:
            raise self._error

    def __iter__(self) -> Iterator[LiveFrame]:
        return (frame for frame in self.arrivals() if frame is not None)

    def arrivals(self) -> Iterator[LiveFrame | None]:
        """Yield the frames, and None where a live source was lost, at once."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended or self._closing.is_set())
                if self._closing.is_set() or not self._waiting:
                    break
                arrival = self._waiting.popleft()
                self._changed.notify_all()
            if arrival is None:
                yield None
                continue
            stamp_s, frame, arrived_s, connection = arrival
            try:
                pixels = self._reformatter.reformat(frame, format="rgb24", **ONE_THREAD).to_ndarray()
            except DECODE_ERRORS:  # such as for colors that a damaged header claims
                self.damaged += 1
                continue
            yield LiveFrame(stamp_s, upright(pixels, frame), arrived_s, connection)
        if self._error and not self._closing.is_set():
            raise self._error

    @property
    def num_waiting(self) -> int:
        """Number of frames that wait to be taken."""
        return len(self._waiting)

    def close(self) -> None:
        """Stop reading; may be called twice, and from any thread."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_S)

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _work(self) -> None:
        """Read until the end; what the reader thread does."""
        try:
            self._read()
        except Exception as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _read(self) -> None:
        """Read the source, and open it again where it breaks off.

        Raises:
            VideoError: see the class.
        """
        failures, lost_s = 0, 0.0
        while not self._closing.is_set():
            before, container = self.received, None
            try:
                container, stream = self._open()
                if lost_s:
                    logger.warning("%s is back after %.1f s", self.name, time.monotonic() - lost_s)
                    lost_s = 0.0
                self._receive(container, stream)
                if self._closing.is_set() or not self.is_live or self._address.tells_end(container):
                    break
                cause = "it ended"
            except _LostError as error:
                cause = error.cause
            finally:
                if container is not None:
                    container.close()
            if self._clock is None or self._address.is_pipe:
                raise VideoError(self.name, cause)
            failures = 0 if self.received > before else failures + 1
            if not self.is_live and failures == _MAX_FAILURES:
                raise VideoError(self.name, f"it broke off after {self._clock.last_s:.2f} s ({cause})")
            if not lost_s:
                lost_s = time.monotonic()
                logger.warning("%s is lost after %.1f s (%s); trying again", self.name, self._clock.last_s, cause)
                with self._changed:
                    self.losses += 1
                    if self.is_live:
                        self._waiting.append(None)
                        self._changed.notify_all()
            self._closing.wait(min(_FIRST_WAIT_S * 2**failures, self._longest_wait_s))
        if not self.received and not self._closing.is_set():
            raise VideoError(self.name, "no frame of it decodes")

    def _open(self) -> tuple[InputContainer, VideoStream]:
        """Open the source.

        Raises:
            _LostError: it cannot be opened, or has no video.
        """
        try:
            container = self._address.open(self._limits, self._timeout_s, self._closing)
        except DECODE_ERRORS as error:
            raise _LostError(self._address.cause(error, self._timeout_s)) from error
        try:
            stream = container.streams[choose_stream(container, None, self.name)]
            codec = stream.codec_context
            if codec is None:
                raise VideoError(self.name, "FFmpeg has no decoder for its codec")
            if oversized := self._limits.oversized(codec.width, codec.height):
                raise VideoError(self.name, oversized)
        except VideoError as error:
            container.close()
            raise _LostError(error.cause) from error
        codec.options = {"max_pixels": str(self._limits.frame_pixels)} if self._limits.frame_pixels else {}
        codec.thread_count, codec.thread_type = 1, "NONE"
        if self._clock is None:
            self.is_live = not self._address.is_pipe and not has_an_end(container)
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            self.fps = rate if _RATES[0] <= rate <= _RATES[1] else None
            with self._changed:
                self._clock = StreamClock(None if self.is_live else 1 / (self.fps or 30.0))
                self._changed.notify_all()
        elif self.is_live:
            self._clock.interrupt()
        return container, stream

    def _receive(self, container: InputContainer, stream: VideoStream) -> None:
        """Decode up to the end of a connection.

        Raises:
            _LostError: it breaks off.
            VideoError: the size of the frames changes.
        """
        by_decoding = container.format.name in DECODE_STAMPED
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except DECODE_ERRORS:
                    self.damaged += 1
                    continue
                for frame in frames:
                    stamp = frame.dts if by_decoding else frame.pts
                    self._take(frame, None if stamp is None else float(stamp * stream.time_base))
                if self._closing.is_set():
                    return
        except DECODE_ERRORS as error:
            raise _LostError(self._address.cause(error, self._timeout_s)) from error

    def _take(self, frame: av.VideoFrame, stamp: float | None) -> None:
        """Let a frame wait to be taken."""
        arrived_s = time.monotonic()
        size = frame.width, frame.height
        if self._size not in (None, size):
            sizes = " to ".join(f"{width} x {height}" for width, height in (self._size, size))
            raise VideoError(self.name, f"its frames change from {sizes} after {self._clock.last_s:.2f} s")
        self._size = size
        if self.losses and not self.is_live and self._clock.is_past(stamp):
            return  # of a file that is read again
        told = self._clock.is_broken
        seconds = self._clock.seconds(stamp, arrived_s)
        if self._clock.is_broken and not told:
            otherwise = "when they arrive" if self.is_live else "by the frame rate"
            logger.warning("%s: frames without time stamps, or with ones that jump, are timed %s", self.name, otherwise)
        with self._changed:
            if not self.is_live:
                self._changed.wait_for(lambda: len(self._waiting) < self._max_waiting or self._closing.is_set())
            while self.is_live and len(self._waiting) >= self._max_waiting:
                self.dropped += self._waiting.popleft() is not None
            self._waiting.append((seconds, frame, arrived_s, self.losses))
            self.received += 1
            self._changed.notify_all()


class _LostError(Exception):
    """A source cannot be opened, or breaks off."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause
