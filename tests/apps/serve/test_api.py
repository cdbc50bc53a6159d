"""Requests of the page: uploads, files, limits, downloads, evidence; and strangers."""

import asyncio
import csv
import io
import json
import logging
import math
import time

import av
import numpy as np
import pytest
import starlette.websockets

from slowfast.apps.predict.predictor import Predictor
from slowfast.apps.serve.guard import HEADERS
from slowfast.apps.serve.limits import RefusedError, ServeLimits
from slowfast.apps.serve.models import ServedModel, load_models
from slowfast.apps.synthetic.files import encode_video
from slowfast.apps.synthetic.render import CLASS_NAMES, render_video
from slowfast.apps.visualize.evidence import evidence

PGT, CLIPS = "sweep_pgt_36x1", "sweep_slow_8x1"


@pytest.fixture
def video(tmp_path):
    """A video of 9 s of 48 pixels."""
    path = tmp_path / "sweep.mp4"
    encode_video(path, render_video(1, "val", 3, 48)[0])
    return path


def error_of(reply, status, viewer):
    """Check the status of a refusal, which is one line without a path of the server; return the line."""
    assert reply.status_code == status, reply.text
    (told,) = reply.json().values()
    assert "\n" not in told and str(viewer.folder.parent) not in told and "/tmp" not in told
    return told


def test_info_tells_what_there_is(viewer, samples):
    info = viewer.http.get("/api/info").json()
    assert [model["name"] for model in info["models"]] == [PGT, CLIPS]
    assert info["models"][0] | {"title": ""} == {
        "name": PGT,
        "title": "",
        "classes": list(CLASS_NAMES),
        "memory": True,
        "boxes": False,
        "rate": 4,
        "step_seconds": 1.75,
    }
    assert (info["models"][1]["memory"], info["models"][1]["step_seconds"]) == (False, 2)
    assert [sample["id"] for sample in info["samples"]] == samples
    assert [(sample["seconds"], sample["width"], sample["height"]) for sample in info["samples"]] == [(9, 32, 32)] * 4
    assert info["sources"] is False
    assert info["limits"] == {"upload_bytes": 200 * 2**20, "seconds": 600, "videos": 100, "sessions": 64}


def test_a_video_comes_goes_and_is_sent_in_parts(viewer, video):
    reply = viewer.http.post("/api/videos", params={"name": "../../my\x1b film.mp4"}, content=video.read_bytes())
    facts = reply.json()
    assert reply.status_code == 201
    assert (facts["seconds"], facts["width"], facts["height"]) == (9, 48, 48)
    assert facts["title"].endswith("film.mp4") and "/" not in facts["title"] and "\x1b" not in facts["title"]
    address = f"/api/videos/{facts['id']}"
    whole = viewer.http.get(f"{address}/file")
    assert whole.content == video.read_bytes() and whole.headers["content-type"] == "video/mp4"
    part = viewer.http.get(f"{address}/file", headers={"range": "bytes=100-149"})
    assert part.status_code == 206 and part.content == video.read_bytes()[100:150]
    for asked, status in (("bytes=a-b", 400), ("seconds=1-2", 400), ("bytes=99999999-", 416)):
        reply = viewer.http.get(f"{address}/file", headers={"range": asked})
        error_of(reply, status, viewer)
        assert reply.headers.get("content-range", "").endswith(f"*/{len(whole.content)}" if status == 416 else "")
    assert viewer.http.delete(address).status_code == 200
    error_of(viewer.http.get(f"{address}/file"), 404, viewer)
    error_of(viewer.http.delete(address), 404, viewer)
    assert list(viewer.folder.iterdir()) == []


def test_samples_stay(viewer, samples):
    error_of(viewer.http.delete(f"/api/videos/{samples[0]}"), 400, viewer)
    assert viewer.http.get(f"/api/videos/{samples[0]}/file").status_code == 200


