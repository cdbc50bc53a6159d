"""Clips with boxes: each split's transforms, in pixels and in boxes."""

import numpy as np
import pytest
import torch

from slowfast.datasets.transforms.crops import has_area
from slowfast.datasets.video.reader import VideoReader

HEIGHT, WIDTH = 60, 90
BOX = np.array([[0.2, 0.3, 0.5, 0.8], [0.9, 0.05, 0.99, 0.2]])


class Painted(VideoReader):
    """Frames of a gray that carries their number, with a reddish box in the place of the first of `BOX`."""

    num_frames, fps = 100, 30.0

    def frames(self, indices):
        frames = np.empty((len(indices), HEIGHT, WIDTH, 3), np.uint8)
        frames[:] = np.array(indices)[:, None, None, None]
        frames[:, 18:49, 18:46] = (250, 200, 150)
        return frames

    def close(self):
        pass


@pytest.fixture
def maker(tiny_cfg, make_clips):
    """`maker(split, *overrides)`: build the clips of a split of a set with boxes."""

    def build(split, *overrides):
        cfg = tiny_cfg(
            "DETECTION.ENABLE", True, "MODEL.LOSS_FUNC", "bce", "MODEL.HEAD_ACT", "sigmoid", "TRAIN.DATASET", "ava",
            "TEST.DATASET", "ava", "DATA.TEST_CROP_SIZE", 40, "DATA.MEAN", [0.0], "DATA.STD", [1.0],
            "TEST.NUM_SPATIAL_CROPS", 3, *overrides,
        )  # fmt: skip
        return make_clips(cfg, split, Painted())

    return build


def seen_at(clip, channel=0):
    """Bounds of what is bright in a clip, as a box; None if nothing is."""
    rows, columns = np.nonzero(clip.inputs[0][channel, 0].numpy() > 0.55)
    return [columns.min(), rows.min(), columns.max(), rows.max()] if len(rows) else None


def test_training_boxes_follow_the_clip(maker):
    clips, flips, lost = maker("train"), 0, 0
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        clip = clips.training_clip_with_boxes("a", [3, 5, 7, 9], [BOX, BOX[:1]], generator)
        assert clip.inputs[0].shape == (3, 4, 32, 32)
        assert clip.inputs[0][0, :, 0, 0].mul(255).round().tolist() in ([3, 5, 7, 9], [250] * 4)
        assert clip.frames == [3, 5, 7, 9]
        both, first = clip.boxes
        assert both.shape == (2, 4) and np.array_equal(first, both[:1])
        assert both.min() >= 0 and both.max() <= 31
        assert both[0] == pytest.approx(seen_at(clip), abs=1.6)
        lost += not has_area(both)[1]
        # The second box lies to the right of the first one, unless mirrored.
        flips += both[1, 0] < both[0, 0]
    assert 30 < flips < 70
    assert 0 < lost < 100


def test_validation_shows_the_center(maker):
    """60x90 to 40x60, of which columns 10 to 49: 10 of them fall away on each side."""
    clip = maker("val").evaluation_clip_with_boxes("a", [0, 1, 2, 3], [BOX])
    assert clip.inputs[0].shape == (3, 4, 40, 40)
    expected = [[18 / 1.5 - 10, 18 / 1.5, 45 / 1.5 - 10, 48 / 1.5], [39, 2, 39, 8]]
    assert clip.boxes[0] == pytest.approx(np.array(expected), abs=1e-4)
    assert clip.boxes[0][0] == pytest.approx(seen_at(clip), abs=1.1)
    assert has_area(clip.boxes[0]).tolist() == [True, False]


@pytest.mark.parametrize("split", ["val", "test"])
def test_mirrored_evaluation(split, maker):
    plain = maker(split).evaluation_clip_with_boxes("a", [0, 1, 2, 3], [BOX])
    mirrored = maker(split, "AVA.TEST_FORCE_FLIP", True).evaluation_clip_with_boxes("a", [0, 1, 2, 3], [BOX])
    assert torch.equal(mirrored.inputs[0], plain.inputs[0].flip(-1))
    width = plain.inputs[0].shape[-1]
    assert np.allclose(mirrored.boxes[0][:, 0], width - 1 - plain.boxes[0][:, 2])


def test_testing_shows_whole_frames(maker):
    clips = maker("test")
    assert clips.settings.num_views == 1
    clip = clips.evaluation_clip_with_boxes("a", [9, 9, 9, 99], [BOX, np.zeros((0, 4))])
    assert clip.inputs[0].shape == (3, 4, 40, 60)
    assert clip.boxes[0] == pytest.approx(np.array([[12, 12, 30, 32], [54, 2, 59, 8]]), abs=1e-4)
    assert clip.boxes[1].shape == (0, 4)
    assert clip.inputs[0][0, :, 0, 0].mul(255).round().tolist() == [9, 9, 9, 99]


def test_order_of_colors(maker):
    rgb = maker("test").evaluation_clip_with_boxes("a", [0], []).inputs[0]
    bgr = maker("test", "AVA.BGR", True).evaluation_clip_with_boxes("a", [0], []).inputs[0]
    assert torch.equal(bgr, rgb.flip(0))
    assert rgb[0, 0, 20, 20] > rgb[2, 0, 20, 20]


def test_color_augmentation(maker):
    """The lighting noise adds one number to a channel, wherever; the jitter does more than that."""

    def clip_with(*overrides):
        generator = torch.Generator().manual_seed(4)
        return maker("train", *overrides).training_clip_with_boxes("a", [0, 50, 60, 70], [], generator).inputs[0]

    plain = clip_with()
    lit = clip_with("AVA.TRAIN_USE_COLOR_AUGMENTATION", True) - plain
    assert torch.allclose(lit, lit[:, :1, :1, :1], atol=1e-5)
    assert lit.abs().max() > 1e-3
    jittered = clip_with("AVA.TRAIN_USE_COLOR_AUGMENTATION", True, "AVA.TRAIN_PCA_JITTER_ONLY", False) - plain
    assert not torch.allclose(jittered, jittered[:, :1, :1, :1], atol=1e-2)


def test_a_clip_without_boxes(maker):
    clip = maker("train").training_clip_with_boxes("a", [0, 1, 2, 3], [], torch.Generator().manual_seed(0))
    assert clip.boxes == [] and (clip.num_frames, clip.fps) == (100, 30.0)
