"""Decode all frames of a file in order, for tools that read it once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from slowfast.datasets.video.pyav import DECODE_ERRORS, DEFAULT_FPS, upright
from slowfast.datasets.video.reader import VideoError


@dataclass(frozen=True)
class OrderedFrame:
    """A frame in the decoder's pixel format, and its time in the video in seconds."""

    frame: av.VideoFrame
    seconds: float

    def scaled(
        self, short_side: int, pixel_format: str, reformatter: VideoReformatter, multiple: int = 1
    ) -> av.VideoFrame:
        """Convert the frame: upright, other pixel format and size; see `_scaled_size`."""
        frame = self.frame
        if frame.side_data.get("DISPLAYMATRIX") is not None:
            turned = np.ascontiguousarray(upright(frame.to_ndarray(format="rgb24"), frame))
            frame = av.VideoFrame.from_ndarray(turned, format="rgb24")
        width, height = _scaled_size(frame.width, frame.height, short_side, multiple)
        return reformatter.reformat(frame, width, height, pixel_format, interpolation="BICUBIC")


def _scaled_size(width: int, height: int, short_side: int, multiple: int = 1) -> tuple[int, int]:
    """Return (width, height) scaled to a short side (0: unscaled), both rounded to multiples of `multiple`."""
    scale = short_side / min(width, height) if short_side else 1.0
    sides = (max(multiple, multiple * round(side * scale / multiple)) for side in (width, height))
    return tuple(sides)


def frames_in_order(path: str, start_s: float = 0.0) -> Iterator[OrderedFrame]:
    """Decode every frame on one thread, skipping packets that do not decode.

    Args:
        path: the file.
        start_s: frames before this time, in seconds from the first frame, may be skipped.

    Raises:
        VideoError: no such file, no video, or no frame of it decodes.
    """
    if not os.path.isfile(path):
        raise VideoError(path, "no such file")
    cause, count = "the file ends before the first frame", 0
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if stream is None:
                raise VideoError(path, "no video stream in the file")
            if stream.codec_context is None:
                raise VideoError(path, "FFmpeg has no decoder for its codec")
            stream.codec_context.thread_count = 1
            first = float((stream.start_time or 0) * stream.time_base)
            step = 1 / float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
            if start_s:
                container.seek(int((first + start_s) / stream.time_base), stream=stream, backward=True)
            seconds = -step
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except DECODE_ERRORS as error:
                    cause = f"{type(error).__name__}: {error}"
                    continue
                for frame in frames:
                    count += 1
                    # A frame without a time stamp follows the one before it.
                    seconds = seconds + step if frame.time is None else frame.time - first
                    yield OrderedFrame(frame, seconds)
    except DECODE_ERRORS as error:
        cause = f"{type(error).__name__}: {error}"
    if not count:
        raise VideoError(path, f"no frame of it decodes ({cause})")
