"""Answers over the WebSocket: those of the model, with its memory as the viewer wants it."""

import io
import json
import struct
from concurrent.futures import ThreadPoolExecutor

import av
import cv2
import numpy as np
import pytest

from slowfast.apps.synthetic.files import encode_video
from slowfast.apps.synthetic.render import render_video

PGT, CLIPS = "sweep_pgt_36x1", "sweep_slow_8x1"


def decoded(jpeg):
    """Pixels of a JPEG."""
    with av.open(io.BytesIO(jpeg), format="jpeg_pipe") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def frames_of(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def answers_of(messages):
    return [message for message in messages if message["type"] == "answer"]


def scores_of(messages):
    return np.array([message["all"] for message in answers_of(messages)])


@pytest.fixture
def videos(tmp_path):
    """Two videos of 9 s, and the frames of each."""
    made = []
    for number in range(2):
        path = tmp_path / f"sweep {number}.mp4"
        encode_video(path, render_video(1, "val", number, 48)[0])
        made.append(path)
    return made


def windows_of(predictor, path):
    """Inputs of each step of a file at the model's rate, one after the other."""
    frames = frames_of(path)
    steps = predictor.step_positions(len(frames))
    return [[predictor.prepare(frames[positions])[None] for positions in step] for step in steps]


def carried(predictor, inputs, memory=None):
    """Scores of each window, the memory carried; and the last memory."""
    scores = []
    for window in inputs:
        row, memory = predictor.step_scores(window, memory)
        scores.append(row[0].numpy())
    return np.array(scores), memory


def test_answers_are_those_of_the_model(viewer, models, videos):
    messages = viewer.watch(video=viewer.upload(videos[0]))
    truth = list(models[0].predictor.stream(str(videos[0])))
    assert messages[0]["type"] == "started" and messages[0]["fps"] == 4
    assert messages[-1] == {"type": "end", "steps": len(truth)}
    found = answers_of(messages)
    np.testing.assert_allclose(scores_of(messages), [answer.all_scores for answer in truth], atol=1e-5)
    assert [(a["start_s"], a["end_s"]) for a in found] == [(a.start_s, a.end_s) for a in truth]
    assert [[s["name"] for s in a["scores"]] for a in found] == [a.names for a in truth]
    assert {a["memory"] for a in found} == {"on"}
    assert all(a["state_bytes"] > 0 and a["delay_s"] >= 0 and a["dropped"] == 0 for a in found)


def test_viewers_share_batches_and_get_their_own_answers(viewer, models, videos):
    identities = [viewer.upload(path) for path in videos]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: viewer.watch(video=identities[number % 2]), range(4)))
    for number, messages in enumerate(found):
        truth = [answer.all_scores for answer in models[0].predictor.stream(str(videos[number % 2]))]
        np.testing.assert_allclose(scores_of(messages), truth, atol=1e-5)


def test_a_wiped_memory_is_a_fresh_one_at_each_step(viewer, models, videos):
    messages = viewer.watch(video=viewer.upload(videos[0]), memory={"value": "wipe"})
    predictor = models[0].predictor
    truth = np.array([predictor.step_scores(window, None)[0][0].numpy() for window in windows_of(predictor, videos[0])])
    assert {message["memory"] for message in answers_of(messages)} == {"wiped"}
    np.testing.assert_allclose(scores_of(messages), truth, atol=1e-5)
    assert np.abs(truth - carried(predictor, windows_of(predictor, videos[0]))[0]).max() > 0.1


def test_the_memory_of_another_video_is_the_one_it_has_at_this_step(viewer, models, videos):
    own, other = [viewer.upload(path) for path in videos]
    messages = viewer.watch(video=own, memory={"value": "other", "video": other})
    predictor = models[0].predictor
    mine, others = [windows_of(predictor, path) for path in videos]
    said = [message["memory"] for message in answers_of(messages)]
    steps = said.index("other")  # however far the stream was when it was taken
    assert steps >= 1 and said == ["on"] * steps + ["other"] * (len(mine) - steps)
    _, memory = carried(predictor, others[:steps])
    truth = [*carried(predictor, mine[:steps])[0], *carried(predictor, mine[steps:], memory)[0]]
    np.testing.assert_allclose(scores_of(messages), truth, atol=1e-5)
    assert np.abs(np.array(truth) - carried(predictor, mine)[0]).max() > 1e-4


def test_a_camera_answers_and_its_memory_is_switched_while_it_runs(viewer, models, wait_for):
    frames = render_video(2, "test", 3, 48)[0][:31]
    jpegs = [cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in frames]
    seen = [decoded(jpeg) for jpeg in jpegs]
    answers = []
    with viewer.stream(camera=True) as socket:
        session = viewer.server.sessions.get(socket.receive_json()["session"])
        for number, jpeg in enumerate(jpegs):
            if number == 9:  # 8 of these frames are a first step
                answers.append(socket.receive_json())
                socket.send_text(json.dumps({"type": "memory", "value": "wipe"}))
            if number == 23:
                answers += [socket.receive_json(), socket.receive_json()]
                socket.send_text(json.dumps({"type": "memory", "value": "on"}))
            socket.send_bytes(struct.pack("<d", 100 + number / 4) + jpeg)
            wait_for(lambda sent=number + 1: session.feed.received == sent and session.feed._newest is None)
        answers.append(socket.receive_json())
    assert [answer["memory"] for answer in answers] == ["on", "wiped", "wiped", "on"]
    # The last frame lasts until the next comes, so 30 are pushed: steps of 8, 7, 7 and 7.
    session = models[0].predictor.session(4)
    truth = []
    for number, (start, stop) in enumerate([(0, 8), (8, 15), (15, 22), (22, 29)]):
        if number in (1, 2):
            session.memory = None
        truth += session.push(np.stack(seen[start:stop]))
    np.testing.assert_allclose(scores_of(answers), [answer.all_scores for answer in truth], atol=1e-5)
    assert [answer["start_s"] for answer in answers] == [100 + answer.start_s for answer in truth]


def test_clip_models_answer_for_whole_clips(viewer, models, videos):
    messages = viewer.watch(model=CLIPS, video=viewer.upload(videos[0]))
    truth = models[1].predictor.session(4).push(frames_of(videos[0]))
    np.testing.assert_allclose(scores_of(messages), [answer.all_scores for answer in truth], atol=1e-5)
