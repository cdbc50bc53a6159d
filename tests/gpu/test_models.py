"""What every kind of model does on a GPU, seen without one: devices, dtypes and layouts of its tensors, and waits.

`fake_gpu.py` trains it on a batch, predicts another, and exports it, on fake tensors of a CUDA device.
"""

import pytest

from slowfast.models import MODEL_REGISTRY

pytestmark = pytest.mark.slow
FAMILIES = [name for name in MODEL_REGISTRY if not MODEL_REGISTRY.fact(name, "task")]
# PGT.STEP_LEN, PGT.OVERLAP and DATA.NUM_FRAMES of two steps; of other models those of "".
LENGTHS = {"": ([4], [2], 6), "SlowFast": ([4, 16], [2, 8], 24), "MViT": ([8], [4], 12)}
BOXES = ["DETECTION.ENABLE", True, "MODEL.LOSS_FUNC", "bce", "MODEL.HEAD_ACT", "sigmoid"]
LAST, FIRST = ["MODEL.MEMORY_FORMAT", "channels_last"], ["MODEL.MEMORY_FORMAT", "contiguous"]


def in_steps(name):
    length, overlap, frames = LENGTHS.get(name, LENGTHS[""])
    return [
        "PGT.ENABLE", True, "PGT.STEPS", 2, "PGT.STEP_LEN", length, "PGT.OVERLAP", overlap, "DATA.NUM_FRAMES", frames,
        "PGT.TRAIN_TOGETHER", True,
    ]  # fmt: skip


# Name -> model, and its settings. test_training_step.py trains others on contiguous clips.
CASES = {
    **{f"{name}, clip": (name, FIRST) for name in ("X3D", "RegNet", "TimeSformer")},
    **{f"{name}, steps": (name, [*in_steps(name), *LAST]) for name in FAMILIES},
    "ResNet, slots": ("ResNet", [*in_steps("ResNet"), "PGT.CACHE", "slots", "PGT.PG_EVAL", True, *LAST]),
    "ResNet, boxes in steps": ("ResNet", [*in_steps("ResNet"), *BOXES, "PGT.PG_EVAL", True, *LAST]),
}
EXPORTED = {"X3D": [], "TimeSformer in steps": in_steps("TimeSformer")}


@pytest.fixture(scope="module")
def observed(tiny_models, on_fake_gpu):
    """Observations of each case; of an exported model, the devices of each graph."""
    mixed = ["TRAIN.MIXED_PRECISION", True, "TRAIN.BATCH_SIZE", 2]
    cases = {name: ["train and predict", [*tiny_models[model], *mixed, *more]] for name, (model, more) in CASES.items()}
    cases |= {name: ["export", [*tiny_models[name.split()[0]], *more]] for name, more in EXPORTED.items()}
    return on_fake_gpu(cases)


@pytest.mark.parametrize("case", CASES)
def test_everything_is_computed_on_the_gpu_and_nothing_waits_for_it(observed, case):
    for work in ("training", "prediction"):
        assert observed[case][work]["device"] == "cuda:0"
        assert observed[case][work]["waits"] == []


@pytest.mark.parametrize("case", CASES)
def test_mixed_precision(observed, check_bf16, case):
    for work in ("training", "prediction"):
        check_bf16(observed[case][work]["dtypes"])


@pytest.mark.parametrize("case", [name for name, (_, more) in CASES.items() if more[-1] == "channels_last"])
def test_features_stay_in_channels_last_layout(observed, case):
    for work in ("training", "prediction"):
        assert observed[case][work]["layouts"] == ["channels_last"]
        assert observed[case][work]["reordered"] == []


@pytest.mark.parametrize("case", EXPORTED)
def test_an_exported_model_has_every_tensor_where_the_model_is(observed, case):
    assert observed[case] and all(devices == ["cuda:0"] for devices in observed[case].values())
