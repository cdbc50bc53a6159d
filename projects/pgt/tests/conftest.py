"""Small progressive models, and the settings around them."""

import pytest
import torch

from slowfast.config import load_config

STEPS = [
    "PGT.ENABLE",
    True,
    "PGT.STEPS",
    3,
    "PGT.TRAIN_TOGETHER",
    True,
    "DATA.NUM_FRAMES",
    22,
    "TRAIN.BATCH_SIZE",
    2,
]
SLOWFAST = [
    "MODEL.MODEL_NAME", "SlowFast", "MODEL.ARCH", "slowfast", "DATA.INPUT_CHANNEL_NUM", [3, 3], "SLOWFAST.ALPHA", 4,
    "SLOWFAST.BETA_INV", 4,
    "RESNET.NUM_BLOCK_TEMP_KERNEL", [[2, 2]] * 4, "RESNET.SPATIAL_STRIDES", [[1, 1], *[[2, 2]] * 3],
    "RESNET.SPATIAL_DILATIONS", [[1, 1]] * 4, "NONLOCAL.LOCATION", [[[], []]] * 4, "NONLOCAL.GROUP", [[1, 1]] * 4,
    "PGT.STEP_LEN", [4, 16], "PGT.OVERLAP", [1, 4], "DATA.NUM_FRAMES", 40,
]  # fmt: skip
VARIANTS = {
    "slow": [],
    "slow_basic": ["RESNET.TRANS_FUNC", "basic_transform"],
    "slow_overlap": [
        "PGT.OVERLAP",
        [3],
        "DATA.NUM_FRAMES",
        18,
        "PGT.CACHE",
        "avg",
        "PGT.CACHE_MOMENTUM",
        0.5,
    ],
    "i3d": ["MODEL.ARCH", "i3d", "PGT.CACHE", "max", "PGT.CACHE_MOMENTUM", 0.25],
    "i3d_nonlocal": ["MODEL.ARCH", "i3d_nopool", "NONLOCAL.LOCATION", [[[]], [[1]], [[0]], [[]]]],
    "progressive_nonlocal": [
        "NONLOCAL.LOCATION",
        [[[]], [[1]], [[0]], [[]]],
        "NONLOCAL.PROGRESS",
        True,
        "NONLOCAL.INSTANTIATION",
        "softmax",
    ],  # fmt: skip
    "c2d": ["MODEL.ARCH", "c2d_nopool"],
    "no_head": ["PGT.HEAD", False],
    "slowfast": SLOWFAST,
    "slowfast_even_max": [*SLOWFAST, "PGT.SLOW_SAMPLING", "even", "PGT.CACHE", "max"],
}


@pytest.fixture(scope="session")
def progressive_settings(tiny_model):
    """`progressive_settings(variant, *more)`: overrides of a tiny progressive model of 3 steps."""
    return lambda variant, *more: [*tiny_model, *STEPS, *VARIANTS[variant], *more]


@pytest.fixture(scope="session")
def progressive_cfg(progressive_settings):
    """`progressive_cfg(variant, *more)`: the same as a loaded configuration."""
    return lambda variant, *more: load_config(None, progressive_settings(variant, *more))


@pytest.fixture(scope="session")
def random_clip():
    """`random_clip(cfg, batch=2, seed=0)`: inputs (B, 3, T, 32, 32) a pathway."""

    def make(cfg, batch=2, seed=0, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)
        clip = torch.randn(batch, 3, cfg.DATA.NUM_FRAMES, 32, 32, generator=generator, dtype=dtype)
        slow = list(cfg.SLOWFAST.SLOW_INDICES)
        return [clip[:, :, slow], clip] if slow else [clip]

    return make


@pytest.fixture(params=VARIANTS)
def variant(request):
    """Every kind of model and memory in turn."""
    return request.param
