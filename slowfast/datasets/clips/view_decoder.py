"""Decode the temporal views of a test, several of a video at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import TemporalSampling
from slowfast.datasets.transforms import pixels as transforms
from slowfast.datasets.transforms.crops import size_by_short_side
from slowfast.datasets.video.reader import VideoReader
from slowfast.datasets.video.timing import Timeline

# Memory for the decoded frames of one video, in bytes; of larger videos fewer views are decoded at a time.
MAX_VIEW_BYTES = 2**28


class Resizing:
    """Fit of val and test frames: resize each to a short side of `short` pixels.

    Args:
        short: the short side.
        if_smaller: keep frames as they are that would take more bytes resized, as float32.

    Attributes:
        full: (height, width) of the frames; None before the first one.
    """

    def __init__(self, short: int, if_smaller: bool = False) -> None:
        self._short, self._if_smaller = short, if_smaller
        self.full: tuple[int, int] | None = None

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        self.full = frames.shape[1:3]
        height, width = size_by_short_side(*self.full, self._short)
        if self._if_smaller and np.dtype(np.float32).itemsize * height * width >= math.prod(self.full):
            return frames
        return transforms.resize_exactly(frames, height, width)


@dataclass(frozen=True, eq=False)
class TemporalView:
    """A decoded temporal view: the frames at indices `frames` of the video.

    `pixels` are (T, H, W, 3) uint8, or resized to float32 where that takes less memory; `full` is (height, width) of
    the video.
    """

    pixels: np.ndarray
    full: tuple[int, int]
    frames: list[int]
    num_frames: int
    fps: float
    timeline: Timeline


class ViewDecoder:
    """Decoder of temporal views that keeps the last video.

    The first request of a video decodes as many of its views as `MAX_VIEW_BYTES` allows, in one call.

    Args: as `ClipMaker`.
    """

    def __init__(
        self, settings: ClipSettings, open_video: Callable[[str], VideoReader], sampling: TemporalSampling
    ) -> None:
        self._settings, self._open, self._sampling = settings, open_video, sampling
        self._path: str | None = None
        self._decoded: _Decoded | None = None
        self._last: tuple[int, TemporalView] | None = None

    def view(self, path: str, temporal: int) -> TemporalView:
        """Return a temporal view; the very same object if it is the last one; VideoError if it is unreadable."""
        if path != self._path or temporal not in self._decoded.indices:
            # Free the frames of the last video before decoding others.
            self._path = self._decoded = self._last = None
            self._decoded, self._path = self._decode(path, temporal), path
        if self._last is None or self._last[0] != temporal:
            self._last = temporal, self._decoded.view(temporal)
        return self._last[1]

    def _decode(self, path: str, first: int) -> _Decoded:
        """Decode view `first` and the views after it that fit."""
        s = self._settings
        with self._open(path) as video:
            stop = first + (self._views_at_once(video) if s.temporal_views > 1 else 1)
            timeline = Timeline.of(video)
            grid = timeline.grid(self._sampling.grid_fps(s))
            indices = {
                view: grid.frames(self._sampling.view(grid.num_frames, grid.fps, s, view))
                for view in range(first, min(stop, s.temporal_views))
            }
            union = sorted(set().union(*indices.values()))
            resized = self._resizing()
            frames = video.fitted(union, resized)
            return _Decoded(indices, union, frames, resized.full, video.num_frames, video.fps, timeline)

    def _views_at_once(self, video: VideoReader) -> int:
        # The first frame is a key frame, so decoding it is cheap.
        (picture,) = video.fitted([0], self._resizing())
        return max(1, MAX_VIEW_BYTES // (picture.nbytes * self._settings.num_frames))

    def _resizing(self) -> Resizing:
        return Resizing(self._settings.short_sides[0], if_smaller=True)


@dataclass(frozen=True)
class _Decoded:
    """Frame indices of each decoded view, their sorted union, and the frames of the union."""

    indices: dict[int, list[int]]
    union: list[int]
    frames: np.ndarray
    full: tuple[int, int]
    num_frames: int
    fps: float
    timeline: Timeline

    def view(self, temporal: int) -> TemporalView:
        """Gather the frames of a view; without a copy if it is the only one."""
        indices = self.indices[temporal]
        pixels = self.frames if indices == self.union else self.frames[np.searchsorted(self.union, indices)]
        return TemporalView(pixels, self.full, indices, self.num_frames, self.fps, self.timeline)
