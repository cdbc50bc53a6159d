"""Streams whose frames are pushed: the answers of the offline pass, at once, from a state that can be carried over."""

import io

import numpy as np
import pytest
import torch

import slowfast
from slowfast.apps.predict.predictor import Predictor


def noise(frames, seed=0, size=(36, 40)):
    return np.random.default_rng(seed).integers(0, 256, (frames, *size, 3), dtype=np.uint8)


def in_parts(video, seed):
    """Cut a video at random into parts of 0 to 9 frames."""
    rng, start = np.random.default_rng(seed), 0
    while start < len(video):
        stop = start + int(rng.integers(0, 10))
        yield video[start:stop] if stop > start else video[start]
        start = max(stop, start + 1)


def assert_same(found, wanted):
    assert [a.start_s for a in found] == pytest.approx([a.start_s for a in wanted])
    assert [a.end_s for a in found] == pytest.approx([a.end_s for a in wanted])
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.all_scores, b.all_scores)


# The model wants 4 frames a second: every frame, every second, one of 7.5, and each frame more than once.
@pytest.mark.parametrize(("fps", "lengths"), [(4, [1, 7, 8, 9, 36, 50]), (8, [60]), (30, [200, 233]), (3, [20])])
def test_pushed_frames_get_the_answers_of_a_file(predictor, fps, lengths):
    for length in lengths:
        video = noise(length, seed=length)
        session = predictor.session(fps)
        found = [answer for part in in_parts(video, length) for answer in session.push(part)]
        assert_same([*found, *session.finish()], list(predictor.stream(video, fps=fps)))


def test_every_kind_of_model_answers_pushed_frames_as_a_file(built):
    cfg, model, _ = built
    predictor = Predictor(model, cfg, torch.device("cpu"), [str(number) for number in range(cfg.MODEL.NUM_CLASSES)])
    video = noise(47)
    session = predictor.session(30)
    found = [answer for part in in_parts(video, 1) for answer in session.push(part)]
    assert_same([*found, *session.finish()], list(predictor.stream(video, fps=30)))


def test_an_answer_comes_with_the_frame_that_completes_its_step(predictor):
    session, counts = predictor.session(4), []
    for frame in noise(24):
        counts.append(len(session.push(frame)))
    # 8 frames, and then 7 new ones for each step.
    assert [number + 1 for number, count in enumerate(counts) if count] == [8, 15, 22]


def test_a_session_continues_from_its_state_anywhere(predictor):
    video = noise(60)
    wanted = list(predictor.stream(video, fps=4))
    session = predictor.session(4)
    found = session.push(video[:27])  # inside a step
    stream = io.BytesIO()
    torch.save(session.state(), stream)
    session.push(video[27:40])  # what comes later does not reach the state
    stream.seek(0)
    other = slowfast.load("zoo://sweep_pgt_36x1", device="cpu").session(4)
    other.load_state(torch.load(stream, weights_only=True))
    assert_same([*found, *other.push(video[27:]), *other.finish()], wanted)
    other.reset()
    assert_same([*other.push(video), *other.finish()], wanted)
    with pytest.raises(ValueError, match="'fps': 4"):
        predictor.session(30).load_state(session.state())


def test_interleaved_sessions_do_not_meet(predictor):
    videos = [noise(40, seed) for seed in range(3)]
    sessions, found = [predictor.session(4) for _ in videos], [[] for _ in videos]
    for start in range(0, 40, 5):
        for session, answers, video in zip(sessions, found, videos, strict=True):
            answers += session.push(video[start : start + 5])
    for session, answers, video in zip(sessions, found, videos, strict=True):
        assert_same([*answers, *session.finish()], list(predictor.stream(video, fps=4)))


def size_of(state):
    tensors = [*state["frames"].values(), *(state["memory"] or {}).values(), state["last"]]
    return sum(x.numel() * x.element_size() for x in tensors)


def test_the_state_does_not_grow(predictor, clip_predictor):
    for session in (predictor.session(4), clip_predictor.session(8, stride=3)):
        sizes = []
        for number in range(40):
            session.push(noise(21, seed=number))
            sizes.append(size_of(session.state()))
        assert max(sizes[20:]) <= max(sizes[5:20])


def test_clips_back_to_back_are_those_of_a_file(clip_predictor):
    video = noise(32)
    session = clip_predictor.session(4)
    assert_same(session.push(video), clip_predictor.clips(video, fps=4))
    assert session.finish() == []
    # A stream shorter than a clip: its only clip repeats the last frame.
    session.reset()
    assert session.push(video[:5]) == []
    assert_same(session.finish(), clip_predictor.clips(video[:5], fps=4))


def test_a_sliding_clip_transforms_no_frame_twice(clip_predictor, monkeypatch):
    video, prepared = noise(40), []
    original = clip_predictor.prepare
    monkeypatch.setattr(clip_predictor, "prepare", lambda frames: prepared.extend(frames) or original(frames))
    session = clip_predictor.session(8, stride=2)
    found = session.push(video)
    # A clip of 8 frames, 4 a second, spans 16 frames: 0 to 15, 2 to 17, ..., 24 to 39.
    assert len(found) == 1 + (40 - 16) // 2
    assert len(prepared) == len({frame.tobytes() for frame in prepared}) <= 40
    for number, answer in enumerate(found):
        (alone,) = clip_predictor.clips(video[2 * number : 2 * number + 16], fps=8)
        np.testing.assert_array_equal(answer.all_scores, alone.all_scores)
        assert (answer.start_s, answer.end_s) == pytest.approx((number / 4, alone.end_s + number / 4))


def test_what_cannot_be_a_stream(predictor, clip_predictor):
    for wrong in ({"fps": -1}, {"fps": 4, "stride": -1}):
        with pytest.raises(ValueError, match="impossible"):
            clip_predictor.session(**wrong)
    with pytest.raises(ValueError, match="reads in steps"):
        predictor.session(4, stride=2)
    session = predictor.session(4)
    session.push(noise(2))
    with pytest.raises(ValueError, match="one size"):
        session.push(noise(2, size=(40, 36)))
    with pytest.raises(ValueError, match="uint8"):
        session.push(noise(2).astype(np.float32))
    assert predictor.session(4).finish() == []
