"""Answers about live sources: those of the same file, also after a loss, at a variable rate, and of a slow model."""

import threading
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
import torch

from slowfast.apps.predict import live
from slowfast.apps.predict.live import LiveSource
from slowfast.apps.predict.predictor import Predictor
from slowfast.models import build_model

RATE = 30


@pytest.fixture
def predictor(tiny_cfg):
    """A clip model: 4 frames, every second."""
    cfg = tiny_cfg()
    torch.manual_seed(0)
    return Predictor(build_model(cfg).eval(), cfg, torch.device("cpu"), ["dark", "bright"])


@pytest.fixture
def film(tmp_path, encode, pictures):
    """MPEG-TS of 64 frames: eight clips of the model."""
    return encode(tmp_path / "film.ts", pictures(64), options={"g": "8", "bf": "0"}, rate=RATE)


def assert_same(found, wanted, later=0.0):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.all_scores, b.all_scores)
        assert (a.start_s - later, a.end_s - later) == pytest.approx((b.start_s, b.end_s), abs=2e-3)
        assert a.names == b.names


def test_a_file_on_a_server_has_the_answers_of_the_file(predictor, film, serve, replies):
    with predictor.live(serve(replies.whole(film.read_bytes())), top=1) as answers:
        found = list(answers)
        assert_same(found, list(predictor.stream(film, top=1)))
        assert len(found) == 8
        assert answers.lag_s > 0
        assert answers.speed > 0
        assert (answers.resets, answers.source.dropped) == (0, 0)


def test_a_stride_and_a_rate(predictor, film, serve, replies, decode_all):
    address = serve(replies.whole(film.read_bytes()))
    for fps, stride, every in ((None, 3, 1), (RATE / 2, 2, 2)):
        session = predictor.session(fps or RATE, stride)
        frames = np.stack(decode_all(film)[::every])
        wanted = session.push(frames) + session.finish()
        assert_same(list(predictor.live(address, fps=fps, stride=stride)), wanted)


def test_a_variable_rate_has_the_answers_of_the_file(predictor, tmp_path, serve, replies, encode, pictures):
    stamps = np.random.default_rng(3).integers(5, 120, 40).cumsum().tolist()
    path = encode(tmp_path / "a.mkv", pictures(40), pts=stamps, time_base=Fraction(1, 1000), options={"bf": "0"})
    found = list(predictor.live(serve(replies.whole(path.read_bytes())), fps=RATE))
    wanted = list(predictor.stream(path))
    # The last clip of a file is moved back to its end.
    for a, b in zip(found[:-1], wanted, strict=False):
        np.testing.assert_array_equal(a.all_scores, b.all_scores)
    assert 4 < len(found) <= len(wanted)


def test_a_long_gap_starts_anew(predictor, tmp_path, serve, replies, encode, pictures, caplog):
    """Two films of 16 frames in a file, the second 20 s later."""
    frames = pictures(32)
    stamps = [round(1000 * number / RATE) + (20_000 if number >= 16 else 0) for number in range(32)]
    path = encode(tmp_path / "a.mkv", frames, pts=stamps, time_base=Fraction(1, 1000), options={"bf": "0"}, rate=RATE)
    with predictor.live(serve(replies.whole(path.read_bytes())), fps=RATE) as answers:
        found = list(answers)
    assert [answer.start_s for answer in found] == pytest.approx(
        [0, 8 / RATE, 20 + 16 / RATE, 20 + 24 / RATE], abs=2e-3
    )
    assert answers.resets == 1
    assert "starts anew" in caplog.text


def test_a_source_that_was_lost_starts_anew(predictor, film, serve, replies, monkeypatch, caplog):
    """What there was before the loss is answered at once; later answers are those of a new stream."""
    monkeypatch.setattr(live, "_FIRST_WAIT_S", 0.01)
    data = film.read_bytes()
    breaks, back, never = threading.Event(), threading.Event(), threading.Event()
    address = serve(replies.live(data, breaks), replies.late_error(503, back), replies.live(data, never))
    opened = LiveSource(address, timeout_s=60, max_waiting=200)
    with predictor.live(opened) as answers:
        breaks.set()
        found = list(islice(answers, 8))
        assert (answers.source.losses, answers.resets) == (1, 0)
        back.set()
        found += islice(answers, 4)
        assert answers.resets == 1
    wanted = list(predictor.stream(film))
    assert_same(found[:7], wanted[:7])
    assert_same(found[8:], wanted[:4], later=found[8].start_s)
    assert found[8].start_s > found[7].end_s - 1e-3
    assert "without memory" in caplog.text


def test_a_model_that_is_slower_than_live(
    predictor, over_tcp, film, wait_for, monkeypatch, encode, pictures, tmp_path, caplog
):
    """Frames are dropped, the model starts anew, and the log says why."""
    long = encode(tmp_path / "long.ts", pictures(300), options={"g": "8", "bf": "0"}, rate=RATE)
    pushing, take = threading.Event(), LiveSource._take

    def held(self, frame, stamp):
        if self.received == 10:  # or the reader could be done before the first frame is taken
            assert pushing.wait(60)
        take(self, frame, stamp)

    monkeypatch.setattr(LiveSource, "_take", held)
    opened = LiveSource(over_tcp(long.read_bytes()), timeout_s=60, max_waiting=16)
    answers = predictor.live(opened)
    push = answers._session.push

    def slow(frames):
        pushing.set()
        wait_for(lambda: opened.received >= 299)
        return push(frames)

    monkeypatch.setattr(answers._session, "push", slow)
    monkeypatch.setattr(type(answers), "speed", property(lambda _: 0.5))
    found = list(answers)
    assert opened.dropped >= 300 - 2 * 16
    assert answers.resets == 1
    assert "slower than live" in caplog.text
    assert found[-1].end_s == pytest.approx(300 / RATE, abs=8 / RATE)


def test_mistakes(predictor, film, serve, replies):
    address = serve(replies.whole(film.read_bytes()))
    with pytest.raises(ValueError, match="stride of -1"):
        predictor.live(address, stride=-1)
    with pytest.raises(ValueError, match="0 frames a second"):  # as OpenCV tells of cameras without a rate
        predictor.live(address, fps=0)
    with pytest.raises(ValueError, match="no live source"):
        predictor.live("video.mp4")
    assert not any(thread.name == f"reader of {address}" for thread in threading.enumerate())
