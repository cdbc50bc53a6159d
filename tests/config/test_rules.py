"""Rules of the configuration: mistakes are refused with their numbers, their neighbors are accepted."""

import logging
import re
from fnmatch import fnmatchcase

import pytest
import torch

from slowfast.config import load_config, num_pathways
from slowfast.config.ignored_keys import reason_without_effect
from slowfast.config.merge import get_key, leaf_keys
from slowfast.engine.epoch_config import build_state
from slowfast.models import build_model
from slowfast.utils.registry import REGISTRIES, Registry

SLOW = ["MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow"]
STEPS = ["SOLVER.LR_POLICY", "steps_with_relative_lrs", "SOLVER.MAX_EPOCH", 20]

REFUSED = [
    (["MODEL.NUM_CLASSES", 0], r"MODEL\.NUM_CLASSES is 0, but it must be at least 1"),
    (["MODEL.ARCH", "slowfat"], r"MODEL\.ARCH is 'slowfat'.*nearest is slowfast"),
    (["MODEL.FINAL_POOL", ["avg"]], r"MODEL\.FINAL_POOL is \['avg'\]"),
    (["MODEL.DROPOUT_RATE", 1.5], r"MODEL\.DROPOUT_RATE is 1\.5.*0 to 1"),
    (["RESNET.WIDTH_PER_GROUP", 4], r"WIDTH_PER_GROUP 4 over SLOWFAST\.BETA_INV 8 leaves the fast pathway no channel"),
    (["RESNET.DEPTH", 34], r"RESNET\.DEPTH is 34; it can be 18, 50, 101"),
    ([*SLOW, "RESNET.SPATIAL_STRIDES", [[1], [2], [2]]], r"SPATIAL_STRIDES .*needs 4 lists.* of 1 entry"),
    ([*SLOW, "NONLOCAL.GROUP", [[1, 1]] * 4], r"NONLOCAL\.GROUP .*1 entry, one for each pathway .* ResNet"),
    (["NONLOCAL.LOCATION", [[[], [], []]] * 4], r"NONLOCAL\.LOCATION .*2 entries"),
    (
        ["RESNET.NUM_BLOCK_TEMP_KERNEL", [3, 4, 7, 3]],
        r"TEMP_KERNEL .*7 in stage 4.*DEPTH 50 .* 6 is the most",
    ),
    (["DATA.NUM_FRAMES", 30], r"NUM_FRAMES 30 .*ALPHA 8.*Let it be 24 or 32"),
    (["DATA.NUM_FRAMES", 4], r"Let it be 8,"),
    (["SLOWFAST.SLOW_INDICES", [0, 4]], r"SLOW_INDICES is \[0, 4\]; it needs 1 frames"),
    (["SLOWFAST.SLOW_INDICES", [8]], r"from 0 to 7"),
    (["DATA.INPUT_CHANNEL_NUM", 3], r"INPUT_CHANNEL_NUM is \[3\].*2 pathways.*Write \[3, 3\]"),
    ([*SLOW, "DATA.INPUT_CHANNEL_NUM", "[3, 3]"], r"INPUT_CHANNEL_NUM is \[3, 3\].*1 pathway\. Write \[3\]"),
    (["DATA.STD", [0.2, 0.2]], r"DATA\.STD \[0\.2, 0\.2\] need one number"),
    (["DATA.STD", [0.2, 0.0, 0.2]], r"STD over 0"),
    (["DATA.MEAN", [0.4, 0.4], "DATA.STD", [0.2, 0.2]], r"one number for each of the 3 channels"),
    (["DATA.TRAIN_CROP_SIZE", 0], r"TRAIN_CROP_SIZE is 0"),
    (["DATA.TRAIN_CROP_SIZE", 257], r"TRAIN_CROP_SIZE 257 does not fit.*\[256, 320\].*at least 257"),
    (["DATA.TRAIN_JITTER_SCALES", [320, 256]], r"TRAIN_JITTER_SCALES is \[320, 256\]"),
    (["DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.5]], r"TRAIN_JITTER_SCALES_RELATIVE is \[0\.5\]"),
    (["DATA.PATH_LABEL_SEPARATOR", ""], r"PATH_LABEL_SEPARATOR is empty"),
    (["DATA.ENSEMBLE_METHOD", "mean"], r"ENSEMBLE_METHOD is 'mean'; it can be sum, max"),
    (["DATA.MAX_UNREADABLE_FRACTION", -0.1], r"MAX_UNREADABLE_FRACTION is -0\.1"),
    (["TEST.NUM_ENSEMBLE_VIEWS", 0], r"NUM_ENSEMBLE_VIEWS is 0"),
    (["TEST.NUM_ENSEMBLE_VIEWS", -2], r"NUM_ENSEMBLE_VIEWS is -2"),
    (["TRAIN.KILL_LOSS_EXPLOSION_FACTOR", -1], r"KILL_LOSS_EXPLOSION_FACTOR is -1"),
    (["TEST.NUM_SPATIAL_CROPS", 4], r"NUM_SPATIAL_CROPS is 4"),
    (["TEST.NUM_TEMPORAL_CLIPS", [1, 0]], r"NUM_TEMPORAL_CLIPS is \[1, 0\]"),
    (["TRAIN.ACCUM_STEPS", 0], r"ACCUM_STEPS is 0"),
    (["TRAIN.CHECKPOINT_TYPE", "torch"], r"CHECKPOINT_TYPE is 'torch'.*nearest is pytorch"),
    (["SOLVER.BASE_LR", -1], r"BASE_LR is -1\.0"),
    (["SOLVER.BETAS", [0.9]], r"BETAS is \[0\.9\]"),
    ([*STEPS], r"SOLVER\.STEPS is \[\].*0 first, then rising"),
    ([*STEPS, "SOLVER.STEPS", [1, 2], "SOLVER.LRS", [1, 0.1]], r"STEPS is \[1\.0, 2\.0\].*0 first"),
    ([*STEPS, "SOLVER.STEPS", [0, 5, 5], "SOLVER.LRS", [1, 1, 1]], r"then rising"),
    (
        [*STEPS, "SOLVER.STEPS", [0, 5, 9], "SOLVER.LRS", [1, 0.1]],
        r"LRS has 2 entries .* but 3 SOLVER\.STEPS",
    ),
    ([*STEPS, "SOLVER.STEPS", [0, 5], "SOLVER.LRS", [1, -1]], r"no rate can be under 0"),
    (["NUM_GPUS", 3], r"TRAIN\.BATCH_SIZE 64 .* 3 processes.*set it to 63 or 66"),
    (["NUM_GPUS", 3, "TRAIN.ENABLE", False], r"TEST\.BATCH_SIZE 8 .*set it to 6 or 9"),
    (["NUM_GPUS", -1], r"NUM_GPUS is -1"),
    (["SHARD_ID", 1], r"SHARD_ID 1 is not under NUM_SHARDS 1"),
    (["OUTPUT_DIR", ""], r"OUTPUT_DIR is empty"),
]

ACCEPTED = [
    ["MODEL.NUM_CLASSES", 1],
    ["RESNET.DEPTH", 18],
    [*SLOW, "NONLOCAL.LOCATION", [[[]], [[3]], [[1, 3, 5]], [[]]]],
    [*SLOW, "DATA.NUM_FRAMES", 13],
    ["NONLOCAL.LOCATION", [[[], []], [[1], []], [[], []], [[], []]]],
    ["RESNET.DEPTH", 101, "RESNET.NUM_BLOCK_TEMP_KERNEL", [[3, 3], [4, 4], [6, 23], [3, 3]]],
    ["MODEL.MODEL_NAME", "X3D", "RESNET.TRANS_FUNC", "x3d_transform", "RESNET.DEPTH", 34],
    ["DATA.NUM_FRAMES", 32, "SLOWFAST.SLOW_INDICES", [0, 9, 20, 31]],
    ["DATA.TRAIN_CROP_SIZE", 256],
    ["DATA.TRAIN_CROP_SIZE", 300, "TRAIN.ENABLE", False],
    ["DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.08, 1.0]],
    [*STEPS, "SOLVER.STEPS", [0, 5], "SOLVER.LRS", [1, 0.1, 0.01]],
    [*STEPS, "SOLVER.STEPS", [0, 5, 20], "SOLVER.LRS", [1, 0.1]],
    ["SOLVER.CLIP_GRAD_L2NORM", 1],
    ["SOLVER.OPTIMIZING_METHOD", "adamw", "SOLVER.MOMENTUM", 0],
    ["NUM_GPUS", 0, "TRAIN.BATCH_SIZE", 5],
    ["NUM_GPUS", 4096, "TRAIN.BATCH_SIZE", 4096, "TEST.BATCH_SIZE", 4096],
    ["NUM_SHARDS", 2, "SHARD_ID", 1],
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        load_config(None, overrides)


@pytest.mark.parametrize("overrides", ACCEPTED, ids=str)
def test_accepted(overrides):
    assert load_config(None, overrides).is_frozen()


def test_fewer_clips_than_gpus_is_only_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        load_config(None, ["NUM_GPUS", 8, "TEST.BATCH_SIZE", 1])
    assert "TEST.BATCH_SIZE 1 is less than NUM_GPUS 8" in caplog.text


def test_number_of_pathways():
    assert num_pathways(load_config(None)) == 2
    assert num_pathways(load_config(None, SLOW)) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["NONLOCAL.LOCATION", [[[]], [[4]], [[]], [[]]]], r"NONLOCAL\.LOCATION .*\[4\] of a stage with 4 blocks"),
        (["MODEL.DROPCONNECT_RATE", -0.1], r"MODEL\.DROPCONNECT_RATE -0\.1, .*at least 0"),
    ],
)
def test_a_model_checks_its_own_arguments(overrides, message):
    cfg = load_config(None, [*SLOW, "NUM_GPUS", 0, *overrides])
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_model(cfg)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["SOLVER.MOMENTUM", 0], r"SOLVER\.NESTEROV True, SOLVER\.MOMENTUM 0\.0, .*momentum"),
        (["SOLVER.OPTIMIZING_METHOD", "adamw", "SOLVER.BETAS", [0.9, 1.0]], r"SOLVER\.BETAS \[0\.9, 1\.0\]: "),
        (["SOLVER.CLIP_GRAD_VAL", 0], r"SOLVER\.CLIP_GRAD_VAL 0\.0, .*over 0"),
        (["SOLVER.CLIP_GRAD_VAL", 1, "SOLVER.CLIP_GRAD_L2NORM", 1], r"SOLVER\.CLIP_GRAD_L2NORM 1\.0: .*not both"),
    ],
)
def test_the_optimizer_is_checked_before_the_first_batch(overrides, message, tiny_cfg):
    with pytest.raises(ValueError, match=message):
        build_state(tiny_cfg(*overrides))


