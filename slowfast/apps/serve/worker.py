"""The thread that computes: streams of all viewers share the batches of one pool per model."""

from __future__ import annotations

import abc
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TypeVar

from slowfast.apps.predict.pool import PooledStream, StreamPool
from slowfast.apps.predict.predictor import Predictor
from slowfast.apps.predict.scorer import Answer
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)
Result = TypeVar("Result")


class Listener(abc.ABC):
    """Hear of a stream, on the worker's thread, so no method may wait.

    Attributes:
        stream: the stream.
    """

    stream: PooledStream

    @abc.abstractmethod
    def before_step(self) -> None:
        """Take note that a batch comes; the stream's memory may be replaced here."""

    @abc.abstractmethod
    def answered(self, answer: Answer) -> None:
        """Take in an answer."""

    @abc.abstractmethod
    def ended(self, error: Exception | None) -> None:
        """Take note that the stream has left the pool, and why if it failed."""


class PoolWorker:
    """Owner of the pools, which are used from its thread alone.

    Args:
        predictors: by the name of the model.
        max_streams: number of streams of a model that may be open.
    """

    def __init__(self, predictors: Mapping[str, Predictor], max_streams: int) -> None:
        self._pools = {name: predictor.pool(max_streams) for name, predictor in predictors.items()}
        self._listeners: dict[PooledStream, Listener] = {}
        self._calls: queue.SimpleQueue[tuple[Future, Callable] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="pools", daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], Result]) -> Result:
        """Run `work` on the worker's thread, and return its result or raise its error."""
        future: Future = Future()
        self._calls.put((future, work))
        return future.result()

    def open(self, model: str, fps: float, listener: Listener) -> None:
        """Open a stream of frames at a rate; the listener gets it as its `stream`."""

        def work() -> None:
            listener.stream = self._pools[model].open(fps)
            self._listeners[listener.stream] = listener

        self.call(work)

    def close(self, stream: PooledStream) -> None:
        """Let a stream leave at once; may be called twice."""

        def work() -> None:
            self._listeners.pop(stream, None)
            stream.close()

        self.call(work)

    def stop(self) -> None:
        """End the thread."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while self._serve_calls():
            for pool in self._pools.values():
                if pool.num_waiting:
                    self._step(pool)
            self._tell_ends()

    def _serve_calls(self) -> bool:
        """Run what was called, and wait for a call if no window waits; return False at the end."""
        idle = not any(pool.num_waiting for pool in self._pools.values())
        while True:
            try:
                call = self._calls.get(block=idle)
            except queue.Empty:
                return True
            if call is None:
                return False
            future, work = call
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)
            idle = False

    def _step(self, pool: StreamPool) -> None:
        for listener in self._listeners.values():
            listener.before_step()
        try:
            answers = pool.step()
        except Exception as error:  # such as too little memory: the windows would fail again
            logger.exception("a step of the model failed; its streams end")
            for stream, listener in list(self._listeners.items()):
                if stream.waits:
                    del self._listeners[stream]
                    stream.close()
                    listener.ended(error)
            return
        for stream, answer in answers:
            self._listeners[stream].answered(answer)

    def _tell_ends(self) -> None:
        for stream, listener in list(self._listeners.items()):
            if stream.is_over:
                del self._listeners[stream]
                listener.ended(stream.error)
