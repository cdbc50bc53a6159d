"""Frames to steps: the published sums, every frame once, and what users get wrong."""

import itertools
from dataclasses import replace

import pytest
import torch

from pgt import StepPlan
from slowfast.config import cfg_from_yaml, cfg_to_yaml, load_config
from slowfast.datasets.clips.temporal_sampling import slow_indices
from slowfast.models import build_model


@pytest.mark.parametrize(
    ("length", "overlap", "steps", "frames"),
    [(8, 1, 5, 36), (16, 1, 5, 76), (32, 4, 5, 144), (64, 4, 5, 304), (8, 2, 3, 20)],
)
def test_every_frame_is_read_once_and_in_order(length, overlap, steps, frames):
    plan = StepPlan((length,), (overlap,), steps)
    assert plan.num_frames == frames
    assert [i for r in plan.frame_ranges() for i in r] == list(range(frames))
    assert [len(r) for r in plan.frame_ranges()] == [length] + [length - overlap] * (steps - 1)


def test_split_gives_views_that_join_to_the_clip():
    plan = StepPlan((2, 8), (1, 4), 4, alpha=4)
    slow, fast = torch.randn(3, 2, 5, 4, 4), torch.randn(3, 2, 20, 4, 4)
    steps = plan.split([slow, fast])
    assert [[x.shape[2] for x in step] for step in steps] == [[2, 8], [1, 4], [1, 4], [1, 4]]
    assert torch.equal(torch.cat([step[0] for step in steps], dim=2), slow)
    assert torch.equal(torch.cat([step[1] for step in steps], dim=2), fast)
    assert steps[1][1].untyped_storage().data_ptr() == fast.untyped_storage().data_ptr()


def test_slow_frames_of_the_published_and_the_even_kind():
    published = StepPlan((8, 32), (1, 4), 5, alpha=4).slow_indices()
    assert published[:15] == [0, 4, 8, 13, 17, 22, 26, 31, 40, 43, 46, 49, 52, 55, 59]
    even = StepPlan((8, 32), (1, 4), 5, alpha=4, slow_sampling="even").slow_indices()
    assert even[8:15] == [32, 36, 41, 45, 50, 54, 59]
    assert len(published) == len(even) == 36 and max(published) == max(even) == 143


def test_overlaps_that_do_not_fit_alpha_are_those_whose_lateral_surplus_is_memory():
    """By hand: a convolution of stride 4 and padding k // 2 has an output around frames 0, 4, 8, ... of a step."""
    for slow, fast in itertools.product(range(1, 8), range(1, 32)):
        surplus = len(range(0, 32 - fast, 4)) - (8 - slow)
        if fast == 4 * slow or 0 <= surplus <= slow:
            plan = StepPlan((8, 32), (slow, fast), 5, alpha=4, slow_sampling="even")
            assert plan.fits_alpha == (fast == 4 * slow)
            assert [len(step[1]) for step in plan.positions()] == [32] + [32 - fast] * 4
            assert [len(step[0]) for step in plan.positions()] == [8] + [8 - slow] * 4
            assert all(set(step[0]) <= set(step[1]) for step in plan.positions())
        else:
            with pytest.raises(ValueError, match="it must be SLOWFAST.ALPHA"):
                StepPlan((8, 32), (slow, fast), 5, alpha=4, slow_sampling="even")


def test_one_pathway_has_no_slow_frames():
    with pytest.raises(ValueError, match="one pathway"):
        StepPlan((8,), (1,), 5).slow_indices()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((8,), (8,), 5), "overlap < step length"),
        (((8,), (0,), 5), "PGT.MEMORY False"),
        (((8,), (1,), 0), "PGT.STEPS is 0"),
        (((8, 32), (1,), 5), "one entry per pathway"),
        (
            ((16, 64), (1, 8), 5, 4),
            r"64 \+ \(5-1\) x \(64-8\) = 288 .* 4 x slow = 304.* 57 to 63 new .*\[16, 64\] with PGT.OVERLAP \[1, 4\]",
        ),
        (((8, 32), (1, 4), 5, 4, "odd"), "SLOW_SAMPLING is 'odd'"),
        (((8, 12), (1, 8), 1, 4), "it must be SLOWFAST.ALPHA"),
        (((8, 32), (7, 28), 5, 4), "none are left"),
    ],
)
def test_plans_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        StepPlan(*arguments)


def test_a_clip_of_another_length_is_named():
    with pytest.raises(ValueError, match=r"has \[35\] frames.*take \[36\]"):
        StepPlan((8,), (1,), 5).split([torch.zeros(1, 3, 35, 2, 2)])


def test_num_frames_must_be_the_sum(tiny_model):
    wrong = [*tiny_model, "PGT.ENABLE", True, "DATA.NUM_FRAMES", 42]
    message = r"NUM_FRAMES is 42.* 8 \+ \(5-1\) x \(8-1\) = 36 .*NUM_FRAMES 36.*PGT.STEPS 6 with DATA.NUM_FRAMES 43"
    with pytest.raises(ValueError, match=message):
        load_config(None, wrong)


def surplus_cfg(progressive_settings, *more):
    return load_config(None, [*progressive_settings("slowfast_surplus"), *more])


def test_num_frames_may_be_those_of_a_clip_that_fits_alpha(progressive_settings, caplog):
    """As in the published settings of Charades, whose code does not read the key."""
    counted = surplus_cfg(progressive_settings)
    assert not caplog.records
    published = surplus_cfg(progressive_settings, "DATA.NUM_FRAMES", 40)
    assert "NUM_FRAMES is 40, but clips have 44 frames" in caplog.text
    assert published == counted and published.DATA.NUM_FRAMES == 44
    assert cfg_from_yaml(cfg_to_yaml(published)) == published
    with pytest.raises(ValueError, match=r"NUM_FRAMES is 42.*Set DATA.NUM_FRAMES 44"):
        surplus_cfg(progressive_settings, "DATA.NUM_FRAMES", 42)


def test_a_clip_that_does_not_fit_alpha_is_not_evaluated_as_a_whole(progressive_settings, random_clip):
    with pytest.raises(ValueError, match=r"4 fast frames .* = 10 frames, fast .* = 44 .*PG_EVAL True.*\[1, 4\]"):
        surplus_cfg(progressive_settings, "PGT.PG_EVAL", False)
    cfg = surplus_cfg(progressive_settings)
    with pytest.raises(ValueError, match="10 frames and the fast one 44"):
        build_model(cfg).whole_clip(random_clip(cfg))


def test_clips_of_fewer_steps_have_the_slow_frames_within_them(progressive_settings):
    cfg = surplus_cfg(progressive_settings, "PGT.STEPS_RANGE", [1, 4])
    assert cfg.DATA.TRAIN_NUM_FRAMES == [16, 30, 44, 58]
    for steps, frames in enumerate(cfg.DATA.TRAIN_NUM_FRAMES, 1):
        plan = replace(StepPlan.from_config(cfg), steps=steps)
        assert slow_indices(frames, 4, cfg.SLOWFAST.SLOW_INDICES) == plan.slow_indices()
