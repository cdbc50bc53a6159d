"""Sound of a video for its copy in mp4: packets as they are where players expect them there, else AAC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
from av.container import InputContainer, OutputContainer

from slowfast.datasets.video.open_stream import DECODE_ERRORS, until_error
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

# Codecs of sound that are copied: those that players expect in mp4. FFmpeg writes no MP3 below this rate there.
_COPIED = {"aac", "mp3", "alac", "ac3", "eac3", "flac", "opus"}
_LOWEST_MP3 = 16_000
_LAYOUTS = {1: "mono", 6: "5.1"}  # number of channels -> their layout in AAC


def sound_packets(container: InputContainer, output: OutputContainer, origin_s: float) -> Iterator[av.Packet]:
    """Yield the packets of a file's first sound track for `output`, copied where mp4 can hold them, else as AAC.

    Times count from `origin_s`. The stream is added when the generator starts. Sound that breaks off is a warning.
    """
    source = container.streams.audio[0]
    if source.codec_context is None:
        logger.warning("%s: FFmpeg has no decoder for its sound, which is left out", container.name)
        return
    name, rate = source.codec_context.codec.canonical_name, source.codec_context.sample_rate
    if name in _COPIED and not (name == "mp3" and rate < _LOWEST_MP3):
        yield from _copied(container, source, output.add_stream_from_template(source), origin_s)
        return
    rates = av.codec.Codec("aac", "w").audio_rates
    target = output.add_stream("aac", rate=rate if rate in rates else 48_000)
    # By number, since a file may not tell how its channels lie; others are mixed down to two.
    target.codec_context.layout = _LAYOUTS.get(source.codec_context.layout.nb_channels, "stereo")
    for packet in _packets(container, source):
        for frame in _frames(packet):
            if frame.pts is not None:
                frame.pts -= round(origin_s / frame.time_base)
            yield from target.encode(frame)
    yield from target.encode(None)


def _packets(container: InputContainer, stream: Any) -> Iterator[av.Packet]:
    """Return the packets of a stream up to its end, or to the first error, which is a warning."""
    return until_error(
        container.demux(stream), lambda error: logger.warning("%s: its sound breaks off: %s", container.name, error)
    )


def _frames(packet: av.Packet) -> list[av.AudioFrame]:
    """Decode a packet of sound; one that does not decode is passed over, as with pictures."""
    try:
        return packet.decode()
    except DECODE_ERRORS:
        return []


def _copied(container: InputContainer, source: Any, target: Any, origin_s: float) -> Iterator[av.Packet]:
    """Yield packets as they are, at their times. mp4 takes no step back, so packets after one are left out."""
    offset, last = round(origin_s / source.time_base), None
    for packet in _packets(container, source):
        if packet.dts is None or (last is not None and packet.dts <= last):
            continue
        last = packet.dts
        packet.dts -= offset
        packet.pts = packet.dts
        packet.stream = target
        yield packet
