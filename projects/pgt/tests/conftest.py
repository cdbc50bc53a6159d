"""Small progressive models, and the settings around them."""

import os
import signal

import pytest
import torch

import slowfast
from pgt import StepPlan
from pgt.task import ProgressiveTask
from slowfast.apps.synthetic.sweep import SweepSpec, make_sweep
from slowfast.config import load_config
from slowfast.engine.optim_step import build_optim_step
from slowfast.engine.task import build_task
from slowfast.engine.train import train
from slowfast.models import build_model
from slowfast.runtime.signals import TrainingInterrupted

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
X3D = [
    "MODEL.MODEL_NAME", "X3D", "MODEL.ARCH", "x3d", "RESNET.TRANS_FUNC", "x3d_transform", "X3D.DEPTH_FACTOR", 0.4,
    "X3D.DIM_C5", 32,
]  # fmt: skip
MVIT = [
    "MODEL.MODEL_NAME", "MViT", "MODEL.ARCH", "mvit",
    "MVIT.EMBED_DIM", 16, "MVIT.DEPTH", 2, "MVIT.NUM_HEADS", 1, "MVIT.PATCH_PADDING", [1, 3, 3],
    "MVIT.DIM_MUL", [[1, 2.0]], "MVIT.HEAD_MUL", [[1, 2.0]], "MVIT.POOL_Q_STRIDE", [[0, 1, 1, 1], [1, 1, 2, 2]],
    "MVIT.POOL_KV_STRIDE_ADAPTIVE", [1, 4, 4], "MVIT.POOL_KVQ_KERNEL", [3, 3, 3], "MVIT.DROPPATH_RATE", 0.0,
]  # fmt: skip
MVIT_V2 = [
    *MVIT, "MVIT.USE_ABS_POS", False, "MVIT.REL_POS_SPATIAL", True, "MVIT.REL_POS_TEMPORAL", True,
    "MVIT.RESIDUAL_POOLING", True, "MVIT.DIM_MUL_IN_ATT", True, "PGT.OVERLAP", [2], "DATA.NUM_FRAMES", 20,
]  # fmt: skip
TIMESFORMER = [
    "MODEL.MODEL_NAME", "TimeSformer", "MODEL.ARCH", "timesformer", "TIMESFORMER.EMBED_DIM", 16,
    "TIMESFORMER.DEPTH", 2, "TIMESFORMER.NUM_HEADS", 2, "TIMESFORMER.PATCH_SIZE", 8, "TIMESFORMER.DROPPATH_RATE", 0.0,
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
    "slow_gate": ["PGT.CACHE", "gate"],
    "slow_slots": ["PGT.CACHE", "slots", "PGT.OVERLAP", [2], "DATA.NUM_FRAMES", 20, "PGT.CACHE_MOMENTUM", 0.25],
    "c2d": ["MODEL.ARCH", "c2d_nopool"],
    "no_head": ["PGT.HEAD", False],
    "x3d": X3D,
    "x3d_max": [*X3D, "PGT.CACHE", "max", "PGT.CACHE_MOMENTUM", 0.25, "MODEL.FINAL_POOL", ["avg", "max"]],
    "regnet": ["MODEL.MODEL_NAME", "RegNet", "MODEL.ARCH", "r3d"],
    "slowfast": SLOWFAST,
    "slowfast_fusion": [
        *SLOWFAST, "PGT.FUSION_MEMORY", True, "SLOWFAST.FUSION_KERNEL_SZ", 7, "PGT.CACHE_MOMENTUM", 0.25,
    ],
    "slowfast_nonlocal": [
        *SLOWFAST, "NONLOCAL.PROGRESS", True, "NONLOCAL.LOCATION", [[[], []], [[1], [0]], [[0], [1]], [[], []]],
    ],
    # Overlaps that do not fit ALPHA, as in the published settings of Charades: 10 slow frames and 44 fast ones.
    "slowfast_surplus": [
        *SLOWFAST, "PGT.OVERLAP", [1, 2], "DATA.NUM_FRAMES", 44, "PGT.PG_EVAL", True,
        "PGT.CACHE", "max", "PGT.CACHE_MOMENTUM", 0.25, "MODEL.FINAL_POOL", ["avg", "max"],
        "SLOWFAST.FUSION_KERNEL_SZ", 7,
    ],
    "slowfast_even_max": [*SLOWFAST, "PGT.SLOW_SAMPLING", "even", "PGT.CACHE", "max"],
    "mvit": MVIT_V2,
    "mvit_mean": [
        *MVIT, "MVIT.CLS_EMBED_ON", False, "MVIT.SEP_POS_EMBED", True, "MVIT.MODE", "max",
        "MVIT.POOL_Q_STRIDE", [[1, 2, 2, 2]], "PGT.CACHE", "avg", "PGT.CACHE_MOMENTUM", 0.25, "PGT.ATTENTION_MEMORY", 2,
    ],
    "mvit_reversible": [
        *MVIT, "MVIT.REV.ENABLE", True, "MVIT.REV.BUFFER_LAYERS", [1], "MVIT.DEPTH", 4, "MVIT.CLS_EMBED_ON", False,
        "MVIT.POOL_Q_STRIDE", [[1, 1, 2, 2]], "PGT.CACHE", "max", "PGT.CACHE_MOMENTUM", 0.25,
    ],
    "timesformer": TIMESFORMER,
}  # fmt: skip


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
    """`random_clip(cfg, batch=2, seed=0)`: draw inputs (B, 3, T, 32, 32) of each pathway."""

    def draw(cfg, batch=2, seed=0, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)
        clip = torch.randn(batch, 3, cfg.DATA.NUM_FRAMES, 32, 32, generator=generator, dtype=dtype)
        slow = list(cfg.SLOWFAST.SLOW_INDICES)
        return [clip[:, :, slow], clip] if slow else [clip]

    return draw


