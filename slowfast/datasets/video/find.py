"""Find and open videos by name: a video file, a folder of images, or the images of a list of frames."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowfast.datasets.video.frame_folder import FrameFolder, image_threads
from slowfast.datasets.video.limits import USUAL_LIMITS, MediaLimits
from slowfast.datasets.video.open import video_opener
from slowfast.datasets.video.reader import VideoError, VideoReader
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

# What counts as a video file, for every tool and data set.
VIDEO_SUFFIXES = (
    ".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".3gp", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv",
)  # fmt: skip
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def video_files(root: str, without: str = "", suffixes: tuple[str, ...] = VIDEO_SUFFIXES) -> list[str]:
    """List the video files below a folder, and below folders that links lead to; names with a leading dot are skipped.

    A folder is read once, by its real path, however many links lead to it.

    Args:
        root: the folder.
        without: a folder below it that is left out; "" for none.
        suffixes: of the files, in lower case.

    Returns:
        Paths below `root`, the files of a folder sorted and before those of its subfolders.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f"there is no folder of videos {root}")
    seen = {os.path.realpath(without)} if without else set()
    found, links = [], [root]

    def is_listed(name: str) -> bool:
        return name.lower().endswith(suffixes) and not name.startswith(".")

    # Links come after real folders, so that a folder is listed under its own name if it has one below `root`.
    while links:
        for folder, folders, names in os.walk(links.pop(0)):
            real = os.path.realpath(folder)
            folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
            if real in seen:
                continue
            seen.add(real)
            links += [path for name in folders if os.path.islink(path := os.path.join(folder, name))]
            place = os.path.relpath(folder, root).split(os.sep) if folder != root else []
            found += [(place, name, folder) for name in names if is_listed(name)]
    return [os.path.join(folder, name) for _, name, folder in sorted(found)]


def _is_video_name(name: str) -> bool:
    """Return True if a file of that name counts as a video, in upper or lower case."""
    return name.lower().endswith(VIDEO_SUFFIXES)


def stem(path: str) -> str:
    """Return the name of a video: that of its file without all video suffixes.

    Downloaders leave `ID.mp4.mkv` and the like.
    """
    name = os.path.basename(path)
    while _is_video_name(name) and os.path.splitext(name)[1]:
        name = os.path.splitext(name)[0]
    return name


def place_of(video: str) -> str:
    """Return a relative path for what is made of a video.

    It depends on the video's real path alone: one file has one, however it is spelled or linked, and two files have
    two. A relative path where no file is counts as the name of a video in a list, and is kept.
    """
    place = os.path.normpath(video)
    if os.path.isabs(video) or os.path.exists(video) or place.startswith(os.pardir):
        place = os.path.realpath(video)
    return place.lstrip(os.sep)


def by_name(paths: Sequence[str]) -> dict[str, list[str]]:
    """Group video files by `stem`; several paths to one file, by links, count once, as the first of them."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        same = groups.setdefault(stem(path), [])
        if not any(os.path.realpath(path) == os.path.realpath(other) for other in same):
            same.append(path)
    return groups


def only_file(name: str, files: Sequence[str]) -> str:
    """Return the one file of a video.

    Raises:
        ValueError: there are several; with two of them.
    """
    if len(files) > 1:
        raise ValueError(
            f"{files[0]} and {files[1]} are both named {name}, so it is not clear which one video {name} is: rename "
            "one or move it out of the folder"
        )
    return files[0]


def find_videos(folder: str, names: Sequence[str]) -> list[str]:
    """Find videos by name in `folder`: the folder NAME, or else the file NAME.mp4, NAME.webm ...

    Returns:
        A path for each name, which does not exist if the video is missing; the log says how many are.

    Raises:
        FileNotFoundError: no such folder, or all videos are missing.
        ValueError: two files have the name of one video.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"there is no folder {folder!r} of videos or frames; set DATA.PATH_PREFIX")
    folders: set[str] = set()
    paths: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_video_name(entry.name):
                paths.append(os.path.join(folder, entry.name))
            elif entry.is_dir():
                folders.add(entry.name)
    files = by_name(sorted(paths))
    missing = [name for name in names if name not in folders and name not in files]
    if len(missing) == len(names):
        raise FileNotFoundError(
            f"none of the {len(names)} videos of the list lies in {folder}, neither as a folder of images nor as a "
            f"file ({' '.join(VIDEO_SUFFIXES)}), for instance {os.path.join(folder, names[0])}; set DATA.PATH_PREFIX"
        )
    if missing:
        logger.warning("%d of %d videos are not in %s, such as %s", len(missing), len(names), folder, missing[0])
    return [
        only_file(name, files[name]) if name in files and name not in folders else os.path.join(folder, name)
        for name in names
    ]


@dataclass(frozen=True)
class VideoOpener:
    """Picklable opener of video files, folders of images, and pictures, which are videos of one frame.

    Args:
        open_file: path of a video file -> `VideoReader`.
        image_fps: frame rate of a folder of images.
        threads: threads that decode the images of a clip.
        limits: on the images.
    """

    open_file: Callable[[str], VideoReader]
    image_fps: float
    threads: int
    limits: MediaLimits = USUAL_LIMITS

    @staticmethod
    def from_config(cfg: Any, image_fps: float) -> VideoOpener:
        """Build from a configuration; ValueError for an unknown `DATA.DECODING_BACKEND`."""
        return VideoOpener(video_opener(cfg), image_fps, image_threads(cfg), MediaLimits.from_config(cfg))

    def __call__(self, path: str) -> VideoReader:
        """Open a video; VideoError if it cannot be read."""
        if os.path.isdir(path):
            return FrameFolder(_images_of(path), self.image_fps, self.threads, path, self.limits)
        if path.lower().endswith(IMAGE_SUFFIXES):
            return FrameFolder([path], self.image_fps, name=path, limits=self.limits)
        return self.open_file(path)


def has_images(folder: str) -> bool:
    """Return True if a folder holds images of frames."""
    return any(name.lower().endswith(IMAGE_SUFFIXES) for name in os.listdir(folder))


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
        limits: on the images.
    """

    paths: Mapping[str, Sequence[str]]
    fps: float
    threads: int
    limits: MediaLimits = USUAL_LIMITS

    @staticmethod
    def from_config(cfg: Any, paths: Mapping[str, Sequence[str]], fps: float) -> ListedFrames:
        """Build from frame paths and a configuration."""
        return ListedFrames(paths, fps, image_threads(cfg), MediaLimits.from_config(cfg))

    def __call__(self, name: str) -> VideoReader:
        """Open a video; its images are read, and errors raised, when frames are asked for."""
        return FrameFolder(self.paths[name], self.fps, self.threads, name, self.limits)
