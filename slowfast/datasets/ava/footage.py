"""The films of AVA, by name: lists of frames, or folders of frames and video files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slowfast.datasets.annotations.frame_list import FrameList, read_frame_list
from slowfast.datasets.video.find import ListedFrames, VideoOpener, find_videos
from slowfast.datasets.video.reader import VideoError, VideoReader
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True)
class Footage:
    """Films.

    Attributes:
        lengths: frames of each film, `AVA.FPS` a second, by its name; of one that cannot be read, None.
        open_video: name -> `VideoReader` of these frames.
    """

    lengths: Mapping[str, int | None]
    open_video: Callable[[str], VideoReader]

    @staticmethod
    def from_config(cfg: Any, split: str, names: Sequence[str]) -> Footage:
        """The films of a split: those of its lists of frames in `AVA.FRAME_LIST_DIR`, or else those of these names in
        `AVA.FRAME_DIR`, each a folder of frames or a video file.

        Raises:
            FileNotFoundError: no such list or folder, or none of the films is there.
            ValueError: a wrong line of a list.
        """
        ava = cfg.AVA
        if ava.FRAME_LIST_DIR:
            frames = read_frame_list(_lists(cfg, "TRAIN_LISTS" if split == "train" else "TEST_LISTS"), ava.FRAME_DIR)
            _warn_of_gaps(frames)
            lengths = {name: len(frames.paths(video)) for video, name in enumerate(frames.videos)}
            return Footage(lengths, ListedFrames.from_config(cfg, frames, ava.FPS))
        try:
            paths = find_videos(ava.FRAME_DIR, names)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"AVA.FRAME_LIST_DIR names no folder of lists of frames, and AVA.FRAME_DIR no folder of films: {error}"
            ) from error
        found = {name: path for name, path in zip(names, paths, strict=True) if os.path.exists(path)}
        opener = ResampledVideoOpener(found, VideoOpener.from_config(cfg, ava.FPS), ava.FPS)
        return Footage({name: _length(opener, name) for name in found}, opener)


def _lists(cfg: Any, key: str) -> list[str]:
    """Paths of the lists that a key of AVA names.

    Raises:
        FileNotFoundError: one does not exist; with the keys.
        ValueError: it names none.
    """
    paths = [os.path.join(cfg.AVA.FRAME_LIST_DIR, name) for name in cfg.AVA[key]]
    if not paths:
        raise ValueError(
            f"AVA.{key} is empty; name lists of frames, or set AVA.FRAME_LIST_DIR '' to read AVA.FRAME_DIR"
        )
    for path in paths:
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"there is no list of frames {path}; AVA.{key} names it, in the folder AVA.FRAME_LIST_DIR"
            )
    return paths


def _warn_of_gaps(frames: FrameList) -> None:
    """Frames are counted, so one that the list lacks moves all later boxes of its film onto other pictures."""
    gaps = {name: frames.gaps(video) for video, name in enumerate(frames.videos)}
    broken = [name for name, missing in gaps.items() if missing]
    if broken:
        logger.warning(
            "the list of frames lacks frames in the middle of %d of %d films (%s lacks %d), so that their later boxes "
            "lie on the wrong pictures; make the list again",
            len(broken), len(gaps), broken[0], gaps[broken[0]],
        )  # fmt: skip


class ResampledVideo(VideoReader):
    """A film as if it had so many frames a second: frame i is the one shown at i / fps seconds.

    Args:
        film: open; closed with this one.
        fps: frames a second.
    """

    def __init__(self, film: VideoReader, fps: float) -> None:
        self.path, self._film, self._fps = film.path, film, fps

    @property
    def num_frames(self) -> int:
        return max(1, int(self._film.num_frames * self._fps / self._film.fps))

    @property
    def fps(self) -> float:
        return self._fps

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """See `VideoReader.frames`."""
        outside = [i for i in indices if not 0 <= i < self.num_frames]
        if outside:
            raise IndexError(f"{self.path}: frames {outside} asked of a video of {self.num_frames}")
        last = self._film.num_frames - 1
        return self._film.frames([min(round(i * self._film.fps / self._fps), last) for i in indices])

    def close(self) -> None:
        self._film.close()


@dataclass(frozen=True)
class ResampledVideoOpener:
    """Opens films by name; it can be sent to other processes.

    Attributes:
        paths: of the films, by name.
        open_path: path -> `VideoReader`.
        fps: frames a second that films are read at.
    """

    paths: Mapping[str, str]
    open_path: Callable[[str], VideoReader]
    fps: float

    def __call__(self, name: str) -> VideoReader:
        """Open the film; VideoError where it cannot be read."""
        film = self.open_path(self.paths[name])
        return film if film.fps == self.fps else ResampledVideo(film, self.fps)


def _length(open_video: Callable[[str], VideoReader], name: str) -> int | None:
    try:
        with open_video(name) as film:
            return film.num_frames
    except VideoError as error:
        logger.warning("%s", error)
        return None