def test_files_that_are_no_videos_are_refused_and_removed(viewer, video):
    for content in (b"", b"no video", video.read_bytes()[:300]):
        error_of(viewer.http.post("/api/videos?name=x.mp4", content=content), 400, viewer)
    assert list(viewer.folder.iterdir()) == []


def test_a_page_that_is_uploaded_is_never_shown_as_one(viewer, video):
    identity = viewer.upload(video, "page.html")
    reply = viewer.http.get(f"/api/videos/{identity}/file")
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_limits_on_uploads(start, video):
    content = video.read_bytes()
    viewer = start(upload_bytes=len(content) - 1)
    error_of(viewer.http.post("/api/videos", content=content), 413, viewer)
    error_of(viewer.http.post("/api/videos", content=iter([content[:50], content[50:]])), 413, viewer)
    assert list(viewer.folder.iterdir()) == []
    viewer = start(videos=1, seconds=9.5)
    identity = viewer.upload(video)
    error_of(viewer.http.post("/api/videos", content=content), 429, viewer)
    # An upload that nobody uses makes room.
    viewer.server.store.get(identity).used_s = time.monotonic() - 301
    assert viewer.upload(video) != identity
    assert len(list(viewer.folder.iterdir())) == 1
    viewer = start(seconds=8.5)
    assert "8.5" in error_of(viewer.http.post("/api/videos", content=content), 400, viewer)


def test_an_upload_may_have_any_name(viewer, video):
    for name in ("x." + "日" * 98, "a." + "y" * 300, "../\N{RIGHT-TO-LEFT OVERRIDE}.mp4"):
        viewer.upload(video, name)
    assert len(list(viewer.folder.iterdir())) == 3


def test_an_upload_that_stalls_gives_back_its_place(start, video):
    viewer = start(videos=1, idle_s=0.05)

    async def stalls():
        yield b"the first part"
        await asyncio.Event().wait()

    with pytest.raises(RefusedError, match="0.05 s") as refused:
        asyncio.run(viewer.server.store.receive("video.mp4", stalls()))
    assert refused.value.status == 400 and list(viewer.folder.iterdir()) == []
    viewer.upload(video)


def test_limits_are_numbers_above_zero(run_tool):
    for limit in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="seconds"):
            ServeLimits(seconds=limit)
    for size in ("nan", "inf", "many"):
        status, told = run_tool("serve", "--checkpoint", "none", "--max-upload-mb", size)
        assert status == 2 and f"{size!r} is no number" in told


def test_answers_are_downloaded(viewer, video):
    messages = viewer.watch(video=viewer.upload(video, "=my film.mp4"))
    answers = messages[1:-1]
    address = f"/api/sessions/{messages[0]['session']}/answers"
    found = viewer.http.get(f"{address}.json").json()
    assert (found["video"], found["model"]) == ("=my film.mp4", PGT)
    assert found["answers"] == [
        {
            "start_s": a["start_s"],
            "end_s": a["end_s"],
            "names": [s["name"] for s in a["scores"]],
            "scores": [s["score"] for s in a["scores"]],
        }
        for a in answers
    ]
    rows = list(csv.DictReader(io.StringIO(viewer.http.get(f"{address}.csv").text)))
    assert len(rows) == 5 * len(answers)
    assert {row["video"] for row in rows} == {"'=my film.mp4"}  # no formula in a spreadsheet
    assert [row["name"] for row in rows if row["rank"] == "1"] == [a["scores"][0]["name"] for a in answers]
    subtitles = viewer.http.get(f"{address}.vtt").text
    assert subtitles.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n")
    assert subtitles.count(" --> ") == len(answers)
    error_of(viewer.http.get(f"{address}.exe"), 404, viewer)
    error_of(viewer.http.get("/api/sessions/none/answers.json"), 404, viewer)
    assert len(list(viewer.folder.iterdir())) == 1  # the upload alone


