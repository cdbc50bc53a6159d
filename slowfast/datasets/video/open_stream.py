"""A video stream of a file that FFmpeg has open: opening it anew, its packets, and their decoding."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import BinaryIO

import av

from slowfast.datasets.video.limits import MediaLimits
from slowfast.datasets.video.packet_places import PacketPlaces
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video.streams import choose_stream

# What FFmpeg and PyAV raise for bad files. (A cut-off atom can surface as any of the last three.)
DECODE_ERRORS = (av.FFmpegError, OSError, ValueError, RuntimeError, IndexError)
# Options to reopen an indexed file of a container whose header has all that a decoder needs: FFmpeg then does not read
# and decode the first frames to probe it.
HEADED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2"}
_KNOWN = {"probesize": "32"}, [{"skip_frame": "all"}] * 8


class OpenStream:
    """A video stream of a file, which `reopen` opens, or `open_at`.

    Args:
        path: the file.
        threads: decoder threads; 0 lets the decoder choose.
        choice: which of the video streams of the file, from 0, without attached pictures; None for FFmpeg's best.
        limits: on the format of the file and the size of its frames.
        file: the file, open for reading bytes, so that FFmpeg itself opens nothing; `path` then only names it.

    Attributes:
        path, threads, limits, file: see above.
        container, stream: of PyAV, while it is open.
        number: of the stream in the container; None before it is first opened.
        places: where packets are read from, in place of the container; None after `reopen`.
        frames_decoded: number of frames decoded so far.
    """

    container: av.container.InputContainer
    stream: av.VideoStream

    def __init__(self, path: str, threads: int, choice: int | None, limits: MediaLimits, file: BinaryIO | None) -> None:
        self.path, self.threads, self.limits, self.file = path, threads, limits, file
        self.number: int | None = None
        self.places: PacketPlaces | None = None
        self.frames_decoded = 0
        self._choice, self._is_open = choice, False

    def source(self) -> str | BinaryIO:
        """Return what FFmpeg opens, at its start."""
        if self.file is None:
            return f"file:{self.path}"  # so that FFmpeg does not read a colon in a name as a protocol
        self.file.seek(0)
        return self.file

    def decode_all(self, note: Callable[[Exception], None] = lambda error: None) -> Iterator[av.VideoFrame]:
        """Yield every frame that decodes, from the first; pass errors of packets to `note`."""
        self.reopen()
        return self.decode_packets(self.packets(), note)

    def decode_packets(
        self, packets: Iterator[av.Packet], note: Callable[[Exception], None] = lambda error: None
    ) -> Iterator[av.VideoFrame]:
        """Yield the frames of packets; pass errors to `note`."""
        for packet in until_error(packets, note):
            try:
                yield from self.decode(packet)
            except DECODE_ERRORS as error:
                note(error)

    def decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        """Decode a packet; None flushes the decoder."""
        own = packet is None or self.places is not None
        frames = self.stream.codec_context.decode(packet) if own else packet.decode()
        self.frames_decoded += len(frames)
        return frames

    def reopen(self, headed: bool = False) -> None:
        """Open the file anew, at its start; with `headed`, without reading more of it than its header.

        Raises:
            VideoError: a format or a size that the limits refuse, no such stream, or no decoder for it.
            OSError, ...: see `DECODE_ERRORS`.
        """
        self.close()
        known, stream_options = _KNOWN if headed else ({}, [])
        options = known | self.limits.options
        try:
            self.container = av.open(
                self.source(), options=options, stream_options=stream_options, metadata_errors="replace"
            )
            self._is_open = True
        except av.ArgumentError as error:
            raise VideoError(self.path, self.limits.why_refused(self.source()) or describe(error)) from error
        if self.number is None:
            self.number = choose_stream(self.container, self._choice, self.path)
        self._prepare(self.container.streams[self.number])

    def open_at(self, places: PacketPlaces) -> None:
        """Open the decoder alone: packets are read from their places, by whoever has the file open.

        Raises:
            VideoError, OSError, ...: as `reopen`.
        """
        self.close()
        known, stream_options = _KNOWN
        self.container = av.open(io.BytesIO(places.head), format="mp4", options=known, stream_options=stream_options)
        self._is_open = True
        self._prepare(self.container.streams.video[0])
        self.places = places

    def _prepare(self, stream: av.VideoStream) -> None:
        """Check a stream, and set its decoder up."""
        self.stream, self.places = stream, None
        codec = stream.codec_context
        if codec is None:
            raise VideoError(self.path, "FFmpeg has no decoder for its codec")
        if oversized := self.limits.oversized(codec.width, codec.height):
            raise VideoError(self.path, oversized)
        if self.limits.frame_pixels:
            codec.options = {"max_pixels": str(self.limits.frame_pixels)}
        codec.thread_count = self.threads
        codec.thread_type = "NONE" if self.threads == 1 else "AUTO"

    def packets(self) -> Iterator[av.Packet]:
        """Return the packets of the stream, from where the container is."""
        return self.container.demux(self.stream)

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._is_open:
            self._is_open = False
            self.container.close()


def until_error(
    packets: Iterator[av.Packet], note: Callable[[Exception], None] = lambda error: None
) -> Iterator[av.Packet]:
    """Yield packets up to the end or the first error of the container, which is passed to `note`."""
    try:
        yield from packets
    except DECODE_ERRORS as error:
        note(error)


def describe(error: Exception) -> str:
    """Return the kind of an error and its cause."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{type(error).__name__}: {text}"
