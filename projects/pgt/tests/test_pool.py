"""Streams that share batches get the answers that each gets alone."""

import queue

import numpy as np
import pytest
import torch

from slowfast.apps.predict.predictor import Predictor


def noise(frames, seed=0, size=(36, 40)):
    return np.random.default_rng(seed).integers(0, 256, (frames, *size, 3), dtype=np.uint8)


def alone(predictor, video, **options):
    session = predictor.session(**options)
    return [*session.push(video), *session.finish()]


def together(pool, videos, starts, at_a_time=5, **options):
    """Answers of each video. Video i is opened in round starts[i], and gets `at_a_time` frames in each round."""
    streams, found, time = [None] * len(videos), {}, 0
    while time <= max(starts) or pool.num_streams:
        for number, (video, start) in enumerate(zip(videos, starts, strict=True)):
            if start == time:
                streams[number] = pool.open(**options)
                found[streams[number]] = []
            first = (time - start) * at_a_time
            if 0 <= first < len(video):
                streams[number].push(video[first : first + at_a_time])
                if first + at_a_time >= len(video):
                    streams[number].finish()
        for stream, answer in pool.step():
            found[stream].append(answer)
        time += 1
    return [found[stream] for stream in streams]


def drain(pool):
    """Streams and answers of all windows that wait."""
    found = []
    while pool.num_waiting:
        found += pool.step()
    return found


def difference(found, wanted):
    """Largest difference of the scores; the spans must be equal."""
    assert [(a.start_s, a.end_s) for a in found] == [(a.start_s, a.end_s) for a in wanted]
    assert found
    return max(float(np.abs(a.all_scores - b.all_scores).max()) for a, b in zip(found, wanted, strict=True))


def assert_as_alone(found, wanted):
    # The order in which a backend sums depends on the size of the batch, so not bitwise. Another video's are far off.
    assert [difference(a, b) for a, b in zip(found, wanted, strict=True)] == pytest.approx([0] * len(found), abs=1e-5)


@pytest.fixture
def batches(monkeypatch):
    """What is computed at once: (streams, those of them without a memory)."""
    seen, original = [], Predictor.joined_scores

    def joined_scores(self, inputs, memories):
        seen.append((len(memories), sum(memory is None for memory in memories)))
        return original(self, inputs, memories)

    monkeypatch.setattr(Predictor, "joined_scores", joined_scores)
    return seen


LENGTHS, STARTS = [47, 23, 60, 9, 38], [0, 1, 1, 3, 4]
VIDEOS = [noise(length, seed) for seed, length in enumerate(LENGTHS)]


def test_streams_of_steps_that_start_at_different_times(predictor, batches):
    found = together(predictor.pool(5), VIDEOS, STARTS, fps=4)
    wanted = [alone(predictor, video, fps=4) for video in VIDEOS]
    assert_as_alone(found, wanted)
    assert difference(found[0][:3], wanted[2][:3]) > 1e-3
    assert max(batches) >= (3, 0)
    assert len(batches) < sum(map(len, wanted))


def test_streams_of_clips(clip_predictor, batches):
    found = together(clip_predictor.pool(5, max_waiting=20), VIDEOS, STARTS, fps=8, stride=3)
    wanted = [alone(clip_predictor, video, fps=8, stride=3) for video in VIDEOS]
    assert_as_alone(found, wanted)
    assert difference(found[0][:3], wanted[2][:3]) > 1e-3
    assert max(batches)[0] >= 4


def predictor_of(built):
    cfg, model, plan = built
    classes = [str(number) for number in range(cfg.MODEL.NUM_CLASSES)]
    return Predictor(model, cfg, torch.device("cpu"), classes), plan


def test_streams_of_every_kind_of_model(built, batches):
    predictor, _ = predictor_of(built)
    videos = VIDEOS[:4]
    found = together(predictor.pool(4, max_waiting=20), videos, STARTS[:4], at_a_time=12, fps=30)
    assert_as_alone(found, [alone(predictor, video, fps=30) for video in videos])
    assert max(batches)[0] >= 2