def test_the_video_with_answers_drawn_in(viewer, video):
    messages = viewer.watch(video=viewer.upload(video))
    reply = viewer.http.get(f"/api/sessions/{messages[0]['session']}/answers.mp4")
    assert reply.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(reply.content)) as drawn, av.open(str(video)) as plain:
        assert float(drawn.streams.video[0].average_rate) == 4
        frames = list(drawn.decode(video=0))
        pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
        sources = [frame.to_ndarray(format="rgb24") for frame in plain.decode(video=0)]
        assert drawn.duration == pytest.approx(9e6, abs=1e3)  # microseconds; the last frame lasts as long as others
    assert [frame.time for frame in frames] == [number / 4 for number in range(36)]
    assert (len(pictures), pictures[0].shape) == (36, (240, 240, 3))
    enlarged = np.stack(sources).repeat(5, axis=1).repeat(5, axis=2)
    change = np.abs(np.stack(pictures).astype(int) - enlarged).mean(axis=(0, 3))
    # Classes at the top, the time at the bottom, the video between them.
    assert change[10:40].mean() > 15 > 2 * change[150:200].mean()
    assert len(list(viewer.folder.iterdir())) == 1


def test_evidence_is_that_of_the_library(viewer, models, video):
    wish = {"model": PGT, "video": viewer.upload(video), "step": 3, "class": "right-left"}
    found = viewer.http.post("/api/evidence", json=wish).json()
    truth = evidence(models[0].predictor, str(video), "right-left", 3)
    assert found["classes"] == "right-left"
    np.testing.assert_allclose([s["value"] for s in found["steps"]], [s.value for s in truth.steps], atol=1e-4)
    np.testing.assert_allclose([f["value"] for f in found["frames"]], [f.value for f in truth.frames], atol=1e-4)
    assert [f["time_s"] for f in found["frames"]] == [f.time_s for f in truth.frames]
    assert [o["name"] for o in found["operators"]] == [o.name for o in truth.operators]
    assert sum(s["value"] for s in found["steps"]) == pytest.approx(1)
    maps = [f["map"] for f in sorted(found["frames"], key=lambda f: -f["value"])]
    assert all(m.startswith("data:image/png;base64,") for m in maps[:24])
    for wrong in ({"step": 99}, {"step": -1}, {"class": "up"}, {"model": "none"}, {"step": 10**30}):
        error_of(viewer.http.post("/api/evidence", json=wish | wrong), 400, viewer)
    error_of(viewer.http.post("/api/evidence", json=wish | {"video": "none"}), 404, viewer)
    error_of(viewer.http.post("/api/evidence", content=b"x" * 20_000), 413, viewer)


def test_wrong_wishes_are_refused(viewer, samples):
    for wish in (
        {"model": "none", "video": samples[0]},
        {"model": ["x"], "video": samples[0]},
        {},
        {"video": samples[0], "camera": True},
        {"video": "none"},
        {"video": samples[0], "pace": "slow"},
        {"source": "rtsp://127.0.0.1/x"},
        {"video": samples[0], "memory": {"value": "half"}},
        {"model": CLIPS, "video": samples[0], "memory": {"value": "wipe"}},
    ):
        (message,) = viewer.watch(**wish)
        assert message["type"] == "error" and "\n" not in message["error"]
    assert viewer.server.sessions.num_open() == 0


def test_only_so_many_streams_and_none_that_is_abandoned(start, wait_for):
    viewer = start(sessions=1)
    with viewer.stream(camera=True) as socket:
        assert socket.receive_json()["type"] == "started"
        assert viewer.watch(camera=True)[0]["type"] == "error"
    wait_for(lambda: viewer.server.sessions.num_open() == 0)
    with viewer.stream(camera=True) as socket:
        assert socket.receive_json()["type"] == "started"


