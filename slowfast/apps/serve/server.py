"""The server of the page: its routes, and how it is run. docs/web.md describes both."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import json
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slowfast.apps.serve.downloads import MEDIA_TYPES, write_answers
from slowfast.apps.serve.explain import find_evidence
from slowfast.apps.serve.folder import temporary_folder
from slowfast.apps.serve.guard import Guard, check_token
from slowfast.apps.serve.limits import RefusedError, ServeLimits
from slowfast.apps.serve.models import ServedModel
from slowfast.apps.serve.replies import body_of, chunks_of, json_reply, message_of, with_json_ranges
from slowfast.apps.serve.samples import add_samples
from slowfast.apps.serve.sessions import Message, Session, Sessions
from slowfast.apps.serve.videos import VideoStore
from slowfast.utils.errors import short

_STATIC = Path(__file__).parent / "static"
_MOST_MESSAGE = 4 * 2**20  # bytes of a viewer's message: a frame of a camera
_MOST_STEPS = 10**7  # of a video
_SWEEP_S = 5.0  # seconds between looks for what is old
_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_GRACE_S = 3  # seconds in which replies may end when the server does


@dataclass(frozen=True)
class ServeOptions:
    """Options of the server.

    Attributes:
        host, port: where it listens; port 0 is any that is free.
        token: secret of the viewers; needed where `host` is not of this machine alone.
        sources: viewers may name addresses and cameras of the server.
        limits: on viewers.

    Raises:
        ValueError: a host without a token, or no such port.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    sources: bool = False
    limits: ServeLimits = field(default_factory=ServeLimits)

    def __post_init__(self) -> None:
        check_token(self.host, self.token)
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port {self.port} does not exist; they go to {2**16 - 1}, and 0 is any that is free")


class Server:
    """The page's requests.

    Args:
        models: at least one.
        folder: for uploads; who makes the server removes it.
        options: see `ServeOptions`.
    """

    def __init__(self, models: Sequence[ServedModel], folder: Path, options: ServeOptions) -> None:
        self._models = {model.name: model for model in models}
        self._options, self._limits = options, options.limits
        self._folder, self._limiter = folder, None
        self.store = VideoStore(folder, options.limits)
        self.sessions = Sessions(self._models, self.store, options.limits, options.sources)

    async def info(self, _: Any) -> Any:
        """Describe models, samples and limits."""
        limits = asdict(self._limits)
        return json_reply(
            {
                "models": [model.describe() for model in self._models.values()],
                "samples": [sample.describe() for sample in self.store.samples],
                "sources": self._options.sources,
                "limits": {key: limits[key] for key in ("upload_bytes", "seconds", "videos", "sessions")},
            }
        )

    async def upload(self, request: Any) -> Any:
        """Take in a video."""
        from starlette.requests import ClientDisconnect

        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limits.upload_bytes:
            raise RefusedError(413, f"the video is larger than the {self._limits.upload_bytes / 2**20:g} MiB allowed")
        try:
            video = await self.store.receive(request.query_params.get("name", ""), request.stream())
        except ClientDisconnect:
            raise RefusedError(400, "the upload broke off") from None  # nobody hears it, but it is no error of ours
        return json_reply(video.describe(), 201)

    async def remove(self, request: Any) -> Any:
        """Remove an upload."""
        self.store.remove(request.path_params["video"])
        return json_reply({})

    async def file(self, request: Any) -> Any:
        """Send the bytes of a video, also in part."""
        from starlette.responses import FileResponse

        video = self.store.get(request.path_params["video"])
        return FileResponse(video.path, media_type=video.media_type)

    async def answers(self, request: Any) -> Any:
        """Send the answers of a stream as a file."""
        from starlette.responses import StreamingResponse

        session, kind = self.sessions.get(request.path_params["session"]), request.path_params["kind"]
        if kind not in MEDIA_TYPES:
            raise RefusedError(404, f"answers are there as {', '.join(MEDIA_TYPES)}, not as {short(kind)!r}")
        path = self._folder / f"{secrets.token_hex(8)}.{kind}"
        await self._run_alone(write_answers, session, kind, path, self.store, self._limits.decoding)
        stream, size = open(path, "rb"), path.stat().st_size  # noqa: SIM115 - _chunks closes it
        path.unlink()  # so that nothing stays, however the reply ends
        headers = {"content-length": str(size), "content-disposition": f'attachment; filename="answers.{kind}"'}
        return StreamingResponse(chunks_of(stream), media_type=MEDIA_TYPES[kind], headers=headers)

    async def evidence(self, request: Any) -> Any:
        """Find the evidence for an answer."""
        wish = message_of((await body_of(request)).decode("utf-8", "replace"))
        model, step, label = self._models.get(str(wish.get("model"))), wish.get("step"), wish.get("class")
        if model is None or type(step) is not int or not 0 <= step < _MOST_STEPS or type(label) not in (int, str):
            raise RefusedError(400, "evidence needs a model, a video, the number of a step from 0, and a class")
        video, limits = str(wish.get("video")), self._limits.decoding
        return json_reply(await self._run_alone(find_evidence, model, self.store, limits, video, step, label))

    async def _run_alone(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run long work on a thread, one at a time, so that streams go on beside it."""
        from anyio import CapacityLimiter, to_thread

        if self._limiter is None:
            self._limiter = CapacityLimiter(1)
        return await to_thread.run_sync(work, *args, limiter=self._limiter)

    async def stream(self, websocket: Any) -> None:
        """Answer about a stream, as its first message asks for it."""
        from anyio import fail_after

        await websocket.accept()
        loop, outgoing = asyncio.get_running_loop(), asyncio.Queue()

        def send(message: Message | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(outgoing.put_nowait, message)

        with contextlib.suppress(_Gone):
            try:
                with fail_after(self._limits.idle_s):
                    wish = await _receive(websocket)
                session = self.sessions.open(message_of(wish), send)
            except (RefusedError, TimeoutError) as error:
                told = str(error) or f"no message came for {self._limits.idle_s:g} s"
                await _send(websocket, {"type": "error", "error": told})
                await websocket.close()
                return
            try:
                await _exchange(websocket, session, outgoing)
            finally:
                session.close()

    def routes(self) -> list[Any]:
        """Return the routes of the page."""
        from starlette.responses import FileResponse
        from starlette.routing import Mount, Route, WebSocketRoute
        from starlette.staticfiles import StaticFiles

        return [
            Route("/", lambda _: FileResponse(_STATIC / "index.html")),
            Mount("/static", StaticFiles(directory=_STATIC, check_dir=False)),
            Route("/api/info", self.info),
            Route("/api/videos", self.upload, methods=["POST"]),
            Route("/api/videos/{video}", self.remove, methods=["DELETE"]),
            Route("/api/videos/{video}/file", self.file),
            WebSocketRoute("/api/stream", self.stream),
            Route("/api/sessions/{session}/answers.{kind}", self.answers),
            Route("/api/evidence", self.evidence, methods=["POST"]),
        ]

    async def sweep(self) -> None:
        """Remove what is old, again and again."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.store.remove_unused()


def make_app(server: Server, options: ServeOptions) -> Any:
    """Return the ASGI application of a server; its end closes all streams."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(server.sweep())
        yield
        sweeping.cancel()
        await asyncio.to_thread(server.sessions.close)

    def refused(_: Any, error: RefusedError) -> Any:
        return json_reply({"error": error.message}, error.status)

    def http_error(_: Any, error: HTTPException) -> Any:
        return json_reply({"error": error.detail}, error.status_code)

    def failed(_: Any, __: Exception) -> Any:
        return json_reply({"error": "the server failed; its operator finds the reason in its output"}, 500)

    handlers = {RefusedError: refused, HTTPException: http_error, Exception: failed}
    app = Starlette(routes=server.routes(), exception_handlers=handlers, lifespan=lifespan)
    return Guard(with_json_ranges(app), options.host, options.token)


def serve(models: Sequence[ServedModel], options: ServeOptions) -> None:
    """Serve the page until Ctrl-C or SIGTERM; uploads are removed then.

    Raises:
        ValueError: a part of the extra `web` is missing, or the host is no address of this machine.
        OSError: the port is in use.
    """
    uvicorn = web_server()
    _share_arenas()
    # SIGTERM ends it as Ctrl-C does. uvicorn repeats the signal, which would else end this process before the folder is
    # removed.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            temporary_folder() as folder,
            _listen(options) as listener,
        ):
            server = Server(models, folder, options)
            add_samples(server.store, models, folder / "samples")
            config = uvicorn.Config(
                make_app(server, options),
                log_level="warning",
                access_log=False,  # it would hold tokens
                server_header=False,
                ws_max_size=_MOST_MESSAGE,
                ws_max_queue=4,
                timeout_graceful_shutdown=_GRACE_S,
            )
            print(f"the page is at {_address(options, listener.getsockname()[1])} (Ctrl-C ends it)", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def _listen(options: ServeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_NODATA):
            raise ValueError(
                f"--host {options.host} is no address of this machine; take one that it has, 0.0.0.0 for all of them, "
                "or leave --host out for this machine alone"
            ) from None
        told = f"port {options.port} of {options.host} cannot be used ({error.strerror}); name another by --port"
        raise OSError(error.errno, told) from error


def _share_arenas() -> None:
    """Let all threads allocate from two arenas, where the C library is glibc.

    It would make one for each of the first threads, and there are several for each viewer: the process would grow for
    minutes by what each arena keeps.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 2)