# Keys that take a name: a misspelling, and the name meant.
MISSPELLED = {
    "AUG.INTERPOLATION": ("bicubik", "bicubic"),
    "AUG.RE_MODE": ("pixels", "pixel"),
    "AVA.EVALUATION": ("activity_net", "activitynet"),
    "BN.NORM_TYPE": ("syncbatchnorm", "sync_batchnorm"),
    "DATA.DECODING_BACKEND": ("torchcodek", "torchcodec"),
    "DATA.ENSEMBLE_METHOD": ("maximum", "max"),
    "DEMO.INPUT_FORMAT": ("GBR", "BGR"),
    "DEMO.VIS_MODE": ("topk", "top-k"),
    "DIST_BACKEND": ("ncll", "nccl"),
    "MODEL.ARCH": ("slow_ic2d", "slow_c2d"),
    "MODEL.COMPILE_MODE": ("reduce_overhead", "reduce-overhead"),
    "MODEL.FINAL_POOL": (["avg", "maxx"], "max"),
    "MODEL.HEAD_ACT": ("sofmax", "softmax"),
    "MODEL.LOSS_FUNC": ("crossentropy", "cross_entropy"),
    "MODEL.MEMORY_FORMAT": ("channels-last", "channels_last"),
    "MODEL.MODEL_NAME": ("Slowfast_", "SlowFast"),
    "MVIT.MODE": ("convunshared", "conv_unshared"),
    "MVIT.NORM": ("layer_norm", "layernorm"),
    "NONLOCAL.INSTANTIATION": ("dotproduct", "dot_product"),
    "REGNET.DEPTH": ("400m", "400M"),
    "RESNET.TRANS_FUNC": ("botleneck_transform", "bottleneck_transform"),
    "SOLVER.LR_POLICY": ("cosin", "cosine"),
    "SOLVER.OPTIMIZING_METHOD": ("adamv", "adam"),
    "TASK": ("clips", "clip"),
    "TEST.CHECKPOINT_TYPE": ("caffe", "caffe2"),
    "TEST.DATASET": ("kinetcs", "kinetics"),
    "TIMESFORMER.ATTENTION_TYPE": ("divided", "divided_space_time"),
    "TRAIN.CHECKPOINT_TYPE": ("torch", "pytorch"),
    "TRAIN.DATASET": ("charade", "charades"),
    "TRAIN.MIXED_PRECISION_DTYPE": ("b16", "bf16"),
}
# Keys of files and of free text. AUG.AA_TYPE is a recipe with numbers, which the data set reads. Metrics are those of
# the data set's evaluator, and TRAIN.BEST_METRIC is checked by the first validation.
FREE_TEXT = (
    "*_DIR",
    "*.DIR",
    "*_PATH",
    "*_LISTS",
    "*_FILE",
    "DATA.PATH_*",
    "DATA.INDEX_CACHE",
    "DATA.IN22k_VAL_IN1K",
    "AUG.AA_TYPE",
    "MODEL.MULTI_PATHWAY_ARCH",
)
FREE_TEXT += ("TRACKER.PROJECT", "TRACKER.RUN_NAME")
# Color maps are matplotlib's, an extra, and are checked where they are drawn by.
FREE_TEXT += ("TENSORBOARD.*COLORMAP", "TENSORBOARD.WRONG_PRED_VIS.TAG")
FREE_TEXT += ("TRAIN.BEST_METRIC", "DEMO.INPUT_VIDEO", "DEMO.*_BOXES", "DEMO.COMMON_CLASS_NAMES", "DEMO.DETECTRON2_*")


