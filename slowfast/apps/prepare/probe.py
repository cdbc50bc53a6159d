"""Probe a video: readability, length, size, and a digest that finds copies; and a cache of these facts."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from slowfast.apps.prepare.file_pool import WorkLog
from slowfast.datasets.video.frame_folder import FrameFolder
from slowfast.datasets.video.reader import VideoError, VideoReader

# Bytes at the head and the tail of a file that, with its size, identify its content.
_DIGEST_BYTES = 1 << 16
_CHUNK = 32


@dataclasses.dataclass(frozen=True)
class Facts:
    """Facts about a video.

    Attributes:
        cause: reason why it cannot be read; "" if it can.
        frames, fps, height, width: of a readable video.
        digest: equal for files with the same content.
        folder: folder of its images; "" for a video file.
        missing, other: number of images that do not exist, and of images in the folder that are not its frames.
        notes: what a user should know about how it is read.
    """

    cause: str = ""
    frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    digest: str = ""
    folder: str = ""
    missing: int = 0
    other: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)


def probe(open_video: Callable[[str], VideoReader], thorough: bool, path: str) -> Facts:
    """Open a video by the data set's name, and decode its first, middle and last frame, or all (`thorough`)."""
    try:
        with open_video(path) as video:
            images = video.paths if isinstance(video, FrameFolder) else ()
            files = _Images(images)
            if images and len(files.missing) == len(images):
                return Facts(f"none of its {len(images)} images is there, the first is {images[0]}")
            if files.missing:
                more = f" and {len(files.missing) - 1} more" if len(files.missing) > 1 else ""
                cause = f"{files.missing[0]}: no such file{more}"
                return Facts(cause, folder=files.folder, missing=len(files.missing), other=files.other)
            height, width = _look_at(video, thorough)
            digest = _digest(images or [video.path])
            numbers = video.num_frames, video.fps, height, width
            notes = list(video.notes)
            return Facts("", *numbers, digest, files.folder, len(files.missing), files.other, notes)
    except VideoError as error:
        return Facts(cause=error.cause)
    except OSError as error:
        return Facts(cause=f"{type(error).__name__}: {error.strerror}")


class ProbeCache:
    """Cache of facts about videos by path, as a JSON Lines file; valid while the video is unchanged.

    A video file is unchanged by size and modification time; images by their number and the time of their folder.

    Args:
        path: path of the cache; "" for none.
        how: text of what else the facts depend on.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: str, how: str) -> None:
        # The user names this file, so it may be a link.
        self._how, self._log = how, WorkLog(os.path.realpath(path) if path else "")
        self._known = _known_facts(self._log.former)

    def get(self, path: str, images: Sequence[str] = ()) -> Facts | None:
        """Return the facts of an unchanged video, or None; `images` are the files of a video made of images."""
        stamp, facts = self._known.get(path, (None, None))
        return Facts(**facts) if stamp is not None and stamp == self._stamp(path, images) else None

    def put(self, path: str, images: Sequence[str], facts: Facts) -> None:
        """Store the facts of a video."""
        stamp = self._stamp(path, images)
        if stamp is None:
            return
        self._known[path] = (stamp, dataclasses.asdict(facts))
        self._log.add([path, *self._known[path]])

    def __enter__(self) -> ProbeCache:
        return self

    def __exit__(self, *exc: object) -> None:
        self._log.close()

    def _stamp(self, path: str, images: Sequence[str]) -> list | None:
        try:
            facts = os.stat(os.path.dirname(images[0]) or os.curdir if images else path)
        except OSError:
            return None
        return [self._how, len(images), 0 if images else facts.st_size, facts.st_mtime_ns]


def _known_facts(lines: Sequence[list]) -> dict[str, tuple[Any, dict]]:
    """Return path -> (stamp, facts); lines of another version are left out."""
    names = {field.name for field in dataclasses.fields(Facts)}
    known = (line for line in lines if len(line) == 3 and isinstance(line[0], str))
    return {video: (stamp, facts) for video, stamp, facts in known if isinstance(facts, dict) and facts.keys() == names}


class _Images:
    """Missing and other images of a video, found by listing their folders."""

    def __init__(self, images: Sequence[str]) -> None:
        self.missing: list[str] = []
        wanted: Counter[str] = Counter()
        suffixes: set[str] = set()
        there: dict[str, set[str]] = {}
        for image in images:
            folder, name = os.path.split(image)
            if folder not in there:
                there[folder] = _names(folder)
            wanted[folder] += 1
            suffixes.add(os.path.splitext(name)[1])
            if name not in there[folder]:
                self.missing.append(image)
        self.folder = next(iter(there), "")
        pictures = sum(os.path.splitext(name)[1] in suffixes for names in there.values() for name in names)
        self.other = pictures - (len(images) - len(self.missing))


def _names(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder or os.curdir))
    except OSError:
        return set()


def _look_at(video: VideoReader, thorough: bool) -> tuple[int, int]:
    """Decode frames; return height and width of the first."""
    last = video.num_frames - 1
    first = video.frames([0])
    if not thorough:
        video.frames(sorted({last // 2, last}))
        return first.shape[1:3]
    for start in range(0, last + 1, _CHUNK):
        # Decoding may show that the file is shorter than its header says.
        if start < video.num_frames:
            video.frames(range(start, min(start + _CHUNK, video.num_frames)))
    return first.shape[1:3]


def _digest(paths: Sequence[str]) -> str:
    """Digest head, tail and size of a file; of several files the first, the middle and the last, and their number."""
    digest = hashlib.blake2b(str(len(paths)).encode(), digest_size=16)
    for path in [paths[0], paths[len(paths) // 2], paths[-1]] if len(paths) > 1 else paths:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            digest.update(f"{size}:".encode() + file.read(_DIGEST_BYTES))
            file.seek(max(size - _DIGEST_BYTES, 0))
            digest.update(file.read(_DIGEST_BYTES))
    return digest.hexdigest()
