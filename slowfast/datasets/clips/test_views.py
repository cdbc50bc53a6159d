"""Decode the temporal views of a test video together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import TemporalSampling
from slowfast.datasets.video.reader import VideoReader

# Memory for the decoded frames of one video, in bytes; of larger videos fewer views are decoded at a time.
MAX_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class TemporalView:
    """A decoded temporal view: `pixels` (T, H, W, 3) uint8 of the frames at indices `frames` of the video."""

    pixels: np.ndarray
    frames: list[int]
    num_frames: int
    fps: float


class ViewDecoder:
    """Decoder of temporal views that keeps the last video.

    The first request of a video decodes as many of its views as `MAX_BYTES` allows, in one call.

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
            indices = {
                view: self._sampling.view(video.num_frames, video.fps, s, view)
                for view in range(first, min(stop, s.temporal_views))
            }
            union = sorted(set().union(*indices.values()))
            return _Decoded(indices, union, video.frames(union), video.num_frames, video.fps)

    def _views_at_once(self, video: VideoReader) -> int:
        # The first frame is a key frame, so decoding it is cheap.
        (picture,) = video.frames([0])
        return max(1, MAX_BYTES // (picture.nbytes * self._settings.num_frames))


@dataclass(frozen=True)
class _Decoded:
    """Frame indices of each decoded view, their sorted union, and the frames of the union."""

    indices: dict[int, list[int]]
    union: list[int]
    frames: np.ndarray
    num_frames: int
    fps: float

    def view(self, temporal: int) -> TemporalView:
        """Gather the frames of a view; without a copy if it is the only one."""
        indices = self.indices[temporal]
        pixels = self.frames if indices == self.union else self.frames[np.searchsorted(self.union, indices)]
        return TemporalView(pixels, indices, self.num_frames, self.fps)
