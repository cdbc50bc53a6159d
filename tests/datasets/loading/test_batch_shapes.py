"""Shapes that change from batch to batch: which, how many, in which processes, and the clips themselves."""

import collections

import numpy as np
import pytest
import torch

from slowfast.datasets import build as build_module
from slowfast.datasets import build_dataset, build_loader
from slowfast.datasets.build import train_sampler
from slowfast.datasets.clips.clip_maker import ClipMaker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import SpanSampling, slow_indices
from slowfast.datasets.loading.sampler import BatchShapes, ClipShape, EpochBatchSampler, SampleKey
from slowfast.datasets.video.open import VideoReader

CYCLE = BatchShapes(crops=((112, 4), (158, 2), (224, 1)))
LENGTHS = BatchShapes(lengths=(8, 15, 22))
BOTH = BatchShapes((8, 15, 22), ((16, 4), (32, 1)))
VARYING = ["DATA.TRAIN_NUM_FRAMES", [2, 4, 6], "MULTIGRID.SHORT_CYCLE", True, "TRAIN.BATCH_SIZE", 1]


@pytest.mark.parametrize(
    ("crop", "expected"),
    [(224, ((112, 4), (158, 2), (224, 1))), (158, ((112, 2), (158, 1), (158, 1)))],
)
def test_short_cycle_of_the_published_settings(crop, expected):
    assert BatchShapes.short_cycle(crop, 224, [0.5, 0.5**0.5]) == expected


def sampler_of(shapes, samples=50, batch=2, rank=0, world=1, epoch=0):
    sampler = EpochBatchSampler(samples, batch, True, 1, rank, world, shapes)
    sampler.set_epoch(epoch)
    return sampler


@pytest.mark.parametrize("samples", range(2, 60))
def test_as_many_whole_batches_as_there_are_clips_for(samples):
    """Counted one by one: batches of 8, 4 and 2 in turn, until one is not full."""
    left, batches = samples, []
    while left >= (8, 4, 2)[len(batches) % 3]:
        batches.append((8, 4, 2)[len(batches) % 3])
        left -= batches[-1]
    if not batches:
        with pytest.raises(ValueError, match=f"{samples} training videos do not fill one batch of 8"):
            sampler_of(CYCLE, samples)
        return
    sampler = sampler_of(CYCLE, samples)
    assert [len(batch) for batch in sampler] == batches
    assert len(sampler) == len(batches)
    drawn = [key.index for batch in sampler for key in batch]
    assert len(set(drawn)) == len(drawn) == sum(batches)


def test_each_batch_has_one_shape_in_turn():
    shapes = [{key.shape for key in batch} for batch in sampler_of(CYCLE)]
    assert shapes[:4] == [{(0, 112)}, {(0, 158)}, {(0, 224)}, {(0, 112)}]
    assert {key.shape for batch in sampler_of(BatchShapes()) for key in batch} == {None}


