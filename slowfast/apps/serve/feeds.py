"""Where the frames of a viewer's stream come from: a video, the browser's camera, or a source of the server."""

from __future__ import annotations

import abc
import contextlib
import itertools
import math
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from slowfast.apps.predict.live import LiveSource
from slowfast.apps.serve.decoder import DecodedVideo, DecodingLimits, decode
from slowfast.apps.serve.limits import RefusedError
from slowfast.apps.serve.videos import VideoStore
from slowfast.datasets.video.limits import USUAL_LIMITS, MediaLimits
from slowfast.datasets.video.open_stream import DECODE_ERRORS
from slowfast.datasets.video.reader import VideoError
from slowfast.utils.errors import short

_MOST_BYTES = 2**30  # of frames that are collected
_SECONDS = struct.Struct("<d")  # in front of the JPEG of a camera's frame


@dataclass(frozen=True)
class FeedFrame:
    """A frame with its time in seconds, (H, W, 3) uint8 RGB, and when it arrived, by `time.monotonic()`."""

    time_s: float
    pixels: np.ndarray
    arrived_s: float


class Feed(abc.ABC):
    """Frames of one source, to be iterated once.

    Attributes:
        fps: constant rate at which a model gets them; known once the feed is entered.
        is_even: frames come at that rate, without gaps.
        dropped: frames that came too fast.
    """

    fps: float
    is_even: bool = False
    dropped: int = 0

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @abc.abstractmethod
    def __iter__(self) -> Iterator[FeedFrame | None]:
        """Yield the frames, and None where the source was lost.

        Raises:
            RefusedError: it cannot be read (any more).
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Let the iteration end soon; may be called twice, and from any thread."""


class VideoFeed(Feed):
    """The frames of a video.

    Args:
        store: has the video.
        identity: of the video.
        limits: on decoding.
        target_fps: rate of the frames of a video whose own rate varies.
        live: as fast as it is shown, in place of as fast as it can be.

    Raises:
        RefusedError: when it is entered: there is no such video (404), or it cannot be read (400).
    """

    is_even = True

    def __init__(
        self, store: VideoStore, identity: str, limits: DecodingLimits, target_fps: float, live: bool = False
    ) -> None:
        self._closing = threading.Event()
        self._limits, self._target_fps, self._live = limits, target_fps, live
        self._stack = contextlib.ExitStack()
        self._store, self._identity = store, identity
        self._decoded: DecodedVideo | None = None

    def __enter__(self) -> Feed:
        try:
            video = self._stack.enter_context(self._store.in_use(self._identity))
            with _told_as_unreadable():
                self._decoded = self._stack.enter_context(decode(video.path, self._limits, fps=self._target_fps))
        except BaseException:
            self._stack.close()
            raise
        self.fps = self._decoded.facts.fps
        return self

    def __iter__(self) -> Iterator[FeedFrame]:
        start_s = time.monotonic()
        while not self._closing.is_set():
            with _told_as_unreadable():
                found = next(self._decoded, None)
            if found is None:
                return
            time_s, pixels = found
            if self._live and self._closing.wait(max(0.0, start_s + time_s - time.monotonic())):
                return
            yield FeedFrame(time_s, pixels, time.monotonic())

    def close(self) -> None:
        """See `Feed.close`."""
        self._closing.set()
        if self._decoded:
            self._decoded.close()

    def __exit__(self, *exc: object) -> None:
        self._stack.close()


@contextlib.contextmanager
def _told_as_unreadable() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise RefusedError(400, f"the video cannot be read: {short(error, 300)}") from None


def collect(frames: Iterable[np.ndarray], fps: float, most: int | None = None) -> np.ndarray:
    """Return the frames, or the first `most`, as one array (T, H, W, 3); RefusedError (400) if they take too much."""
    kept: list[np.ndarray] = []
    for pixels in itertools.islice(frames, most):
        kept.append(pixels)
        if len(kept) * pixels.nbytes > _MOST_BYTES:
            raise RefusedError(
                400,
                f"the frames up to {len(kept) / fps:.1f} s take {_MOST_BYTES / 2**20:g} MiB, which is the limit for "
                "evidence and for models of persons: bring a shorter or smaller video",
            )
    if not kept:
        raise RefusedError(400, "no frame of the video decodes")
    return np.stack(kept)


