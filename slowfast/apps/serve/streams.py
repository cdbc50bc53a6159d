"""A feed through a stream of the pool: on a thread of its own, which waits where the pool is full."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from slowfast.apps.predict.resample import Resampler
from slowfast.apps.predict.scorer import Answer
from slowfast.apps.serve.feeds import Feed, FeedFrame
from slowfast.apps.serve.worker import Listener, PoolWorker

ON, WIPED, OTHER = "on", "wiped", "other"
_GAP_S, _MIN_GAP_SLOTS = 2.0, 3  # after a longer gap, also in frames of the model, it starts anew


class StreamClosed(Exception):
    """The stream was closed from outside."""


class FedStream(Listener):
    """One stretch of a feed: a stream of the pool, and who pushes into it.

    Args:
        worker: owner of the pools.
        model: name of the model.
        fps: rate of the frames.
        on_answer: called on the worker's thread with each answer.
        start_s: second of the first frame; added to the times of the answers.
        wipes: see the attribute.

    Attributes:
        steps: answers so far.
        memory_from: what the memory of the last step was: ON, its own; WIPED, none; OTHER, that of another video.
        last_arrived_s: when the last frame of the last answer arrived.
        wipes: the memory is emptied before every step.
    """

    def __init__(
        self,
        worker: PoolWorker,
        model: str,
        fps: float,
        on_answer: Callable[[FedStream, Answer], None],
        start_s: float = 0.0,
        wipes: bool = False,
    ) -> None:
        self.steps, self.memory_from, self.last_arrived_s = 0, ON, 0.0
        self.wipes = wipes
        self._closed = False
        self._start_s = start_s
        self._worker, self._fps, self._on_answer = worker, fps, on_answer
        self._count = 0  # frames that were pushed
        self._arrivals: dict[int, float] = {}  # of frames without an answer
        self._given: str = ON
        self._changed = threading.Event()
        self._over = False
        self._error: Exception | None = None
        worker.open(model, fps, self)

    def before_step(self) -> None:
        """See `Listener`."""
        if self.wipes:
            self.stream.memory = None
        self.memory_from = WIPED if self.wipes else self._given

    def answered(self, answer: Answer) -> None:
        """See `Listener`."""
        self.steps += 1
        last = round(answer.end_s * self._fps) - 1
        self.last_arrived_s = self._arrivals.get(last, self.last_arrived_s)
        self._arrivals = {number: at for number, at in self._arrivals.items() if number > last}
        self._on_answer(
            self, replace(answer, start_s=answer.start_s + self._start_s, end_s=answer.end_s + self._start_s)
        )
        self._changed.set()

    def ended(self, error: Exception | None) -> None:
        """See `Listener`."""
        self._over, self._error = True, error
        self._changed.set()

    def push(self, frame: FeedFrame) -> None:
        """Push a frame, and wait while the pool is full.

        Raises:
            StreamClosed: it was closed meanwhile.
            ValueError: the frame is of another size, or the stream failed.
        """
        while True:
            self._changed.clear()
            try:
                self._worker.call(lambda: self._push(frame))
                return
            except queue.Full:
                self._wait()

    def finish(self) -> None:
        """End the stream, and wait for its last answer; errors as of `push`."""
        self._worker.call(lambda: None if self._over else self.stream.finish())
        while not self._over:
            self._wait()
            self._changed.clear()
        if self._error:
            raise self._error

    def settle(self) -> None:
        """Wait until no window waits; errors as of `push`."""
        while True:
            self._changed.clear()
            if self._over or not self._worker.call(lambda: self.stream.waits):
                return
            self._wait()

    def take_memory(self, memory: Any, memory_from: str) -> None:
        """Go on with another memory."""

        def work() -> None:
            self.wipes, self._given = False, memory_from
            self.stream.memory = memory

        self._worker.call(work)

    def carry(self) -> None:
        """Carry the memory from now on, as it is."""
        self.wipes, self._given = False, ON

    def stop(self) -> None:
        """Let calls that wait raise StreamClosed; may be called from any thread."""
        self._closed = True
        self._changed.set()

    def close(self) -> None:
        """Leave the pool; may be called twice."""
        self._worker.close(self.stream)

    def _push(self, frame: FeedFrame) -> None:
        if self._over:
            raise self._error or StreamClosed
        self._arrivals[self._count] = frame.arrived_s
        self.stream.push(frame.pixels)
        self._count += 1

    def _wait(self) -> None:
        self._changed.wait()
        if self._closed:
            raise StreamClosed


def memory_of(worker: PoolWorker, model: str, feed: Feed, steps: int, opened: Callable[[FedStream], None]) -> Any:
    """Return the memory that the model has after so many steps of a video, or at its end.

    Args:
        worker, model: as of a `FedStream`.
        feed: of the video.
        steps: their number, at least 1.
        opened: gets the stream, so that another thread may stop it.

    Raises:
        RefusedError: the video cannot be read.
        StreamClosed: the stream was stopped.
    """
    memory: Any = None

    def keep(stream: FedStream, _: Answer) -> None:
        nonlocal memory
        if stream.steps <= steps:
            memory = stream.stream.memory

    with feed:
        stream = FedStream(worker, model, feed.fps, keep)
        opened(stream)
        try:
            for frame in feed:
                stream.push(frame)
                if stream.steps >= steps:
                    return memory
            stream.finish()
        finally:
            stream.close()
    return memory


def stretches(feed: Feed) -> Iterator[Iterator[FeedFrame]]:
    """Cut an entered feed into stretches without gaps, each with frames at the feed's constant rate.

    In a short gap the last frame stays. After a longer one, a loss, or a change of size another stretch begins. A
    stretch has to be iterated to its end before the next is asked for.
    """
    frames = iter(feed)
    if feed.is_even:
        yield frames
        return
    gap_s = max(_GAP_S, _MIN_GAP_SLOTS / feed.fps)
    coming: FeedFrame | None = None

    def stretch(last: FeedFrame) -> Iterator[FeedFrame]:
        nonlocal coming
        coming = None
        resampler = Resampler(feed.fps, last.time_s)
        yield from resampler.push(last.time_s, last)
        for frame in frames:
            if frame is None:
                break
            if frame.time_s - last.time_s > gap_s or frame.pixels.shape != last.pixels.shape:
                coming = frame
                break
            yield from resampler.push(frame.time_s, frame)
            last = frame
        yield from resampler.finish()

    while first := coming or next((frame for frame in frames if frame is not None), None):
        yield stretch(first)
