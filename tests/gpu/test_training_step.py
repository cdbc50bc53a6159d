"""What a training epoch does on a GPU, seen without one: waits of the host for it, and dtypes of mixed precision.

`fake_gpu.py` runs the training loop itself on fake tensors of a CUDA device.
"""

import pytest

pytestmark = pytest.mark.slow
BF16 = ["TRAIN.MIXED_PRECISION", True]
FP16 = [*BF16, "TRAIN.MIXED_PRECISION_DTYPE", "fp16"]
PGT = ["PGT.ENABLE", True, "PGT.STEPS", 3, "PGT.OVERLAP", [2], "DATA.NUM_FRAMES", 20]
BOXES = [
    "DETECTION.ENABLE", True, "MODEL.LOSS_FUNC", "bce", "MODEL.HEAD_ACT", "sigmoid", "TRAIN.DATASET", "ava",
    "TEST.DATASET", "ava",
]  # fmt: skip
ALL_AT_ONCE = [
    "MIXUP.ENABLE", True, "MIXUP.PROB", 1.0, "MODEL.LOSS_FUNC", "soft_cross_entropy", "TRAIN.ACCUM_STEPS", 2,
    "SOLVER.CLIP_GRAD_L2NORM", 1.0, "EMA.ENABLE", True, "SOLVER.OPTIMIZING_METHOD", "adamw",
]  # fmt: skip
# Name -> model, and its settings.
CASES = {
    "clip": ("ResNet", ["SOLVER.LARS_ON", True, "SOLVER.CLIP_GRAD_VAL", 1.0, "MODEL.DROPOUT_RATE", 0.5]),
    "mixup, accumulation, clipping, EMA, AdamW, bf16": ("ResNet", [*BF16, *ALL_AT_ONCE]),
    "fp16": ("ResNet", [*FP16, "SOLVER.OPTIMIZING_METHOD", "adamw"]),
    "boxes, bf16": ("SlowFast", [*BF16, *BOXES]),
    "MViT, bf16": ("MViT", [*BF16, "MVIT.DROPPATH_RATE", 0.1]),
    "PGT, update each step, bf16": ("ResNet", [*BF16, *PGT, "PGT.TRAIN_TOGETHER", False]),
    "PGT, full gradient": ("ResNet", [*PGT, "PGT.TRAIN_TOGETHER", True, "PGT.FULL_GRADIENT", True]),
    "PGT, boxes": ("ResNet", [*PGT, *BOXES, "PGT.TRAIN_TOGETHER", True]),
    "fp16, SGD": ("ResNet", FP16),
    "foreach AdamW": ("ResNet", ["SOLVER.OPTIMIZING_METHOD", "mt_adamw"]),
    "loss watched": ("ResNet", ["TRAIN.KILL_LOSS_EXPLOSION_FACTOR", 5.0]),
}
# What reads a number once an update, by its place (docs/gpu.md).
READS = {"fp16, SGD": "scaler.step", "foreach AdamW": "numbers.tolist", "loss watched": ".item()"}


@pytest.fixture(scope="module")
def observed(tiny_models, on_fake_gpu):
    """Observations of each case."""
    return on_fake_gpu(
        {name: ["epoch", [*tiny_models[model], "TRAIN.BATCH_SIZE", 2, *more]] for name, (model, more) in CASES.items()}
    )


@pytest.mark.parametrize("case", [name for name in CASES if name not in READS])
def test_the_host_never_waits_for_the_gpu_in_an_update(observed, case):
    assert observed[case]["waits"] == []


@pytest.mark.parametrize("case", READS)
def test_what_has_to_be_read_is_read_in_one_place(observed, case):
    # The detector sees what it is there to see.
    assert observed[case]["waits"] and all(READS[case] in wait for wait in observed[case]["waits"])


@pytest.mark.parametrize("case", [name for name in CASES if "bf16" in name])
def test_mixed_precision_multiplies_in_bf16_and_sums_losses_and_attention_in_float32(observed, check_bf16, case):
    dtypes = observed[case]["dtypes"]
    assert "linalg_vector_norm" in dtypes
    check_bf16(dtypes, "linalg_vector_norm", "sigmoid")