@pytest.fixture(scope="session")
def run_steps():
    """`run_steps(model, steps, memory=None, boxes=None) -> (scores, memory)`: chain steps through their memory.

    boxes: those of all steps, or a list with those of each. Scores are stacked, except of such a list.
    """

    def chain(model, steps, memory=None, boxes=None):
        scores, of_each = [], isinstance(boxes, list)
        for step, rows in zip(steps, boxes if of_each else [boxes] * len(steps), strict=True):
            y, memory = model(step, memory, rows)
            scores.append(y)
        return scores if of_each else torch.stack(scores), memory

    return chain


@pytest.fixture(scope="session")
def run_with_gradients():
    """`run_with_gradients(model, steps)`: scores and memory of every step, then the gradients of all scores, if any."""

    def chain(model, steps):
        memory, total, outputs = None, 0.0, []
        for step in steps:
            scores, memory = model(step, memory)
            outputs += [scores.detach(), *(frames.detach() for frames in memory.values())]
            total = total + scores.square().sum()
        gradients = torch.autograd.grad(total, list(model.parameters())) if total.requires_grad else []
        return [*outputs, *gradients]

    return chain


@pytest.fixture(params=VARIANTS)
def variant(request):
    """Every kind of model and memory in turn."""
    return request.param


@pytest.fixture
def built(variant, progressive_cfg, parity):
    """Config, model in eval mode with the weights of the parity tests, and plan of steps of a variant."""
    cfg = progressive_cfg(variant)
    return cfg, parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg)


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


@pytest.fixture(scope="session")
def train_once():
    """`train_once(cfg, model, batch, lr=0.05)`: train on a batch, with plain SGD, as the config's task does."""

    def train_step(cfg, model, batch, lr=0.05):
        optim_step = build_optim_step(cfg, model, torch.optim.SGD(model.parameters(), lr=lr))
        return build_task(cfg).train_step(model, batch, optim_step)

    return train_step


@pytest.fixture(scope="module")
def predictor():
    """Return the shipped PGT model, ready to be called."""
    return slowfast.load("zoo://sweep_pgt_36x1", device="cpu")


@pytest.fixture(scope="module")
def clip_predictor():
    """Return the shipped clip model, ready to be called."""
    return slowfast.load("zoo://sweep_slow_8x1", device="cpu")