def web_server() -> Any:
    """Import uvicorn; ValueError that names the extra if a part of it is missing."""
    try:
        import starlette  # noqa: F401
        import uvicorn
        import websockets  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"the page needs {error.name}, which is not installed: pip install 'slowfast-pgt[web]'"
        ) from None
    return uvicorn


def _address(options: ServeOptions, port: int) -> str:
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"http://{host}:{port}/" + (f"?token={options.token}" if options.token else "")


class _Gone(Exception):
    """The viewer has gone."""


async def _receive(websocket: Any) -> str | bytes:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise _Gone
    return message["text"] if message.get("text") is not None else message.get("bytes", b"")


async def _send(websocket: Any, message: Message) -> None:
    from starlette.websockets import WebSocketDisconnect

    try:
        await websocket.send_text(json.dumps(message))
    except (WebSocketDisconnect, RuntimeError):
        raise _Gone from None


async def _exchange(websocket: Any, session: Session, outgoing: asyncio.Queue) -> None:
    """Pass messages between a viewer and the session, until either ends."""

    from anyio import create_task_group

    async def send_all() -> None:
        while (message := await outgoing.get()) is not None:
            await _send(websocket, message)
            session.was_sent()
        await websocket.close()

    async def receive_all() -> None:
        while True:
            data = await _receive(websocket)
            try:
                if isinstance(data, bytes):
                    session.put(data)
                else:
                    session.control(message_of(data))
            except RefusedError as error:
                await _send(websocket, {"type": "error", "error": error.message})

    async with create_task_group() as group:

        async def run(work: Callable[[], Awaitable[None]]) -> None:
            with contextlib.suppress(_Gone):
                await work()
            group.cancel_scope.cancel()

        group.start_soon(run, send_all)
        group.start_soon(run, receive_all)
