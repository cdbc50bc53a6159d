"""Videos of the server: samples, and uploads in a folder of their own."""

from __future__ import annotations

import contextlib
import mimetypes
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slowfast.apps.serve.decoder import VideoFacts, probe
from slowfast.apps.serve.limits import RefusedError, ServeLimits
from slowfast.utils.errors import short
from slowfast.utils.files import NoRoomError, no_room_explained
from slowfast.utils.text import one_line, printable

_LONGEST_TITLE = 100


@dataclass
class Video:
    """A video that viewers may choose.

    Attributes:
        identity: unguessable, so that only its owner knows an upload.
        title: name for viewers.
        path: of the file; never told to viewers.
        facts: length, rate and size.
        is_sample: it is never removed.
        users: streams that read it now.
        used_s: when it was last used, by `time.monotonic()`.
    """

    identity: str
    title: str
    path: Path
    facts: VideoFacts
    is_sample: bool = False
    users: int = 0
    used_s: float = field(default_factory=time.monotonic)

    def describe(self) -> dict[str, Any]:
        """Return what viewers are told."""
        facts = self.facts
        return {
            "id": self.identity,
            "title": self.title,
            "seconds": facts.seconds,
            "width": facts.width,
            "height": facts.height,
        }

    @property
    def media_type(self) -> str:
        """Return its type for browsers: a kind of video, or bytes that they do not show."""
        kind = mimetypes.guess_type(self.title)[0] or ""
        return kind if kind.startswith("video/") else "application/octet-stream"


class VideoStore:
    """Samples and uploads, found by their identity; may be used from any thread.

    Args:
        folder: of the uploads; who makes the store removes it.
        limits: on uploads; also an attribute.
    """

    def __init__(self, folder: Path, limits: ServeLimits) -> None:
        self._folder, self.limits = folder, limits
        self._videos: dict[str, Video] = {}
        self._coming = 0  # uploads under way
        self._lock = threading.Lock()

    def add_sample(self, path: Path, title: str) -> None:
        """Add a video of the operator.

        Raises:
            ValueError: it cannot be read.
        """
        video = Video(secrets.token_urlsafe(12), title, path, probe(path, self.limits.decoding), is_sample=True)
        self._videos[video.identity] = video

    @property
    def samples(self) -> list[Video]:
        """Samples, in the order in which they were added."""
        return [video for video in self._videos.values() if video.is_sample]

    async def receive(self, name: str, chunks: AsyncIterator[bytes]) -> Video:
        """Take in an upload. What is refused leaves no file.

        Raises:
            RefusedError: too many or too large videos (429, 413), a file that is no video, or of which nothing comes
                for the limit's time (400), no room (507).
        """
        from starlette.concurrency import run_in_threadpool

        title = printable(one_line(os.path.basename(name.replace("\\", "/"))))[:_LONGEST_TITLE] or "video"
        identity = secrets.token_urlsafe(12)
        path = self._folder / identity  # without the viewer's ending, which may be too long for a file
        with self._reserved():
            try:
                await self._write(path, chunks)
                video = Video(identity, title, path, await run_in_threadpool(self._facts, path))
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            self._videos[identity] = video
        return video

    def get(self, identity: str) -> Video:
        """Return a video; RefusedError (404) if there is none."""
        video = self._videos.get(identity)
        if video is None:
            raise RefusedError(404, "there is no such video; it may have been removed: upload it again")
        video.used_s = time.monotonic()
        return video

    @contextlib.contextmanager
    def in_use(self, identity: str) -> Iterator[Video]:
        """Keep a video while it is used; RefusedError (404) if there is none."""
        with self._lock:
            video = self.get(identity)
            video.users += 1
        try:
            yield video
        finally:
            with self._lock:
                video.users -= 1
                video.used_s = time.monotonic()

    def remove(self, identity: str) -> None:
        """Remove an upload; RefusedError if it is a sample (400), or there is none (404)."""
        if self.get(identity).is_sample:
            raise RefusedError(400, "samples cannot be removed")
        # Who reads the file now keeps it open.
        video = self._videos.pop(identity, None)
        if video:
            video.path.unlink(missing_ok=True)

    def remove_unused(self) -> None:
        """Remove uploads that nobody has used for the limit's time."""
        with self._lock:
            old = time.monotonic() - self.limits.idle_s
            unused = [v.identity for v in self._videos.values() if not v.is_sample and not v.users and v.used_s < old]
        for identity in unused:
            with contextlib.suppress(RefusedError):
                self.remove(identity)

    @contextlib.contextmanager
    def _reserved(self) -> Iterator[None]:
        """Count an upload under way."""
        self.remove_unused()
        with self._lock:
            count, most = len(self._videos) - len(self.samples) + self._coming, self.limits.videos
            if count >= most:
                raise RefusedError(429, f"{most} videos are here, as many as the server keeps; try again later")
            self._coming += 1
        try:
            yield
        finally:
            with self._lock:
                self._coming -= 1

    async def _write(self, path: Path, chunks: AsyncIterator[bytes]) -> None:
        from starlette.concurrency import run_in_threadpool

        size, most = 0, self.limits.upload_bytes
        try:
            with no_room_explained(path), open(path, "xb", buffering=0) as stream:
                while (chunk := await self._next(chunks)) is not None:
                    size += len(chunk)
                    if size > most:
                        raise RefusedError(413, f"the video is larger than the {most / 2**20:g} MiB that are allowed")
                    await run_in_threadpool(_write_all, stream, chunk)
        except NoRoomError:
            raise RefusedError(507, "the server has no room for the video; try again later") from None
        if not size:
            raise RefusedError(400, "the upload is empty; choose a video file")

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        """Return the next part of an upload, None after the last; an upload that stalls would keep its place."""
        from anyio import fail_after

        try:
            with fail_after(self.limits.idle_s):
                return await anext(chunks, None)
        except TimeoutError:
            raise RefusedError(400, f"nothing of the upload came for {self.limits.idle_s:g} s; send it again") from None

    def _facts(self, path: Path) -> VideoFacts:
        try:
            return probe(path, self.limits.decoding)
        except ValueError as error:
            raise RefusedError(400, f"the video cannot be read: {short(error, 300)}") from None


def _write_all(stream: Any, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
