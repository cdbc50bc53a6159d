"""Bodies of requests and replies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from slowfast.apps.serve.guard import App
from slowfast.apps.serve.limits import RefusedError
from slowfast.apps.serve.sessions import Message

_CHUNK = 2**16  # bytes of a file that are sent at a time
_MOST_BODY = 10_000  # bytes of a request in JSON
_RANGE_ERRORS = {
    400: "the header Range cannot be read; it asks for bytes=FIRST-LAST, counted from 0",
    416: "the header Range asks for bytes that the file does not have",
}


async def body_of(request: Any) -> bytes:
    """Return the body of a request; RefusedError (413) if it is too long for a message."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY:
            raise RefusedError(413, f"the message is longer than the {_MOST_BODY} bytes that are allowed")
    return body


def message_of(data: str | bytes) -> Message:
    """Return a text message of a viewer; RefusedError if it is no JSON object."""
    try:
        message = json.loads(data) if isinstance(data, str) else None
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise RefusedError(400, "the message is no JSON object")
    return message


def json_reply(value: Any, status: int = 200) -> Any:
    """Return a reply in JSON, which is kept nowhere."""
    from starlette.responses import JSONResponse

    return JSONResponse(value, status, headers={"cache-control": "no-store"})


def chunks_of(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a file in parts, and close it."""
    with stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def with_json_ranges(app: App) -> App:
    """Return the application with its errors of ranges as JSON, which starlette answers in plain text."""

    async def asked(scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        replaced = False

        async def send_json(message: dict[str, Any]) -> None:
            nonlocal replaced
            if replaced:
                return
            headers = dict(message.get("headers", ()))
            is_plain = headers.get(b"content-type", b"").startswith(b"text/plain")
            if not is_plain or message["status"] not in _RANGE_ERRORS:
                await send(message)
                return
            replaced = True
            reply = json_reply({"error": _RANGE_ERRORS[message["status"]]}, message["status"])
            if b"content-range" in headers:
                reply.headers["content-range"] = headers[b"content-range"].decode("latin-1")
            await reply(scope, receive, send)

        await app(scope, receive, send_json)

    return asked
