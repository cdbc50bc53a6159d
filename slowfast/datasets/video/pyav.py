"""PyAV (FFmpeg) backend of `slowfast.datasets.video.open`.

Frames are found by presentation time stamp: seek to the key frame before the first, decode up to the last, and skip
frames that are neither wanted nor referenced. If a file's packets cannot be trusted (see `packet_index`), or a frame is
missing, the reader counts frames from the start of the file. Indices are cached, so a process reads the packets of a
file once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from slowfast.datasets.video.cache import LRUCache
from slowfast.datasets.video.packet_index import STAMPED_CONTAINERS, PacketIndex, index_packets
from slowfast.datasets.video.reader import VideoError, VideoReader

logger = logging.getLogger(__name__)

# What FFmpeg and PyAV raise for bad files. (A cut-off atom can surface as any of the last three.)
DECODE_ERRORS = (av.FFmpegError, OSError, ValueError, RuntimeError, IndexError)
# Seeking forward costs about as much as decoding this many frames.
SEEK_COST = 8
# Relative difference from which a header's frame rate is believed less than the time stamps.
RATE_TOLERANCE = 0.02
DEFAULT_FPS = 30.0
# Decoders that can leave out frames to which no other frame refers.
SKIPPING_CODECS = {"h264", "hevc"}
# From 17 on, PyAV starts conversion threads unless told not to; a forked loader worker would lack them.
ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
# Options to reopen an indexed file of a container whose header has all that a decoder needs: FFmpeg then does not read
# and decode the first frames to probe it.
HEADED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2"}
KNOWN = {"options": {"probesize": "32"}, "stream_options": [{"skip_frame": "all"}] * 8}

_local = threading.local()


@dataclass(frozen=True, slots=True)
class _Facts:
    """Facts of a file that are cached when it is first opened."""

    index: PacketIndex
    counted: int | None  # frames of a file whose packets cannot be trusted
    fps: float
    size: tuple[int, int]  # width, height
    headed: bool  # the header suffices to reopen it


# (path, inode, size, time of change) -> facts; 3 KB for ten seconds of video.
_known: LRUCache[_Facts] = LRUCache(4096)


class MissingFrames(Exception):
    """Seeking did not yield the frames of the index."""


class PyAVReader(VideoReader):
    """See `VideoReader`.

    Attributes:
        frames_decoded: number of frames decoded since opening.
        version: cache key of the file: path, inode, size and modification time.
    """

    def __init__(self, path: str, threads: int = 1) -> None:
        self.path = os.fspath(path)
        self.frames_decoded = 0
        self._threads = threads
        self._container: av.container.InputContainer | None = None
        if not os.path.isfile(self.path):
            raise VideoError(self.path, "no such file")
        try:
            status = os.stat(self.path)
            self.version = self.path, status.st_ino, status.st_size, status.st_mtime_ns
            facts = _known.get(self.version)
            if facts is None:
                facts = self._index_file()
                _known.keep(self.version, facts)
            else:
                self._reopen(**KNOWN if facts.headed else {})
        except VideoError:
            self.close()
            raise
        except DECODE_ERRORS as error:
            self.close()
            raise VideoError(self.path, _describe(error)) from error
        self._index, self._counted, self._fps, self._size = facts.index, facts.counted, facts.fps, facts.size

    def _index_file(self) -> _Facts:
        self._reopen()
        codec = self._stream.codec_context
        size = codec.width, codec.height  # before decoding: in mid-stream it may change
        packets = self._container.demux(self._stream)
        index = index_packets(_until_error(packets), self._stream, self._container.format.name)
        counted = self._count_frames(index.doubt) if index.doubt else None
        headed = counted is None and self._container.format.name in HEADED_CONTAINERS
        return _Facts(index, counted, self._mean_rate(index, counted is None), size, headed)

    @property
    def num_frames(self) -> int:
        return len(self._index.pts) if self._counted is None else self._counted

    @property
    def fps(self) -> float:
        return self._fps

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        wanted = [int(i) for i in indices]
        outside = [i for i in wanted if not 0 <= i < max(self.num_frames, len(self._index.pts))]
        if outside or not wanted:
            raise IndexError(f"{self.path}: frames {outside or wanted} asked of a video of {self.num_frames}")
        try:
            found = self._collect(sorted(set(wanted)))
        except DECODE_ERRORS as error:
            raise VideoError(self.path, _describe(error)) from error
        # Counting may have found the file shorter than its packets said: the last frame stands in for more.
        last = max(found)
        return np.stack([found[min(i, last)] for i in wanted])

    def _collect(self, wanted: list[int]) -> dict[int, np.ndarray]:
        """Decode positions -> pictures, in the cheapest way that yields all."""
        if self._counted is None:
            for skip in (True, False) if self._stream.codec_context.name in SKIPPING_CODECS else (False,):
                try:
                    return self._by_stamp(wanted, skip)
                except (MissingFrames, *DECODE_ERRORS) as error:
                    logger.debug("%s: %s", self.path, error)
            self._counted = self._count_frames("a frame its packets promise does not decode")
        return self._by_count({min(i, self._counted - 1) for i in wanted})

    def _by_stamp(self, wanted: list[int], skip: bool) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}
        for key, positions in _runs(self._index, wanted):
            missing = {self._index.pts[i]: i for i in positions}
            last = max(missing)
            for frame in self._decode_from(key, set(missing), skip):
                if frame.is_corrupt:
                    raise MissingFrames(f"damaged frame at {frame.pts}")
                if frame.pts in missing:
                    found[missing.pop(frame.pts)] = self._picture(frame)
                if not missing or (frame.pts is not None and frame.pts > last):
                    break
            if missing:
                raise MissingFrames(f"no frames at time stamps {sorted(missing)}")
        return found

    def _decode_from(self, key: int, needed: set[int], skip: bool) -> Iterator[av.VideoFrame]:
        """Decode from key packet `key` until all time stamps `needed` are out.

        With `skip`, other frames that no frame references are not decoded.
        """
        codec = self._stream.codec_context
        try:
            for packet in self._packets_from(key):
                if skip:
                    codec.skip_frame = "DEFAULT" if packet.pts in needed else "NONREF"
                yield from self._decode(packet)
                needed.discard(packet.pts)
                if not needed:
                    # Flush the decoder; the next seek resets it.
                    yield from self._decode(None)
                    return
        finally:
            codec.skip_frame = "DEFAULT"

    def _packets_from(self, key: int) -> Iterator[av.Packet]:
        """Yield packets from key packet `key` or an earlier one on, however the container seeks."""
        index = self._index
        goals = [index.keys[key].pts, index.keys[key].dts, index.keys[max(key - 1, 0)].dts, index.keys[0].dts]
        for goal in (goal for goal in goals if goal is not None):
            self._container.seek(goal, stream=self._stream, backward=True)
            packets = self._container.demux(self._stream)
            first = next(packets, None)
            if first is not None and index.starts_by(first.pts, key):
                yield first
                yield from packets
                return
        raise MissingFrames(f"cannot seek to the key frame at {index.keys[key].pts}")

    def _by_count(self, wanted: set[int]) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}
        self._reopen()
        for position, frame in enumerate(self._decode_all()):
            if position in wanted:
                found[position] = self._picture(frame)
            if len(found) == len(wanted):
                break
        if not found:
            raise VideoError(self.path, f"frames {sorted(wanted)} no longer decode")
        return found

    def _count_frames(self, doubt: str) -> int:
        """Count the frames by decoding the whole file."""
        logger.debug("%s: counting frames by decoding (%s)", self.path, doubt)
        self._reopen()
        causes: list[Exception] = []
        count = sum(1 for _ in self._decode_all(causes.append))
        if count == 0:
            cause = _describe(causes[0]) if causes else "the file ends before the first frame"
            raise VideoError(self.path, f"no frame of it decodes ({cause})")
        return count

    def _decode_all(self, note: Callable[[Exception], None] = lambda error: None) -> Iterator[av.VideoFrame]:
        """Yield every frame that decodes, from the first; pass errors of packets to `note`."""
        for packet in _until_error(self._container.demux(self._stream), note):
            try:
                yield from self._decode(packet)
            except DECODE_ERRORS as error:
                note(error)

    def _decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        """Decode a packet; None flushes the decoder."""
        frames = self._stream.codec_context.decode(packet) if packet is None else packet.decode()
        self.frames_decoded += len(frames)
        return frames

    def _picture(self, frame: av.VideoFrame) -> np.ndarray:
        """Convert to (H, W, 3) uint8, upright; frames whose size changes mid-stream are scaled to the first size."""
        pixels = _reformatter().reformat(frame, *self._size, format="rgb24", **ONE_THREAD).to_ndarray()
        return upright(pixels, frame)

    def _reopen(self, **arguments: Any) -> None:
        self.close()
        # "file:" keeps FFmpeg from reading a colon in a name as a protocol.
        self._container = av.open(f"file:{self.path}", metadata_errors="replace", **arguments)
        self._stream = self._container.streams.best("video")
        if self._stream is None:
            raise VideoError(self.path, "no video stream in the file")
        codec = self._stream.codec_context
        if codec is None:
            raise VideoError(self.path, "FFmpeg has no decoder for its codec")
        codec.thread_count = self._threads
        codec.thread_type = "NONE" if self._threads == 1 else "AUTO"

    def _mean_rate(self, index: PacketIndex, trusted: bool) -> float:
        """Return the container's frame rate, unless the stored time stamps contradict it."""
        pts, step = index.pts, index.last_duration
        # Without time stamps the average rate is a default; the guessed rate comes from the codec's header.
        told = pts and self._stream.average_rate or self._stream.guessed_rate
        rate = float(told) if told else 0.0
        stamped = trusted and self._container.format.name in STAMPED_CONTAINERS
        if stamped and len(pts) > 1:
            span = pts[-1] - pts[0] + (step or (pts[-1] - pts[0]) / (len(pts) - 1))
            measured = len(pts) / float(span * self._stream.time_base)
            if not rate or abs(measured - rate) > RATE_TOLERANCE * rate:
                return measured
        return rate or DEFAULT_FPS


