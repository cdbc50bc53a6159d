"""Answers about a live source, as its frames come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from slowfast.apps.predict.live import LiveFrame, LiveSource
from slowfast.apps.predict.resample import Resampler
from slowfast.apps.predict.scorer import Answer, Scorer
from slowfast.apps.predict.session import StreamSession
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

# Longer gaps end a stretch: of a live source, and of a file (as where files were joined). At least so many slots.
_LIVE_GAP_S, _FILE_GAP_S, _GAP_SLOTS = 2.0, 10.0, 3


class LiveAnswers:
    """Iterator of the answers about a live source; `Predictor.live` makes one, and closes the source at the end.

    The model gets frames at a constant rate, chosen by their times, see `Resampler`. In a short gap the last frame
    stays. After a longer one, or when the source was lost, the model starts anew, without memory of what was before;
    the times of the answers go on.

    Args:
        scorer: the model.
        source: the source.
        fps: frames a second for the model; None for the rate that the source claims, or else `DATA.TARGET_FPS`.
        stride, top: as of a session.

    Attributes:
        source: see above; it counts the frames that were dropped.
        lag_s: seconds from the arrival of the last frame of the last answer to the answer; None before the first.
        resets: times that the model started anew.
        on_frame: called with each frame that is taken from the source, before the model gets it; None for nothing.
    """

    def __init__(
        self, scorer: Scorer, source: LiveSource, fps: float | None = None, stride: float = 0.0, top: int = 5
    ) -> None:
        self.source, self.lag_s, self.resets = source, None, 0
        self.on_frame: Callable[[LiveFrame], None] | None = None
        self._fps = (source.fps or scorer.settings.target_fps) if fps is None else fps
        self._session = StreamSession(scorer, self._fps, stride, top)
        self._longest_gap_s = max(_LIVE_GAP_S if source.is_live else _FILE_GAP_S, _GAP_SLOTS / self._fps)
        self._start_s = 0.0  # of the stretch
        self._slots, self._busy_s = 0, 0.0
        self._told = False
        self._answers = self._run()

    def __iter__(self) -> LiveAnswers:
        return self

    def __next__(self) -> Answer:
        return next(self._answers)

    @property
    def speed(self) -> float:
        """Seconds of video for which the model computes a second; it keeps up with a live source if this is over 1."""
        return self._slots / self._fps / self._busy_s if self._busy_s else 0.0

    def close(self) -> None:
        """Close the source, and end; may be called twice."""
        self.source.close()
        self._answers.close()

    def __enter__(self) -> LiveAnswers:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self) -> Iterator[Answer]:
        with self.source:
            last: LiveFrame | None = None
            resampler: Resampler[LiveFrame] | None = None  # None between stretches
            for frame in self.source.arrivals():
                if resampler and (frame is None or self._is_apart(last, frame)):
                    yield from self._finish(resampler)
                    resampler = None
                if frame is None:
                    continue
                if resampler is None:
                    if last:
                        self._tell_reset(last, frame)
                    self._session.reset()
                    self._start_s, resampler = frame.stamp_s, Resampler(self._fps, frame.stamp_s)
                if self.on_frame:
                    self.on_frame(frame)
                yield from self._push(resampler.push(frame.stamp_s, frame))
                last = frame
            if resampler:
                yield from self._finish(resampler)

    def _is_apart(self, last: LiveFrame, frame: LiveFrame) -> bool:
        lost = self.source.is_live and frame.connection != last.connection
        return lost or frame.stamp_s - last.stamp_s > self._longest_gap_s

    def _tell_reset(self, last: LiveFrame, frame: LiveFrame) -> None:
        self.resets += 1
        gap = f"after a gap of {frame.stamp_s - last.stamp_s:.1f} s at {last.stamp_s:.1f} s"
        logger.warning("%s: the model starts anew, without memory, %s", self.source.name, gap)
        if self.source.dropped and 0 < self.speed < 1 and not self._told:
            self._told = True
            logger.warning(
                "%s: the model computes %.2f s of video a second, which is slower than live; %d of %d frames were "
                "dropped",
                *(self.source.name, self.speed, self.source.dropped, self.source.received),
            )

    def _push(self, frames: list[LiveFrame]) -> Iterator[Answer]:
        for frame in frames:
            before = time.monotonic()
            answers = self._session.push(frame.pixels)
            self._slots += 1
            yield from self._timed(answers, before, frame.arrived_s)

    def _finish(self, resampler: Resampler[LiveFrame]) -> Iterator[Answer]:
        """Yield the answers for the end of a stretch."""
        frames = resampler.finish()
        yield from self._push(frames)
        if frames:
            before = time.monotonic()
            yield from self._timed(self._session.finish(), before, frames[-1].arrived_s)

    def _timed(self, answers: list[Answer], before: float, arrived_s: float) -> Iterator[Answer]:
        now = time.monotonic()
        self._busy_s += now - before
        for answer in answers:
            self.lag_s = now - arrived_s
            yield replace(answer, start_s=answer.start_s + self._start_s, end_s=answer.end_s + self._start_s)
