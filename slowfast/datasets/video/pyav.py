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
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import av
import numpy as np

from slowfast.datasets.video.cache import LRUCache
from slowfast.datasets.video.damage import Span, joined, lost_frames
from slowfast.datasets.video.facts import FileFacts
from slowfast.datasets.video.index_cache import IndexCache
from slowfast.datasets.video.index_file import decode_stamps, index_file, seconds_of
from slowfast.datasets.video.limits import USUAL_LIMITS, MediaLimits
from slowfast.datasets.video.open_stream import DECODE_ERRORS, OpenStream, describe
from slowfast.datasets.video.orientation import upright_picture
from slowfast.datasets.video.packet_index import NO_STAMP, decoding_runs
from slowfast.datasets.video.reader import Fit, Pictures, Rhythm, VideoError, VideoReader, cause_of
from slowfast.utils.files import regular_file

logger = logging.getLogger(__name__)

# Decoders that can leave out frames to which no other frame refers.
SKIPPING_CODECS = {"h264", "hevc"}
# Bytes of cached facts in a process.
FACTS_BYTES = 2**25
# Seconds of indexing a file after which the user is told of `DATA.INDEX_CACHE`.
_LONG_S = 2.0

# Kinds of notes of which this process logged a file.
_logged: set[str] = set()
# (path, inode, size, time of modification, choice of the stream) -> facts; 5 KB for ten seconds of video.
_known: LRUCache[FileFacts] = LRUCache(FACTS_BYTES)


class MissingFrames(Exception):
    """Seeking did not yield the frames of the index."""


