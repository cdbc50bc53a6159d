"""Viewers' streams: each on a thread that feeds it, with its answers kept for a while."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from slowfast.apps.predict import people_files
from slowfast.apps.predict.run import facts_of
from slowfast.apps.predict.scorer import Answer
from slowfast.apps.serve.feeds import CameraFeed, Feed, SourceFeed, VideoFeed, collect
from slowfast.apps.serve.limits import RefusedError, ServeLimits
from slowfast.apps.serve.models import PERSONS_EVERY_S, ServedModel
from slowfast.apps.serve.streams import ON, OTHER, FedStream, StreamClosed, memory_of, stretches
from slowfast.apps.serve.videos import VideoStore
from slowfast.apps.serve.worker import PoolWorker
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import short

logger = get_logger(__name__)

Message = dict[str, Any]
_MOST_UNSENT = 64  # messages that wait for a viewer; then its stream waits
_MOST_ANSWERS = 10_000  # that are kept of a stream
_RATE_OVER = 20  # steps


class Session:
    """The stream of a viewer.

    Args:
        model: the model.
        feed: frames; entered and left on the session's thread.
        title: of what is seen.
        video: identity of the video that is seen, or "".
        worker: owner of the pools.
        other_feed: identity of a video -> its feed.
        send: takes a message for the viewer, and None after the last; called from several threads.

    Attributes:
        identity: unguessable.
        answers: the last answers, as files have them.
        ended_s: when it ended, by `time.monotonic()`; None before.
    """

    def __init__(
        self,
        model: ServedModel,
        feed: Feed,
        title: str,
        video: str,
        worker: PoolWorker,
        other_feed: Callable[[str], Feed],
        send: Callable[[Message | None], None],
    ) -> None:
        self.identity = secrets.token_urlsafe(12)
        self.model, self.feed, self.title, self.video = model, feed, title, video
        self.answers: deque[Message] = deque(maxlen=_MOST_ANSWERS)
        self.ended_s: float | None = None
        self._worker, self._other_feed, self._send = worker, other_feed, send
        self._steps = 0
        self._times: deque[float] = deque(maxlen=_RATE_OVER)
        self._wipes, self._other, self._other_from_s = False, "", 0.0
        self._closed = False
        self._streams: list[FedStream] = []  # that a close has to stop
        self._sent = threading.Condition()
        self._unsent = 0
        self._thread = threading.Thread(target=self._work, name=f"session {self.identity}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def control(self, message: Message) -> None:
        """Take in a text message of the viewer.

        Raises:
            RefusedError: it is none that is known, or the model has no memory.
        """
        value = message.get("value")
        if message.get("type") != "memory" or value not in ("on", "wipe", OTHER):
            raise RefusedError(400, f"the message {short(message)!r} is unknown; memory can be on, wipe or other")
        if not self.model.has_memory:
            raise RefusedError(400, f"the model {self.model.name} has no memory")
        if value == OTHER:
            at_s = message.get("at_s", 0)
            if isinstance(at_s, bool) or not isinstance(at_s, (int, float)):
                raise RefusedError(400, f"at_s is {short(at_s)!r}; it must be a number, of seconds")
            self._other_from_s, self._other = at_s, str(message.get("video", ""))
            return
        self._wipes, self._other = value == "wipe", ""
        for stream in self._streams[:1]:
            stream.wipes = self._wipes
            if not self._wipes:
                stream.carry()

    def put(self, frame: bytes) -> None:
        """Take in a frame of the viewer's camera; RefusedError if the stream is of something else."""
        if not isinstance(self.feed, CameraFeed):
            raise RefusedError(400, "this stream takes no frames; ask for one with a camera")
        self.feed.put(frame)

    def was_sent(self) -> None:
        """Take note that a message has left."""
        with self._sent:
            self._unsent -= 1
            self._sent.notify_all()

    def close(self) -> None:
        """End it soon; may be called from any thread, and twice."""
        self._closed = True
        self.feed.close()
        for stream in list(self._streams):
            stream.stop()
        with self._sent:
            self._sent.notify_all()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def _work(self) -> None:
        try:
            with self.feed:
                self._tell({"type": "started", "session": self.identity, "fps": self.feed.fps})
                if self.model.boxes:
                    self._watch_people()
                else:
                    for frames in stretches(self.feed):
                        self._stretch(frames)
            self._tell({"type": "end", "steps": self._steps})
        except StreamClosed:
            pass
        except RefusedError as error:
            self._tell({"type": "error", "error": error.message})
        except ValueError as error:  # such as scores that are not finite
            self._tell({"type": "error", "error": short(error, 300)})
        except Exception:
            logger.exception("a stream failed")
            self._tell({"type": "error", "error": "the server failed; its operator finds the reason in its output"})
        finally:
            self.ended_s = time.monotonic()
            self._send(None)

    def _stretch(self, frames: Any) -> None:
        """Answer about frames without gaps."""
        stream: FedStream | None = None
        try:
            for frame in frames:
                if stream is None:
                    stream = self._open(frame.time_s)
                if self._other and frame.time_s >= self._other_from_s:
                    if self._other_from_s > 0:
                        stream.settle()
                    if stream.steps:
                        self._take_other(stream)
                self._wait_for_viewer()
                stream.push(frame)
            if stream:
                stream.finish()
        except RefusedError:
            if stream:  # the answers before the fault come first
                stream.settle()
            raise
        finally:
            if stream:
                stream.close()
                self._streams.remove(stream)

    def _watch_people(self) -> None:
        """Answer about the persons in a video, moment by moment; it is read as a whole first."""
        model, fps = self.model, self.feed.fps
        frames = collect((frame.pixels for frame in self.feed), fps)
        self._check()
        begun_s = time.monotonic()
        for answer in model.predictor.people(frames, model.boxes, fps=fps):
            delay_s, begun_s = time.monotonic() - begun_s, time.monotonic()
            self.answers.append(people_files.line_of(answer))
            best = model.predictor.answer(0.0, 0.0, torch.from_numpy(answer.all_scores), top=5)
            half = PERSONS_EVERY_S / 2
            boxes = [
                {"box": [float(edge) for edge in p.box], "id": p.identity, "names": _named(p.names, p.scores)}
                for p in answer.persons
            ]
            about = {"start_s": max(0.0, answer.key_s - half), "end_s": answer.key_s + half, "boxes": boxes}
            self._tell_answer(about, _named(best.names, best.scores), answer.all_scores, delay_s)
            self._wait_for_viewer()

    def _open(self, start_s: float) -> FedStream:
        start_s = 0.0 if self.feed.is_even else start_s
        stream = FedStream(self._worker, self.model.name, self.feed.fps, self._answered, start_s, self._wipes)
        self._streams.append(stream)
        stream.wipes = self._wipes  # which a viewer may have changed meanwhile
        self._check()
        return stream

    def _take_other(self, stream: FedStream) -> None:
        """Replace the memory by the one that another video has at this step."""
        video, self._other = self._other, ""
        before, self._wipes = self._wipes, False
        stream.settle()

        def opened(other: FedStream) -> None:
            self._streams.append(other)
            self._check()

        count = len(self._streams)
        try:
            memory = memory_of(self._worker, self.model.name, self._other_feed(video), stream.steps, opened)
            stream.take_memory(memory, OTHER)
            stream.wipes = self._wipes  # which a viewer may have asked for meanwhile
        except RefusedError as error:
            self._wipes = self._wipes or before
            self._tell({"type": "error", "error": error.message})
        finally:
            del self._streams[count:]

    def _answered(self, stream: FedStream, answer: Answer) -> None:
        """Tell an answer; on the worker's thread."""
        facts = facts_of(answer)
        self.answers.append(facts)
        about = {
            "start_s": facts["start_s"],
            "end_s": facts["end_s"],
            "boxes": [],
            "state_bytes": stream.stream.state_bytes,
            "memory": stream.memory_from,
        }
        delay_s = time.monotonic() - stream.last_arrived_s
        self._tell_answer(about, _named(facts["names"], facts["scores"]), answer.all_scores, delay_s)

    def _tell_answer(self, about: Message, best: list[Message], scores: np.ndarray, delay_s: float) -> None:
        self._steps += 1
        self._times.append(time.monotonic())
        passed = self._times[-1] - self._times[0]
        self._tell(
            {
                "type": "answer",
                "scores": best,
                "all": [float(score) for score in scores],
                "state_bytes": 0,
                "delay_s": round(delay_s, 6),
                "steps_per_s": round((len(self._times) - 1) / passed, 3) if passed else 0.0,
                "dropped": self.feed.dropped,
                "memory": ON,
                **about,
            }
        )

    def _tell(self, message: Message) -> None:
        with self._sent:
            self._unsent += 1
        self._send(message)

    def _wait_for_viewer(self) -> None:
        with self._sent:
            self._sent.wait_for(lambda: self._unsent < _MOST_UNSENT or self._closed)
        self._check()

    def _check(self) -> None:
        if self._closed:
            raise StreamClosed


