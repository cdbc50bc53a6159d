"""Times of the frames of a video, and which frames are shown when.

Second 0 is the first frame of the video stream, even if the sound starts earlier. A video of a constant rate is counted
in frames. One of a variable rate is counted in the images that `tools/prepare_frames.py` would extract at a rate, so
that a file and its extracted frames give the same pictures.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from slowfast.datasets.video.reader import Rhythm, VideoReader

# Rounding of the time stamps of containers that store milliseconds.
ROUNDING_S = 1e-3
# Share of the time of a video's last frame by which it may be off at a constant rate.
_MAX_DRIFT = 0.02


def image_at(seconds: np.ndarray | float, fps: float) -> np.ndarray:
    """Return the number of the image, of `fps` a second, that is nearest in time; half an image is rounded up.

    A tolerance covers the rounding error of the product.
    """
    return np.floor(np.asarray(seconds) * fps + 0.5 + 1e-6).astype(np.int64)


def fitting_rate(times: np.ndarray, fps: float) -> float:
    """Return the nearest whole rate if the times (n,) of frames fit it better than the mean rate `fps`, else `fps`.

    A mean rate of rounded stamps may be 29.999 where every stamp fits 30.
    """
    numbers, whole = np.arange(len(times)), float(max(round(fps), 1))
    return whole if np.abs(times - numbers / whole).max() < np.abs(times - numbers / fps).max() else fps


@dataclass(frozen=True)
class FrameGrid:
    """A video as frames at a constant rate.

    Attributes:
        num_frames, fps: number of these frames, and their rate.
        places: for each frame of the file, the first of these frames that may show it; None if they are the same.
    """

    num_frames: int
    fps: float
    places: np.ndarray | None = None

    def frames(self, indices: Sequence[int]) -> list[int]:
        """Return the frames of the file that are shown at these frames."""
        if self.places is None:
            return list(indices)
        return (np.searchsorted(self.places, indices, side="right") - 1).tolist()


class Timeline:
    """Seconds of a video's frames, and the frames shown at seconds.

    Args:
        num_frames: of the video.
        fps: mean frame rate.
        rhythm: whether the rate is constant, and how frames are counted; see `of_times`.
        times: returns the (num_frames,) seconds of the frames, increasing from 0; called only if they are needed.

    Attributes:
        is_even: see `of_times`.
        num_frames: see above.
    """

    def __init__(self, num_frames: int, fps: float, rhythm: Rhythm, times: Callable[[], np.ndarray]) -> None:
        self.num_frames, self.rhythm = num_frames, rhythm
        self._fps, self._read_times = fps, times

    @property
    def is_even(self) -> bool:
        """True if the frame rate is constant."""
        return self.rhythm.is_even

    @functools.cached_property
    def times(self) -> np.ndarray:
        """Seconds of the frames, (num_frames,).

        They are i / `fps` for frame i if stamps differ from that by their rounding alone (i / the nearest whole rate
        if that fits them better), else the stamps in whole microseconds.
        """
        if self.rhythm.rate:
            return np.arange(self.num_frames) / self.rhythm.rate
        return self._read_times().round(6)

    @staticmethod
    def of_times(times: np.ndarray, fps: float) -> Timeline:
        """Return the timeline of frames at `times`, (n,) seconds, of a mean rate of `fps`.

        The rate is constant if no frame is more than half a frame off, apart from a drift of less than a frame over the
        whole video, as from a last frame that lasts longer.
        """
        numbers = np.arange(len(times))
        off = times - numbers / fps
        # Rounded, so that the product of a stamp and its unit is second 6.0 where an annotation says 6.0.
        rounded = np.abs(off).max() <= ROUNDING_S
        rate = float(fitting_rate(times, fps)) if rounded else 0.0
        if abs(off[-1]) < min(1 / fps, _MAX_DRIFT * times[-1]):
            off -= off[-1] / (len(times) - 1) * numbers
        is_even = bool(np.abs(off).max() <= 0.5 / fps)
        return Timeline(len(times), fps, Rhythm(is_even, rate), lambda: times)

    @staticmethod
    def of(video: VideoReader) -> Timeline:
        """Return the timeline of a video; its times are read while it is open."""
        if video.rhythm is None:
            return Timeline.of_times(video.times, video.fps)
        return Timeline(video.num_frames, video.fps, video.rhythm, lambda: video.times)

    def grid(self, fps: float) -> FrameGrid:
        """Return the video's own frames if their rate is constant, else the images extracted from it at `fps`.

        Image k, at k / `fps` seconds, is the last frame whose time, rounded to the images' times, is not later. The
        last frame lasts as long as the one before it.
        """
        if self.is_even:
            return FrameGrid(self.num_frames, self._fps)
        end = 2 * self.times[-1] - self.times[-2]
        return FrameGrid(max(int(image_at(end, fps)), 1), fps, image_at(self.times, fps))

    def spans(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return the seconds from the start of each frame in `first` (m,) to the end of that in `last`: (m, 2)."""
        ends = np.append(self.times[1:], max(self.num_frames / self._fps, self.times[-1]))
        return np.stack([self.times[first], ends[last]], axis=1)
