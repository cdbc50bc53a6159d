"""Extract the frames of a video as JPEG files, at a chosen frame rate."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import av
import cv2
from av.video.reformatter import VideoReformatter

from slowfast.datasets.video.in_order import OrderedFrame, frames_in_order
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video.timing import image_at
from slowfast.utils.files import atomic_write_local, no_room_explained, regular_file
from slowfast.utils.json_file import parse_json

_STAMP = ".prepared.json"  # file in a folder of frames: video and options they were made from


@dataclass(frozen=True)
class ExtractOptions:
    """Options of an extraction.

    Attributes:
        fps: images per second; 0 for every frame of the video.
        start, end: part [start, end) of the video in seconds; inf for its end.
        short_side: short side in pixels; 0 keeps the size.
        quality: JPEG quality, 1 to 100.
        mark: separator of video name and image number (from 1) in the file name.
    """

    fps: float
    start: float = 0.0
    end: float = math.inf
    short_side: int = 0
    quality: int = 95
    mark: str = "_"

    def __post_init__(self) -> None:
        if not 0 <= self.fps <= 1000:
            raise ValueError(f"{self.fps:g} frames a second are impossible; use a number over 0, or 0 for every frame")
        if not 0 <= self.start < self.end:
            raise ValueError(f"there is nothing between second {self.start:g} and second {self.end:g}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}; it must be 1 to 100 (best)")
        if self.short_side < 0:
            raise ValueError(f"a short side of {self.short_side} pixels is impossible; use 0 to keep the size")

    def image(self, video: str, number: int) -> str:
        """Return the path of image `number` (from 0) below the folder of all frames."""
        return f"{video}/{video}{self.mark}{number + 1:06d}.jpg"


@dataclass(frozen=True)
class Extracted:
    """Result for a video: its number of images, or the reason why there are none."""

    images: int = 0
    cause: str = ""


def extract(options: ExtractOptions, output: str, task: tuple[str, str]) -> Extracted:
    """Extract the images of a video to the folder `output`/NAME, unless they exist.

    All images have the size of the first. The folder is renamed to its name once it is complete. It is made again if
    the video or the options changed.

    Args:
        task: (name, path) of the video.

    Raises:
        OSError: an image cannot be written.
    """
    name, path = task
    folder, unfinished = os.path.join(output, name), os.path.join(output, f".{name}.tmp")
    try:
        facts = os.stat(path)
    except OSError as error:
        return Extracted(cause=f"{path}: {error.strerror}")
    # JSON has no infinity.
    stamp = {"bytes": facts.st_size, "changed": facts.st_mtime_ns, **asdict(options), "end": str(options.end)}
    if os.path.isdir(folder):
        found = _read_stamp(folder)
        if found is None:
            return Extracted(cause=f"{folder} is there and was not made by this command; move it away")
        if found["made_from"] == stamp and count_images(folder) == found["images"]:
            return Extracted(found["images"])
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        os.makedirs(unfinished)
        count = _write_images(options, name, path, unfinished)
        atomic_write_local(os.path.join(unfinished, _STAMP), json.dumps({"made_from": stamp, "images": count}))
        if os.path.isdir(folder):
            shutil.rmtree(folder)
        os.rename(unfinished, folder)
    except VideoError as error:
        return Extracted(cause=error.cause)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Extracted(count)


def _read_stamp(folder: str) -> dict | None:
    """Read the stamp that `extract` wrote in a folder; None if there is none."""
    try:
        with open(os.path.join(folder, _STAMP), encoding="utf-8", opener=regular_file) as stream:
            stamp = parse_json(stream.read())
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) and stamp.keys() == {"made_from", "images"} else None


def count_images(folder: str) -> int:
    """Count the JPEG files in a folder."""
    return sum(name.endswith(".jpg") for name in os.listdir(folder))


def _write_images(options: ExtractOptions, name: str, path: str, folder: str) -> int:
    reformatter, number, data = VideoReformatter(), -1, b""
    last: av.VideoFrame | None = None
    size: tuple[int, int] | None = None
    for number, frame in enumerate(at_rate(frames_in_order(path, options.start), options)):
        if frame is not last:
            scaled = frame.scaled(options.short_side, "bgr24", reformatter)
            # A size that changes within the file is scaled to the first, as the readers of videos do.
            size = size or (scaled.width, scaled.height)
            if (scaled.width, scaled.height) != size:
                scaled = reformatter.reformat(scaled, *size)
            done, data = cv2.imencode(".jpg", scaled.to_ndarray(), [cv2.IMWRITE_JPEG_QUALITY, options.quality])
            if not done:
                raise VideoError(path, f"image {number + 1} of it cannot be written as JPEG")
            last = frame
        image = os.path.join(folder, os.path.basename(options.image(name, number)))
        with no_room_explained(image, lambda stream, data=data: stream.write(data)), open(image, "wb") as stream:
            stream.write(data)
    if number < 0:
        raise VideoError(path, f"it has no frame from second {options.start:g} on")
    return number + 1


def at_rate(frames: Iterable[OrderedFrame], options: ExtractOptions) -> Iterator[OrderedFrame]:
    """Yield the frame of each image; frames are repeated or dropped, as FFmpeg changes frame rates.

    Image k, at second `start` + k / `fps`, is the last frame whose time, rounded to the images' times, is not later.
    `Timeline.grid` has the same rule.
    """
    if not options.fps:
        yield from (frame for frame in frames if options.start <= frame.seconds < options.end)
        return
    most = math.inf if math.isinf(options.end) else image_at(options.end - options.start, options.fps)
    shown: OrderedFrame | None = None
    step, written = 0.0, 0
    for frame in frames:
        place = image_at(frame.seconds - options.start, options.fps)
        while shown is not None and written < min(place, most):
            yield shown
            written += 1
        if written >= most:
            return
        step = frame.seconds - shown.seconds if shown is not None else 0.0
        shown = frame
    if shown is None:
        return
    # The last frame lasts as long as the frame before it; a single frame gives one image.
    end = image_at(shown.seconds + step - options.start, options.fps)
    if shown.seconds >= options.start:
        end = max(end, 1)
    for _ in range(written, int(min(end, most))):
        yield shown
