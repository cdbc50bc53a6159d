"""Several training clips of a video: when they are, how far apart, and how they share a batch."""

import itertools

import numpy as np
import pytest
import torch

from slowfast.datasets import build_dataset, collate
from slowfast.datasets.clips import clip_maker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import SegmentSampling, SpanSampling, StrideSampling
from slowfast.datasets.video.cache import ArrayVideo

LONG = 300


def clips_of(cfg, sampling, seed, frames=LONG):
    settings = ClipSettings.from_config(cfg, "train")
    return sampling.training_clips(frames, 30.0, settings, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sampling", [SpanSampling(), StrideSampling(24.0), SegmentSampling()])
def test_one_clip_is_drawn_as_ever(sampling, tiny_cfg):
    cfg = tiny_cfg()
    settings = ClipSettings.from_config(cfg, "train")
    single = sampling.training(LONG, 30.0, settings, torch.Generator().manual_seed(3))
    assert clips_of(cfg, sampling, 3) == [single]


def test_clips_come_in_order_of_time_and_may_overlap(tiny_cfg):
    cfg = tiny_cfg("DATA.TRAIN_CROP_NUM_TEMPORAL", 4, "DATA.SAMPLING_RATE", 16)
    drawn = [clips_of(cfg, SpanSampling(), seed) for seed in range(50)]
    assert all(len(clips) == 4 and clips == sorted(clips) for clips in drawn)
    gaps = [b[0] - a[-1] for clips in drawn for a, b in itertools.pairwise(clips)]
    assert min(gaps) < -20 and max(gaps) > 60


@pytest.mark.parametrize(("least", "greatest"), [(5.0, float("inf")), (float("-inf"), 20.0), (5.0, 20.0)])
def test_gaps_stay_within_bounds(least, greatest, tiny_cfg):
    cfg = tiny_cfg(
        "DATA.TRAIN_CROP_NUM_TEMPORAL", 3, "CONTRASTIVE.DELTA_CLIPS_MIN", least, "CONTRASTIVE.DELTA_CLIPS_MAX", greatest
    )
    for seed in range(30):
        clips = clips_of(cfg, SpanSampling(), seed)
        assert all(least <= b[0] - a[-1] <= greatest for a, b in itertools.pairwise(clips))


def test_a_short_video_comes_as_near_as_it_can(tiny_cfg):
    cfg = tiny_cfg("DATA.TRAIN_CROP_NUM_TEMPORAL", 2, "CONTRASTIVE.DELTA_CLIPS_MIN", 100.0)
    first, second = clips_of(cfg, SpanSampling(), 0, frames=40)
    assert second[0] - first[-1] > 10  # of at most 25


def test_the_clips_of_a_video_are_decoded_in_one_pass_where_they_fit_in_memory(tiny_cfg, make_clips, monkeypatch):
    """Clips are those of single decodings."""
    pixels = np.random.default_rng(0).integers(0, 256, (LONG, 36, 48, 3), np.uint8)
    made, passes = [], []
    for limit in (2**28, 0):
        monkeypatch.setattr(clip_maker, "MAX_VIEW_BYTES", limit)
        video = ArrayVideo(pixels, 30.0)
        monkeypatch.setattr(video, "frames", lambda indices: passes[-1].append(indices) or pixels[list(indices)])
        passes.append([])
        clips = make_clips(tiny_cfg("DATA.TRAIN_CROP_NUM_TEMPORAL", 4, "DATA.SAMPLING_RATE", 16), "train", video)
        made.append(clips.training_clips("a", torch.Generator().manual_seed(0)))
    together, apart = made
    assert [len(indices) for indices in passes[0]] == [1, len(set().union(*(clip.frames for clip in together)))]
    assert len(passes[1]) == 1 + 4
    for one, other in zip(together, apart, strict=True):
        assert one.frames == other.frames and torch.equal(one.inputs[0], other.inputs[0])
    assert [clip.frames for clip in together] == sorted(clip.frames for clip in together)


def test_clips_of_a_video_follow_each_other_in_a_batch(tiny_cfg):
    cfg = tiny_cfg("DATA.TRAIN_CROP_NUM_TEMPORAL", 2, "DATA.TRAIN_CROP_NUM_SPATIAL", 2)
    dataset = build_dataset(cfg, "train")
    batch = collate([dataset[5], dataset[2]])
    assert batch.video.tolist() == [5] * 4 + [2] * 4
    assert batch.view.tolist() == [0, 1, 2, 3] * 2
    assert batch.labels.tolist() == [1] * 4 + [0] * 4
    (clips,) = batch.inputs
    assert clips.shape == (8, 3, 4, 32, 32)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(clips, 2))


def test_frames_give_way_to_their_changes(tiny_cfg):
    """Each clip by itself, with the probability of the key; the last change comes twice."""

    def clips(*settings):
        (found,) = collate([build_dataset(tiny_cfg("DATA.TRAIN_CROP_NUM_TEMPORAL", 2, *settings), "train")[5]]).inputs
        return found

    frames, changes = clips(), clips("DATA.TIME_DIFF_PROB", 1.0)
    # The draw of the first clip moves those of the second.
    for number in range(3):
        assert torch.allclose(changes[0, :, number], frames[0, :, number + 1] - frames[0, :, number], atol=1e-5)
    assert torch.equal(changes[:, :, 3], changes[:, :, 2])
    dataset = build_dataset(tiny_cfg("DATA.TRAIN_CROP_NUM_TEMPORAL", 4, "DATA.TIME_DIFF_PROB", 0.5), "train")
    drawn = [torch.equal(clip[:, 3], clip[:, 2]) for index in range(12) for clip in collate([dataset[index]]).inputs[0]]
    assert 12 < sum(drawn) < 36
    for settings in (["DATA.TIME_DIFF_PROB", 1.5], ["DATA.TIME_DIFF_PROB", 0.5, "DATA.NUM_FRAMES", 1]):
        with pytest.raises(ValueError, match="TIME_DIFF_PROB"):
            tiny_cfg(*settings)
