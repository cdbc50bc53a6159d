"""Test which frames a clip reads, and its pixels."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slowfast.datasets import Sample, build_dataset, collate
from slowfast.datasets.clips import view_decoder
from slowfast.datasets.clips.clip_maker import ClipMaker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import SpanSampling
from slowfast.datasets.transforms.augmentation import RandomErasing
from slowfast.datasets.transforms.crops import Crop, size_by_short_side
from slowfast.datasets.video.open import VideoReader


class Reader(VideoReader):
    """300 blank frames at 30 a second; `asked` collects the indices, `closed` counts."""

    num_frames, fps = 300, 30.0

    def __init__(self):
        self.asked, self.closed = [], 0

    def frames(self, indices):
        self.asked.append(list(indices))
        return np.zeros((len(indices), 40, 40, 3), np.uint8)

    def close(self):
        self.closed += 1


@pytest.fixture
def maker(tiny_cfg, make_clips):
    """`maker(split, *overrides)`: build the clips of a split, and the reader that they ask for frames."""

    def build(split, *overrides):
        reader = Reader()
        return make_clips(tiny_cfg("DATA.SAMPLING_RATE", 8, *overrides), split, reader), reader

    return build


def training_windows(maker, *overrides):
    clips, reader = maker("train", *overrides)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        clips.training_clips("a", generator)
    assert reader.closed == 300
    return np.array(reader.asked)


def test_training_clips_lie_anywhere(maker):
    windows = training_windows(maker)
    lengths = windows[:, -1] - windows[:, 0]
    assert set(lengths) <= {30, 31}  # 4 frames, 8 apart: first to last 31, cut to whole frames
    assert windows[:, 0].min() <= 4
    assert 264 <= windows[:, 0].max() <= 268
    assert windows[:, 0].mean() == pytest.approx(134, abs=15)


def test_random_target_rate_shortens_the_span(maker):
    windows = training_windows(maker, "DATA.TRAIN_JITTER_FPS", 30.0)
    lengths = windows[:, -1] - windows[:, 0]
    assert lengths.max() <= 31
    assert 14 <= lengths.min() <= 16
    assert len(set(lengths)) > 10


@pytest.mark.parametrize("offset, starts", [(False, [0, 67, 134, 201]), (True, [0, 89, 178, 267])])
def test_views_of_a_test_video(offset, starts, maker):
    clips, reader = maker("test", "DATA.USE_OFFSET_SAMPLING", offset, "TEST.NUM_ENSEMBLE_VIEWS", 4)
    frames = [clips.view_clip("a", view).frames for view in range(4)]
    assert [indices[0] for indices in frames] == starts
    # One frame for its size, then those of all views at once.
    assert reader.asked == [[0], sorted(set().union(*frames))]


@pytest.mark.parametrize(("cyclic", "last"), [(False, 299), (True, 99)])
def test_a_clip_longer_than_a_test_video(cyclic, last, maker):
    """4 frames over 400 of a video of 300: 0, 133, 266 and 399, its last frame, or number 99 again."""
    clips, reader = maker("test", "DATA.SAMPLING_RATE", 100, "TEST.CYCLIC_LOAD", cyclic, "TEST.NUM_ENSEMBLE_VIEWS", 1)
    assert clips.view_clip("a", 0).frames == [0, 133, 266, last]
    clips, reader = maker("val", "DATA.SAMPLING_RATE", 100, "TEST.CYCLIC_LOAD", cyclic)
    assert clips.center_clip("a").frames == [0, 133, 266, 299]


def test_views_of_a_video_share_its_decoding(maker):
    clips, reader = maker("test", "TEST.NUM_ENSEMBLE_VIEWS", 2, "TEST.NUM_SPATIAL_CROPS", 3)
    for path in ("a", "b", "a"):
        for view in range(6):
            clips.view_clip(path, view)
    assert reader.closed == 3
    assert len(reader.asked) == 6


def test_large_videos_are_decoded_a_few_views_at_a_time(maker, monkeypatch):
    """Room for the 8 frames of two views, of 40 x 40 pixels."""
    monkeypatch.setattr(view_decoder, "MAX_VIEW_BYTES", 8 * 40 * 40 * 3)
    clips, reader = maker("test", "TEST.NUM_ENSEMBLE_VIEWS", 5)
    frames = [clips.view_clip("a", view).frames for view in range(5)]
    together = [sorted(set().union(*frames[i : i + 2])) for i in (0, 2, 4)]
    assert reader.asked == [[0], together[0], [0], together[1], [0], together[2]]
    assert len(clips.view_clip("a", 1).frames) == 4  # a step back is allowed
    assert reader.closed == 4


class Counting(Reader):
    """Frames of noise that carry their number: pixel (y, x) of frame n is random by n."""

    def frames(self, indices):
        self.asked.append(list(indices))
        return np.stack([np.random.default_rng(i).integers(0, 256, (40, 60, 3), np.uint8) for i in indices])


@pytest.mark.parametrize("crop", [32, 40])
@pytest.mark.parametrize("spatial", [1, 3])
def test_every_view_shows_its_own_frames(spatial, crop, tiny_cfg):
    """Whatever is shared: a view is what a fresh maker gives for it alone."""
    cfg = tiny_cfg(
        "TEST.NUM_ENSEMBLE_VIEWS", 3, "TEST.NUM_SPATIAL_CROPS", spatial, "DATA.TEST_CROP_SIZE", crop,
        "DATA.TRAIN_JITTER_SCALES", [40, 48],
    )  # fmt: skip
    settings = ClipSettings.from_config(cfg, "test")
    shared = ClipMaker(settings, lambda path: Counting(), SpanSampling())
    for view in range(settings.num_views):
        clip = shared.view_clip("a", view)
        alone = ClipMaker(settings, lambda path: Counting(), SpanSampling()).view_clip("a", view)
        assert clip.frames == alone.frames
        assert torch.equal(clip.inputs[0], alone.inputs[0])
        frames = Counting().frames(clip.frames)
        size = size_by_short_side(40, 60, 40 if spatial == 1 else crop)
        picture = F.interpolate(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255, size, mode="bilinear")
        cut = Crop.square_at(*size, crop, view % 3 if spatial == 3 else 1)
        expected = (picture[:, :, cut.top : cut.top + crop, cut.left : cut.left + crop] - 0.45) / 0.225
        torch.testing.assert_close(clip.inputs[0], expected.transpose(0, 1), rtol=1e-5, atol=1e-5)


STRONG = ["AUG.ENABLE", True, "AUG.NUM_SAMPLE", 3, "DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.2, 1.0]]


def test_clips_of_the_same_frames_are_augmented_apart(tiny_cfg):
    settings = ClipSettings.from_config(tiny_cfg(*STRONG), "train")
    reader = Counting()
    clips = ClipMaker(settings, lambda path: reader, SpanSampling())
    made = clips.training_clips("a", torch.Generator().manual_seed(3))
    assert len(reader.asked) == 1 and len(made) == 3
    assert all(clip.frames == reader.asked[0] for clip in made)
    assert len({clip.inputs[0].sum().item() for clip in made}) == 3
    again = clips.training_clips("a", torch.Generator().manual_seed(3))
    assert all(torch.equal(one.inputs[0], two.inputs[0]) for one, two in zip(made, again, strict=True))


@pytest.mark.parametrize("later", [False, True])
def test_the_first_half_of_the_clips_can_be_spared_erasing(later, tiny_cfg, monkeypatch):
    erased = []
    monkeypatch.setattr(RandomErasing, "__call__", lambda self, clip, generator: erased.append(clip))
    more = ["AUG.NUM_SAMPLE", 4, "AUG.RE_SPLIT", later]
    settings = ClipSettings.from_config(tiny_cfg(*STRONG, *more), "train")
    clips = ClipMaker(settings, lambda path: Counting(), SpanSampling())
    made = clips.training_clips("a", torch.Generator().manual_seed(3))
    meant = made[2 if later else 0 :]
    assert all(clip.inputs[0] is one for clip, one in zip(meant, erased, strict=True))


def test_samples_of_repeated_augmentation_lie_side_by_side(tiny_cfg):
    dataset = build_dataset(tiny_cfg(*STRONG), "train")
    samples = dataset[(1, 0)]
    assert [sample.video for sample in samples] == [1, 1, 1]
    batch = collate([samples, dataset[(2, 0)]])
    assert batch.video.tolist() == [1, 1, 1, 2, 2, 2]
    assert batch.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert batch.inputs[0].shape[0] == 6
    assert isinstance(build_dataset(tiny_cfg(*STRONG), "val")[1], Sample)


def test_an_unreadable_video_is_counted_once(tiny_cfg, monkeypatch):
    dataset = build_dataset(tiny_cfg(*STRONG), "train")
    dataset.paths = ["none.mp4", *dataset.paths[1:]]
    samples = dataset[(0, 0)]
    assert collate([samples]).replaced == [("none.mp4", "no such file")]
    assert len({sample.video for sample in samples}) == 1


def test_moving_crops_wander(tiny_cfg):
    """Of a video of one picture, the clip's frames differ; without moving they are the same."""

    def frames(*more):
        cfg = tiny_cfg("DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.2, 0.4], *more)
        clips = ClipMaker(ClipSettings.from_config(cfg, "train"), lambda path: Still(), SpanSampling())
        return clips.training_clips("a", torch.Generator().manual_seed(0))[0].inputs[0]

    assert torch.equal(frames(), frames()[:, :1].expand(-1, 4, -1, -1))
    moving = frames("DATA.TRAIN_JITTER_MOTION_SHIFT", True)
    assert all(not torch.equal(moving[:, i], moving[:, i + 1]) for i in range(3))


class Still(Counting):
    def frames(self, indices):
        return super().frames([7] * len(indices))


@pytest.mark.parametrize("split", ["train", "test"])
def test_data_set_can_be_sent_to_a_worker(split, tiny_cfg):
    dataset = build_dataset(tiny_cfg(), split)
    dataset.unreadable.add("a.mp4", "cut off")
    sent = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(sent[(1, 2)].inputs[0], dataset[(1, 2)].inputs[0])
    assert sent.unreadable == {"a.mp4": "cut off"}
    assert sent.unreadable.num_files == dataset.num_videos


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize(
    ("dataset", "reverse", "first"),
    [("kinetics", False, "red"), ("kinetics", True, "blue"), ("Charades", True, "red"), ("ssv2", False, "blue")],
)
def test_order_of_channels_as_the_published_settings_mean_it(dataset, reverse, first, split, tiny_cfg):
    """Published loaders of charades and ssv2 read blue first, and their settings turn that round."""
    cfg = tiny_cfg(
        "TRAIN.DATASET", dataset, "TEST.DATASET", dataset, "DATA.REVERSE_INPUT_CHANNEL", reverse,
        "DATA.MEAN", [0.0], "DATA.STD", [1.0],
    )  # fmt: skip
    clips = ClipMaker(ClipSettings.from_config(cfg, split), lambda path: Red(), SpanSampling())
    if split == "train":
        (clip,) = clips.training_clips("a", torch.Generator().manual_seed(0))
    else:
        clip = clips.view_clip("a", 0) if split == "test" else clips.center_clip("a")
    expected = torch.zeros(3)
    expected[0 if first == "red" else 2] = 1
    torch.testing.assert_close(clip.inputs[0], expected.view(3, 1, 1, 1).expand_as(clip.inputs[0]))


class Red(Reader):
    def frames(self, indices):
        return np.broadcast_to(np.uint8([255, 0, 0]), (len(indices), 40, 60, 3)).copy()
