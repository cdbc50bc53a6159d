"""A video with the answers drawn in: H.264 and sound in mp4, every frame at its time.

The panel is blended into the planes of the decoded frames. So pixels outside it keep their values up to the codec, and
their color space.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from slowfast.apps.plot.style import require_matplotlib
from slowfast.apps.predict import people_files
from slowfast.apps.predict.painter import Caption, Painter
from slowfast.apps.predict.people import PeopleAnswer
from slowfast.apps.predict.scorer import Answer
from slowfast.apps.predict.sound import sound_packets
from slowfast.datasets.video.find import VideoOpener
from slowfast.datasets.video.in_order import OrderedFrame, frames_in_order
from slowfast.datasets.video.limits import USUAL_LIMITS, MediaLimits
from slowfast.datasets.video.orientation import display_matrix, upright
from slowfast.datasets.video.pyav import PyAVReader
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
# Options of FFmpeg's writer of mp4: an index at the front, or fragments of two seconds that play as the file grows.
_WHOLE = {"movflags": "faststart"}
_GROWING = {"movflags": "empty_moov+default_base_moof", "frag_duration": "2000000"}


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
                    timed = ((number / folder.fps, folder.frames([number])[0]) for number in range(folder.num_frames))
                    draw_frames(timed, temporary, captions, folder.duration)
                    return folder.duration
            with PyAVReader(source, limits=opener.limits) as video:
                end = video.duration
            with _open(source, opener.limits) as container:
                facts = _Facts.of(container, source, end)
                _write(temporary, frames_in_order(source, limits=opener.limits), facts, captions, container)
                return end
    except av.FFmpegError as error:
        raise VideoError(source, f"it cannot be drawn into: {type(error).__name__}: {error}") from error


def draw_frames(
    frames: Iterable[tuple[float, np.ndarray]], target: str, captions: Iterable[Caption], end_s: float
) -> None:
    """Write frames that are decoded elsewhere with captions, as `draw_video` does; no file is opened but `target`.

    Args:
        frames: times in seconds, increasing, and pictures (height, width, 3) uint8, RGB, of one size.
        target: mp4 file; what is written stays after an error.
        captions: in the order of their starts.
        end_s: second at which the last frame ends.

    Raises:
        ValueError: there is no frame.
        OSError: the file cannot be written.
    """
    ordered = (OrderedFrame(_rgb_frame(pixels), seconds) for seconds, pixels in frames)
    _write(target, ordered, _Facts(_FINE, None, 0.0, end_s), captions, None)


def _rgb_frame(pixels: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")


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


class _Encoder:
    """Encodes frames, with captions, and the sound of a file beside them.

    Args:
        path: the mp4 file, which grows.
        facts: of the video.
        container: the open file with the sound; None for no sound.
        growing: write fragments that play as the file grows, in place of an index at the front.
    """

    def __init__(self, path: str, facts: _Facts, container: InputContainer | None, growing: bool = False) -> None:
        # Fragments know no edit list, by which reordered frames would begin at second 0.
        self._settings = {**ENCODER_SETTINGS, "bf": "0"} if growing else ENCODER_SETTINGS
        options = _GROWING if growing else _WHOLE
        self._facts, self._reformatter, self._last = facts, VideoReformatter(), -1
        self._stream: Any = None
        self._output = av.open(f"file:{path}", "w", format="mp4", options=options)
        has_sound = container is not None and container.streams.audio
        # The generator adds its stream when it starts, and the header is written with the first packet.
        self._sound = sound_packets(container, self._output, facts.origin_s) if has_sound else iter(())
        self._waiting: av.Packet | None = None

    @property
    def began(self) -> bool:
        """True once a frame has come."""
        return self._stream is not None

    def add(self, ordered: OrderedFrame, caption: Caption | None) -> None:
        """Encode a frame with a caption; frames come in the order of their times."""
        facts = self._facts
        if self._stream is None:
            self._size = _drawn_size(ordered.frame)
        planes, frame = _upright_planes(ordered.frame, self._size, self._reformatter)
        if self._stream is None:
            self._stream = self._add_stream(ordered.frame, frame, planes[0].shape)
            self._painter = Painter(*planes[0].shape)
            self._waiting = next(self._sound, None)
        self._painter.draw_planes(planes, caption, ordered.seconds)
        self._last = max(self._last + 1, round((facts.late_s + ordered.seconds) / facts.time_base))
        made = av.VideoFrame.from_ndarray(_joined(planes), format="yuv420p")
        made.colorspace, made.color_range = frame.colorspace, frame.color_range
        made.pts, made.time_base, made.pict_type = self._last, facts.time_base, PictureType.NONE
        self._output.mux(self._stream.encode(made))
        self._mux_sound(facts.late_s + ordered.seconds)

    def finish(self, end_s: float) -> None:
        """Write what is left; the last frame lasts until second `end_s`."""
        if not self.began:
            raise ValueError("no frame came, so no video is written")
        rest = self._stream.encode(None)
        # The last packet's duration is the one that mp4 keeps; it decides how long the last frame lasts.
        for packet in rest[-1:]:
            packet.duration = max(1, round((self._facts.late_s + end_s) / self._facts.time_base) - self._last)
        self._output.mux(rest)
        self._mux_sound(math.inf)

    def _add_stream(self, source: av.VideoFrame, frame: av.VideoFrame, shape: tuple[int, int]) -> Any:
        """Add the stream of the pictures, of `shape` (height, width)."""
        stream, facts = self._output.add_stream(ENCODER, options=self._settings), self._facts
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

    def _mux_sound(self, until_s: float) -> None:
        while self._waiting is not None and self._waiting.dts * self._waiting.time_base <= until_s:
            self._output.mux(self._waiting)
            self._waiting = next(self._sound, None)

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(self, *exc: object) -> None:
        self._output.close()


def _write(
    path: str, frames: Iterable[OrderedFrame], facts: _Facts, captions: Iterable[Caption], sound: InputContainer | None
) -> None:
    """Encode frames, each with the last caption that has begun, and the sound of `sound` beside them."""
    captions = iter(captions)
    caption, coming = None, next(captions, None)
    with _Encoder(path, facts, sound) as encoder:
        for ordered in frames:
            while coming is not None and coming.start_s <= ordered.seconds + ROUNDING_S:
                caption, coming = coming, next(captions, None)
            encoder.add(ordered, caption)
        encoder.finish(facts.end_s)


class DrawnVideo:
    """Takes frames and the answers to draw into them; `drawn_video` makes one."""

    def __init__(self, encoder: _Encoder) -> None:
        self._encoder, self._times = encoder, [0.0]
        self._answer: Answer | PeopleAnswer | None = None
        self._caption: Caption | None = None

    def add(self, pixels: np.ndarray, seconds: float, answer: Answer | PeopleAnswer | None = None) -> None:
        """Write a frame.

        Args:
            pixels: (height, width, 3) uint8, RGB; all frames have one size.
            seconds: time of the frame, later than that of the frame before.
            answer: what is drawn into it; None for the time alone.
        """
        if answer is not self._answer:
            self._answer, self._caption = answer, None if answer is None else _caption_of(answer)
        self._encoder.add(OrderedFrame(_rgb_frame(pixels), seconds), self._caption)
        self._times = [self._times[-1], seconds]

    @property
    def end_s(self) -> float:
        """End of the last frame, which lasts as long as the one before it."""
        return 2 * self._times[-1] - self._times[0]


@contextlib.contextmanager
def drawn_video(path: str | os.PathLike, sound: str | os.PathLike = "", growing: bool = False) -> Iterator[DrawnVideo]:
    """Write frames, with answers drawn in, as H.264 in mp4, as they come; memory does not grow with them::

        with drawn_video("drawn.mp4") as video:
            for number, frame in enumerate(frames):  # (height, width, 3) uint8, RGB
                for answer in session.push(frame):
                    last = answer
                video.add(frame, number / 30, last)

    Args:
        path: mp4 file. It is written atomically: after an error in the block a former file stays.
        sound: video file whose sound is kept; its first frame is at second 0. "" for no sound.
        growing: write to `path` at once, in fragments that play before the end, and stay whatever happens. If no frame
            comes, there is no file.

    Raises:
        ValueError: this machine cannot draw; or no frame came, and the file is not `growing`.
        VideoError: `sound` cannot be read.
        OSError: the file cannot be written.
    """
    check_drawing()
    path, sound = os.fspath(path), os.fspath(sound)
    with contextlib.ExitStack() as stack:
        stack.enter_context(no_room_explained(path))
        target = path if growing else stack.enter_context(replacing(path))
        container, facts = None, _Facts(_FINE, None, 0.0, 0.0)
        if sound:
            with PyAVReader(sound) as video:  # its errors are of one kind
                container = stack.enter_context(_open(sound, USUAL_LIMITS))
                facts = _Facts.of(container, sound, video.duration)
        encoder = stack.enter_context(_Encoder(target, facts, container, growing))
        drawn = DrawnVideo(encoder)
        yield drawn
        if encoder.began or not growing:
            encoder.finish(drawn.end_s)


def draw_answers(
    source: str, target: str, answers: Iterable[Answer] | Iterable[PeopleAnswer], fps: float = 30.0
) -> float:
    """Write a copy of a video, see `draw_video`, with answers, taken one by one as the video is written.

    Args:
        source, target: see `draw_video`.
        answers: of `Predictor.stream`, `clips` or `people` about the video.
        fps: rate of a folder of images.

    Returns:
        The video's length in seconds.

    Raises:
        ValueError: this machine cannot draw.
        VideoError, OSError: see `draw_video`.
    """
    check_drawing()
    answers = iter(answers)
    first = next(answers, None)
    given = answers if first is None else itertools.chain([first], answers)
    if isinstance(first, PeopleAnswer):
        captions = people_files.captions((answer.key_s, people_files.line_of(answer)["persons"]) for answer in given)
    else:
        captions = map(_caption_of, given)
    return draw_video(source, target, captions, VideoOpener(PyAVReader, fps, threads=1))


def _caption_of(answer: Answer | PeopleAnswer) -> Caption:
    if isinstance(answer, PeopleAnswer):
        return Caption(answer.start_s, boxes=people_files.boxes(people_files.line_of(answer)["persons"]))
    return Caption(answer.start_s, answer.names, answer.scores.tolist())


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