class CameraFeed(Feed):
    """Frames that the browser sends; the newest wins.

    Args:
        fps: rate at which the model gets them.
        idle_s: seconds without a frame after which it ends.
        limits: on the size of a frame.

    Attributes:
        received: frames that the browser sent.
    """

    def __init__(self, fps: float, idle_s: float, limits: MediaLimits = USUAL_LIMITS) -> None:
        self.fps, self._idle_s, self._limits = fps, idle_s, limits
        self.received = self.dropped = 0
        self._changed = threading.Condition()
        self._newest: tuple[bytes, float] | None = None
        self._closed = False
        self._reformatter = VideoReformatter()

    def put(self, data: bytes) -> None:
        """Take in a message: 8 bytes, the second of the frame as little-endian float64, and a JPEG."""
        with self._changed:
            self.received += 1
            self.dropped += self._newest is not None
            self._newest = data, time.monotonic()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[FeedFrame]:
        last = -math.inf
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._newest or self._closed, self._idle_s):
                    raise RefusedError(400, f"no frame came for {self._idle_s:g} s, so the stream has ended")
                if self._closed:
                    return
                (data, arrived_s), self._newest = self._newest, None
            time_s, pixels = self._read(data)
            # Frames of a camera that is started again may come with earlier times.
            if time_s < last:
                yield None
            last = time_s
            yield FeedFrame(time_s, pixels, arrived_s)

    def _read(self, data: bytes) -> tuple[float, np.ndarray]:
        if len(data) <= _SECONDS.size:
            raise RefusedError(
                400, f"a frame of the camera has {len(data)} bytes; 8 for its time and a JPEG are needed"
            )
        (time_s,) = _SECONDS.unpack_from(data)
        if not math.isfinite(time_s):
            raise RefusedError(400, f"a frame of the camera is at {time_s} seconds; its time must be a finite number")
        codec = av.CodecContext.create("mjpeg", "r")
        codec.options = {"max_pixels": str(self._limits.frame_pixels)} if self._limits.frame_pixels else {}
        codec.thread_count = 1
        try:
            frames = codec.decode(av.Packet(data[_SECONDS.size :]))
            frames = frames or codec.decode(None)
            return time_s, self._reformatter.reformat(frames[0], format="rgb24").to_ndarray()
        except (*DECODE_ERRORS, IndexError):
            raise RefusedError(400, "a frame of the camera is no JPEG that can be read") from None

    def close(self) -> None:
        """See `Feed.close`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class SourceFeed(Feed):
    """Frames of an address or a camera of the server.

    Args:
        address: see `LiveSource`; standard input is refused.
        fps: rate for the model where the source claims none.
    """

    def __init__(self, address: str, fps: float) -> None:
        self._address, self.fps = address, fps
        self._source: LiveSource | None = None
        self._closed = False

    def __enter__(self) -> Feed:
        if self._address.strip() == "-":
            raise RefusedError(400, "standard input is the operator's; name an address or a camera of the server")
        try:
            self._source = LiveSource(self._address)
        except (VideoError, ValueError) as error:
            cause = error.cause if isinstance(error, VideoError) else str(error)
            raise RefusedError(400, f"the source cannot be opened: {cause}") from None
        self.fps = self._source.fps or self.fps
        if self._closed:
            self._source.close()
        return self

    def __iter__(self) -> Iterator[FeedFrame | None]:
        try:
            for frame in self._source.arrivals():
                self.dropped = self._source.dropped
                yield None if frame is None else FeedFrame(frame.stamp_s, frame.pixels, frame.arrived_s)
        except VideoError as error:
            raise RefusedError(400, f"the source cannot be read any more: {error.cause}") from None

    def close(self) -> None:
        """See `Feed.close`."""
        self._closed = True
        if self._source:
            self._source.close()
