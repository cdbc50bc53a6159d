"""Decode all frames of a file in order, for tools that read it once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from slowfast.datasets.video.limits import USUAL_LIMITS, MediaLimits
from slowfast.datasets.video.open_stream import DECODE_ERRORS
from slowfast.datasets.video.orientation import display_matrix, upright
from slowfast.datasets.video.pyav import PyAVReader
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
        a, b, _, d = display_matrix(frame)
        if b or a < 0 or d < 0:
            turned = np.ascontiguousarray(upright(frame.to_ndarray(format="rgb24"), frame))
            frame = av.VideoFrame.from_ndarray(turned, format="rgb24")
        width, height = _scaled_size(frame.width, frame.height, short_side, multiple)
        return reformatter.reformat(frame, width, height, pixel_format, interpolation="BICUBIC")


def _scaled_size(width: int, height: int, short_side: int, multiple: int = 1) -> tuple[int, int]:
    """Return (width, height) scaled to a short side (0: unscaled), both rounded to multiples of `multiple`."""
    scale = short_side / min(width, height) if short_side else 1.0
    sides = (max(multiple, multiple * round(side * scale / multiple)) for side in (width, height))
    return tuple(sides)


def frames_in_order(
    path: str, start_s: float = 0.0, stream: int | None = None, limits: MediaLimits = USUAL_LIMITS
) -> Iterator[OrderedFrame]:
    """Decode every frame on one thread, skipping packets that do not decode.

    Frames and times are those of `PyAVReader`. A file whose packets cannot be trusted is decoded once more to count and
    time its frames, and read from its start, since no seek can be checked there.

    Args:
        path: the file.
        start_s: begin with the last frame that is not later than this second, or with an earlier one.
        stream: which of the video streams, as in `slowfast.datasets.video.open.open`.
        limits: on the format of the file and the size of its frames.

    Raises:
        VideoError: no such file, no video, or no frame of it decodes.
    """
    count = 0
    with PyAVReader(path, stream=stream, limits=limits) as video:
        try:
            for frame, seconds in video.in_order(start_s):
                count += 1
                yield OrderedFrame(frame, seconds)
        except DECODE_ERRORS as error:
            raise VideoError(path, f"{type(error).__name__}: {error}") from error
    if not count:
        raise VideoError(path, "no frame of it decodes")