def _named(names: Sequence[str], scores: Iterable[float]) -> list[Message]:
    return [{"name": name, "score": float(score)} for name, score in zip(names, scores, strict=True)]


class Sessions:
    """The streams of all viewers.

    Args:
        models: by name.
        store: the videos.
        limits: on viewers.
        sources: streams may read addresses and cameras of the server.
    """

    def __init__(
        self, models: Mapping[str, ServedModel], store: VideoStore, limits: ServeLimits, sources: bool
    ) -> None:
        self._models, self._store, self._limits, self._allows_sources = models, store, limits, sources
        predictors = {name: model.predictor for name, model in models.items() if not model.boxes}
        # A stream may need another one, for the memory of another video.
        self._worker = PoolWorker(predictors, 2 * limits.sessions)
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def open(self, wish: Message, send: Callable[[Message | None], None]) -> Session:
        """Start a stream as a viewer's first message asks for it.

        Raises:
            RefusedError: the message is wrong (400), or there are too many streams (429).
        """
        model = self._models.get(str(wish.get("model")))
        if model is None:
            raise RefusedError(400, f"there is no model {short(wish.get('model'))!r}; there are {list(self._models)}")
        kinds = [kind for kind in ("video", "camera", "source") if wish.get(kind)]
        if len(kinds) != 1:
            raise RefusedError(400, "a stream needs one of video, camera and source")
        if wish.get("pace", "fast") not in ("fast", "live"):
            raise RefusedError(400, f"the pace {short(wish['pace'])!r} is unknown; it can be fast or live")
        feed, title, video = self._feed(model, kinds[0], wish)
        session = Session(model, feed, title, video, self._worker, lambda other: self._video_feed(model, other), send)
        if "memory" in wish:
            session.control({"type": "memory", **wish["memory"]} if isinstance(wish["memory"], dict) else {})
        with self._lock:
            self._forget_old()
            most = self._limits.sessions
            if sum(session.ended_s is None for session in self._sessions.values()) >= most:
                raise RefusedError(429, f"{most} streams are open, as many as the server takes; try again later")
            self._sessions[session.identity] = session
        session.start()
        return session

    def get(self, identity: str) -> Session:
        """Return a session; RefusedError (404) if there is none any more."""
        with self._lock:
            self._forget_old()
            if identity not in self._sessions:
                raise RefusedError(404, "there is no such stream; its answers are kept for a while after its end")
            return self._sessions[identity]

    def num_open(self) -> int:
        """Return the number of streams that have not ended."""
        return sum(session.ended_s is None for session in self._sessions.values())

    def close(self) -> None:
        """End all streams, and the thread of the pools."""
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            session.close()
        for session in sessions:
            session.join()
        self._worker.stop()

    def _feed(self, model: ServedModel, kind: str, wish: Message) -> tuple[Feed, str, str]:
        """Return the feed, its title, and the identity of the video or ""."""
        if model.boxes and kind != "video":
            raise RefusedError(400, f"the model {model.name} scores boxes of persons, and looks at videos alone")
        if kind == "camera":
            return CameraFeed(model.rate, self._limits.idle_s), "camera", ""
        if kind == "source":
            if not self._allows_sources:
                raise RefusedError(400, "sources of the server are not allowed; its operator allows them by --sources")
            return SourceFeed(str(wish["source"]), model.predictor.settings.target_fps), "source", ""
        video = self._store.get(str(wish["video"]))
        return self._video_feed(model, video.identity, wish.get("pace") == "live"), video.title, video.identity

    def _video_feed(self, model: ServedModel, identity: str, live: bool = False) -> Feed:
        rate = model.predictor.settings.target_fps
        return VideoFeed(self._store, identity, self._limits.decoding, rate, live and not model.boxes)

    def _forget_old(self) -> None:
        old = time.monotonic() - self._limits.idle_s
        gone = [i for i, session in self._sessions.items() if session.ended_s is not None and session.ended_s < old]
        for identity in gone:
            del self._sessions[identity]
