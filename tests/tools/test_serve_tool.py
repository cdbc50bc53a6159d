"""The command that serves the page, as a process."""

import http.server
import json
import re
import signal
import socket
import threading

import httpx
import numpy as np
import pytest
import websockets.sync.client

from slowfast.apps.predict.predictor import load
from slowfast.apps.synthetic.files import encode_video
from slowfast.apps.synthetic.render import render_video

PGT = "sweep_pgt_36x1"


@pytest.fixture
def video(tmp_path):
    """A video of 9 s that another server of this machine sends; returns its path and its address."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    path = folder / "sweep.mp4"
    encode_video(path, render_video(1, "val", 2, 48)[0])

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield path, f"http://127.0.0.1:{server.server_address[1]}/sweep.mp4"
    server.shutdown()
    server.server_close()


def watch(address, token, **wish):
    """Return the scores of all answers about a stream."""
    place = address.replace("http", "ws", 1) + "api/stream"
    scores = []
    headers = {"Authorization": f"Bearer {token}"}
    with websockets.sync.client.connect(place, additional_headers=headers, proxy=None) as connection:
        connection.send(json.dumps({"model": PGT, **wish}))
        for text in connection:
            message = json.loads(text)
            assert message["type"] != "error", message
            scores += [message["all"]] if message["type"] == "answer" else []
    return scores


def test_the_command_serves_and_leaves_no_file(video, tool, finish, tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    process = tool("serve", "--checkpoint", f"zoo://{PGT}", "--port", 0, "--token", "s3cret-token", "--sources")
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"(http://127\.0\.0\.1:[0-9]+/)\?token=s3cret-token", line):
            break
    else:
        pytest.fail("".join(lines))
    path, elsewhere = video
    truth = [answer.all_scores for answer in load(f"zoo://{PGT}", "cpu").stream(str(path))]
    with httpx.Client(base_url=found[1], timeout=60, follow_redirects=True, trust_env=False) as client:
        assert client.get("/api/info").status_code == 401
        assert "<html" in client.get("/?token=s3cret-token").text
        assert len(client.get("/api/info").json()["samples"]) == 4
        identity = client.post("/api/videos?name=a.mp4", content=path.read_bytes()).json()["id"]
    np.testing.assert_allclose(watch(found[1], "s3cret-token", video=identity), truth, atol=1e-5)
    np.testing.assert_allclose(watch(found[1], "s3cret-token", source=elsewhere), truth, atol=1e-5)
    assert any(identity in file.name for file in folder.rglob("*"))
    process.send_signal(signal.SIGTERM)
    status, rest = finish(process)
    assert (status, rest.strip()) == (0, ""), rest
    assert not [file for file in folder.rglob("*") if "slowfast-serve" in str(file)]


def test_mistakes_are_told_in_one_line(run_tool):
    checkpoint = ("serve", "--checkpoint", f"zoo://{PGT}", "--device", "cpu")
    for arguments in (
        ("--host", "0.0.0.0"),
        ("--token", "short"),
        ("--max-videos", 0),
        ("--port", 70_000),
    ):
        status, told = run_tool(*checkpoint, *arguments)
        assert status == 2 and told.count("\n") == 1 and told.startswith("error: ")
    with socket.create_server(("127.0.0.1", 0)) as other:
        status, told = run_tool(*checkpoint, "--port", other.getsockname()[1])
        assert status == 2 and str(other.getsockname()[1]) in told and "--port" in told
    for host in ("no.such.host.invalid", "192.0.2.1"):
        status, told = run_tool(*checkpoint, "--host", host, "--token", "s3cret-token")
        last = told.splitlines()[-1]
        assert status == 2 and f"error: --host {host}" in last and "--port" not in last
