"""A local HTTP server that can be told to misbehave, the published lists of names, and models with random weights."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from slowfast.checkpoint.zoo import download

FIXTURES = Path(__file__).parents[1] / "fixtures" / "parity"


class FileServer(ThreadingHTTPServer):
    """Serves one file; attributes say how well.

    Attributes:
        content: the file.
        cuts: for each coming answer the bytes of the body after which the connection breaks; None for a whole one.
        ranges: whether a request for a range is obeyed.
        status: of every answer, where it is not 200 or 206.
        etag: of the file.
        kind: Content-Type.
        delay: seconds before a body.
        answers: for the coming requests, functions that answer in place of the server.
        seen: the Range header of every request, "" for none.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.content, self.etag, self.kind = bytes(range(256)) * 4096, '"one"', "application/octet-stream"
        self.cuts: list[int | None] = []
        self.ranges, self.status, self.delay = True, 0, threading.Event()
        self.delay.set()
        self.answers: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.seen: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/folder/file.pyth"


class _Answer(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range", "")
        server.seen.append(asked)
        if server.answers:
            server.answers.pop(0)(self)
            return
        cut = server.cuts.pop(0) if server.cuts else None
        if server.status:
            self.send_error(server.status)
            return
        match = re.fullmatch(r"bytes=(\d+)-", asked)
        start = int(match[1]) if match and server.ranges else 0
        if self.headers.get("If-Range", server.etag) != server.etag:
            start = 0
        if match and server.ranges and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", server.kind)
        self.send_header("ETag", server.etag)
        self.end_headers()
        server.delay.wait(20)
        self.wfile.write(body[:cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def file_server(monkeypatch) -> Iterator[FileServer]:
    """Run a server of one file of 1 MiB."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.delay.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def hurry(monkeypatch) -> None:
    """Make downloads try again at once, and wait for 5 s at most."""
    monkeypatch.setattr(download, "PAUSE_S", 0.01)
    monkeypatch.setattr(download, "TIMEOUT_S", 5)


@pytest.fixture
def target(tmp_path) -> Path:
    """Return the place of a downloaded file, in a folder that is not there yet."""
    return tmp_path / "cache" / "some.pyth"


@pytest.fixture(scope="session")
def caffe2_pairs() -> dict[str, list[tuple[str, str]]]:
    """Setting -> pairs of blob name and state-dict key, the whole list."""
    return json.loads((FIXTURES / "caffe2_names.json").read_text())["pairs"]


@pytest.fixture(scope="session")
def aia_pairs() -> list[tuple[str, str]]:
    """Pairs of AlphAction's name and state-dict key, the whole list."""
    return json.loads((FIXTURES / "aia_names.json").read_text())["pairs"]


@pytest.fixture(scope="session")
def parity_keys():
    """Return a function: the state-dict keys of a published config."""
    return lambda name: list(json.loads((FIXTURES / "state_dicts" / f"{name}.keys.json").read_text()))


@pytest.fixture
def randomized():
    """Return a function that fills a model with random weights and statistics, and returns it."""

    def fill(model, seed=0):
        generator = torch.Generator().manual_seed(seed)
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5 * key.endswith("running_var"))
        return model

    return fill
