"""Many streams at once: windows of streams that start at different times share one forward."""

from __future__ import annotations

import queue
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from slowfast.apps.predict.scorer import Answer, Scorer
from slowfast.apps.predict.session import StreamSession
from slowfast.datasets.clips.streaming import FrameIndices
from slowfast.evaluation.finite import check_finite


class StreamPool:
    """Streams that share batches; `Predictor.pool` makes one.

    Each stream answers as a `StreamSession` of its own. A batch holds at most one window of a stream, and windows of
    equal shape. A stream without a memory may be in it beside streams with one. The stream whose window has waited
    longest is in the next batch, so that each waits for at most as many batches as there are streams.

    A pool is used from one thread.

    Args:
        scorer: the model.
        max_streams: number of streams that may be open.
        max_batch: number of windows in a batch.
        max_waiting: number of complete windows of one stream that may wait.

    Raises:
        ValueError: one of the numbers is below 1.
    """

    def __init__(self, scorer: Scorer, max_streams: int, max_batch: int = 32, max_waiting: int = 4) -> None:
        if min(max_streams, max_batch, max_waiting) < 1:
            raise ValueError(
                f"a pool of {max_streams} streams, {max_batch} windows in a batch and {max_waiting} waiting windows is "
                "impossible; each must be at least 1"
            )
        self.scorer, self.max_streams, self.max_waiting = scorer, max_streams, max_waiting
        self._max_batch = max_batch
        self._streams: set[PooledStream] = set()
        # Streams and their next windows, in the order in which these became the next ones.
        self._waiting: dict[PooledStream, FrameIndices] = {}

    @property
    def num_streams(self) -> int:
        """Number of open streams."""
        return len(self._streams)

    @property
    def num_waiting(self) -> int:
        """Number of streams with a window that waits for `step`."""
        return len(self._waiting)

    def open(
        self, fps: float | None = None, stride: float = 0.0, top: int = 5, state: dict[str, Any] | None = None
    ) -> PooledStream:
        """Open a stream; arguments as of `StreamSession`.

        Args:
            state: continue from this result of `PooledStream.state` or `StreamSession.state`.

        Raises:
            queue.Full: `max_streams` streams are open.
            ValueError: what `StreamSession` raises.
        """
        if len(self._streams) >= self.max_streams:
            raise queue.Full(f"{self.max_streams} streams are open, as many as the pool takes; finish or close one")
        session = StreamSession(self.scorer, fps, stride, top)
        if state is not None:
            session.load_state(state)
        stream = PooledStream(self, session)
        self._streams.add(stream)
        self._line_up(stream)
        return stream

    def step(self) -> list[tuple[PooledStream, Answer]]:
        """Compute one batch, and return its answers with their streams; none if no window waits.

        A stream whose scores are NaN or infinite has no answer, but an `error`; the others go on.
        """
        batch = self._batch()
        if not batch:
            return []
        inputs = [stream._session.inputs(window) for stream, window in batch]
        scores, memories = self.scorer.joined_scores(inputs, [stream._session.memory for stream, _ in batch])
        answers = []
        for (stream, window), row, memory in zip(batch, scores, memories, strict=True):
            del self._waiting[stream]
            try:
                check_finite(row[None].numpy(), "windows", lambda _, window=window: _span(window))
            except ValueError as error:
                stream.error = error
                self._streams.discard(stream)
                continue
            answers.append((stream, stream._session.arrived(window, row, memory)))
            self._line_up(stream)
        return answers

    def _line_up(self, stream: PooledStream) -> None:
        """Let the stream's next window wait, if there is one; a stream that is done leaves."""
        if stream in self._waiting:
            return
        if window := stream._session.ready():
            self._waiting[stream] = window
        elif stream.finished:
            self._streams.discard(stream)

    def _leave(self, stream: PooledStream) -> None:
        self._waiting.pop(stream, None)
        self._streams.discard(stream)

    def _batch(self) -> list[tuple[PooledStream, FrameIndices]]:
        """Return the window that has waited longest, and those behind it that fit in one batch with it."""
        batch: list[tuple[PooledStream, FrameIndices]] = []
        lengths, sizes = None, None
        for stream, window in self._waiting.items():
            its_lengths, its_sizes = [len(pathway) for pathway in window], _sizes(stream._session.memory)
            # Without a memory a stream fits to any.
            if batch and its_lengths != lengths:
                continue
            if sizes is not None and its_sizes not in (None, sizes):
                continue
            lengths, sizes = its_lengths, sizes or its_sizes
            batch.append((stream, window))
            if len(batch) == self._max_batch:
                break
        return batch


class PooledStream:
    """One stream of a `StreamPool`, which opens it.

    Attributes:
        error: why it failed; None while it is well. A stream that failed has left the pool.
        finished: no more frames come.
    """

    def __init__(self, pool: StreamPool, session: StreamSession) -> None:
        self._pool, self._session = pool, session
        self.error: Exception | None = None
        self.finished = False

    def push(self, frames: np.ndarray | Tensor) -> None:
        """Take in the next frames; the pool's `step` answers. What is refused changes nothing.

        Args:
            frames: as of `StreamSession.push`.

        Raises:
            ValueError: as of `StreamSession.push`, or the stream has failed, is finished or closed.
            queue.Full: more than `max_waiting` complete windows of the stream would wait.
        """
        self._check()
        pixels = self._session.checked(frames)
        waiting, most = self._session.num_ready(), self._pool.max_waiting
        then = self._session.num_ready(len(pixels))
        if then > most:
            raise queue.Full(
                f"{waiting} windows of the stream wait, {then} would with these {len(pixels)} frames, and at most "
                f"{most} may: let the pool step first, or push fewer frames at a time"
            )
        self._session.receive(pixels)
        self._pool._line_up(self)

    def finish(self) -> None:
        """End the stream, as `StreamSession.finish`: it leaves the pool with its last answer.

        Raises:
            ValueError: the stream has failed, is finished or closed.
        """
        self._check()
        self.finished = True
        self._session.end()
        self._pool._line_up(self)

    def close(self) -> None:
        """Leave the pool at once, without the answers that are missing."""
        self.finished = True
        self._pool._leave(self)

    @property
    def waits(self) -> bool:
        """True if a window of it waits for the pool's `step`."""
        return self in self._pool._waiting

    @property
    def is_over(self) -> bool:
        """True if it has left the pool: finished with its last answer, closed, or failed."""
        return self not in self._pool._streams

    @property
    def memory(self) -> Any:
        """Memory for the next window; None before the first, and in clip models. It may be replaced, also by None."""
        return self._session.memory

    @memory.setter
    def memory(self, memory: Any) -> None:
        self._session.memory = memory

    @property
    def state_bytes(self) -> int:
        """Bytes of the tensors that the stream remembers."""
        return self._session.state_bytes

    def state(self) -> dict[str, Any]:
        """Return all that the stream remembers, as `StreamSession.state`, with the windows that wait.

        A session answers for these with the next frames that are pushed.
        """
        return self._session.state()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error
        if self.finished:
            raise ValueError("the stream is finished or closed; open another")


def _sizes(memory: Any) -> list[torch.Size] | None:
    """Return the sizes of a memory's tensors without the batch; None without a memory."""
    if memory is None:
        return None
    return [x.shape[1:] for x in pytree.tree_leaves(memory) if isinstance(x, Tensor)]


def _span(window: FrameIndices) -> str:
    return f"frames {min(map(min, window))} to {max(map(max, window))} of a stream"
