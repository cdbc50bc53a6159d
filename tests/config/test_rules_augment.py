"""Rules of crops, augmentation and mixup."""

import pytest

from slowfast.config import load_config

SLOW = ["MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow", "NUM_GPUS", 0]
AUG = [*SLOW, "AUG.ENABLE", True]
MIXUP = [*SLOW, "MIXUP.ENABLE", True, "MODEL.LOSS_FUNC", "soft_cross_entropy"]
BOXES = [
    "DETECTION.ENABLE", True, "MODEL.ARCH", "slow", "MODEL.MODEL_NAME", "ResNet", "MODEL.LOSS_FUNC", "bce",
    "MODEL.HEAD_ACT", "sigmoid", "TRAIN.DATASET", "ava", "TEST.DATASET", "ava",
]  # fmt: skip

REFUSED = [
    (["AUG.NUM_SAMPLE", 0], r"AUG\.NUM_SAMPLE is 0"),
    (["AUG.RE_SPLIT", True], r"RE_SPLIT True .*NUM_SAMPLE is 1; set NUM_SAMPLE"),
    (["AUG.AA_TYPE", "", "AUG.COLOR_JITTER", 1.5], r"COLOR_JITTER is 1\.5"),
]
REFUSED_ALWAYS = [
    ([*SLOW, "DATA.TRAIN_JITTER_ASPECT_RELATIVE", [0.75, 1.33]], r"ASPECT_RELATIVE .*set TRAIN_JITTER_SCALES_RELATIVE"),
    ([*SLOW, "DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.5, 1.5]], r"SCALES_RELATIVE is \[0\.5, 1\.5\]; .* at most 1"),
    ([*SLOW, "DATA.TRAIN_JITTER_MOTION_SHIFT", True], r"MOTION_SHIFT True .*: set"),
    ([*SLOW, "DATA.TRAIN_PCA_EIGVAL", [0.2, 0.2]], r"EIGVAL \[0\.2, 0\.2\].* 3 numbers"),
    ([*SLOW, "DATA.TRAIN_PCA_EIGVEC", [[1.0, 0.0], [0.0, 1.0]]], r"3 rows of 3"),
    ([*SLOW, "MIXUP.ENABLE", True], r"LOSS_FUNC is cross_entropy.*soft_cross_entropy"),
    ([*MIXUP, "MIXUP.ALPHA", -1.0], r"ALPHA -1\.0"),
    ([*MIXUP, "MIXUP.ALPHA", 0.0, "MIXUP.CUTMIX_ALPHA", 0.0], r"set MIXUP\.PROB 0"),
    ([*MIXUP, "TRAIN.BATCH_SIZE", 1], r"each of 1 processes gets one clip.*at least 2"),
    ([*MIXUP, "TRAIN.BATCH_SIZE", 8, "NUM_GPUS", 8], r"BATCH_SIZE 8 to at least 16"),
    (
        [*SLOW, "MIXUP.ENABLE", True, "DATA.MULTI_LABEL", True, "MODEL.LOSS_FUNC", "bce_logit",
         "MODEL.HEAD_ACT", "sigmoid"],
        r"MULTI_LABEL is True",
    ),
    ([*BOXES, "AUG.ENABLE", True], r"AUG\.ENABLE is True, but boxes .* AVA\.TRAIN_USE_COLOR_AUGMENTATION"),
    ([*BOXES, "DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.2, 1.0]], r"SCALES_RELATIVE is \[0\.2, 1\.0\], .*Set it to \[\]"),
    ([*BOXES, "MIXUP.ENABLE", True], r"MIXUP\.ENABLE is True, but boxes"),
]  # fmt: skip
ACCEPTED = [
    [*SLOW, "AUG.AA_TYPE", "nonsense"],  # nothing reads it without AUG.ENABLE
    [*AUG, "AUG.AA_TYPE", "", "AUG.COLOR_JITTER", "None", "AUG.RE_PROB", 0.0],
    [*AUG, "AUG.NUM_SAMPLE", 2, "AUG.RE_SPLIT", True, "AUG.INTERPOLATION", "random"],
    [*SLOW, "DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.08, 1.0], "DATA.TRAIN_JITTER_MOTION_SHIFT", True],
    [*MIXUP, "MIXUP.CUTMIX_ALPHA", 0.0],
    [*MIXUP, "MIXUP.PROB", 0.0, "TRAIN.BATCH_SIZE", 1],
    [*MIXUP, "AUG.ENABLE", True, "AUG.NUM_SAMPLE", 2, "TRAIN.BATCH_SIZE", 8, "NUM_GPUS", 8],
    [*BOXES, "AVA.TRAIN_USE_COLOR_AUGMENTATION", True],
]


@pytest.mark.parametrize(
    ("overrides", "message"), [([*AUG, *more], message) for more, message in REFUSED] + REFUSED_ALWAYS
)
def test_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        load_config(None, overrides)


@pytest.mark.parametrize("overrides", ACCEPTED)
def test_accepted(overrides):
    assert load_config(None, overrides).is_frozen()


def test_lighting_by_its_older_name():
    """Of the two names of the published versions, that of the newer one counts where both are given."""
    old, new = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    assert load_config(None, ["AVA.TRAIN_PCA_EIGVAL", old]).DATA.TRAIN_PCA_EIGVAL == old
    both = load_config(None, ["AVA.TRAIN_PCA_EIGVAL", old, "DATA.TRAIN_PCA_EIGVAL", new])
    assert both.DATA.TRAIN_PCA_EIGVAL == new
