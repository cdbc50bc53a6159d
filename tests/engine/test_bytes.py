"""Clips as 8-bit pixels (DATA_LOADER.NORMALIZE_ON_DEVICE), beside those that the loader normalizes."""

import itertools

import numpy as np
import pytest
import torch

from slowfast.compat.data import construct_loader
from slowfast.datasets.build import build_loader
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.loading.batch import Sample, collate
from slowfast.datasets.step_loading import SteppedBatch
from slowfast.engine.loop import epoch_batches
from slowfast.engine.test import test
from slowfast.engine.train import train

test.__test__ = False  # not a test of this file

ON = ["DATA_LOADER.NORMALIZE_ON_DEVICE", True]
COLORS = ["DATA.MEAN", [0.1, 0.5, 0.8], "DATA.STD", [0.2, 0.3, 0.25]]


def _assert_equal_in_a_quarter_of_the_bytes(plain, theirs):
    assert theirs.inputs[0].dtype is torch.uint8
    assert plain.inputs[0].nbytes == 4 * theirs.inputs[0].nbytes
    torch.testing.assert_close(theirs.to("cpu").inputs, plain.inputs, rtol=1e-6, atol=1e-6)
    assert torch.equal(plain.labels, theirs.labels)


@pytest.mark.parametrize(
    "settings",
    [
        COLORS,
        ["DATA.REVERSE_INPUT_CHANNEL", True, *COLORS],
        ["AUG.ENABLE", True, "AUG.RE_PROB", 0.0],
        ["DATA.TRAIN_CROP_NUM_TEMPORAL", 2, "DATA_LOADER.NUM_WORKERS", 1],
    ],
)
def test_training_clips_are_equal_within_rounding(tiny_cfg, settings):
    batches = [
        list(epoch_batches(build_loader(each, "train"), 0, 0, 2))
        for each in (tiny_cfg(*settings), tiny_cfg(*settings, *ON))
    ]
    for plain, theirs in zip(*batches, strict=True):
        _assert_equal_in_a_quarter_of_the_bytes(plain, theirs)


def _whole_frames(cfg):
    """Return settings of clips whose frames are not resized."""
    dataset = build_loader(cfg, "test").dataset
    short = min(dataset.open_video(dataset.paths[0]).frames([0]).shape[1:3])
    return ["DATA.TRAIN_JITTER_SCALES", [short, short], "DATA.TEST_CROP_SIZE", short]


@pytest.mark.parametrize("split, crops", [("val", 1), ("test", 1), ("test", 3)])
@pytest.mark.parametrize("settings", [COLORS, ["DATA.REVERSE_INPUT_CHANNEL", True, *COLORS]])
def test_views_of_frames_that_have_the_size_are_equal_within_rounding(tiny_cfg, split, crops, settings):
    settings = [*settings, *_whole_frames(tiny_cfg()), "TEST.NUM_SPATIAL_CROPS", crops]
    batches = [list(build_loader(cfg, split)) for cfg in (tiny_cfg(*settings), tiny_cfg(*settings, *ON))]
    assert batches[0]
    for plain, theirs in zip(*batches, strict=True):
        _assert_equal_in_a_quarter_of_the_bytes(plain, theirs)


@pytest.mark.parametrize("crops", [1, 3])
def test_views_of_resized_frames_are_the_same(tiny_cfg, crops):
    """Resizing makes fractions, which 8 bits would round."""
    short = _whole_frames(tiny_cfg())[1][0]
    settings = ["DATA.TRAIN_JITTER_SCALES", [short + 5, short + 5], "DATA.TEST_CROP_SIZE", short + 5]
    settings += ["TEST.NUM_SPATIAL_CROPS", crops]
    for plain, theirs in zip(*(build_loader(tiny_cfg(*settings, *more), "test") for more in ([], ON)), strict=True):
        assert torch.equal(plain.inputs[0], theirs.to("cpu").inputs[0])


def test_a_batch_of_both_kinds_is_normalized(tiny_cfg):
    normalization = ClipSettings.from_config(tiny_cfg(), "test").for_loader(tiny_cfg(*ON)).normalization
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 4, 8, 8).repeat(3, 1, 1, 1)
    expected = (pixels / 255 - 0.45) / 0.225
    samples = [
        Sample([each], 0, number, 0, normalization=normalization) for number, each in enumerate((pixels, expected))
    ]
    for order in (samples, samples[::-1]):
        inputs = collate(order).to("cpu").inputs[0]
        torch.testing.assert_close(inputs, torch.stack([expected, expected]), rtol=1e-5, atol=1e-6)


def test_training_and_its_evaluations_are_the_same_within_rounding(tiny_cfg, tmp_path):
    settings = ["BN.USE_PRECISE_STATS", True, "BN.NUM_BATCHES_PRECISE", 2, "MODEL.DROPOUT_RATE", 0.0]
    settings += [*_whole_frames(tiny_cfg()), "SOLVER.BASE_LR", 0.001]
    results, scores = [], []
    for name, more in (("plain", []), ("bytes", ON)):
        cfg = tiny_cfg(*settings, *more, "OUTPUT_DIR", str(tmp_path / name))
        results.append(train(cfg))
        test(cfg)
        with np.load(tmp_path / name / "test_predictions.npz") as predictions:
            scores.append(predictions["scores"])
    assert results[0].keys() == results[1].keys()
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-3)
    np.testing.assert_allclose(scores[0], scores[1], rtol=5e-3)


@pytest.mark.parametrize(
    "settings, key",
    [
        (["AUG.ENABLE", True], "AUG.RE_PROB"),
        (["AUG.ENABLE", True, "AUG.AA_TYPE", "", "AUG.RE_PROB", 0.0], "AUG.COLOR_JITTER"),
        (["DATA.TIME_DIFF_PROB", 0.5], "DATA.TIME_DIFF_PROB"),
    ],
)
def test_augmentation_beyond_8_bits_is_refused(tiny_cfg, settings, key):
    with pytest.raises(ValueError, match=key):
        build_loader(tiny_cfg(*settings, *ON), "train")


def test_a_batch_read_in_steps_is_normalized_step_by_step(tiny_cfg):
    normalization = ClipSettings.from_config(tiny_cfg(), "train").for_loader(tiny_cfg(*ON)).normalization
    clips = torch.arange(256, dtype=torch.uint8).view(1, 1, 4, 8, 8).repeat(1, 3, 1, 1, 1)
    none = torch.zeros(1, dtype=torch.int64)
    reader = iter([[clips[:, :, :2]], [clips[:, :, 2:]]])
    batch = SteppedBatch([], none, none, none, normalization=normalization, reader=reader, frames=4)
    steps = list(batch.to("cpu").in_steps(None))
    expected = (clips / 255 - 0.45) / 0.225
    torch.testing.assert_close(torch.cat([step for (step,) in steps], dim=2), expected, rtol=1e-5, atol=1e-6)


def test_a_loop_written_for_pyslowfast_gets_normalized_clips(tiny_cfg):
    for split in ("train", "val"):
        loaders = [construct_loader(tiny_cfg(*_whole_frames(tiny_cfg()), *more), split) for more in ([], ON)]
        for plain, theirs in itertools.islice(zip(*loaders, strict=True), 2):
            torch.testing.assert_close(theirs[0], plain[0], rtol=1e-6, atol=1e-6)
