"""A server in a process of its own goes on when decoders, connections and its disk fail."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

MODEL = "sweep_pgt_36x1"
FULL = 200_000  # bytes of the largest file, as on a disk that is almost full


class Page:
    """A server's process.

    Attributes:
        process: of tools/serve.py.
        address: of the page.
        folder: that the server has for temporary files.
    """

    def __init__(self, repo: Path, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, repo / "tools/serve.py", "--checkpoint", f"zoo://{MODEL}", "--port", "0"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, FULL)),
        )
        said = next(line for line in self.process.stdout if "http://127.0.0.1:" in line)
        self.address = f"http://{said.split('http://')[1].split('/')[0]}"
        with urllib.request.urlopen(f"{self.address}/api/info") as reply:
            self.sample = json.load(reply)["samples"][0]["id"]

    def upload(self, content: bytes) -> str:
        """Upload a video; return its identity."""
        request = urllib.request.Request(f"{self.address}/api/videos?name=a.mp4", content, method="POST")
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)["id"]

    @contextlib.contextmanager
    def connect(self, **wish: object) -> Iterator[ClientConnection]:
        """Open a stream, and wait until it has started."""
        with connect(f"ws{self.address[4:]}/api/stream", origin=self.address) as viewer:
            viewer.send(json.dumps({"model": MODEL, **wish}))
            assert json.loads(viewer.recv())["type"] == "started"
            yield viewer

    def serves(self) -> bool:
        """Return True if a stream of the sample runs to its end."""
        with self.connect(video=self.sample) as viewer:
            kinds = [json.loads(text)["type"] for text in viewer]
        return kinds[-1] == "end" and set(kinds[:-1]) == {"answer"}

    def decoders(self) -> set[int]:
        """Return the processes that the server has started."""
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == self.process.pid:
                found.add(int(entry.name))
        return found

    def files(self) -> set[Path]:
        """Return the files that the server has made."""
        return {path for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def page(repo, tmp_path_factory):
    """Serve from a disk that is almost full; at the end the server leaves no file, no process and no complaint."""
    page = Page(repo, tmp_path_factory.mktemp("temporary"))
    try:
        yield page
        assert page.files()
        page.process.send_signal(signal.SIGTERM)
        output = page.process.communicate(timeout=300)[0]
    finally:
        page.process.kill()
        page.process.wait()
    assert (page.process.returncode, output) == (0, "")
    assert page.files() == set()


@pytest.fixture(scope="module")
def minutes(encode, pictures, tmp_path_factory) -> bytes:
    """A video of two minutes, which no test watches to its end."""
    frames = pictures(1, 240, 320).repeat(480, axis=0)
    path = encode(tmp_path_factory.mktemp("minutes") / "a.mp4", frames, rate=4)
    return path.read_bytes()


def test_a_decoder_that_is_killed_ends_one_stream(page, minutes):
    with page.connect(video=page.upload(minutes), pace="live") as viewer:
        (decoder,) = page.decoders()
        assert page.serves()
        os.kill(decoder, signal.SIGKILL)
        *_, last = [json.loads(text) for text in viewer]
    assert last["type"] == "error"
    assert "signal 9" in last["error"]
    assert "\n" not in last["error"]
    assert page.serves()


def test_a_connection_that_is_cut_ends_its_stream_alone(page, minutes, wait_for):
    video = page.upload(minutes)
    with page.connect(video=video, pace="live") as other:
        before = page.decoders()
        with page.connect(video=video, pace="live") as viewer:
            assert len(page.decoders() - before) == 1
            viewer.socket.shutdown(socket.SHUT_RDWR)  # as of a host that is gone: no closing handshake
        wait_for(lambda: page.decoders() == before)
        assert page.serves()
        assert json.loads(other.recv())["type"] == "answer"
    wait_for(lambda: page.decoders() == set())


def test_a_full_disk_refuses_an_upload_and_keeps_no_part(page, minutes):
    before = page.files()
    with pytest.raises(urllib.error.HTTPError) as caught:
        page.upload(minutes + bytes(FULL))
    with caught.value as reply:
        told = json.load(reply)["error"]
    assert reply.code == 507
    assert "no room" in told
    assert str(page.folder) not in told
    assert page.files() == before
    assert page.serves()
    page.upload(minutes)
    assert len(page.files()) == len(before) + 1


def test_an_upload_that_is_cut_off_leaves_no_file(page, minutes, wait_for):
    before = page.files()
    host, port = page.address.removeprefix("http://").split(":")
    head = f"POST /api/videos?name=a.mp4 HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(minutes)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + minutes[:1000])
        wait_for(lambda: page.files() != before)
    wait_for(lambda: page.files() == before)
    assert page.serves()
