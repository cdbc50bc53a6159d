"""PyAV (FFmpeg) backend of `slowfast.datasets.video.open`.

Frames are found by presentation time stamp: seek to the key frame before the first, decode up to the last, and skip
frames that are neither wanted nor referenced. If a file's packets cannot be trusted (see `packet_index`), or a frame is
missing, the reader counts frames from the start of the file. Indices are cached, so a process reads the packets of a
file once.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from slowfast.datasets.video.cache import LRUCache
from slowfast.datasets.video.damage import Span, joined, lost_end, lost_frames
from slowfast.datasets.video.limits import USUAL_LIMITS, MediaLimits
from slowfast.datasets.video.packet_index import NO_STAMP, PacketIndex, index_packets
from slowfast.datasets.video.reader import Fit, Pictures, VideoError, VideoReader, cause_of
from slowfast.datasets.video.stamps import rate_of_packets, time_frames
from slowfast.datasets.video.streams import choose_stream, notes_of_streams, refuse_stills
from slowfast.utils.files import regular_file

logger = logging.getLogger(__name__)

# What FFmpeg and PyAV raise for bad files. (A cut-off atom can surface as any of the last three.)
DECODE_ERRORS = (av.FFmpegError, OSError, ValueError, RuntimeError, IndexError)
# Seeking forward costs about as much as decoding this many frames.
SEEK_COST = 8
# Decoders that can leave out frames to which no other frame refers.
SKIPPING_CODECS = {"h264", "hevc"}
# Containers whose stamps are, for FFmpeg, times of decoding alone; it guesses those of presentation.
DECODE_STAMPED = {"avi", "asf"}
# From 17 on, PyAV starts conversion threads unless told not to; a forked loader worker would lack them.
ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
# Options to reopen an indexed file of a container whose header has all that a decoder needs: FFmpeg then does not read
# and decode the first frames to probe it.
HEADED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2"}
KNOWN = {"probesize": "32"}, [{"skip_frame": "all"}] * 8
# Bytes of cached facts in a process, and of the facts of a file without its frames.
FACTS_BYTES, _FIXED_BYTES = 2**25, 2**11


class _Local(threading.local):
    """Converters for each thread, one for each kind of result; creating one costs several times as much as using it."""

    def __init__(self) -> None:
        self.reformatter, self.shrinker = VideoReformatter(), VideoReformatter()


_local = _Local()


@dataclass(frozen=True, slots=True)
class _Facts:
    """Facts of a file that are cached when it is first opened, so that every opening reads the same frames."""

    stream: int  # index in the container
    index: PacketIndex
    counted: array[float] | None  # times of the frames of a file whose packets cannot be trusted
    unit: float  # seconds per unit of time stamps
    fps: float
    size: tuple[int, int]  # width, height
    headed: bool  # the header suffices to reopen it
    notes: dict[str, str]  # kind -> text
    lost_end: Span | None = None  # that the header promises
    lost_frames: list[Span] = field(default_factory=list)  # it alone changes, as decoding finds them out

    @property
    def nbytes(self) -> int:
        """Bytes that the facts take in memory, about."""
        counted = 0 if self.counted is None else self.counted.itemsize * len(self.counted)
        return _FIXED_BYTES + self.index.nbytes + counted


# Kinds of notes of which this process logged a file.
_logged: set[str] = set()
# (path, inode, size, time of modification, choice of the stream) -> facts; 5 KB for ten seconds of video.
_known: LRUCache[_Facts] = LRUCache(FACTS_BYTES)


class MissingFrames(Exception):
    """Seeking did not yield the frames of the index."""


class PyAVReader(VideoReader):
    """See `VideoReader`.

    Attributes:
        frames_decoded: number of frames decoded since opening.
        version: cache key of the video: path, inode, size and modification time of the file, and `stream`.

    Args:
        path: the file.
        threads: decoder threads; 0 lets the decoder choose.
        stream: which of the video streams of the file, from 0, without attached pictures; None for FFmpeg's best.
        limits: on the format of the file and the size of its frames.
        file: the file, open for reading bytes, so that FFmpeg itself opens nothing; `path` then only names it, and
            whoever opened it closes it.
    """

    def __init__(
        self,
        path: str,
        threads: int = 1,
        stream: int | None = None,
        limits: MediaLimits = USUAL_LIMITS,
        file: BinaryIO | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self.frames_decoded = 0
        self._threads, self._choice, self._limits, self._file = threads, stream, limits, file
        self._stream_index: int | None = None
        self._container: av.container.InputContainer | None = None
        self._counting: tuple[int, Iterator[av.VideoFrame]] | None = None  # frames from the start: number of the next
        self._stand_ins: list[int] | None = None  # place of each frame among those that decode, once one does not
        try:
            if file is None:
                with open(self.path, "rb", opener=regular_file) as regular:
                    status = os.fstat(regular.fileno())
            else:
                status = os.fstat(file.fileno())
        except OSError as error:
            raise VideoError(self.path, cause_of(error)) from error
        try:
            self.version = self.path, status.st_ino, status.st_size, status.st_mtime_ns, stream
            facts = _known.get(self.version)
            if facts is None:
                facts = self._index_file()
                _known.keep(self.version, facts, facts.nbytes + len(self.path))
                self._log(facts.notes)
            else:
                # Other limits may have held before.
                if oversized := limits.oversized(*facts.size):
                    raise VideoError(self.path, oversized)
                self._stream_index = facts.stream
                self._reopen(facts.headed)
        except VideoError:
            self.close()
            raise
        except DECODE_ERRORS as error:
            self.close()
            raise VideoError(self.path, _describe(error)) from error
        self._facts, self._index, self._counted, self._size = facts, facts.index, facts.counted, facts.size
        self._unit, self._fps, self._notes = facts.unit, facts.fps, facts.notes

    def _index_file(self) -> _Facts:
        self._reopen()
        codec = self._stream.codec_context
        size = codec.width, codec.height  # before decoding: in mid-stream it may change
        if 0 in size and (refused := self._limits.why_refused(self._source())):
            raise VideoError(self.path, refused)
        notes = notes_of_streams(self._container, self._stream)
        packets = self._container.demux(self._stream)
        index = index_packets(until_error(packets), self._stream, self._container.format.name)
        end, lost = lost_end(self._file or self.path, self._stream, index), []
        if index.doubt:
            stamps, corrupt = self._decode_stamps(index.doubt)
            counted, fps, more = time_frames(stamps, self._stream)
            lost = lost_frames(counted, corrupt, len(counted) / fps)
            end = end and (min(end[0], float(counted[-1] + 1 / fps)), end[1])
        else:
            counted, (fps, more) = None, rate_of_packets(index.pts, index.last_duration, self._stream)
        if end:
            notes["cut"] = f"it is cut off at second {end[0]:.2f} of {end[1]:.2f}"
        count = len(index.pts if counted is None else counted)
        refuse_stills(self._container, self._stream, count, self.path)
        headed = counted is None and self._container.format.name in HEADED_CONTAINERS
        unit = float(self._stream.time_base)
        return _Facts(self._stream.index, index, counted, unit, fps, size, headed, notes | more, end, lost)

    def _log(self, notes: dict[str, str]) -> None:
        """Log the notes that are the first of their kind in this process; a data set may have thousands."""
        for kind in notes.keys() - _logged:
            _logged.add(kind)
            logger.warning(
                "%s: %s. (Only the first file is logged; a check of the data lists all.)", self.path, notes[kind]
            )

    @property
    def num_frames(self) -> int:
        return len(self._index.pts if self._counted is None else self._counted)

    @property
    def fps(self) -> float:
        return self._fps

    @property
    def times(self) -> np.ndarray:
        if self._counted is not None:
            return np.array(self._counted)
        pts = np.array(self._index.pts)
        return (pts - pts[0]) * self._unit

    @property
    def notes(self) -> tuple[str, ...]:
        lost = [f"frames of it do not decode, the first at second {start:.2f}" for start, _ in self._facts.lost_frames]
        return (*self._notes.values(), *lost[:1])

    @property
    def unreadable(self) -> Sequence[Span]:
        end = self._facts.lost_end
        return joined([*self._facts.lost_frames, *([end] if end else [])])

    def close(self) -> None:
        self._counting = None
        if self._container is not None:
            self._container.close()
            self._container = None

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        return self._put(indices, None)

    def fitted(self, indices: Sequence[int], fit: Fit) -> np.ndarray:
        return self._put(indices, fit)

    def _put(self, indices: Sequence[int], fit: Fit | None) -> np.ndarray:
        wanted = [int(i) for i in indices]
        outside = [i for i in wanted if not 0 <= i < self.num_frames]
        if outside or not wanted:
            raise IndexError(f"{self.path}: frames {outside or wanted} asked of a video of {self.num_frames}")
        pictures = Pictures(wanted, fit)
        for index, picture in self.each(pictures.wanted):
            if pictures.shape not in (None, picture.shape):  # turned in mid-stream
                sizes = picture.shape[:2], pictures.shape[:2]
                raise VideoError(self.path, "frame {} has {} pixels, and the first one {}".format(index, *sizes))
            pictures.put(index, picture)
        return pictures.array

    def each(self, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the frames at sorted indices with these; where decoding fails midway, those before come again.

        Errors of whoever uses the pictures do not get in here, so they are not taken for those of the file.
        """
        try:
            if self._counted is None:
                for skip in (True, False) if self._stream.codec_context.name in SKIPPING_CODECS else (False,):
                    try:
                        yield from self._by_stamp(wanted, skip)
                        return
                    except (MissingFrames, *DECODE_ERRORS) as error:
                        logger.debug("%s: %s", self.path, error)
                if self._stand_ins is None:
                    self._stand_ins = self._find_stand_ins()
            places: dict[int, list[int]] = {}
            for index in wanted:
                places.setdefault(self._stand_ins[index] if self._stand_ins else index, []).append(index)
            yield from self._by_count(places)
        except DECODE_ERRORS as error:
            raise VideoError(self.path, _describe(error)) from error

    def _by_stamp(self, wanted: list[int], skip: bool) -> Iterator[tuple[int, np.ndarray]]:
        for key, positions in _runs(self._index, wanted):
            missing = {self._index.pts[i]: i for i in positions}
            last = max(missing)
            for frame in self._decode_from(key, set(missing), skip):
                if frame.is_corrupt:
                    raise MissingFrames(f"damaged frame at {frame.pts}")
                if frame.pts in missing:
                    yield missing.pop(frame.pts), self._picture(frame)
                if not missing or (frame.pts is not None and frame.pts > last):
                    break
            if missing:
                raise MissingFrames(f"no frames at time stamps {sorted(missing)}")

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
        goals = [index.key_pts[key], index.key_dts[key], index.key_dts[max(key - 1, 0)], index.key_dts[0]]
        self._counting = None
        for goal in (goal for goal in goals if goal != NO_STAMP):
            self._container.seek(goal, stream=self._stream, backward=True)
            packets = self._container.demux(self._stream)
            first = next(packets, None)
            if first is not None and index.starts_by(first.pts, key):
                yield first
                yield from packets
                return
        raise MissingFrames(f"cannot seek to the key frame at {index.key_pts[key]}")

    def in_order(self, start_s: float = 0.0) -> Iterator[tuple[av.VideoFrame, float]]:
        """Decode every frame in order, passing over packets that do not decode.

        Args:
            start_s: begin with the last frame that is not later than this second, or with an earlier one.

        Yields:
            Frames in the decoder's pixel format, and their times in seconds from the first frame.
        """
        times = self.times
        first = max(int(np.searchsorted(times, start_s, side="right")) - 1, 0)
        if self._counted is not None:
            yield from itertools.islice(zip(self._decode_all(), times, strict=False), first, None)
            return
        seconds = -1 / self._fps
        for frame in self._from_position(first):
            # A frame without a time stamp, or with one that a damaged file repeats, follows the one before it.
            later = 0.0 if frame.pts is None else (frame.pts - self._index.pts[0]) * self._unit
            seconds = later if later > seconds else seconds + 1 / self._fps
            yield frame, seconds

    def _from_position(self, position: int) -> Iterator[av.VideoFrame]:
        """Decode every frame from `position` on; earlier ones too if no seek leads to a whole picture of it."""
        goal = self._index.pts[position]
        key, back = self._index.key_of(goal), 1
        while key > 0:
            try:
                frames = self._decode_packets(self._packets_from(key))
                reached = next((frame for frame in frames if frame.pts is not None and frame.pts >= goal), None)
            except (MissingFrames, *DECODE_ERRORS) as error:
                logger.debug("%s: %s", self.path, error)
                reached = None
            if reached is not None and reached.pts == goal and not reached.is_corrupt:
                return itertools.chain([reached], frames)
            key, back = max(key - back, 0), 2 * back
        return self._decode_all()

    def _find_stand_ins(self) -> list[int]:
        """Return for each frame its place among those that decode, or that of the last one before it that does."""
        stamps, corrupt = self._decode_stamps("a frame its packets promise does not decode")
        pts = self._index.pts
        whole = {stamp for place, stamp in enumerate(stamps) if place not in corrupt}
        lost = [place for place, stamp in enumerate(pts) if stamp not in whole]
        self._facts.lost_frames[:] = lost_frames(self.times, lost, self.duration)
        # After a hole frames may come without stamps, or out of order.
        placed = sorted((stamp, place) for place, stamp in enumerate(stamps) if stamp is not None)
        if not placed:
            return [min(number, len(stamps) - 1) for number in range(len(pts))]
        return [placed[max(bisect_right(placed, (stamp, len(stamps))) - 1, 0)][1] for stamp in pts]

    def _by_count(self, places: dict[int, list[int]]) -> Iterator[tuple[int, np.ndarray]]:
        """Decode frames by their places among those that decode; the last one that still does stands in for later ones.

        Decoding goes on where the call before ended, if that is not too late.
        """
        position, frames = self._counting or (0, None)
        if frames is None or position > min(places):
            position, frames = 0, self._decode_all()
        self._counting, picture = None, None
        for frame in frames:
            if position in places:
                picture = self._picture(frame)
                for index in places.pop(position):
                    yield index, picture
            position += 1
            if not places:
                self._counting = position, frames
                return
        if picture is None:
            raise VideoError(self.path, f"frames {sorted(itertools.chain(*places.values()))} no longer decode")
        for index in itertools.chain.from_iterable(places.values()):
            yield index, picture

    def _decode_stamps(self, doubt: str) -> tuple[list[int | None], set[int]]:
        """Decode the whole file; return the stamps of its frames (None for none), and the places of damaged ones."""
        logger.debug("%s: counting frames by decoding (%s)", self.path, doubt)
        causes: list[Exception] = []
        by_decoding = self._container.format.name in DECODE_STAMPED
        stamps, corrupt = [], set()
        for place, frame in enumerate(self._decode_all(causes.append)):
            stamps.append(frame.dts if by_decoding else frame.pts)
            if frame.is_corrupt:
                corrupt.add(place)
        if not stamps:
            refused = self._limits.why_refused(self._source()) if causes else ""
            if refused:
                raise VideoError(self.path, refused)
            cause = _describe(causes[0]) if causes else "the file ends before the first frame"
            raise VideoError(self.path, f"no frame of it decodes ({cause})")
        return stamps, corrupt

    def _decode_all(self, note: Callable[[Exception], None] = lambda error: None) -> Iterator[av.VideoFrame]:
        """Yield every frame that decodes, from the first; pass errors of packets to `note`."""
        self._reopen()
        return self._decode_packets(self._container.demux(self._stream), note)

    def _decode_packets(
        self, packets: Iterator[av.Packet], note: Callable[[Exception], None] = lambda error: None
    ) -> Iterator[av.VideoFrame]:
        """Yield the frames of packets; pass errors to `note`."""
        for packet in until_error(packets, note):
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
        pixels = _local.reformatter.reformat(frame, *self._size, format="rgb24", **ONE_THREAD).to_ndarray()
        return upright(pixels, frame)

    def _source(self) -> str | BinaryIO:
        """Return what FFmpeg opens, at its start."""
        if self._file is None:
            return f"file:{self.path}"  # so that FFmpeg does not read a colon in a name as a protocol
        self._file.seek(0)
        return self._file

    def _reopen(self, headed: bool = False) -> None:
        self.close()
        known, stream_options = KNOWN if headed else ({}, [])
        options = known | self._limits.options
        try:
            self._container = av.open(
                self._source(), options=options, stream_options=stream_options, metadata_errors="replace"
            )
        except av.ArgumentError as error:
            raise VideoError(self.path, self._limits.why_refused(self._source()) or _describe(error)) from error
        if self._stream_index is None:
            self._stream_index = choose_stream(self._container, self._choice, self.path)
        self._stream = self._container.streams[self._stream_index]
        codec = self._stream.codec_context
        if codec is None:
            raise VideoError(self.path, "FFmpeg has no decoder for its codec")
        if oversized := self._limits.oversized(codec.width, codec.height):
            raise VideoError(self.path, oversized)
        if self._limits.frame_pixels:
            codec.options = {"max_pixels": str(self._limits.frame_pixels)}
        codec.thread_count = self._threads
        codec.thread_type = "NONE" if self._threads == 1 else "AUTO"


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return a, b, c, d of the display matrix: x' = a x + c y, y' = b x + d y; y points down."""
    # PyAV's frames and their side data refer to each other, so that only a full collection of garbage frees the pixels.
    # A copy has the same side data and few pixels.
    small = _local.shrinker.reformat(frame, 2, 2, "gray", interpolation="POINT", **ONE_THREAD)
    matrix = small.side_data.get("DISPLAYMATRIX")
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
            if _frames_between(index, last, index.key_pts[key]) <= SEEK_COST:
                runs[-1][1].append(position)
                continue
        runs.append((key, [position]))
    return runs


def _frames_between(index: PacketIndex, position: int, pts: int) -> int:
    """Count the frames after `position` and before time stamp `pts`, up to `SEEK_COST` + 1."""
    ahead = index.pts[position + 1 : position + 2 + SEEK_COST]
    return sum(1 for stamp in ahead if stamp < pts)


def until_error(
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