def _reformatter() -> VideoReformatter:
    """Return this thread's color converter; creating one costs several times as much as using it."""
    if not hasattr(_local, "reformatter"):
        _local.reformatter = VideoReformatter()
    return _local.reformatter


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return a, b, c, d of the display matrix: x' = a x + c y, y' = b x + d y; y points down."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    return a, b, c, d


def upright(pixels: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Apply the display matrix: quarter turns and mirror images."""
    a, b, c, d = display_matrix(frame)
    if abs(a) < abs(b):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _runs(index: PacketIndex, positions: list[int]) -> list[tuple[int, list[int]]]:
    """Group sorted positions into (key packet, positions) to decode in one go; seek only where that is cheaper."""
    runs: list[tuple[int, list[int]]] = []
    for position in positions:
        key = index.key_of(index.pts[position])
        if runs:
            last = runs[-1][1][-1]
            if _frames_between(index, last, index.keys[key].pts) <= SEEK_COST:
                runs[-1][1].append(position)
                continue
        runs.append((key, [position]))
    return runs


def _frames_between(index: PacketIndex, position: int, pts: int) -> int:
    """Count the frames after `position` and before time stamp `pts`, up to `SEEK_COST` + 1."""
    ahead = index.pts[position + 1 : position + 2 + SEEK_COST]
    return sum(1 for stamp in ahead if stamp < pts)


def _until_error(
    packets: Iterator[av.Packet], note: Callable[[Exception], None] = lambda error: None
) -> Iterator[av.Packet]:
    """Yield packets up to the end or the first error of the container, which is passed to `note`."""
    try:
        yield from packets
    except DECODE_ERRORS as error:
        note(error)


def _describe(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{type(error).__name__}: {text}"
