"""Values of YAML, of a shell and of Python, converted to the type of their key."""

import math

import pytest

from slowfast.config import load_config
from slowfast.config.merge import get_key

INF = math.inf
READ = [
    ("SOLVER.WEIGHT_DECAY", "1e-4", 1e-4),
    ("SOLVER.WEIGHT_DECAY", "5E-5", 5e-5),
    ("SOLVER.WARMUP_EPOCHS", 5, 5.0),
    ("SOLVER.WARMUP_EPOCHS", "5", 5.0),
    ("CONTRASTIVE.DELTA_CLIPS_MAX", "inf", INF),
    ("CONTRASTIVE.DELTA_CLIPS_MIN", "-.inf", -INF),
    ("NUM_GPUS", "0", 0),
    ("NUM_GPUS", 2.0, 2),
    ("TRAIN.BATCH_SIZE", "1e2", 100),
    ("TRAIN.ENABLE", "False", False),
    ("TRAIN.ENABLE", "true", True),
    ("TRAIN.ENABLE", False, False),
    ("OUTPUT_DIR", "123", "123"),
    ("OUTPUT_DIR", "a b/c", "a b/c"),
    ("DATA.PATH_LABEL_SEPARATOR", " ", " "),
    ("DATA.PATH_LABEL_SEPARATOR", "','", ","),
    ("DATA.PATH_LABEL_SEPARATOR", r"'\t'", "\t"),
    ("OUTPUT_DIR", "'tis", "'tis"),
    ("DATA.PATH_PREFIX", None, ""),
    ("DATA.PATH_PREFIX", "None", ""),
    ("AVA.TEST_PREDICT_BOX_LISTS", None, []),
    ("AVA.TRAIN_LISTS", "one.csv", ["one.csv"]),
    ("DATA.MEAN", "[0, 0.5, 1]", [0.0, 0.5, 1.0]),
    ("DATA.MEAN", (0, 0, 0), [0.0, 0.0, 0.0]),
    ("MVIT.PATCH_KERNEL", "(2, 16, 16)", [2, 16, 16]),
    ("SOLVER.BETAS", "(0.9, 0.95)", [0.9, 0.95]),
    ("SOLVER.LRS", ["1", "1e-1", 1e-2], [1.0, 0.1, 0.01]),
    ("SOLVER.STEPS", 0, [0]),
    ("TRAIN.CHECKPOINT_CLEAR_NAME_PATTERN", '("backbone.",)', ["backbone."]),
    ("RESNET.NUM_BLOCK_TEMP_KERNEL", [3, 4, 6, 3], [[3], [4], [6], [3]]),
    ("RESNET.NUM_BLOCK_TEMP_KERNEL", "[[1],[1],[1],[1]]", [[1], [1], [1], [1]]),
    ("NONLOCAL.LOCATION", [[[]], [[1, 3]], [[1, 3, 5]], [[]]], [[[]], [[1, 3]], [[1, 3, 5]], [[]]]),
    ("SOLVER.CLIP_GRAD_L2NORM", 1, 1.0),
    ("SOLVER.CLIP_GRAD_L2NORM", "2e-2", 0.02),
    ("AUG.COLOR_JITTER", "None", None),
    ("AUG.COLOR_JITTER", None, None),
    ("MVIT.POOL_KVQ_KERNEL", "(3, 3, 3)", [3, 3, 3]),
    ("MVIT.DIM_MUL", [[1, 2.0], [3, "2e0"]], [[1, 2.0], [3, 2.0]]),
    ("MULTIGRID.LONG_CYCLE_FACTORS", [[1, 1]], [[1.0, 1.0]]),
]


def quiet(key: str, value) -> list:
    return ["MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow", key, value]


@pytest.mark.parametrize(("key", "value", "expected"), READ)
def test_value_is_read_as_its_key_wants(key, value, expected):
    read = get_key(load_config(None, quiet(key, value)), key)
    assert read == expected
    assert type(read) is type(expected)


def test_path_objects_are_text(tmp_path):
    assert load_config(None, ["OUTPUT_DIR", tmp_path]).OUTPUT_DIR == str(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("NUM_GPUS", True),
        ("NUM_GPUS", None),
        ("NUM_GPUS", "inf"),
        ("SOLVER.BASE_LR", True),
        ("SOLVER.BASE_LR", None),
        ("SOLVER.BASE_LR", "nan"),
        ("SOLVER.BASE_LR", [0.1]),
        ("TRAIN.ENABLE", "perhaps"),
        ("TRAIN.ENABLE", None),
        ("OUTPUT_DIR", ["a"]),
        ("DATA.MEAN", "0.45, 0.45"),
        ("DATA.TRAIN_JITTER_SCALES", [256.5, 320]),
        ("AVA.TRAIN_LISTS", [1]),
        ("SOLVER.CLIP_GRAD_VAL", "much"),
        ("MVIT.DIM_MUL", [{"a": 1}]),
    ],
)
def test_wrong_type(key, value):
    with pytest.raises(ValueError, match=rf"^{key} in the overrides is .*, but it must be "):
        load_config(None, [key, value])


def test_a_list_that_the_shell_left_unquoted():
    assert load_config(None, ["MODEL.FREEZE_STAGES", "[s1, s2.pathway0_res0]"]).MODEL.FREEZE_STAGES[0] == "s1"
    with pytest.raises(ValueError, match=r"\[s1, \*pathway0\*\] is not a list; quote its entries"):
        load_config(None, ["MODEL.FREEZE_STAGES", "[s1, *pathway0*]"])


def test_a_section_can_be_given_as_a_mapping():
    cfg = load_config(None, ["TRAIN", {"BATCH_SIZE": 4, "ENABLE": "False"}, "TRAIN.BATCH_SIZE", 6])
    assert (cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.ENABLE) == (6, False)
