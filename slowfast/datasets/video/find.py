"""Find and open videos by name: a video file, a folder of images, or the images of a list of frames."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowfast.datasets.annotations.frame_list import FrameList
from slowfast.datasets.video.frame_folder import FrameFolder, image_threads
from slowfast.datasets.video.open import video_opener
from slowfast.datasets.video.reader import VideoError, VideoReader
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def find_videos(folder: str, names: Sequence[str]) -> list[str]:
    """Find videos by name in `folder`: the folder NAME, or else the file NAME.mp4, NAME.webm ...

    Returns:
        A path for each name, which does not exist if the video is missing; the log says how many are.

    Raises:
        FileNotFoundError: no such folder, or all videos are missing.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"there is no folder {folder!r} of videos or frames; set DATA.PATH_PREFIX")
    folders: set[str] = set()
    files: dict[str, str] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name, suffix = os.path.splitext(entry.name)
            if suffix.lower() in VIDEO_SUFFIXES:
                files.setdefault(name, entry.name)
            elif entry.is_dir():
                folders.add(entry.name)
    paths = [os.path.join(folder, name if name in folders else files.get(name, name)) for name in names]
    missing = [name for name in names if name not in folders and name not in files]
    if len(missing) == len(names):
        raise FileNotFoundError(
            f"none of the {len(names)} videos of the list lies in {folder}, neither as a folder of images nor as a "
            f"file ({' '.join(VIDEO_SUFFIXES)}), for instance {os.path.join(folder, names[0])}; set DATA.PATH_PREFIX"
        )
    if missing:
        logger.warning("%d of %d videos are not in %s, such as %s", len(missing), len(names), folder, missing[0])
    return paths


@dataclass(frozen=True)
class VideoOpener:
    """Picklable opener of video files and folders of images.

    Args:
        open_file: path of a video file -> `VideoReader`.
        image_fps: frame rate of a folder of images.
        threads: threads that decode the images of a clip.
    """

    open_file: Callable[[str], VideoReader]
    image_fps: float
    threads: int

    @staticmethod
    def from_config(cfg: Any, image_fps: float) -> VideoOpener:
        """Build from a configuration; ValueError for an unknown `DATA.DECODING_BACKEND`."""
        return VideoOpener(video_opener(cfg), image_fps, image_threads(cfg))

    def __call__(self, path: str) -> VideoReader:
        """Open a video; VideoError if it cannot be read."""
        if os.path.isdir(path):
            return FrameFolder(_images_of(path), self.image_fps, self.threads, path)
        return self.open_file(path)


def _images_of(folder: str) -> list[str]:
    """Return the paths of the images of a folder, sorted by the last number in their names.

    Raises:
        VideoError: no images, a name without a number, or a missing number between the first and the last.
    """
    try:
        names = [name for name in os.listdir(folder) if name.lower().endswith(IMAGE_SUFFIXES)]
    except OSError as error:
        raise VideoError(folder, error.strerror or str(error)) from error
    if not names:
        raise VideoError(folder, f"no images ({' '.join(IMAGE_SUFFIXES)}) in the folder")
    numbered = sorted((_number_of(folder, name), name) for name in names)
    for place, (number, name) in enumerate(numbered, start=numbered[0][0]):
        if number > place:
            raise VideoError(folder, f"the frame before {name} is missing: no number {place}")
        if number < place:
            raise VideoError(folder, f"two frames have the number {number}; one is {name}")
    return [os.path.join(folder, name) for _, name in numbered]


def _number_of(folder: str, name: str) -> int:
    numbers = re.findall("[0-9]+", os.path.splitext(name)[0])
    if not numbers:
        raise VideoError(folder, f"no number in the name of the image {name}")
    return int(numbers[-1])


@dataclass(frozen=True)
class ListedFrames:
    """Picklable opener of the videos of a list of frames, by name.

    Args:
        paths: frame paths of each video by its name.
        fps: frame rate.
        threads: threads that decode the images of a clip.
    """

    paths: Mapping[str, Sequence[str]]
    fps: float
    threads: int

    @staticmethod
    def from_config(cfg: Any, frames: FrameList, fps: float) -> ListedFrames:
        """Build from a list of frames and a configuration."""
        paths = {name: frames.paths(video) for video, name in enumerate(frames.videos)}
        return ListedFrames(paths, fps, image_threads(cfg))

    def __call__(self, name: str) -> VideoReader:
        """Open a video; its images are read, and errors raised, when frames are asked for."""
        return FrameFolder(self.paths[name], self.fps, self.threads, name)
