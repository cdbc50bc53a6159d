"""Training clips as 8-bit pixels (DATA_LOADER.NORMALIZE_ON_DEVICE), beside those that the loader normalizes."""

import pytest
import torch

from slowfast.datasets.build import build_loader
from slowfast.datasets.step_loading import SteppedBatch
from slowfast.engine.loop import epoch_batches, training_normalization
from slowfast.engine.train import train

ON = ["DATA_LOADER.NORMALIZE_ON_DEVICE", True]


@pytest.mark.parametrize(
    "settings",
    [
        ["DATA.MEAN", [0.1, 0.5, 0.8], "DATA.STD", [0.2, 0.3, 0.25]],
        ["DATA.REVERSE_INPUT_CHANNEL", True, "DATA.MEAN", [0.1, 0.5, 0.8], "DATA.STD", [0.2, 0.3, 0.25]],
        ["AUG.ENABLE", True, "AUG.RE_PROB", 0.0],
        ["DATA.TRAIN_CROP_NUM_TEMPORAL", 2, "DATA_LOADER.NUM_WORKERS", 1],
    ],
)
def test_clips_are_equal_within_rounding_in_a_quarter_of_the_bytes(tiny_cfg, settings):
    plain, cfg = tiny_cfg(*settings), tiny_cfg(*settings, *ON)
    batches = [list(epoch_batches(build_loader(each, "train"), 0, 0, 2)) for each in (plain, cfg)]
    for ours, theirs in zip(*batches, strict=True):
        assert theirs.inputs[0].dtype is torch.uint8
        assert ours.inputs[0].nbytes == 4 * theirs.inputs[0].nbytes
        normalized = theirs.map_inputs(training_normalization(cfg))
        torch.testing.assert_close(normalized.inputs, ours.inputs, rtol=1e-6, atol=1e-6)
        assert torch.equal(ours.labels, theirs.labels)


def test_training_is_the_same_within_rounding(tiny_cfg, tmp_path):
    settings = ["BN.USE_PRECISE_STATS", True, "BN.NUM_BATCHES_PRECISE", 2, "MODEL.DROPOUT_RATE", 0.0]
    found = [
        train(tiny_cfg(*settings, *more, "OUTPUT_DIR", str(tmp_path / name)))
        for name, more in (("plain", []), ("bytes", ON))
    ]
    assert found[0].keys() == found[1].keys()
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-3)


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
    clips = torch.arange(256, dtype=torch.uint8).view(1, 1, 4, 8, 8).repeat(1, 3, 1, 1, 1)
    none = torch.zeros(1, dtype=torch.int64)
    batch = SteppedBatch([], none, none, none, reader=iter([[clips[:, :, :2]], [clips[:, :, 2:]]]), frames=4)
    steps = list(batch.to("cpu").map_inputs(training_normalization(tiny_cfg(*ON))).in_steps(None))
    expected = (clips / 255 - 0.45) / 0.225
    torch.testing.assert_close(torch.cat([step for (step,) in steps], dim=2), expected, rtol=1e-5, atol=1e-6)


def test_clips_that_are_normalized_already_are_refused(tiny_cfg):
    with pytest.raises(ValueError, match="NORMALIZE_ON_DEVICE"):
        training_normalization(tiny_cfg(*ON))(torch.zeros(1, 3, 1, 2, 2))
