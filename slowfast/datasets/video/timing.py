"""Times of the frames of a video file, its mean frame rate, and which frames are shown when.

Second 0 is the first frame of the video stream, even if the sound starts earlier. A video of a constant rate is counted
in frames. One of a variable rate is counted in the images that `tools/prepare_frames.py` would extract at a rate, so
that a file and its extracted frames give the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from slowfast.datasets.video.reader import VideoReader

# A longer gap between stamps is a jump where a container lets stamps jump (ffmpeg's `-dts_delta_threshold`).
GAP_S = 10.0
# A longer step back is a jump in every container. After a shorter one a frame counts as unstamped, as in ffmpeg.
BACKWARD_S = 0.1
# Relative difference from which a header's frame rate is believed less than the time stamps.
RATE_TOLERANCE = 0.02
# Frames per second that a header may claim where nothing confirms it, and the rate to assume otherwise.
HEADER_RATES = (1.0, 240.0)
DEFAULT_FPS = 30.0
# Rounding of the time stamps of containers that store milliseconds.
ROUNDING_S = 1e-3


def frame_times(
    stamps: Sequence[int | None], time_base: Fraction, rate: float, close_gaps: bool
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Return the time of every frame in seconds from the first one, without the jumps of joined files.

    A frame after a jump follows the frame before it by the last step. Frames without a stamp lie evenly between their
    neighbors; at the ends of the video they follow at the nearest step.

    Args:
        stamps: time stamp of each frame in presentation order; None where there is none.
        time_base: seconds per unit of the stamps.
        rate: frames per second where stamps do not tell.
        close_gaps: gaps of over `GAP_S` are jumps too.

    Returns:
        (n,) float64, and for each jump (second of the frame before it, length in seconds).
    """
    unit, shift, step = float(time_base), 0.0, 1 / rate
    places: list[int] = []
    seconds: list[float] = []
    jumps: list[tuple[float, float]] = []
    for place, stamp in enumerate(stamps):
        if stamp is None:
            continue
        now = stamp * unit + shift
        if places:
            last, frames = seconds[-1], place - places[-1]
            off = now - (last + step * frames)
            if now < last - BACKWARD_S or (close_gaps and off > GAP_S):
                jumps.append((last - seconds[0], off))
                shift -= off
                now -= off
            elif now <= last:
                continue
            step = (now - last) / frames
        places.append(place)
        seconds.append(now)
    numbers = np.arange(len(stamps))
    if not places:
        return numbers / rate, []
    times = np.interp(numbers, places, seconds)
    first_step = (seconds[1] - seconds[0]) / (places[1] - places[0]) if len(places) > 1 else step
    times[: places[0]] = seconds[0] - (places[0] - numbers[: places[0]]) * first_step
    times[places[-1] :] = seconds[-1] + (numbers[places[-1] :] - places[-1]) * step
    return times - times[0], jumps


def mean_rate(count: int, seconds: float, told: float) -> float:
    """Return the mean frame rate of `count` frames that last `seconds`.

    That is the rate the container tells, unless it contradicts the stamps: by `RATE_TOLERANCE`, or by a frame over the
    whole video. (Stamps may be rounded, often to milliseconds.)
    """
    measured = count / seconds
    if told and abs(measured - told) <= RATE_TOLERANCE * told and abs(seconds - count / told) < 1 / told:
        return told
    return measured


def header_rate(told: float) -> float:
    """Return the rate that the container tells if it lies within `HEADER_RATES`, else `DEFAULT_FPS`."""
    return told if HEADER_RATES[0] <= told <= HEADER_RATES[1] else DEFAULT_FPS


def image_at(seconds: np.ndarray | float, fps: float) -> np.ndarray:
    """Return the number of the image, of `fps` a second, that is nearest in time; half an image is rounded up.

    A tolerance covers the rounding error of the product.
    """
    return np.floor(np.asarray(seconds) * fps + 0.5 + 1e-6).astype(np.int64)


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
        times: (n,) seconds of the frames, increasing from 0.
        fps: mean frame rate.

    Attributes:
        times: (n,) seconds of the frames: i / `fps` for frame i if stamps differ from that by their rounding alone,
            else the stamps in whole microseconds.
        is_even: the rate is constant: no frame is half a frame off, apart from a drift of less than a frame over the
            whole video, as from a rate that a header gives in round numbers.
    """

    def __init__(self, times: np.ndarray, fps: float) -> None:
        numbers = np.arange(len(times))
        even = numbers / fps
        off = times - even
        # Rounded, so that the product of a stamp and its unit is second 6.0 where an annotation says 6.0.
        self.times = even if np.abs(off).max() <= ROUNDING_S else times.round(6)
        drift = off[-1] / max(len(times) - 1, 1) * numbers
        self.is_even = bool(np.abs(off).max() < 1 / fps and np.abs(off - drift).max() <= 0.5 / fps)
        self._fps = fps

    @staticmethod
    def of(video: VideoReader) -> Timeline:
        """Return the timeline of an open video."""
        return Timeline(video.times, video.fps)

    def grid(self, fps: float) -> FrameGrid:
        """Return the video's own frames if their rate is constant, else the images extracted from it at `fps`.

        Image k, at k / `fps` seconds, is the last frame whose time, rounded to the images' times, is not later. The
        last frame lasts as long as the one before it.
        """
        if self.is_even:
            return FrameGrid(len(self.times), self._fps)
        end = 2 * self.times[-1] - self.times[-2]
        return FrameGrid(max(int(image_at(end, fps)), 1), fps, image_at(self.times, fps))

    def spans(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return the seconds from the start of each frame in `first` (m,) to the end of that in `last`: (m, 2)."""
        ends = np.append(self.times[1:], max(len(self.times) / self._fps, self.times[-1]))
        return np.stack([self.times[first], ends[last]], axis=1)
