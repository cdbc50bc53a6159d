"""Small progressive models, and the settings around them."""

import os
import signal

import pytest
import torch

from pgt.task import ProgressiveTask
from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.config import load_config
from slowfast.datasets.synthetic import SweepSpec, make_sweep
from slowfast.engine.interrupt import TrainingInterrupted
from slowfast.engine.train import train

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


@pytest.fixture(scope="session")
def sweep_data(tmp_path_factory):
    """Folder of 6 training, 2 validation and 2 test videos of 36 frames, 32 pixels, 4 frames a second."""
    folder = tmp_path_factory.mktemp("sweep")
    make_sweep(folder, SweepSpec(train=6, val=2, test=2))
    return folder


@pytest.fixture
def run_cfg(tiny_model, sweep_data, tmp_path):
    """`run_cfg(*more)`: a run of 3 steps of 4 frames on `sweep_data`, 3 batches an epoch, frozen norms, no dropout."""
    torch.set_num_threads(1)  # small tensors are fastest so, and sums have one order
    settings = [
        *tiny_model, "DATA.PATH_TO_DATA_DIR", str(sweep_data), "OUTPUT_DIR", str(tmp_path / "out"),
        "DATA.TARGET_FPS", 4, "MODEL.NUM_CLASSES", 8, "RESNET.TRANS_FUNC", "basic_transform",
        "RESNET.WIDTH_PER_GROUP", 4, "PGT.ENABLE", True, "PGT.TRAIN_TOGETHER", True,
        "PGT.STEPS", 3, "PGT.STEP_LEN", [4], "DATA.NUM_FRAMES", 10,
        "BN.NORM_TYPE", "frozen_batchnorm", "TRAIN.BATCH_SIZE", 2, "TEST.ENABLE", False, "DATA_LOADER.NUM_WORKERS", 0,
        "SOLVER.BASE_LR", 0.005, "SOLVER.MAX_EPOCH", 5, "TRAIN.EVAL_PERIOD", 5, "TRAIN.CHECKPOINT_PERIOD", 5,
    ]  # fmt: skip
    return lambda *more: load_config(None, [*settings, *more])


@pytest.fixture
def cut_off_at(monkeypatch):
    """`cut_off_at(cfg, number)`: train, with a SIGTERM in batch `number`, and see the run stop."""

    def cut(cfg, number):
        original, calls = ProgressiveTask.train_step, []

        def train_step(self, *args):
            calls.append(0)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(ProgressiveTask, "train_step", train_step)
            with pytest.raises(TrainingInterrupted):
                train(cfg)

    return cut


@pytest.fixture
def last_state():
    """`last_state(cfg)`: the newest checkpoint of a run."""
    return lambda cfg: load_checkpoint(find_checkpoints(cfg.OUTPUT_DIR)[-1].path)
