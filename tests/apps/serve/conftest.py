"""A server of the page in this process, its client, and videos to send it."""

from __future__ import annotations

import contextlib
import json

import pytest
import starlette.testclient

from slowfast.apps.serve.limits import ServeLimits
from slowfast.apps.serve.models import load_models
from slowfast.apps.serve.samples import add_samples
from slowfast.apps.serve.server import ServeOptions, Server, make_app

PGT, CLIPS = "sweep_pgt_36x1", "sweep_slow_8x1"


class Viewer:
    """A client of a server, and the server.

    Attributes:
        http: client of the server, at its own address.
        server: the server.
        folder: of the uploads.
    """

    def __init__(self, http, server, folder):
        self.http, self.server, self.folder = http, server, folder

    def upload(self, path, name="video.mp4") -> str:
        """Send a file; return its identity."""
        reply = self.http.post("/api/videos", params={"name": name}, content=path.read_bytes())
        assert reply.status_code == 201, reply.text
        return reply.json()["id"]

    @contextlib.contextmanager
    def stream(self, **wish):
        """Open a stream; yields its socket."""
        with self.http.websocket_connect("ws://127.0.0.1/api/stream") as socket:
            socket.send_text(json.dumps({"model": PGT, **wish}))
            yield socket

    def watch(self, *controls, **wish) -> list[dict]:
        """Return all messages of a stream to which `controls` are sent when it has started."""
        with self.stream(**wish) as socket:
            messages = [socket.receive_json()]
            for control in controls:
                socket.send_text(json.dumps(control))
            while messages[-1]["type"] not in ("end", "error"):
                messages.append(socket.receive_json())
        return messages


@pytest.fixture(scope="session")
def models():
    """The shipped models, on the CPU."""
    return load_models([f"zoo://{PGT}", f"zoo://{CLIPS}"], "cpu")


@pytest.fixture
def start(models, tmp_path):
    """`start(models, options, limits, ...) -> Viewer`: start a server, with the shipped models or others."""
    with contextlib.ExitStack() as stack:

        def run(others=(), **given) -> Viewer:
            names = [name for name in given if name in ServeLimits.__annotations__]
            limits = ServeLimits(**{name: given.pop(name) for name in names})
            options = ServeOptions(limits=limits, **given)
            folder = tmp_path / f"uploads {len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            server = Server(others or models, folder, options)
            client = starlette.testclient.TestClient(make_app(server, options), base_url="http://127.0.0.1")
            return Viewer(stack.enter_context(client), server, folder)

        yield run


@pytest.fixture
def viewer(start):
    """Return the client of a server with the usual options."""
    return start()


@pytest.fixture
def samples(viewer, models, tmp_path) -> list[str]:
    """Give the viewer's server its samples; return their identities."""
    add_samples(viewer.server.store, models, tmp_path / "samples")
    return [sample.identity for sample in viewer.server.store.samples]
