"""Which frames clips ask their reader for."""

import pickle

import numpy as np
import pytest
import torch

from slowfast.datasets import build_dataset
from slowfast.datasets.clip_settings import ClipSettings
from slowfast.datasets.clips import ClipMaker
from slowfast.datasets.decode import VideoReader
from slowfast.datasets.times import WindowTimes


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
def maker(tiny_cfg):
    def make(split, *overrides):
        reader = Reader()
        settings = ClipSettings.from_config(tiny_cfg("DATA.SAMPLING_RATE", 8, *overrides), split)
        return ClipMaker(settings, lambda path: reader, WindowTimes()), reader

    return make


def training_windows(maker, *overrides):
    clips, reader = maker("train", *overrides)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        clips.training_clip("a", generator)
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
    for view in range(4):
        clips.view_clip("a", view)
    assert [indices[0] for indices in reader.asked] == starts


def test_crops_of_a_view_share_its_decoding(maker):
    clips, reader = maker("test", "TEST.NUM_SPATIAL_CROPS", 3)
    for path in ("a", "b"):
        for view in range(6):
            clips.view_clip(path, view)
    assert len(reader.asked) == reader.closed == 4


@pytest.mark.parametrize("split", ["train", "test"])
def test_data_set_can_be_sent_to_a_worker(split, tiny_cfg):
    dataset = build_dataset(tiny_cfg(), split)
    dataset.unreadable.add("a.mp4", "cut off")
    sent = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(sent[(1, 2)].inputs[0], dataset[(1, 2)].inputs[0])
    assert sent.unreadable == {"a.mp4": "cut off"}
    assert sent.unreadable.num_files == dataset.num_videos