def test_a_camera_that_sends_nothing_or_nonsense_ends(start, viewer):
    with viewer.stream(camera=True) as socket:
        socket.receive_json()
        socket.send_bytes(b"12345678 no JPEG")
        assert "JPEG" in socket.receive_json()["error"]
    assert start(idle_s=0.05).watch(camera=True)[-1]["type"] == "error"


def test_strangers_are_refused(start, viewer):
    assert viewer.http.get("/api/info", headers={"host": "evil.example"}).status_code == 400
    assert viewer.http.get("/api/info", headers={"host": "localhost:8000"}).status_code == 200
    for host in ("[::1", "[x]", ""):  # no addresses at all
        assert viewer.http.get("/api/info", headers={"host": host}).status_code == 400
    foreign = {"origin": "http://evil.example"}
    error_of(viewer.http.post("/api/videos", content=b"x", headers=foreign), 400, viewer)
    for headers in (foreign, {"origin": "null"}, {"origin": "http://["}, {"origin": "http://127.0.0.1:99"}):
        with (
            pytest.raises(starlette.websockets.WebSocketDisconnect),
            viewer.http.websocket_connect("ws://127.0.0.1/api/stream", headers=headers),
        ):
            pass
    own = {"origin": "http://127.0.0.1"}
    with viewer.http.websocket_connect("ws://127.0.0.1/api/stream", headers=own) as socket:
        socket.send_text("[]")
        assert socket.receive_json()["type"] == "error"


def test_every_reply_has_the_headers_of_safety(viewer):
    for reply in (
        viewer.http.get("/"),
        viewer.http.get("/static/app.js"),
        viewer.http.get("/api/info"),
        viewer.http.get("/none"),
        viewer.http.get("/api/info", headers={"host": "evil.example"}),
    ):
        assert {name: reply.headers[name] for name in HEADERS} == HEADERS
    policy = dict(part.split(" ", 1) for part in HEADERS["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/api/videos/..%2f..%2fetc%2fpasswd/file"):
        error_of(viewer.http.get(path), 404, viewer)


def test_a_token_lets_in(start):
    viewer = start(host="192.0.2.7", token="s3cret-token")
    viewer.http.base_url = "http://192.0.2.7:8000"
    for path in ("/", "/static/app.js", "/api/info", "/?token=wrong-token", "/api/info?token=s3cret-token"):
        assert "s3cret" not in error_of(viewer.http.get(path), 401, viewer)
    with (
        pytest.raises(starlette.websockets.WebSocketDisconnect),
        viewer.http.websocket_connect("ws://192.0.2.7/api/stream"),
    ):
        pass
    bearer = {"authorization": "Bearer s3cret-token"}
    assert viewer.http.get("/api/info", headers=bearer).status_code == 200
    entered = viewer.http.get("/?token=s3cret-token", follow_redirects=False)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=Strict"} <= set(entered.headers["set-cookie"].split("; "))
    assert viewer.http.get("/api/info").status_code == 200  # by the cookie
    with pytest.raises(ValueError, match="--token"):
        start(host="0.0.0.0")


def test_models_of_boxes_are_refused(models):
    plain = models[0].predictor
    cfg = plain.cfg.clone()
    cfg.defrost()
    cfg.DETECTION.ENABLE = True
    with pytest.raises(ValueError, match="none.onnx"):
        load_models([f"zoo://{PGT}"], "cpu", "none.onnx")
    with pytest.raises(ValueError, match="boxes"):
        ServedModel("ava", "ava", Predictor(plain.model, cfg, plain.device, plain.class_names))


def test_a_failing_model_ends_its_streams_alone(viewer, samples, models, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("CUDA out of memory in /home/operator/secret")

    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL):
        patch.setattr(models[0].predictor, "joined_scores", fail)
        message = viewer.watch(video=samples[0])[-1]
        assert message["type"] == "error" and "operator/secret" not in json.dumps(message)
    assert viewer.watch(model=CLIPS, video=samples[0])[-1]["type"] == "end"
    assert viewer.watch(video=samples[0])[-1]["type"] == "end"
