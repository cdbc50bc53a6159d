"""Index arithmetic against the published numbers."""

import json
from pathlib import Path

import pytest

from slowfast.datasets.clips import temporal_sampling as sampling

CASES = json.loads((Path(__file__).parents[2] / "fixtures" / "sampling.json").read_text())


def test_every_published_case():
    assert len(CASES) == 288
    for case in CASES:
        window = sampling.view_span(
            case["video_frames"], case["clip_span"], case["view"], case["num_views"], case["use_offset"]
        )
        assert window == (case["start"], case["end"]), case
        assert sampling.span_indices(window, 8, case["video_frames"]) == case["eight_frame_indices"], case


@pytest.mark.parametrize("view", [-1, 10])
def test_no_such_view(view):
    with pytest.raises(ValueError, match="of 10"):
        sampling.view_span(300, 64, view, 10)


@pytest.mark.parametrize(
    "fps, target, span",
    [(30, 30, 64.0), (60, 30, 128.0), (15, 30, 32.0), (29.97, 30, 63.936), (26.4, 24, 70.4)],
)
def test_span_follows_the_frame_rate(fps, target, span):
    assert sampling.clip_span(8, 8, fps, target) == pytest.approx(span)


def test_whole_video_at_its_own_rate():
    """36 frames asked of 36: each comes once, whatever is drawn."""
    span = sampling.clip_span(36, 1, 30.0, 30)
    for draw in (0.0, 0.5, 0.999):
        window = sampling.random_span(36, span, draw)
        assert sampling.span_indices(window, 36, 36) == list(range(36))


def test_random_window_covers_the_video():
    assert sampling.random_span(300, 64, 0.0) == (0.0, 63.0)
    start, end = sampling.random_span(300, 64, 1 - 1e-9)
    assert start == pytest.approx(236)
    assert sampling.span_indices((start, end), 8, 300)[-1] <= 299


def test_center_window():
    assert sampling.center_span(300, 64) == (118.0, 181.0)
    assert sampling.center_span(10, 64) == (0.0, 63.0)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_short_videos_repeat_their_last_frame(frames):
    indices = sampling.span_indices(sampling.center_span(frames, 64), 8, frames)
    assert indices == [0] + [frames - 1] * 7


@pytest.mark.parametrize(
    "frames, alpha, chosen, expected",
    [
        (32, 8, (), [0, 10, 20, 31]),
        (32, 4, (), [0, 4, 8, 13, 17, 22, 26, 31]),
        (8, 8, (), [0]),
        (7, 3, (), [0, 6]),
        (32, 8, (0, 7, 8, 31), [0, 7, 8, 31]),
    ],
)
def test_slow_pathway(frames, alpha, chosen, expected):
    assert sampling.slow_indices(frames, alpha, chosen) == expected


def test_slow_pathway_that_cannot_be():
    with pytest.raises(ValueError, match="8"):
        sampling.slow_indices(4, 8)
    with pytest.raises(ValueError, match="32"):
        sampling.slow_indices(32, 8, [32, 40])
