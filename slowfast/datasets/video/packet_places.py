"""Where the packets of an mp4 file lie, to read them without FFmpeg's demuxer.

Of mp4 files FFmpeg reads the whole header at every opening: 0.17 s for ten hours of video, five times as long as it
takes to decode a clip. Given the places of the packets, and a file of the first packet alone, whose header is short, it
need not.
"""

from __future__ import annotations

import io
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import av
import numpy as np

from slowfast.datasets.video.orientation import display_matrix

if TYPE_CHECKING:
    from collections.abc import Iterable

# Codecs whose packets in mp4 are the bytes of the file.
_CODECS = {"h264", "hevc"}
_CONTAINER = "mov,mp4,m4a,3gp,3g2,mj2"
# Of so many packets one is compared with the bytes of the file.
_COMPARED = 1024


@dataclass(frozen=True, slots=True)
class PacketPlaces:
    """Places of the packets of a stream in its file, in file order.

    Attributes:
        offsets, sizes: of the packets in bytes.
        pts: their time stamps.
        keys: numbers of the key packets among them.
        head: an mp4 file with the codec's parameters and the first packet.
    """

    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("i"))
    pts: array[int] = field(default_factory=lambda: array("q"))
    keys: array[int] = field(default_factory=lambda: array("q"))
    head: bytes = b""

    @property
    def arrays(self) -> list[array[int]]:
        """Return the arrays, in the order of the attributes."""
        return [self.offsets, self.sizes, self.pts, self.keys]

    def packets_from(self, key: int, descriptor: int) -> Iterator[av.Packet]:
        """Read the packets from key packet number `key` on, and an empty one that flushes the decoder.

        Raises:
            ValueError: the file ends too early.
        """
        first = self.keys[key]
        for number in range(first, len(self.pts)):
            data = os.pread(descriptor, self.sizes[number], self.offsets[number])
            if len(data) != self.sizes[number]:
                raise ValueError(f"the file ends in packet {number}")
            packet = av.Packet(data)
            packet.pts, packet.is_keyframe = self.pts[number], number == first
            yield packet
        yield av.Packet()


class PlaceRecorder:
    """Recorder of the places of packets while they are indexed.

    Args:
        container, stream: the open file.
        descriptor: of the file, to compare packets with its bytes.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream, descriptor: int) -> None:
        self._stream, self._descriptor = stream, descriptor
        self._places = PacketPlaces()
        self._fits = container.format.name == _CONTAINER and stream.codec_context.name in _CODECS
        self._first: bytes = b""
        self._head = b""

    def recorded(self, packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
        """Yield the packets, and record them."""
        for packet in packets:
            if self._fits and packet.size:
                self._fits = self._record(packet)
            yield packet

    def _record(self, packet: av.Packet) -> bool:
        """Return True if the packet is the bytes of the file at its place, and nothing else."""
        places = self._places
        number = len(places.pts)
        if packet.pts is None or packet.is_discard or packet.is_corrupt or packet.pos is None or packet.pos < 0:
            return False
        if next(packet.iter_sidedata(), None) is not None:  # such as parameters that change in mid-stream
            return False
        if number % _COMPARED == 0 and os.pread(self._descriptor, packet.size, packet.pos) != bytes(packet):
            return False
        if number == 0:
            self._first, self._head = bytes(packet), _head_of(self._stream, packet)
        if packet.is_keyframe:
            places.keys.append(number)
        places.offsets.append(packet.pos)
        places.sizes.append(packet.size)
        places.pts.append(packet.pts)
        return True

    def places(self) -> PacketPlaces | None:
        """Return the places, if the first picture decodes from them as it does from the file; else None.

        The file is read from its start. Whoever goes on has to seek.
        """
        p = self._places
        if not self._fits or not p.pts or not p.keys or p.keys[0] != 0:
            return None
        try:
            with av.open(io.BytesIO(self._head), format="mp4") as head:
                own = _first_picture(head.streams.video[0].codec_context, self._first)
            theirs = _first_picture(self._stream.codec_context, self._first)
        except (av.FFmpegError, ValueError, IndexError):
            return None
        alike = own[0] == theirs[0] and np.array_equal(own[1], theirs[1])
        return PacketPlaces(p.offsets, p.sizes, p.pts, p.keys, self._head) if alike else None


def _head_of(stream: av.VideoStream, packet: av.Packet) -> bytes:
    """Write an mp4 file of one packet of a stream; b"" if FFmpeg cannot."""
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="mp4") as output:
            copy = av.Packet(bytes(packet))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, output.add_stream_from_template(stream)
            output.mux(copy)
    except (av.FFmpegError, ValueError):
        return b""
    return file.getvalue()


def _first_picture(codec: av.VideoCodecContext, data: bytes) -> tuple[tuple, np.ndarray]:
    """Return what a key packet decodes to: its colors and orientation, and the picture."""
    codec.thread_type = "NONE"
    packet = av.Packet(data)
    packet.pts = 0
    (frame,) = [*codec.decode(packet), *codec.decode(None)]
    codec.flush_buffers()
    return (frame.colorspace, frame.color_range, display_matrix(frame)), frame.to_ndarray(format="rgb24")
