"""Test temporal sampling against the rules written out."""

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from slowfast.config import load_config
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import SegmentSampling, StrideSampling

BASE = ClipSettings.from_config(
    load_config(
        None, ["MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow", "DATA.INPUT_CHANNEL_NUM", [3], "DATA.TARGET_FPS", 7]
    ),
    "test",
)


def settings(frames, rate, views=1, greatest=0):
    return replace(BASE, num_frames=frames, sampling_rate=rate, temporal_views=views, max_sampling_rate=greatest)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def clamped(start, frames, rate, length):
    return [max(min(start + i * rate, length - 1), 0) for i in range(frames)]


SHAPES = [(8, 8, 700), (36, 8, 700), (76, 8, 700), (4, 3, 10), (4, 3, 9), (8, 8, 20), (5, 2, 1), (1, 4, 6)]


@pytest.mark.parametrize(("frames", "rate", "length"), SHAPES)
@pytest.mark.parametrize("views", [2, 3, 10])
def test_frame_times_in_testing(frames, rate, length, views):
    for view in range(views):
        gap = float(max(length - ((frames - 1) * rate + 1), 0)) / (views - 1)
        expected = clamped(int(round(gap * view)), frames, rate, length)
        assert StrideSampling(24).view(length, 24, settings(frames, rate, views), view) == expected


@pytest.mark.parametrize(("frames", "rate", "length"), SHAPES)
@pytest.mark.parametrize("views", [1, 3])
def test_frame_times_in_a_loop(frames, rate, length, views):
    """A clip that lies in the video is what it was; a longer one goes on at the first frame."""
    s = settings(frames, rate, views)
    for view in range(views):
        once = StrideSampling(24).view(length, 24, s, view)
        expected = [(once[0] + i * rate) % length for i in range(frames)]
        assert StrideSampling(24).view(length, 24, replace(s, cyclic=True), view) == expected
        assert (once == expected) == ((frames - 1) * rate < length or length == 1)


@pytest.mark.parametrize(("frames", "rate", "length"), SHAPES)
def test_frame_times_in_the_middle(frames, rate, length):
    start = max(length - ((frames - 1) * rate + 1), 0) // 2
    s = settings(frames, rate)
    assert StrideSampling(24).center(length, 24, s) == clamped(start, frames, rate, length)
    assert StrideSampling(24).view(length, 24, s, 0) == clamped(0, frames, rate, length)  # a single view, as published


@pytest.mark.parametrize(("frames", "rate", "length"), [(4, 3, 14), (4, 3, 10), (8, 3, 19)])
def test_frame_times_in_training(frames, rate, length):
    """Every clip that the published draw can give comes, about as often as the others, and no other."""
    room = length - ((frames - 1) * rate + 1)
    starts = range(min(room, 0), max(room, 0) + 1)
    possible = [clamped(start, frames, rate, length) for start in starts]
    s, draws = settings(frames, rate), generator(0)
    drawn = [possible.index(StrideSampling(24).training(length, 24, s, draws)) for _ in range(100 * len(possible))]
    counts = np.bincount(drawn, minlength=len(possible))
    assert counts.min() > 50 and counts.max() < 150


def test_frame_times_with_a_rate_drawn_by_multigrid():
    s, draws = settings(4, 2, greatest=5), generator(1)
    clips = [StrideSampling(24).training(1000, 24, s, draws) for _ in range(200)]
    rates = [clip[1] - clip[0] for clip in clips]
    assert set(rates) == {2, 3, 4, 5}
    assert all(np.diff(clip).tolist() == [rate] * 3 for clip, rate in zip(clips, rates, strict=True))


@pytest.mark.parametrize("fps", [12, 23.976, 30, 60])
def test_frame_times_count_at_their_own_rate(fps):
    """A video of another rate gives the frames nearest in time to those that its 24 pictures a second would give."""
    length = int(30 * fps)
    for view in range(3):
        s = settings(8, 8, 3)
        pictures = StrideSampling(24).view(30 * 24, 24, s, view)
        frames = StrideSampling(24).view(length, fps, s, view)
        assert max(abs(f / fps - p / 24) for f, p in zip(frames, pictures, strict=True)) <= 0.5 / fps + 1 / 24
        assert frames == sorted(frames) and frames[-1] < length
    assert StrideSampling(24).center(1, fps, settings(3, 2)) == [0, 0, 0]


def test_a_view_that_does_not_exist():
    with pytest.raises(ValueError, match="view 3 of 3"):
        StrideSampling(24).view(100, 24, settings(4, 2, 3), 3)


@pytest.mark.parametrize("length", [1, 2, 5, 8, 9, 37, 100, 301])
@pytest.mark.parametrize("frames", [1, 3, 8, 64])
def test_segment_times(length, frames):
    s, draws = settings(frames, 8, 4), generator(2)
    size = float(length - 1) / frames
    bounds = [(int(np.round(size * i)), int(np.round(size * (i + 1)))) for i in range(frames)]
    middle = [(start + end) // 2 for start, end in bounds]
    assert SegmentSampling().center(length, 30, s) == middle
    assert all(SegmentSampling().view(length, 12, s, view) == middle for view in range(4))
    clips = [SegmentSampling().training(length, 30, s, draws) for _ in range(40)]
    for clip in clips:
        assert all(start <= frame <= end for frame, (start, end) in zip(clip, bounds, strict=True))
    assert {clip[0] for clip in [SegmentSampling().training(4, 30, settings(1, 1), draws) for _ in range(99)]} == {
        0,
        1,
        2,
        3,
    }


def test_the_generator_alone_decides():
    s, video = settings(8, 4), SimpleNamespace(length=500, fps=24)
    for times in (StrideSampling(24), SegmentSampling()):
        first = times.training(video.length, video.fps, s, generator(3))
        random.seed(9), np.random.seed(9), torch.manual_seed(9)
        assert times.training(video.length, video.fps, s, generator(3)) == first
        assert times.training(video.length, video.fps, s, generator(4)) != first
