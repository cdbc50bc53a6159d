"""The temporal views of a test video, decoded together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import Times
from slowfast.datasets.video.reader import VideoReader

# Frames of one video that are kept, in bytes; of larger videos fewer views are decoded at a time.
MOST_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class View:
    """A temporal view: `pixels` (T, H, W, 3) uint8 of the frames with the numbers `frames`."""

    pixels: np.ndarray
    frames: list[int]
    num_frames: int
    fps: float


class VideoViews:
    """Temporal views of videos; as many of one video as `MOST_BYTES` allows are decoded by one call, and kept as long
    as they are asked for.

    Args: as `ClipMaker`.
    """

    def __init__(self, settings: ClipSettings, open_video: Callable[[str], VideoReader], times: Times) -> None:
        self._settings, self._open, self._times = settings, open_video, times
        self._path: str | None = None
        self._decoded: _Decoded | None = None
        self._last: tuple[int, View] | None = None

    def view(self, path: str, temporal: int) -> View:
        """A view of a video, the very same object if it is asked for again at once; VideoError if it is unreadable."""
        if path != self._path or temporal not in self._decoded.numbers:
            # Frames of the last video are let go before others take their room.
            self._path = self._decoded = self._last = None
            self._decoded, self._path = self._decode(path, temporal), path
        if self._last is None or self._last[0] != temporal:
            self._last = temporal, self._decoded.view(temporal)
        return self._last[1]

    def _decode(self, path: str, first: int) -> _Decoded:
        """View `first` and those after it."""
        s = self._settings
        with self._open(path) as video:
            last = first + (self._views_at_once(video) if s.temporal_views > 1 else 1)
            numbers = {
                view: self._times.view(video.num_frames, video.fps, s, view)
                for view in range(first, min(last, s.temporal_views))
            }
            every = sorted(set().union(*numbers.values()))
            return _Decoded(numbers, every, video.frames(every), video.num_frames, video.fps)

    def _views_at_once(self, video: VideoReader) -> int:
        # The first frame is a key frame, which costs little.
        (picture,) = video.frames([0])
        return max(1, MOST_BYTES // (picture.nbytes * self._settings.num_frames))


@dataclass(frozen=True)
class _Decoded:
    """Views of one video: the numbers of the frames of each, all of them in order, and these frames."""

    numbers: dict[int, list[int]]
    every: list[int]
    frames: np.ndarray
    num_frames: int
    fps: float

    def view(self, temporal: int) -> View:
        own = self.numbers[temporal]
        places = np.searchsorted(self.every, own)
        # With one view the frames need not be copied.
        pixels = self.frames if own == self.every else self.frames[places]
        return View(pixels, own, self.num_frames, self.fps)
