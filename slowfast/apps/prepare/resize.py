"""Resize videos, so that they decode faster: copies as H.264 in mp4, without sound."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from slowfast.apps.prepare import file_pool
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.in_order import frames_in_order
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video.timing import ROUNDING_S, fitting_rate
from slowfast.utils.files import no_room_explained, replacing, temporary_path

MANIFEST = "resized.jsonl"
_MAX_DENOMINATOR = 30_000  # of a frame rate in H.264
_FINE = Fraction(1, 90_000)  # time base of a copy whose rate varies
# Without it x264's AVX-512 code reads uninitialized memory on some sizes, and copies differ from call to call.
_SAME_EVERYWHERE = {"x264-params": "cpu-independent=1"}


@dataclass(frozen=True)
class ResizeOptions:
    """Options of the copies.

    Attributes:
        short_side: short side in pixels, even; the long side keeps the aspect ratio, rounded to an even number.
        quality: x264's constant rate factor, 0 (lossless) to 51.
        key_frames: key frame interval; a smaller one makes seeking faster.
    """

    short_side: int = 256
    quality: int = 20
    key_frames: int = 60

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.short_side % 2:
            raise ValueError(f"videos cannot be resized to a short side of {self.short_side}; use an even number >= 16")
        if not 0 <= self.quality <= 51:
            raise ValueError(f"quality is {self.quality}; it must be 0 (best) to 51")
        if self.key_frames < 1:
            raise ValueError(f"a key frame every {self.key_frames} frames is impossible; use 1 or more")


@dataclass(frozen=True)
class _Task:
    source: str
    target: str
    options: ResizeOptions


def resize_set(
    sources: Sequence[str], root: str, output: str, options: ResizeOptions, workers: int
) -> Iterator[tuple[str, str, str]]:
    """Resize videos to the folder `output`, with their subfolders below `root`; existing copies are kept.

    A copy is made again if size or modification time of its source, or the options, changed. Copies are written
    atomically.

    Yields:
        Source, path of the copy, and the reason why there is none ("" if there is).

    Raises:
        ValueError: a copy would replace a source.
        OSError: the folder cannot be written.
    """
    targets = copy_paths(sources, root, output)
    real = {os.path.realpath(source): source for source in sources}
    for source, target in targets.items():
        if os.path.realpath(target) in real:
            raise ValueError(
                f"the copy of {source} would replace {real[os.path.realpath(target)]}, a video itself; write the "
                f"copies to another folder than {output}"
            )
    os.makedirs(output, exist_ok=True)
    with contextlib.closing(file_pool.WorkLog(os.path.join(output, MANIFEST))) as log:
        done = {line[0]: line[1] for line in log.former if len(line) == 2 and isinstance(line[0], str)}
        stamps = {source: _stamp(source, options) for source in targets}
        tasks = []
        for source, target in targets.items():
            if done.get(target) == stamps[source] and os.path.isfile(target):
                yield source, target, ""
            else:
                tasks.append(_Task(source, target, options))
        for task, cause in file_pool.work_on(_resize, tasks, workers, "resizing"):
            if not isinstance(cause, str):
                cause = cause.cause
                with contextlib.suppress(FileNotFoundError):
                    os.remove(temporary_path(task.target))  # left by a process that was killed
            if not cause:
                log.add([task.target, stamps[task.source]])
            yield task.source, task.target, cause


def copy_paths(sources: Sequence[str], root: str, output: str) -> dict[str, str]:
    """Return source -> copy, each of its own. Sources that differ only in the suffix keep it: `a.avi.mp4`."""
    whole = {source: os.path.relpath(source, root) for source in sources}
    names = {source: os.path.splitext(path)[0] for source, path in whole.items()}
    former = None
    while names != former:
        former, count = names, Counter(names.values())
        names = {source: whole[source] if count[name] > 1 else name for source, name in names.items()}
    return {source: os.path.join(output, f"{name}.mp4") for source, name in names.items()}


def resize(source: str, target: str, options: ResizeOptions) -> None:
    """Write one copy, with every frame of the source that decodes, at its time.

    Raises:
        VideoError: the source cannot be read.
        OSError: the copy cannot be written.
    """
    with decode.open(source) as video:
        rate = Fraction(video.fps).limit_denominator(_MAX_DENOMINATOR)
        off = np.abs(video.times - np.arange(video.num_frames) / float(rate)).max()
        time_base = _FINE
        # Both the stamp of a frame and that of the first one may be rounded.
        if off < 2 * ROUNDING_S:
            rate = Fraction(fitting_rate(video.times, video.fps)).limit_denominator(_MAX_DENOMINATOR)
            time_base = 1 / rate
        end = video.duration
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with no_room_explained(target), replacing(target) as temporary:
        _encode(source, temporary, rate, time_base, end, options)


def _resize(task: _Task) -> str:
    """Resize in a worker; return the cause if the source cannot be read, or ""."""
    try:
        resize(task.source, task.target, task.options)
    except VideoError as error:
        return error.cause
    return ""


def _encode(source: str, path: str, rate: Fraction, time_base: Fraction, end: float, options: ResizeOptions) -> None:
    """Encode every frame of `source`, which lasts `end` seconds; times are rounded to `time_base`."""
    settings = {"crf": str(options.quality), "preset": "veryfast", "g": str(options.key_frames), **_SAME_EVERYWHERE}
    reformatter, stream, last = VideoReformatter(), None, -1
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "faststart"}) as output:
        for ordered in frames_in_order(source):
            frame = ordered.scaled(options.short_side, "yuv420p", reformatter, multiple=2)
            if stream is None:
                stream = output.add_stream("libx264", rate=rate, options=settings)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
                stream.codec_context.time_base = time_base
                stream.codec_context.thread_count = 1  # parallelism comes from the files
                # Pixels keep their color space and range, so the metadata is copied.
                stream.codec_context.colorspace = frame.colorspace
                stream.codec_context.color_range = frame.color_range
            elif (frame.width, frame.height) != (stream.width, stream.height):
                frame = reformatter.reformat(frame, stream.width, stream.height)
            last = max(last + 1, round(ordered.seconds / time_base))
            frame.pts, frame.time_base, frame.pict_type = last, time_base, PictureType.NONE
            output.mux(stream.encode(frame))
        rest = stream.encode(None)
        # The last packet's duration is the one that mp4 keeps; it decides how long the last frame lasts.
        for packet in rest[-1:]:
            packet.duration = max(1, round(end / time_base) - last)
        output.mux(rest)


def _stamp(source: str, options: ResizeOptions) -> dict:
    """Return what a copy depends on: size and modification time of the source, and the options."""
    try:
        facts = os.stat(source)
    except OSError:
        return {}
    return {"bytes": facts.st_size, "changed": facts.st_mtime_ns, **asdict(options)}
