"""The frames of a video as JPEG files in a folder, at a rate of one's choice."""

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

STAMP = ".prepared.json"  # in a folder of frames: what they were made from


@dataclass(frozen=True)
class ExtractOptions:
    """How frames are taken out of a video.

    Attributes:
        fps: images a second; 0 for every frame of the video.
        start, end: seconds of the video between which frames are wanted, the end not counted; inf for all.
        short_side: pixels, 0 keeps the size.
        quality: of the JPEG files, 1 to 100.
        mark: between the name of the video and the number of the image, from 1, in the image's name.
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
        """Path of an image below the folder of all frames, counted from 0."""
        return f"{video}/{video}{self.mark}{number + 1:06d}.jpg"


@dataclass(frozen=True)
class Extracted:
    """A video whose frames are there: how many, or why they are not, in words."""

    images: int = 0
    cause: str = ""


def extract(options: ExtractOptions, output: str, task: tuple[str, str]) -> Extracted:
    """Write the images of a video into the folder `output`/NAME, unless they are there already.

    The folder comes to its name when it is complete. It is made anew where the video or the options have changed.

    Args:
        task: name and path of the video.

    Raises:
        OSError: an image cannot be written.
    """
    name, path = task
    folder, unfinished = os.path.join(output, name), os.path.join(output, f".{name}.tmp")
    try:
        facts = os.stat(path)
    except OSError as error:
        return Extracted(cause=f"{path}: {error.strerror}")
    # The end may be infinite, which JSON does not know.
    stamp = {"bytes": facts.st_size, "changed": facts.st_mtime_ns, **asdict(options), "end": str(options.end)}
    if os.path.isdir(folder):
        found = read_stamp(folder)
        if found is None:
            return Extracted(cause=f"{folder} is there and was not made by this command; move it away")
        if found["made_from"] == stamp and count_images(folder) == found["images"]:
            return Extracted(found["images"])
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        os.makedirs(unfinished)
        count = _write_images(options, name, path, unfinished)
        with open(os.path.join(unfinished, STAMP), "w", encoding="utf-8") as stream:
            json.dump({"made_from": stamp, "images": count}, stream)
        if os.path.isdir(folder):
            shutil.rmtree(folder)
        os.rename(unfinished, folder)
    except VideoError as error:
        return Extracted(cause=error.cause)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Extracted(count)


def read_stamp(folder: str) -> dict | None:
    """What `extract` noted in a folder; None where it did not."""
    try:
        with open(os.path.join(folder, STAMP), encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def count_images(folder: str) -> int:
    """JPEG files in a folder."""
    return sum(name.endswith(".jpg") for name in os.listdir(folder))


def _write_images(options: ExtractOptions, name: str, path: str, folder: str) -> int:
    reformatter, number, data = VideoReformatter(), -1, b""
    last: av.VideoFrame | None = None
    for number, frame in enumerate(at_rate(frames_in_order(path, options.start), options)):
        if frame is not last:
            scaled = frame_of(frame, options, reformatter)
            done, data = cv2.imencode(".jpg", scaled.to_ndarray(), [cv2.IMWRITE_JPEG_QUALITY, options.quality])
            if not done:
                raise VideoError(path, f"image {number + 1} of it cannot be written as JPEG")
            last = frame
        with open(os.path.join(folder, os.path.basename(options.image(name, number))), "wb") as image:
            image.write(data)
    if number < 0:
        raise VideoError(path, f"it has no frame from second {options.start:g} on")
    return number + 1


def frame_of(frame: OrderedFrame, options: ExtractOptions, reformatter: VideoReformatter) -> av.VideoFrame:
    """The picture of a frame, blue, green, red."""
    return frame.scaled(options.short_side, "bgr24", reformatter)


def at_rate(frames: Iterable[OrderedFrame], options: ExtractOptions) -> Iterator[OrderedFrame]:
    """The frames to be seen at the times of the images: some come several times, others not at all.

    Image k, at second `start` + k / `fps`, is the last frame whose time, rounded to images, is not after it, as FFmpeg
    changes rates.
    """
    if not options.fps:
        yield from (frame for frame in frames if options.start <= frame.seconds < options.end)
        return
    most = math.inf if math.isinf(options.end) else _rounded((options.end - options.start) * options.fps)
    shown: OrderedFrame | None = None
    step, written = 0.0, 0
    for frame in frames:
        place = _rounded((frame.seconds - options.start) * options.fps)
        while shown is not None and written < min(place, most):
            yield shown
            written += 1
        if written >= most:
            return
        step = frame.seconds - shown.seconds if shown is not None else 0.0
        shown = frame
    if shown is None:
        return
    # The last frame lasts as long as the one before it; a lone one is seen once.
    end = _rounded((shown.seconds + step - options.start) * options.fps)
    if shown.seconds >= options.start:
        end = max(end, 1)
    for _ in range(written, int(min(end, most))):
        yield shown


def _rounded(value: float) -> int:
    """The nearest whole number, the greater of two, whatever the rounding of a product of rates."""
    return math.floor(value + 0.5 + 1e-6)
