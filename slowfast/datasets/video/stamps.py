"""Times of the frames of a video file, and its mean frame rate, from time stamps.

Second 0 is the first frame of the video stream, even if the sound starts earlier.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from av.format import Flags

if TYPE_CHECKING:
    from av.video.stream import VideoStream

# Containers that store a presentation time stamp (PTS) with every packet.
STAMPED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# A longer gap between stamps is a jump, in containers that let stamps jump and in others (ffmpeg's
# `-dts_delta_threshold` and `-dts_error_threshold`).
_GAPS_S = 10.0, 30 * 3600.0
# A longer step back is a jump in every container. After a shorter one a frame counts as unstamped, as in ffmpeg.
_BACKWARD_S = 0.1
# Seconds by which the length of a video may differ from its length at the rate of its header, since many containers
# round stamps to milliseconds. Beyond that the stamps are believed.
_LENGTH_TOLERANCE_S = 3e-3
# Frames per second over which stamps are not believed.
MAX_FPS = 1000.0
# Frames per second that a header may claim where nothing confirms it, and the rate to assume otherwise.
_HEADER_RATES = (1.0, 240.0)
_DEFAULT_FPS = 30.0


def frame_times(
    stamps: Sequence[int | None], time_base: Fraction, rate: float, gap_s: float
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Return the time of every frame in seconds from the first one, without the jumps of joined files.

    A frame after a jump follows the frame before it by the last step. Frames without a stamp lie evenly between their
    neighbors; at the ends of the video they follow at the nearest step.

    Args:
        stamps: time stamp of each frame in presentation order; None where there is none.
        time_base: seconds per unit of the stamps.
        rate: frames per second where there are no stamps.
        gap_s: a longer gap is a jump; see `longest_gap`.

    Returns:
        (n,) float64, and for each jump (second of the frame before it, length in seconds).
    """
    unit, step = float(time_base), 1 / rate
    origin = 0, 0.0  # a stamp and its second; differences of stamps are exact, however large these are
    places: list[int] = []
    seconds: list[float] = []
    jumps: list[tuple[float, float]] = []
    for place, stamp in enumerate(stamps):
        if stamp is None:
            continue
        if not places:
            origin = stamp, 0.0
        now = origin[1] + (stamp - origin[0]) * unit
        if places:
            last, frames = seconds[-1], place - places[-1]
            expected = last + step * frames
            if now < last - _BACKWARD_S or now - expected > gap_s:
                jumps.append((last, now - expected))
                origin, now = (stamp, expected), expected
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


def _mean_rate(count: int, seconds: float, claimed: float) -> float:
    """Return the mean frame rate of `count` frames that last `seconds`.

    That is the rate that the header claims, unless the length of the video contradicts it by over
    `_LENGTH_TOLERANCE_S`.
    """
    return claimed if claimed and abs(seconds - count / claimed) <= _LENGTH_TOLERANCE_S else count / seconds


def _claimed_rate(stream: VideoStream) -> float:
    """Return the frame rate that the header claims; 0 if it claims none."""
    return float(stream.average_rate or stream.guessed_rate or 0)


def _plausible(claimed: float) -> float:
    """Return the claimed rate if it lies within `_HEADER_RATES`, else `_DEFAULT_FPS`."""
    return claimed if _HEADER_RATES[0] <= claimed <= _HEADER_RATES[1] else _DEFAULT_FPS


def longest_gap(stream: VideoStream) -> float:
    """Return the seconds between two frames beyond which time stamps are taken to jump, as where files were joined."""
    return _GAPS_S[0] if stream.container.format.flags & Flags.ts_discont.value else _GAPS_S[1]


def time_frames(stamps: Sequence[int | None], stream: VideoStream) -> tuple[array[float], float, dict[str, str]]:
    """Return the times and the mean rate of decoded frames, and what to say about them (kind -> text).

    Args:
        stamps: time stamp of each frame; None where there is none.
        stream: the stream, for its time base and the rate of its header.
    """
    claimed, count = _claimed_rate(stream), len(stamps)
    times, jumps = frame_times(stamps, stream.time_base, _plausible(claimed), longest_gap(stream))
    # The last frame lasts as long as the one before it.
    seconds = 2 * times[-1] - times[-2] if count > 1 else 0.0
    stamped = sum(stamp is not None for stamp in stamps) > 1
    if _is_unstamped(stream) or not stamped or count > MAX_FPS * seconds:
        rate, notes = _rate_without_stamps(count, stream)
        return array("d", np.arange(count) / rate), rate, notes
    notes = {}
    if jumps:
        second, length = jumps[0]
        notes["jumps"] = (
            f"jumps closed in its time stamps: {len(jumps)}, the first of {length:+.2f} s after second {second:.2f}"
        )
    return array("d", times), _mean_rate(count, seconds, claimed), notes


def rate_of_packets(pts: Sequence[int], last_duration: int, stream: VideoStream) -> tuple[float, dict[str, str]]:
    """Return the mean rate of a file whose packets are its frames, and what to say about it (kind -> text).

    Args:
        pts: time stamps of the frames, sorted.
        last_duration: of the last frame, 0 if unknown.
        stream: the stream, for its time base and the rate of its header.
    """
    claimed = _claimed_rate(stream)
    if _is_unstamped(stream):
        return _rate_without_stamps(len(pts), stream)
    if len(pts) == 1:
        return _plausible(claimed), {}
    trusted = stream.container.format.name in STAMPED_CONTAINERS
    last = (last_duration if trusted else 0) or pts[-1] - pts[-2]
    return _mean_rate(len(pts), float((pts[-1] - pts[0] + last) * stream.time_base), claimed), {}


def _is_unstamped(stream: VideoStream) -> bool:
    """Return True for raw streams and rows of pictures, whose stamps FFmpeg makes up from a frame rate."""
    container = stream.container.format
    return container.name.endswith("_pipe") or bool(container.flags & Flags.no_timestamps.value)


def _rate_without_stamps(count: int, stream: VideoStream) -> tuple[float, dict[str, str]]:
    """Return the rate in the header of a video of `count` frames, and what to say about it (kind -> text)."""
    # The rates of the container are defaults here.
    header = float(stream.codec_context.framerate or 0)
    rate = _plausible(header or float(stream.guessed_rate or 0))
    source = "its header's rate" if rate == header else f"assumed (its header says {header:g})" if header else "assumed"
    notes = {"stamps": f"it has no usable time stamps; {rate:g} frames a second is {source}"} if count > 1 else {}
    return rate, notes
