"""What a video file promises and does not hold: frames that do not decode, and the end of a file that is cut off."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, BinaryIO

from slowfast.datasets.video.packet_index import PacketIndex

if TYPE_CHECKING:
    from av.video.stream import VideoStream

Span = tuple[float, float]
"""Start and end in seconds."""

_MICROSECOND = 1e-6  # FFmpeg's unit of the times of containers
_MOST_PARTS = 10_000  # that are looked at; fragments of a long recording may be more
# The top-level elements of a Matroska file: its header, and what holds all else.
_MATROSKA = {b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"}
# The top-level boxes of mp4 files.
_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"moof", b"sidx", b"mfra", b"udta", b"meta"}


def lost_end(source: str | BinaryIO, stream: VideoStream, index: PacketIndex) -> Span | None:
    """Return the span from the last frame of a file that is cut off to the end that its header promises.

    MPEG-TS and raw streams promise no end, so a cut is not seen there.

    Args:
        source: path of the file, or the file open for reading bytes, whose position stays.
        stream: its video, demuxed to the end.
        index: of its packets.

    Returns:
        Seconds from the first frame; None if nothing is known to be missing.
    """
    if not index.pts or not (index.cut_off or _is_cut(source)):
        return None
    unit, container = float(stream.time_base), stream.container
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        # FFmpeg replaces its duration by what is there.
        end = (stream.start_time or 0) * unit + stream.frames / float(stream.average_rate)
    elif stream.duration:
        end = ((stream.start_time or 0) + stream.duration) * unit
    elif container.duration:
        end = ((container.start_time or 0) + container.duration) * _MICROSECOND
    else:
        return None
    frame = index.last_duration * unit or 1 / float(stream.average_rate or 30)
    last = index.pts[-1] * unit + frame
    # Durations are rounded, and may be those of the sound.
    return (last - index.pts[0] * unit, end - index.pts[0] * unit) if end - last > frame / 2 else None


def _is_cut(source: str | BinaryIO) -> bool:
    """Return True if the parts of an mp4, AVI or Matroska file are longer than the file."""
    with open(source, "rb") if isinstance(source, str) else contextlib.nullcontext(source) as file:
        before, size, place = file.tell(), file.seek(0, os.SEEK_END), 0
        for _ in range(_MOST_PARTS):
            file.seek(place)
            length = _part_length(file.read(16))
            place += length
            if not length or place >= size:
                break
        file.seek(before)
    return place > size


def _part_length(head: bytes) -> int:
    """Return the length in bytes of the top-level part of a file that begins with `head`; 0 if it tells none."""
    if len(head) < 16:
        return 0
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little")
    if head[:4] in _MATROSKA:
        # The leading zero bits of the first byte tell how many bytes follow it; all other bits set: an unknown length.
        more = 8 - head[4].bit_length()
        unknown = (1 << 7 * (more + 1)) - 1
        length = int.from_bytes(head[4 : 5 + more], "big") & unknown
        return 0 if length == unknown else 5 + more + length
    if head[4:8] in _BOXES:
        length = int.from_bytes(head[:4], "big")
        return int.from_bytes(head[8:16], "big") if length == 1 else length
    return 0


def lost_frames(times: Sequence[float], lost: Collection[int], end_s: float) -> list[Span]:
    """Return the spans of frames that do not decode.

    Args:
        times: seconds of all frames.
        lost: numbers of the frames.
        end_s: end of the last frame.
    """
    edges = [*times, max(end_s, times[-1])]
    return joined([(float(edges[number]), float(edges[number + 1])) for number in sorted(lost)])


def joined(spans: Sequence[Span]) -> list[Span]:
    """Join spans, sorted by their starts, that touch each other."""
    result: list[Span] = []
    for start, end in spans:
        if result and start <= result[-1][1] + 1e-3:
            result[-1] = result[-1][0], max(end, result[-1][1])
        else:
            result.append((start, end))
    return result
