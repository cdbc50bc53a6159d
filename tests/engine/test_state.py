"""Layout of a run that is resumed on another number of processes."""

import dataclasses

import pytest

from slowfast.datasets.loading.sampler import BatchShapes, EpochBatchSampler
from slowfast.engine.state import Layout

EIGHT = Layout(processes=8, hosts=1, batch=64, accum_steps=1, samples=1000, seed=1, lr_scale=1.0)


@pytest.mark.parametrize("shapes", [BatchShapes(), BatchShapes(crops=((16, 3), (24, 2), (32, 1)))])
def test_a_batch_is_the_same_clips_however_many_share_it(shapes):
    """Check the property that allows resuming in the middle of an epoch."""
    joint = {}
    for world in (1, 2, 4, 8):
        samplers = [EpochBatchSampler(203, 8 // world, True, 5, rank, world, shapes) for rank in range(world)]
        for sampler in samplers:
            sampler.set_epoch(3)
        joint[world] = [sorted(key.index for part in parts for key in part) for parts in zip(*samplers, strict=True)]
    assert len(joint[1]) > 5
    assert all(batches == joint[1] for batches in joint.values())


def test_nothing_new_is_nothing_said():
    assert EIGHT.describe_change(EIGHT) == ""
    assert EIGHT.same_batches(EIGHT)


def test_the_same_batch_in_fewer_processes():
    now = dataclasses.replace(EIGHT, processes=2, hosts=2)
    assert EIGHT.same_batches(now)
    told = EIGHT.describe_change(now)
    assert told.startswith("2 process(es) on 2 host(s) instead of 8 process(es) on 1 host(s)")
    assert "batch norm layer, sees 32 clips, not 8" in told
    assert "optimizer step" not in told and "learning rates" not in told


@pytest.mark.parametrize(("lr_scale", "words"), [(1.0, "learning rates are unchanged"), (2.0, "multiplied by 2")])
def test_twice_the_hosts_with_the_batch_of_each(lr_scale, words):
    now = dataclasses.replace(EIGHT, processes=16, hosts=2, batch=128, lr_scale=lr_scale)
    assert not EIGHT.same_batches(now)
    told = EIGHT.describe_change(now)
    assert "an optimizer step uses 128 clips, not 64" in told
    assert words in told
    assert "batch norm" not in told


def test_accumulating_instead_makes_other_batches_of_the_same_updates():
    now = dataclasses.replace(EIGHT, batch=32, accum_steps=2)
    assert not EIGHT.same_batches(now)
    assert "optimizer step" not in EIGHT.describe_change(now)


def test_other_data_and_another_order():
    now = dataclasses.replace(EIGHT, samples=999, seed=2)
    assert not EIGHT.same_batches(now)
    assert "999 samples, not 1000; the order of samples is that of RNG_SEED 2, not 1" in EIGHT.describe_change(now)
