"""Time of a stream: seconds of its frames, and frames at a constant rate."""

from __future__ import annotations

from typing import Generic, TypeVar

from slowfast.datasets.video.timing import image_at

# A stamp is out of order if it is earlier than the one before by up to this many seconds, and of another time by more.
_BACKWARD_S = 0.1
# Seconds by which the stamps of a live source may run ahead of its frames' arrival, as after a pause in the network.
_AHEAD_S = 10.0

Frame = TypeVar("Frame")


class StreamClock:
    """Seconds of the frames of a stream, from their time stamps; the first frame is at 0.

    A frame without a stamp follows by the time since the frame before arrived. So does one whose stamp is of another
    time, as where a camera's clock was set; later stamps count from there.

    Args:
        step_s: seconds to the next frame where the arrival says nothing, as in a file; None for a live source.

    Attributes:
        last_s: seconds of the last frame.
        is_broken: some frames were without a stamp, or stamps were of another time.
    """

    def __init__(self, step_s: float | None = None) -> None:
        self._step_s = step_s
        self.last_s, self.is_broken = 0.0, False
        self._offset: float | None = None  # to stamps; None where the next one begins another time
        self._arrived_s: float | None = None  # of the last frame

    def seconds(self, stamp: float | None, arrived_s: float) -> float:
        """Return the second of the next frame, not less than that of the frame before.

        Args:
            stamp: its time stamp in seconds; None if it has none.
            arrived_s: when it arrived.
        """
        first = self._arrived_s is None
        waited = 0.0 if first else arrived_s - self._arrived_s
        passed = 0.0 if first else waited if self._step_s is None else self._step_s
        self._arrived_s = arrived_s
        if stamp is None:
            self.is_broken = True
            self.last_s += passed
            return self.last_s
        if self._offset is not None:
            later = stamp + self._offset - self.last_s
            if later < -_BACKWARD_S or (self._step_s is None and later > waited + _AHEAD_S):
                self.is_broken, self._offset = True, None
        if self._offset is None:
            self._offset = self.last_s + passed - stamp
        self.last_s = max(self.last_s, stamp + self._offset)
        return self.last_s

    def interrupt(self) -> None:
        """Take note that stamps begin another time, since the source was lost; it goes on by the clock meanwhile."""
        self._offset = None

    def is_past(self, stamp: float | None) -> bool:
        """Return True for a frame of a file, read again, that is not later than the last one."""
        return stamp is not None and self._offset is not None and stamp + self._offset <= self.last_s


class Resampler(Generic[Frame]):
    """Frames at a constant rate, made of frames with times.

    Slot k, at k / `fps` seconds from the first frame, shows the last frame whose time, rounded to the slots' times, is
    not later. A video at this rate is shown as it is, and one at a variable rate as the images that are extracted from
    it, see `FrameGrid`.

    Args:
        fps: slots a second.
        start_s: time of the first frame.
    """

    def __init__(self, fps: float, start_s: float = 0.0) -> None:
        self._fps, self._start_s = fps, start_s
        self._slot = 0  # the next one
        self._last: tuple[float, Frame] | None = None
        self._lasted_s = 0.0  # of the frame before

    def push(self, time_s: float, frame: Frame) -> list[Frame]:
        """Take in the next frame, not earlier than the one before; return what the slots before it show."""
        shown = self._until(time_s)
        if self._last and time_s > self._last[0]:
            self._lasted_s = time_s - self._last[0]
        self._last = time_s, frame
        return shown

    def finish(self) -> list[Frame]:
        """Return what the remaining slots show; the last frame lasts as long as the one before it."""
        return self._until(self._last[0] + self._lasted_s, least=1) if self._last else []

    def _until(self, time_s: float, least: int = 0) -> list[Frame]:
        if self._last is None:
            return []
        end = max(int(image_at(time_s - self._start_s, self._fps)), self._slot, least)
        shown = [self._last[1]] * (end - self._slot)
        self._slot = end
        return shown