@pytest.mark.parametrize("shapes", [CYCLE, LENGTHS, BOTH], ids=["cycle", "lengths", "both"])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_each_batch_and_its_shape(shapes, world):
    whole = list(sampler_of(shapes, 100, 6))
    shares = [list(sampler_of(shapes, 100, 6 // world, rank, world)) for rank in range(world)]
    assert all(len(share) == len(whole) for share in shares)
    for number, batch in enumerate(whole):
        assert sorted(sum((share[number] for share in shares), [])) == sorted(batch)


@pytest.mark.parametrize("shapes", [CYCLE, LENGTHS, BOTH], ids=["cycle", "lengths", "both"])
def test_going_on_in_the_middle_of_an_epoch(shapes):
    sampler = sampler_of(shapes, epoch=3)
    whole = list(sampler)
    for start in range(len(whole) + 1):
        sampler.set_epoch(3, start)
        assert list(sampler) == whole[start:]


def test_lengths_are_drawn_evenly_and_anew():
    """Every length once in each three batches; the orders are all there, in shares that chance explains."""
    orders = []
    for epoch in range(40):
        drawn = [batch[0].shape.frames for batch in sampler_of(LENGTHS, 60, 1, epoch=epoch)]
        assert len(drawn) == 60
        orders += [tuple(drawn[i : i + 3]) for i in range(0, 60, 3)]
    counts = collections.Counter(orders)
    assert {tuple(sorted(order)) for order in counts} == {(8, 15, 22)}
    assert len(counts) == 6
    expected = len(orders) / 6
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 20.5  # 5 degrees of freedom: exceeded by one seed in a thousand


def test_lengths_depend_on_seed_and_epoch():
    def drawn(seed, epoch):
        return tuple(LENGTHS.clip_shape(seed, epoch, iteration).frames for iteration in range(30))

    assert drawn(0, 1) == drawn(0, 1)
    assert len({drawn(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


def test_clips_come_in_the_shape_of_their_batch_whatever_the_workers(tiny_cfg, read_epoch):
    alone = read_epoch(build_loader(tiny_cfg(*VARYING), "train"), 1)
    helped = read_epoch(build_loader(tiny_cfg(*VARYING, "DATA_LOADER.NUM_WORKERS", 2), "train"), 1, start=1)
    shapes = [tuple(batch.inputs[0].shape) for batch in alone]
    # 12 videos in batches of 4, 2, 1, 4; crops of 16, 23, 32, 16.
    assert [(shape[0], *shape[3:]) for shape in shapes] == [(4, 16, 16), (2, 23, 23), (1, 32, 32), (4, 16, 16)]
    assert sorted(shape[2] for shape in shapes[:3]) == [2, 4, 6]
    for one, other in zip(alone[1:], helped, strict=True):
        assert torch.equal(one.inputs[0], other.inputs[0])
        assert torch.equal(one.video, other.video)


def test_a_clip_of_another_length_is_what_a_run_of_that_length_draws(tiny_cfg):
    varied = build_dataset(tiny_cfg("DATA.TRAIN_NUM_FRAMES", [2, 4, 6]), "train")
    for frames in (2, 4, 6):
        plain = build_dataset(tiny_cfg("DATA.NUM_FRAMES", frames), "train")
        sample = varied[SampleKey(5, 2, ClipShape(frames))]
        assert torch.equal(sample.inputs[0], plain[(5, 2)].inputs[0])


def test_validation_and_test_keep_their_length(tiny_cfg, read_epoch):
    for split in ("val", "test"):
        (batch, *_) = read_epoch(build_loader(tiny_cfg(*VARYING[:4]), split), 0)
        assert batch.inputs[0].shape[2:] == (4, 32, 32)


def test_slow_frames_of_a_shorter_clip_are_the_first():
    assert slow_indices(16, 4, [0, 5, 10, 15, 20, 25, 30, 31]) == [0, 5, 10, 15]
    assert slow_indices(12, 3, [0, 5, 10, 15]) == [0, 5, 10]


class Blank(VideoReader):
    """300 frames of 40 x 60 pixels, 30 a second; notes what it is asked for."""

    num_frames, fps = 300, 30.0

    def __init__(self):
        self.asked = []

    def frames(self, indices):
        self.asked.append(list(indices))
        return np.zeros((len(indices), 40, 60, 3), np.uint8)

    def close(self):
        pass


def stage_settings(tiny_cfg, **changes):
    cfg = tiny_cfg("DATA.TRAIN_JITTER_SCALES", [40, 60], "DATA.TRAIN_CROP_SIZE", 40).clone()
    cfg.defrost()
    cfg.MULTIGRID.DEFAULT_S = 40
    for key, value in changes.items():
        section, name = key.split("__")
        cfg[section][name] = value
    return ClipSettings.from_config(cfg, "train")


def test_sampling_rate_is_drawn_for_each_clip(tiny_cfg):
    reader = Blank()
    maker = ClipMaker(
        stage_settings(tiny_cfg, MULTIGRID__LONG_CYCLE_SAMPLING_RATE=5), lambda path: reader, SpanSampling()
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        maker.training_clips("a", generator)
    rates = collections.Counter(round((indices[-1] - indices[0] + 1) / 4) for indices in reader.asked)
    assert set(rates) == {2, 3, 4, 5}
    assert min(rates.values()) > 70


@pytest.mark.parametrize(("crop", "sides"), [(40, (40, 60)), (20, (20, 60)), (28, (28, 60))])
def test_a_smaller_crop_may_show_as_much_of_the_picture(crop, sides, tiny_cfg):
    """As published: the least short side shrinks with the crop, the greatest stays."""
    assert stage_settings(tiny_cfg).shaped(ClipShape(0, crop)).short_sides == sides
    assert stage_settings(tiny_cfg, DATA__TRAIN_CROP_SIZE=crop).shaped(None).short_sides == sides


def test_another_shape_of_the_same_videos_decodes_nothing_again(tiny_cfg, monkeypatch, read_epoch):
    dataset = build_dataset(tiny_cfg("DATA.CACHE_VIDEOS", True), "train")
    dataset.unreadable.add("a.mp4", "cut off")

    def fail(*args):
        raise AssertionError("read again")

    monkeypatch.setattr("slowfast.datasets.video.cache.VideoCache.__init__", fail)
    monkeypatch.setattr("slowfast.datasets.kinetics.read_video_list", fail)
    loader = build_loader(tiny_cfg("DATA.CACHE_VIDEOS", True, "DATA.NUM_FRAMES", 6), "train", dataset)
    (first, *_) = read_epoch(loader, 0)
    assert first.inputs[0].shape[2] == 6
    assert dataset[(0, 0)].inputs[0].shape[1] == 4
    assert loader.dataset.unreadable is dataset.unreadable


@pytest.mark.parametrize(
    ("local", "world", "expected"), [(1, 1, 4), (2, 2, 2), (4, 4, 1), (2, 6, 2)], ids=["one", "two", "four", "3 hosts"]
)
def test_processes_of_a_host_share_its_batch(local, world, expected, tiny_cfg, monkeypatch):
    monkeypatch.setattr(build_module, "get_local_world_size", lambda: local)
    monkeypatch.setattr(build_module, "get_world_size", lambda: world)
    sampler = train_sampler(tiny_cfg(), 24)
    assert sampler.batch_size == expected
    assert len(sampler) == 24 // (expected * world)


def test_a_batch_that_cannot_be_shared(tiny_cfg, monkeypatch):
    monkeypatch.setattr(build_module, "get_local_world_size", lambda: 3)
    with pytest.raises(
        ValueError, match="TRAIN.BATCH_SIZE 4 cannot be shared evenly by the 3 processes.*set it to 3 or 6"
    ):
        train_sampler(tiny_cfg(), 24)
    with pytest.raises(ValueError, match="TEST.BATCH_SIZE 2 cannot be shared.*set it to 3"):
        build_loader(tiny_cfg("TEST.BATCH_SIZE", 2), "test")