@pytest.mark.parametrize(("key", "names"), MISSPELLED.items(), ids=MISSPELLED)
def test_a_misspelled_name_is_answered_with_the_nearest_one(key, names):
    wrong, meant = names
    with pytest.raises(ValueError, match=rf"^{re.escape(key)} is .*The nearest is {re.escape(meant)}\."):
        load_config(None, [key, wrong])


def test_a_key_of_text_takes_any_text_or_is_checked():
    cfg = load_config(None)
    for key in leaf_keys(cfg):
        value = get_key(cfg, key)
        free = any(fnmatchcase(key, pattern) for pattern in FREE_TEXT) or reason_without_effect(key)
        if isinstance(value[0] if isinstance(value, list) and value else value, str) and not free:
            with pytest.raises(ValueError, match=f"{re.escape(key)} .*no_such_name"):
                load_config(None, [key, ["no_such_name"] * len(value) if isinstance(value, list) else "no_such_name"])


def test_scores_of_regnet_compete_whatever_the_settings_say(caplog):
    load_config(None, ["MODEL.MODEL_NAME", "RegNet", "MODEL.ARCH", "r3d", "DATA.MULTI_LABEL", True])
    assert "another MODEL.MODEL_NAME" in caplog.text


def test_a_registry_may_appear_while_names_are_checked(monkeypatch):
    """As when another thread imports a project at that moment."""
    check, seen = Registry.check, []

    def checking(self, *arguments):
        seen.append(arguments)
        monkeypatch.setitem(REGISTRIES, f"TEST.NUMBER_{len(seen)}", self)
        return check(self, *arguments)

    monkeypatch.setattr(Registry, "check", checking)
    load_config(None)
    assert len(seen) > 1
