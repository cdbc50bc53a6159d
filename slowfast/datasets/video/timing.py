"""Times of the frames of a video file, and its mean frame rate, from time stamps.

Second 0 is the first frame of the video stream, even if the sound starts earlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

# A longer gap between stamps is a jump where a container lets stamps jump (ffmpeg's `-dts_delta_threshold`).
GAP_S = 10.0
# A longer step back is a jump in every container. After a shorter one a frame counts as unstamped, as in ffmpeg.
BACKWARD_S = 0.1
# Relative difference from which a header's frame rate is believed less than the time stamps.
RATE_TOLERANCE = 0.02
# Frames per second that a header may claim where nothing confirms it, and the rate to assume otherwise.
HEADER_RATES = (1.0, 240.0)
DEFAULT_FPS = 30.0


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
