"""A video with the answers drawn in: H.264 and sound in mp4, every frame at its time.

The panel is blended into the planes of the decoded frames. So pixels outside it keep their values up to the codec, and
their color space.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from slowfast.apps.plot.style import require_matplotlib
from slowfast.apps.predict.painter import Caption, Painter
from slowfast.apps.predict.sound import sound_packets
from slowfast.datasets.video.find import VideoOpener
from slowfast.datasets.video.in_order import OrderedFrame, frames_in_order
from slowfast.datasets.video.limits import MediaLimits
from slowfast.datasets.video.pyav import PyAVReader, display_matrix, upright
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video.streams import choose_stream
from slowfast.datasets.video.timing import ROUNDING_S
from slowfast.utils.files import no_room_explained, replacing

ENCODER = "libx264"
ENCODER_SETTINGS = {"crf": "20", "preset": "veryfast"}
_FINE = Fraction(1, 90_000)  # time base of pictures whose source has none that mp4 can hold
_MOST_UNITS = 1_000_000  # a second, of a time base in mp4
# Smaller videos are enlarged by a whole factor, since text of a few pixels cannot be read.
_SMALLEST, _LONGEST = 200, 1920


def check_drawing() -> None:
    """Check that this machine can draw; ValueError with what is missing, and what to do."""
    require_matplotlib()
    check_encoder("videos are")


def check_encoder(subject: str) -> None:
    """Check that PyAV has the encoder; ValueError that begins with `subject`, such as "videos are", if it has not."""
    try:
        av.codec.Codec(ENCODER, "w")
    except av.codec.codec.UnknownCodecError:
        raise ValueError(
            f"{subject} written as H.264, and the PyAV installed here has no encoder {ENCODER}; the wheels of the "
            "package index have it: pip install --force-reinstall --only-binary av av"
        ) from None


def draw_video(source: str, target: str, captions: Iterable[Caption], opener: VideoOpener) -> float:
    """Write a copy of a video with captions, each held until the next; return the video's length in seconds.

    Memory holds no frames but those being encoded. A video of a short side below 200 pixels is enlarged.

    Args:
        source: video file or folder of images.
        target: mp4 file, written atomically.
        captions: in the order of their starts.
        opener: opens folders of images, at its rate; files keep its limits.

    Raises:
        VideoError: the video cannot be read, or FFmpeg cannot write it as mp4.
        OSError: the file cannot be written.
    """
    try:
        with no_room_explained(target), replacing(target) as temporary:
            if os.path.isdir(source):
                with opener(source) as folder:
                    facts = _Facts(_FINE, None, 0.0, folder.duration)
                    pictures = (folder.frames([number])[0] for number in range(folder.num_frames))
                    frames = (
                        OrderedFrame(av.VideoFrame.from_ndarray(picture, format="rgb24"), number / folder.fps)
                        for number, picture in enumerate(pictures)
                    )
                    _write(temporary, frames, facts, captions, None)
                    return facts.end_s
            with PyAVReader(source, limits=opener.limits) as video:
                end = video.duration
            with _open(source, opener.limits) as container:
                facts = _Facts.of(container, source, end)
                _write(temporary, frames_in_order(source, limits=opener.limits), facts, captions, container)
                return end
    except av.FFmpegError as error:
        raise VideoError(source, f"it cannot be drawn into: {type(error).__name__}: {error}") from error


def _open(source: str, limits: MediaLimits) -> InputContainer:
    return av.open(f"file:{source}", options=limits.options, metadata_errors="replace")


@dataclass(frozen=True)
class _Facts:
    """Hold what the copy keeps of a video besides its frames.

    Attributes:
        time_base: of its stamps.
        aspect: width of a pixel over its height; None if unknown.
        late_s: seconds from the start of the file, which may be that of the sound, to the first frame.
        end_s: seconds from the first frame to the end of the last one.
        origin_s: the start of the file, in its own stamps.
    """

    time_base: Fraction
    aspect: Fraction | None
    late_s: float
    end_s: float
    origin_s: float = 0.0

    @staticmethod
    def of(container: InputContainer, source: str, end_s: float) -> _Facts:
        """Read the facts of an open file."""
        stream = container.streams[choose_stream(container, None, source)]
        base = Fraction(1, stream.time_base.denominator)
        starts = [
            float(s.start_time * s.time_base)
            for s in (stream, *container.streams.audio[:1])
            if s.start_time is not None
        ]
        origin = min(starts, default=0.0)
        late = starts[0] - origin if stream.start_time is not None else 0.0
        fits = base.denominator <= _MOST_UNITS
        return _Facts(base if fits else _FINE, stream.sample_aspect_ratio, late, end_s, origin)


def _write(
    path: str,
    frames: Iterable[OrderedFrame],
    facts: _Facts,
    captions: Iterable[Caption],
    container: InputContainer | None,
) -> None:
    """Encode frames, with captions, and the sound of `container` beside them."""
    reformatter, stream, painter, last = VideoReformatter(), None, None, -1
    captions = iter(captions)
    caption, coming = None, next(captions, None)
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "faststart"}) as output:
        sound = sound_packets(container, output, facts.origin_s) if container and container.streams.audio else iter(())
        # The generator adds its stream when it starts, and the header is written with the first packet.
        waiting = None
        for ordered in frames:
            while coming is not None and coming.start_s <= ordered.seconds + ROUNDING_S:
                caption, coming = coming, next(captions, None)
            if stream is None:
                size = _drawn_size(ordered.frame)
            planes, frame = _upright_planes(ordered.frame, size, reformatter)
            if stream is None:
                stream = _add_stream(output, ordered.frame, frame, planes[0].shape, facts)
                painter = Painter(*planes[0].shape)
                waiting = next(sound, None)
            painter.draw_planes(planes, caption, ordered.seconds)
            last = max(last + 1, round((facts.late_s + ordered.seconds) / facts.time_base))
            made = av.VideoFrame.from_ndarray(_joined(planes), format="yuv420p")
            made.colorspace, made.color_range = frame.colorspace, frame.color_range
            made.pts, made.time_base, made.pict_type = last, facts.time_base, PictureType.NONE
            output.mux(stream.encode(made))
            while waiting is not None and waiting.dts * waiting.time_base <= facts.late_s + ordered.seconds:
                output.mux(waiting)
                waiting = next(sound, None)
        rest = stream.encode(None)
        # The last packet's duration is the one that mp4 keeps; it decides how long the last frame lasts.
        for packet in rest[-1:]:
            packet.duration = max(1, round((facts.late_s + facts.end_s) / facts.time_base) - last)
        output.mux(rest)
        while waiting is not None:
            output.mux(waiting)
            waiting = next(sound, None)


def _drawn_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Return the (width, height) of a frame before it is turned, enlarged if it is too small for text."""
    short, long = sorted((frame.width, frame.height))
    factor = max(1, min(-(-_SMALLEST // short), _LONGEST // long))
    return factor * frame.width, factor * frame.height


def _upright_planes(
    frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter
) -> tuple[list[np.ndarray], av.VideoFrame]:
    """Return the planes Y (H, W), U and V (H/2, W/2) of a frame, upright and padded to even sides, and its YUV frame.

    Args:
        frame: as decoded.
        size: (width, height) before turning; a frame of another size is scaled.
        reformatter: converts pixels.
    """
    colors = {"dst_colorspace": "ITU709"} if frame.format.is_rgb else {}
    plain = reformatter.reformat(frame, *size, "yuv420p", interpolation="BICUBIC", **colors)
    planes = []
    for plane, half in zip(plain.planes, (1, 2, 2), strict=True):
        # Of an odd side, chroma has the larger half.
        width, height = (-(-side // half) for side in size)
        pixels = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, :width]
        planes.append(upright(pixels[:, :, None], frame)[:, :, 0])
    height, width = planes[0].shape
    planes[0] = np.pad(planes[0], ((0, height % 2), (0, width % 2)), mode="edge")
    return [np.array(plane) for plane in planes], plain


def _joined(planes: list[np.ndarray]) -> np.ndarray:
    """Return planes as PyAV takes a yuv420p picture: (H * 3/2, W)."""
    height, width = planes[0].shape
    return np.concatenate([plane.reshape(-1) for plane in planes]).reshape(height * 3 // 2, width)


def _add_stream(
    output: OutputContainer, source: av.VideoFrame, frame: av.VideoFrame, shape: tuple[int, int], facts: _Facts
) -> Any:
    """Add the stream of the pictures, of `shape` (height, width)."""
    stream = output.add_stream(ENCODER, options=ENCODER_SETTINGS)
    stream.height, stream.width, stream.pix_fmt = *shape, "yuv420p"
    codec = stream.codec_context
    codec.time_base = facts.time_base
    # Pixels keep their color space and range, so the metadata is copied.
    codec.colorspace, codec.color_range = frame.colorspace, frame.color_range
    codec.color_primaries, codec.color_trc = source.color_primaries, source.color_trc
    if facts.aspect:
        a, b, _, _ = display_matrix(source)
        codec.sample_aspect_ratio = 1 / facts.aspect if abs(a) < abs(b) else facts.aspect
    return stream