def test_a_new_stream_beside_an_old_one(built, batches, monkeypatch):
    """The first step of a plan is longer than the others. Here all have one length, so that they fit in one batch."""
    predictor, plan = predictor_of(built)
    _, second, third = plan.covering(3 * plan.step_len[-1]).positions()[:3]
    first, new = second[-1][0], third[-1][0] - second[-1][0]

    def equal_steps(count):
        return [[[i - first + s * new for i in row] for row in second] for s in range(max(1, -(-count // new)))]

    monkeypatch.setattr(predictor, "step_positions", equal_steps)
    videos = [noise(3 * new, 1), noise(3 * new, 2), noise(2 * new, 3)]
    fps = predictor.settings.target_fps / predictor.settings.sampling_rate
    found = together(predictor.pool(3), videos, [0, 1, 2], at_a_time=new, fps=fps)
    assert batches == [(1, 1), (2, 1), (3, 1), (2, 0)]
    assert_as_alone(found, [alone(predictor, video, fps=fps) for video in videos])


def test_the_window_that_waits_longest_comes_first(predictor):
    pool = predictor.pool(3, max_batch=1)
    one, two, three = (pool.open(4) for _ in range(3))
    one.push(noise(29))  # 8 + 3 x 7 frames: 4 steps
    two.push(noise(15))
    three.push(noise(8))
    assert [stream for stream, _ in drain(pool)] == [one, two, three, one, two, one, one]


def test_windows_of_other_shapes_do_not_wait_for_ever(predictor):
    pool = predictor.pool(8)
    old = pool.open(4)
    old.push(noise(8))
    assert len(pool.step()) == 1
    # First and later steps have other lengths. While streams start again and again, the old one still has its turn.
    for round_number in range(4):
        pool.open(4).push(noise(8, round_number))
        old.push(noise(7))
        assert old in {stream for _ in range(2) for stream, _ in pool.step()}


def test_a_full_queue_refuses_and_changes_nothing(predictor):
    video = noise(60)
    pool = predictor.pool(1, max_waiting=2)
    stream = pool.open(4)
    with pytest.raises(queue.Full, match="60 frames"):
        stream.push(video)
    found, refused, position = [], 0, 0
    while position < len(video):
        try:
            stream.push(video[position : position + 5])
            position += 5
        except queue.Full:
            refused += 1
            found += pool.step()
    stream.finish()
    found += drain(pool)
    assert refused == 6  # 8 complete steps, of which 2 may wait
    assert_as_alone([[answer for _, answer in found]], [alone(predictor, video, fps=4)])


def test_places_are_limited_and_come_back(predictor):
    pool = predictor.pool(2)
    one, two = pool.open(4), pool.open(4)
    with pytest.raises(queue.Full, match="2 streams"):
        pool.open(4)
    one.push(noise(8))
    one.close()
    assert (pool.num_streams, pool.num_waiting, pool.step()) == (1, 0, [])
    two.push(noise(9))
    two.finish()
    assert pool.num_streams == 1
    assert [answer.end_s for _, answer in drain(pool)] == [2, 2.25]
    assert pool.num_streams == 0
    for stream in (one, two):
        with pytest.raises(ValueError, match="finished or closed"):
            stream.push(noise(1))
    empty = pool.open(4)
    empty.finish()
    assert (pool.num_streams, pool.num_waiting) == (0, 0)


def test_a_stream_that_fails_leaves_the_others_alone(predictor):
    video = noise(22, 5)
    broken = predictor.session(4)
    broken.push(video[:8])
    state = broken.state()
    for frames in state["memory"].values():
        frames[:] = np.nan
    pool = predictor.pool(3)
    streams = [pool.open(4), pool.open(4, state=state), pool.open(4)]
    others = [streams[0], streams[2]]
    for stream in others:
        stream.push(video[:8])
    found = drain(pool)
    for stream in streams:
        stream.push(video[8:])
    with pytest.raises(ValueError, match="one size"):
        streams[0].push(noise(3, size=(20, 20)))
    found += pool.step()
    assert "frames 8 to 14" in str(streams[1].error)
    assert streams[0].error is streams[2].error is None
    assert pool.num_streams == 2
    found += drain(pool)
    assert {stream for stream, _ in found} == set(others)
    with pytest.raises(ValueError, match="NaN or infinite"):
        streams[1].push(video)
    wanted = predictor.session(4).push(video)
    assert_as_alone([[a for stream, a in found if stream is one] for one in others], [wanted] * 2)


def test_a_stream_moves_between_sessions_and_pools(predictor):
    video = noise(50, 3)
    session = predictor.session(4)
    found = session.push(video[:10])
    first, second = predictor.pool(1), predictor.pool(1)
    stream = first.open(4, state=session.state())
    stream.push(video[10:25])  # two steps wait, of which one is answered here
    found += [answer for _, answer in first.step()]
    stream = second.open(4, state=stream.state())
    assert second.num_waiting == 1
    found += [answer for _, answer in drain(second)]
    session.load_state(stream.state())
    found += [*session.push(video[25:]), *session.finish()]
    assert_as_alone([found], [alone(predictor, video, fps=4)])


def test_frames_of_a_session_that_ended(predictor):
    session = predictor.session(4)
    session.push(noise(9))
    assert len(session.finish()) == 1
    assert session.finish() == []
    with pytest.raises(ValueError, match="end of the stream"):
        session.push(noise(1))


@pytest.mark.parametrize("wrong", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_impossible_pools(predictor, wrong):
    with pytest.raises(ValueError, match="impossible"):
        predictor.pool(*wrong)


def test_a_task_with_memory_must_say_how_to_join_it(clip_predictor):
    clips = [[torch.zeros(1, 3, 8, 32, 32)]] * 2
    with pytest.raises(ValueError, match="ClipTask has a memory"):
        clip_predictor.joined_scores(clips, [None, {"a": torch.zeros(1, 1)}])
