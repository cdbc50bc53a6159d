"""Who may ask: the name of the host, the origin of a page, the token, and what browsers may do with a reply."""

from __future__ import annotations

import http.cookies
import json
import secrets
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
App = Callable[[Scope, Callable[[], Awaitable], Callable[[dict], Awaitable]], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ANY = ("0.0.0.0", "::", "")
_COOKIE = "slowfast_token"
_SAFE = ("GET", "HEAD")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """Refuses requests of strangers, and adds the headers of safety to every reply.

    Without a token everybody on this machine may ask, but no page of another origin: not by a name that resolves to
    this machine (the host is checked), and not by a request across origins.

    Args:
        app: the application.
        host: address that the server listens on.
        token: secret of the viewers; "" for none.
    """

    def __init__(self, app: App, host: str, token: str) -> None:
        self._app, self._token = app, token
        # Listening on all addresses, the machine may have any name; the token keeps others away.
        self._hosts = None if host in _ANY else {*LOOPBACK, host.lower()}

    async def __call__(self, scope: Scope, receive: Callable, send: Callable) -> None:
        """Serve a request, as ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if problem := self._problem(scope, headers):
            await _refuse(scope, send, *problem)
        elif self._token and scope["type"] == "http" and scope["path"] == "/" and self._is_token(_query_token(scope)):
            cookie = f"{_COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            await _reply(send, 303, b"", {"location": "/", "set-cookie": cookie})
        elif self._token and not self._has_token(headers):
            told = "the token is missing or wrong; open the address with ?token= that the server printed"
            await _refuse(scope, send, 401, told)
        else:
            await self._app(scope, receive, _with_headers(send))

    def _problem(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        name = _parts(f"//{host}").hostname or ""
        if self._hosts is not None and name not in self._hosts:
            return 400, "this server is not asked by that host name; open the address that it printed"
        origin = headers.get("origin")
        unsafe = scope["type"] == "websocket" or scope["method"] not in _SAFE
        # Programs that are no browsers send no origin.
        if unsafe and origin is not None and _parts(origin).netloc.lower() != host.lower():
            return 400, "requests of pages from elsewhere are refused"
        return None

    def _has_token(self, headers: dict[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return True
        try:
            cookie = http.cookies.SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
        except http.cookies.CookieError:
            return False
        return cookie is not None and self._is_token(cookie.value)

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())


def check_token(host: str, token: str) -> None:
    """Check that a server on other addresses than loopback has a token, and that it can be one; ValueError if not."""
    if host not in LOOPBACK and not token:
        raise ValueError(
            f"--host {host} lets other machines in, so it needs a secret for the viewers: --token, with 8 characters "
            "or more; without --host the page is for this machine alone"
        )
    if token and not (len(token) >= 8 and token.isascii() and token.replace("-", "").replace("_", "").isalnum()):
        raise ValueError(f"--token has {len(token)} characters; it takes 8 or more letters, digits, - and _")


def _parts(address: str) -> urllib.parse.SplitResult:
    """Return the parts of an address, which are empty if it is none, such as `//[`."""
    try:
        return urllib.parse.urlsplit(address)
    except ValueError:
        return urllib.parse.urlsplit("")


def _query_token(scope: Scope) -> str:
    query = urllib.parse.parse_qs(scope["query_string"].decode("latin-1"))
    return query.get("token", [""])[0]


def _with_headers(send: Callable[[dict], Awaitable]) -> Callable[[dict], Awaitable]:
    """Return a `send` that adds the headers of safety to a reply."""

    async def added(message: dict) -> None:
        if message["type"] == "http.response.start":
            more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await send(message)

    return added


async def _refuse(scope: Scope, send: Callable, status: int, told: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": told[:120]})
        return
    await _reply(send, status, json.dumps({"error": told}).encode(), {"content-type": "application/json"})


async def _reply(send: Callable, status: int, body: bytes, headers: dict[str, str]) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    pairs.append((b"content-length", str(len(body)).encode()))
    send = _with_headers(send)
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
