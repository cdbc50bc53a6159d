"""Frames around key frames: the published sequences, and slow ways to write down what is asked for."""

import json
from pathlib import Path

import pytest

from slowfast.datasets.ava.key_frames import Clock, clip_frames, seconds_of_clip

FIXTURE = Path(__file__).parents[2] / "fixtures/keyframe_sequences.json"


def test_published_sequences():
    cases = json.loads(FIXTURE.read_text())
    assert len(cases) >= 4
    for case in cases:
        num_frames = 2 * case["half_len"] // case["rate"]
        frames = clip_frames(case["center"], num_frames, case["rate"], case["num_frames"])
        assert frames == case["indices"]


@pytest.mark.parametrize(("num_frames", "after"), [(1, -1), (1, 1), (3, -1), (3, 0), (8, -1), (8, 4), (36, 1), (36, 4)])
@pytest.mark.parametrize("rate", [1, 2, 5])
@pytest.mark.parametrize(("key", "length"), [(0, 10), (50, 51), (500, 1000), (7, 1)])
def test_the_place_of_the_key_frame(key, num_frames, rate, after, length):
    if after < 0:
        start = key - num_frames * rate // 2
        wanted = [start + rate * i for i in range(num_frames)]
    else:
        wanted = list(range(key - (num_frames - after) * rate, key + after * rate, rate))
    wanted = [0 if frame < 0 else length - 1 if frame >= length else frame for frame in wanted]
    assert clip_frames(key, num_frames, rate, length, after) == wanted
    if after > 0 and key < length:
        assert clip_frames(key, num_frames, rate, length, after)[num_frames - after] == key


def test_a_clip_shorter_than_what_comes_after_the_key_frame_starts_at_it():
    assert clip_frames(100, 3, 2, 1000, after=8) == [100, 102, 104]


def test_the_clock():
    clock = Clock()
    assert [clock.frame_of(second) for second in (900, 902, 1798)] == [0, 60, 26940]
    for frame in range(0, 400):
        assert clock.second_of(frame) == round(frame / 30) + 900
    own = Clock(fps=23.976, first_second=0)
    for second in range(200):
        assert own.second_of(own.frame_of(second)) == second


def test_seconds_with_fractions_on_the_clock():
    clock = Clock(fps=25, first_second=84)
    for thousandths in range(84_000, 94_000, 37):
        distances = [abs(1000 * frame - (thousandths - 84_000) * 25) for frame in range(251)]
        assert distances[clock.frame_of(thousandths / 1000)] == min(distances)
    # The others lie whole seconds from the clip's own, and are the same numbers as read from a file.
    seconds = seconds_of_clip(list(range(0, 250, 10)), [0, 6, 12], 89.3, clock)
    assert seconds == [84.3, 86.3, 89.3]


def test_moments_are_the_nearest_seconds_and_the_last_is_the_clips_own():
    frames = clip_frames(300, 36, 8, 1000, after=4)
    positions = [4, 11, 18, 25, 32]
    seconds = seconds_of_clip(frames, positions, 910, Clock())
    assert seconds == [round((300 - 8 * (32 - position)) / 30) + 900 for position in positions]
    assert seconds_of_clip(frames, [], 910, Clock()) == [910]
    # A clip of three steps: its key frame is the third step's.
    short = clip_frames(300, 22, 8, 1000, after=4)
    assert seconds_of_clip(short, positions, 910, Clock()) == seconds[2:]
    assert short == frames[14:]


def test_moments_end_with_the_key_frame_where_steps_overlap_by_more_than_half():
    # Steps of 8 frames, 5 of them memory: the center of a sixth step lies within five steps' 20 frames.
    positions, frames = [4, 7, 10, 13, 16, 19], list(range(0, 600, 30))
    assert seconds_of_clip(frames, positions, 900 + 16, Clock(30, 900), 4) == [904, 907, 910, 913, 916]
