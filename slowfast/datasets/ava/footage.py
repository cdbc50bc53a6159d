"""Find and open the videos of AVA by name: from lists of frames, or as folders of frames and video files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from slowfast.datasets.annotations.frame_list import FrameList, read_frame_list
from slowfast.datasets.video.find import ListedFrames, VideoOpener, find_videos, stem
from slowfast.datasets.video.reader import Fit, VideoError, VideoReader
from slowfast.datasets.video.timing import Timeline
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

# A file of Kinetics, as the usual downloaders name it: video, first and last second.
_CLIP = re.compile(r"(.+)_(\d{6})_(\d{6})", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class Footage:
    """Videos of one split.

    Attributes:
        lengths: number of frames of each video at `AVA.FPS`, by name; None if it cannot be read.
        open_video: name -> `VideoReader` at `AVA.FPS`.
        clips: first and last second of the videos that are clips of Kinetics (`AVA.KINETICS_CLIPS`), by name.
    """

    lengths: Mapping[str, int | None]
    open_video: Callable[[str], VideoReader]
    clips: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @staticmethod
    def from_config(cfg: Any, split: str, names: Sequence[str]) -> Footage:
        """Find the videos of a split.

        They are those of the lists of frames in `AVA.FRAME_LIST_DIR`. If that is "", they are looked up by `names` in
        `AVA.FRAME_DIR`, as folders of frames or video files.

        Raises:
            FileNotFoundError: no such list or folder, or all videos are missing.
            ValueError: a wrong line of a list; several clips of one video.
        """
        ava, clips = cfg.AVA, {}
        if ava.FRAME_LIST_DIR:
            frames = read_frame_list(_lists(cfg, "TRAIN_LISTS" if split == "train" else "TEST_LISTS"), ava.FRAME_DIR)
            _warn_of_gaps(frames)
            listed = ListedFrames.from_config(cfg, frames.paths_by_name(), ava.FPS)
            if ava.KINETICS_CLIPS:
                clips = find_clips(names, frames.videos)
                others = {name: listed.paths[clip] for name, clip in clips.items()}
                listed = replace(listed, paths={**listed.paths, **others})
            return Footage({name: len(paths) for name, paths in listed.paths.items()}, listed, _spans(clips))
        if ava.KINETICS_CLIPS and os.path.isdir(ava.FRAME_DIR):
            clips = find_clips(names, map(stem, sorted(os.listdir(ava.FRAME_DIR))))
        try:
            paths = find_videos(ava.FRAME_DIR, [clips.get(name, name) for name in names])
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"AVA.FRAME_LIST_DIR names no folder of lists of frames, and AVA.FRAME_DIR no folder of videos: {error}"
            ) from error
        found = {name: path for name, path in zip(names, paths, strict=True) if os.path.exists(path)}
        opener = _ResampledVideoOpener(found, VideoOpener.from_config(cfg, ava.FPS), ava.FPS)
        return Footage({name: _length(opener, name) for name in found}, opener, _spans(clips))


def find_clips(names: Iterable[str], present: Iterable[str]) -> dict[str, str]:
    """Find clips of Kinetics by the names that boxes give them: the video, ID, or the clip, ID_000084_000094.

    Args:
        names: names to look up.
        present: names of the videos there are.

    Returns:
        name -> name of the clip, for the names that have one; a video that is there whole has none.

    Raises:
        ValueError: several clips of one video; with two of them.
    """
    videos = dict.fromkeys(present)
    clips_of: dict[str, list[str]] = {}
    for clip in videos:
        if match := _CLIP.fullmatch(clip):
            clips_of.setdefault(match[1], []).append(clip)
    found = {}
    for name in names:
        if _CLIP.fullmatch(name) and name in videos:
            found[name] = name
        elif name in clips_of and name not in videos:
            if len(clips_of[name]) > 1:
                raise ValueError(
                    f"{clips_of[name][0]} and {clips_of[name][1]} are clips of video {name}, so it is not clear which "
                    f"one a row of {name} means; name the rows by the clip"
                )
            found[name] = clips_of[name][0]
    return found


def _spans(clips: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Return first and last second of clips by name, for name -> name of the clip."""
    matches = {name: _CLIP.fullmatch(clip) for name, clip in clips.items()}
    return {name: (int(match[2]), int(match[3])) for name, match in matches.items()}


def _lists(cfg: Any, key: str) -> list[str]:
    """Return the paths of the lists that a key of AVA names.

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
    """Warn of missing frames: frames are counted, so all later boxes of the video move to other pictures."""
    gaps = {name: frames.gaps(video) for video, name in enumerate(frames.videos)}
    broken = [name for name, missing in gaps.items() if missing]
    if broken:
        logger.warning(
            "the list of frames lacks frames in the middle of %d of %d videos (%s lacks %d), so that their later boxes "
            "lie on the wrong pictures; make the list again",
            len(broken), len(gaps), broken[0], gaps[broken[0]],
        )  # fmt: skip


class _ResampledVideo(VideoReader):
    """A video resampled to another frame rate: frame i is the one shown at i / fps seconds.

    Args:
        video: open reader, closed with this one.
        timeline: of the video.
        fps: frame rate.
    """

    def __init__(self, video: VideoReader, timeline: Timeline, fps: float) -> None:
        self.path, self._video, self._fps = video.path, video, fps
        self._images = None if timeline.is_even else timeline.grid(fps)

    @property
    def num_frames(self) -> int:
        if self._images is not None:
            return self._images.num_frames
        return max(1, int(self._video.num_frames * self._fps / self._video.fps))

    @property
    def fps(self) -> float:
        return self._fps

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """See `VideoReader.frames`."""
        return self._video.frames(self._originals(indices))

    def fitted(self, indices: Sequence[int], fit: Fit) -> np.ndarray:
        """See `VideoReader.fitted`."""
        return self._video.fitted(self._originals(indices), fit)

    def _originals(self, indices: Sequence[int]) -> list[int]:
        """Return the indices of frames of the video itself."""
        outside = [i for i in indices if not 0 <= i < self.num_frames]
        if outside:
            raise IndexError(f"{self.path}: frames {outside} asked of a video of {self.num_frames}")
        if self._images is not None:
            return self._images.frames(indices)
        last = self._video.num_frames - 1
        return [min(round(i * self._video.fps / self._fps), last) for i in indices]

    def close(self) -> None:
        self._video.close()


def at_rate(video: VideoReader, fps: float) -> VideoReader:
    """Return an open video at another frame rate: frame i is the one shown at i / fps seconds."""
    timeline = Timeline.of(video)
    if timeline.is_even and video.fps == fps:
        return video
    return _ResampledVideo(video, timeline, fps)


@dataclass(frozen=True)
class _ResampledVideoOpener:
    """Picklable opener of videos by name, at a given frame rate.

    Attributes:
        paths: path of each video, by name.
        open_path: path -> `VideoReader`.
        fps: frame rate.
    """

    paths: Mapping[str, str]
    open_path: Callable[[str], VideoReader]
    fps: float

    def __call__(self, name: str) -> VideoReader:
        """Open a video; VideoError if it cannot be read."""
        return at_rate(self.open_path(self.paths[name]), self.fps)


def _length(open_video: Callable[[str], VideoReader], name: str) -> int | None:
    try:
        with open_video(name) as video:
            return video.num_frames
    except VideoError as error:
        logger.warning("%s", error)
        return None