class PyAVReader(VideoReader):
    """See `VideoReader`.

    A subclass may define `by_stamp` anew, with `decode_from` and these attributes.

    Attributes:
        video: the open stream.
        index: of its packets.
        facts: of the file.
        version: cache key of the video: path, inode, size and modification time of the file, and `stream`.

    Args:
        path: the file.
        threads: decoder threads; 0 lets the decoder choose.
        stream: which of the video streams of the file, from 0, without attached pictures; None for FFmpeg's best.
        limits: on the format of the file and the size of its frames.
        file: the file, open for reading bytes, so that FFmpeg itself opens nothing; `path` then only names it, and
            whoever opened it closes it.
        index_cache: where the facts of long files are kept; not used with `file`.
    """

    def __init__(
        self,
        path: str,
        threads: int = 1,
        stream: int | None = None,
        limits: MediaLimits = USUAL_LIMITS,
        file: BinaryIO | None = None,
        index_cache: IndexCache | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self._opened: BinaryIO | None = None  # to read packets from their places
        self.video = OpenStream(self.path, threads, stream, limits, file)
        self._counting: tuple[int, Iterator[av.VideoFrame]] | None = None  # frames from the start: number of the next
        self._stand_ins: list[int] | None = None  # place of each frame among those that decode, once one does not
        try:
            if file is None:
                self._opened = open(self.path, "rb", opener=regular_file)  # noqa: SIM115
            status = os.fstat((self._opened or file).fileno())
        except OSError as error:
            self.close()
            raise VideoError(self.path, cause_of(error)) from error
        try:
            self.version = self.path, status.st_ino, status.st_size, status.st_mtime_ns, stream
            facts = self._known_facts(None if file else index_cache)
        except VideoError:
            self.close()
            raise
        except DECODE_ERRORS as error:
            self.close()
            raise VideoError(self.path, describe(error)) from error
        if self._opened is not None and self.video.places is None:
            self._opened.close()
        self.facts, self.index, self._counted, self._size = facts, facts.index, facts.counted, facts.size
        self._unit, self._fps, self._notes = facts.unit, facts.fps, facts.notes

    def _known_facts(self, index_cache: IndexCache | None) -> FileFacts:
        """Return the facts of the file from memory, the cache or the file itself, and open its stream."""
        facts = found = _known.get(self.version)
        if facts is None and index_cache is not None:
            found = index_cache.load(self.version)
        if found is None:
            started = time.perf_counter()
            found = index_file(self.video, None if index_cache is None else self._opened.fileno())
            seconds = time.perf_counter() - started
            if index_cache is not None:
                index_cache.keep(self.version, found)
                found = index_cache.load(self.version) or found  # which takes less memory
            elif seconds > _LONG_S and self.video.file is None:
                self._log({"slow": f"each process takes {seconds:.1f} s to index it; DATA.INDEX_CACHE keeps indices"})
        else:
            # Other limits may have held before.
            if oversized := self.video.limits.oversized(*found.size):
                raise VideoError(self.path, oversized)
            self.video.number = found.stream
            if found.places is None:
                self.video.reopen(found.headed)
            else:
                self.video.open_at(found.places)
        if facts is None:
            _known.keep(self.version, found, found.nbytes + len(self.path))
            self._log(found.notes)
        return found

    def _log(self, notes: dict[str, str]) -> None:
        """Log the notes that are the first of their kind in this process; a data set may have thousands."""
        for kind in notes.keys() - _logged:
            _logged.add(kind)
            logger.warning(
                "%s: %s. (Only the first file is logged; a check of the data lists all.)", self.path, notes[kind]
            )

    @property
    def frames_decoded(self) -> int:
        """Number of frames decoded since opening."""
        return self.video.frames_decoded

    @property
    def num_frames(self) -> int:
        return len(self.index.pts if self._counted is None else self._counted)

    @property
    def fps(self) -> float:
        return self._fps

    @property
    def times(self) -> np.ndarray:
        return seconds_of(self.index, self._unit) if self._counted is None else np.array(self._counted)

    @property
    def rhythm(self) -> Rhythm | None:
        return self.facts.rhythm

    @property
    def notes(self) -> tuple[str, ...]:
        lost = [f"frames of it do not decode, the first at second {start:.2f}" for start, _ in self.facts.lost_frames]
        return (*self._notes.values(), *lost[:1])

    @property
    def unreadable(self) -> Sequence[Span]:
        end = self.facts.lost_end
        return joined([*self.facts.lost_frames, *([end] if end else [])])

    def close(self) -> None:
        self._counting = None
        self.video.close()
        if self._opened is not None:
            self._opened.close()

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
                for skip in self._ways():
                    try:
                        yield from self.by_stamp(wanted, skip)
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
            raise VideoError(self.path, describe(error)) from error

    def _ways(self) -> Iterator[bool]:
        """Yield the ways to decode that are left to be tried, as `skip` of `by_stamp`."""
        ways = (True, False) if self.video.stream.codec_context.name in SKIPPING_CODECS else (False,)
        yield from ways
        if self.video.places is not None:
            self.video.reopen(self.facts.headed)
            yield from ways

    def by_stamp(self, wanted: list[int], skip: bool) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the frames at sorted indices, found by their time stamps, with these.

        Args:
            skip: pass over frames that no frame references.

        Raises:
            MissingFrames: the frames are not those of the index.
        """
        for key, positions in decoding_runs(self.index, wanted):
            missing = {self.index.pts[i]: i for i in positions}
            last = max(missing)
            for frame in self.decode_from(key, set(missing), skip):
                if frame.is_corrupt:
                    raise MissingFrames(f"damaged frame at {frame.pts}")
                if frame.pts in missing:
                    yield missing.pop(frame.pts), upright_picture(frame, self._size)
                if not missing or (frame.pts is not None and frame.pts > last):
                    break
            if missing:
                raise MissingFrames(f"no frames at time stamps {sorted(missing)}")

    def decode_from(self, key: int, needed: set[int], skip: bool) -> Iterator[av.VideoFrame]:
        """Decode from key packet `key` until all time stamps `needed` are out.

        With `skip`, other frames that no frame references are not decoded.
        """
        codec = self.video.stream.codec_context
        try:
            for packet in self._packets_from(key):
                if skip:
                    codec.skip_frame = "DEFAULT" if packet.pts in needed else "NONREF"
                yield from self.video.decode(packet)
                needed.discard(packet.pts)
                if not needed:
                    # Flush the decoder; the next seek resets it.
                    yield from self.video.decode(None)
                    return
        finally:
            codec.skip_frame = "DEFAULT"

    def _packets_from(self, key: int) -> Iterator[av.Packet]:
        """Yield packets from key packet `key` or an earlier one on, however the container seeks."""
        index = self.index
        if self.video.places is not None:
            self.video.stream.codec_context.flush_buffers()
            yield from self.video.places.packets_from(key, self._opened.fileno())
            return
        goals = [index.key_pts[key], index.key_dts[key], index.key_dts[max(key - 1, 0)], index.key_dts[0]]
        self._counting = None
        for goal in (goal for goal in goals if goal != NO_STAMP):
            self.video.container.seek(goal, stream=self.video.stream, backward=True)
            packets = self.video.packets()
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
            later = 0.0 if frame.pts is None else (frame.pts - self.index.pts[0]) * self._unit
            seconds = later if later > seconds else seconds + 1 / self._fps
            yield frame, seconds

    def _from_position(self, position: int) -> Iterator[av.VideoFrame]:
        """Decode every frame from `position` on; earlier ones too if no seek leads to a whole picture of it."""
        goal = self.index.pts[position]
        key, back = self.index.key_of(goal), 1
        while key > 0:
            try:
                frames = self.video.decode_packets(self._packets_from(key))
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
        self._counting = None
        stamps, corrupt = decode_stamps(self.video, "a frame its packets promise does not decode")
        pts = self.index.pts
        whole = {stamp for place, stamp in enumerate(stamps) if place not in corrupt}
        lost = [place for place, stamp in enumerate(pts) if stamp not in whole]
        self.facts.lost_frames[:] = lost_frames(self.times, lost, self.duration)
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
                picture = upright_picture(frame, self._size)
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

    def _decode_all(self) -> Iterator[av.VideoFrame]:
        """Yield every frame that decodes, from the first."""
        self._counting = None
        return self.video.decode_all()
