"""Rules of DETECTION and AVA; the spatial stride derived from the model."""

import pytest

from slowfast.config import load_config

ON = ["DETECTION.ENABLE", True]
SLOWFAST = ["MODEL.ARCH", "slowfast", "MODEL.MODEL_NAME", "SlowFast"]
SLOW = ["MODEL.ARCH", "slow", "MODEL.MODEL_NAME", "ResNet"]
MVIT = ["MODEL.ARCH", "mvit", "MODEL.MODEL_NAME", "MViT", "MVIT.POOL_Q_STRIDE", [[1, 1, 2, 2], [3, 1, 2, 2]]]
DILATED = ["RESNET.SPATIAL_STRIDES", [[1], [2], [2], [1]]]


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        (SLOW, 32),
        ([*SLOW, *DILATED], 16),
        ([*SLOWFAST, "RESNET.SPATIAL_STRIDES", [[1, 1], [2, 2], [1, 1], [1, 1]]], 8),
        (["MODEL.ARCH", "x3d", "MODEL.MODEL_NAME", "X3D", "RESNET.TRANS_FUNC", "x3d_transform"], 32),
        (MVIT, 16),
        ([*MVIT, "MVIT.PATCH_STRIDE", [2, 8, 8]], 32),
    ],
)
def test_the_scale_follows_from_the_strides(settings, factor):
    assert load_config(None, [*ON, *settings]).DETECTION.SPATIAL_SCALE_FACTOR == factor
    given = load_config(None, [*ON, *settings, "DETECTION.SPATIAL_SCALE_FACTOR", factor])
    assert given.DETECTION.SPATIAL_SCALE_FACTOR == factor
    off = load_config(None, [*settings, "DETECTION.SPATIAL_SCALE_FACTOR", 5])
    assert off.DETECTION.SPATIAL_SCALE_FACTOR == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([*SLOW, "DETECTION.SPATIAL_SCALE_FACTOR", 16], "FACTOR is 16, .* ResNet .* 32 pixels.* set it to 32"),
        ([*SLOW, *DILATED, "DETECTION.SPATIAL_SCALE_FACTOR", 32], r"SPATIAL_STRIDES \[\[1\], \[2\], \[2\], \[1\]\]"),
        ([*SLOWFAST, "RESNET.SPATIAL_STRIDES", [[1, 1], [2, 2], [2, 2], [1, 2]]], "16 and 32 pixels"),
        ([*MVIT, "DETECTION.SPATIAL_SCALE_FACTOR", 32], "is 32, .* MViT .* 16 pixels"),
        ([*SLOW, "DETECTION.ROI_XFORM_RESOLUTION", 0], "ROI_XFORM_RESOLUTION is 0, but it must be at least 1"),
        ([*SLOW, "MODEL.COMPILE", True], "MODEL.COMPILE True with DETECTION.ENABLE True"),
        ([*SLOW, "RESNET.SPATIAL_STRIDES", [[1], [], [2], [1]]], "RESNET.SPATIAL_STRIDES is .* needs 4 lists"),
    ],
)
def test_disagreements_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        load_config(None, [*ON, *settings])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["AVA.FPS", 0], "AVA.FPS is 0.0"),
        (["AVA.FPS", float("inf")], "AVA.FPS in .* is inf"),
        (["AVA.EVALUATION", "activitynet2"], "AVA.EVALUATION.*activitynet2.*pyslowfast"),
        (["AVA.KEY_SECONDS", [902]], r"KEY_SECONDS is \[902\]"),
        (["AVA.KEY_SECONDS", [5, 4]], r"KEY_SECONDS is \[5, 4\]"),
        (["AVA.FRAMES_AFTER_KEY", 9], "FRAMES_AFTER_KEY is 9; it is 0 to DATA.NUM_FRAMES 8"),
        (["AVA.FRAMES_AFTER_KEY", -2], "FRAMES_AFTER_KEY is -2"),
        (["AVA.BOX_FRAMES", [3, 8]], r"BOX_FRAMES is \[3, 8\]; .* 0 to 7"),
        (["AVA.BOX_FRAMES", [4, 2]], r"BOX_FRAMES is \[4, 2\]"),
    ],
)
def test_key_frames_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        load_config(None, settings)


def test_key_frames_of_longer_training_clips():
    settings = ["AVA.BOX_FRAMES", [3, 8], "DATA.TRAIN_NUM_FRAMES", [8, 16], "AVA.KEY_SECONDS", []]
    assert load_config(None, settings).AVA.BOX_FRAMES == [3, 8]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (["TRAIN.FULL_TIME_EVAL", True], r"TRAIN\.FULL_TIME_EVAL is True.*key frame.*False"),
        (["TEST.CYCLIC_LOAD", True], r"TEST\.CYCLIC_LOAD is True.*key frame.*False"),
        (["TEST.NUM_ENSEMBLE_VIEWS", -1], r"TEST\.NUM_TEMPORAL_CLIPS is \[1, 3, 5, 7, 10\].*key frame.*\[\]"),
    ],
)
def test_key_frames_have_one_clip_each(setting, message):
    load_config(None, setting)
    with pytest.raises(ValueError, match=message):
        load_config(None, [*ON, *SLOW, *DILATED, *setting])
