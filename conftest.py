"""Share published numbers and small configs between the tests of the core and of projects."""

import contextlib
import dataclasses
import functools
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent
# Processes that tests start would compile all modules anew, for half a second each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _load_module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Write names of files that are no text as escapes: pytest-xdist sends what tests print as UTF-8."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Fail a test that leaves a file in the current folder, which is where runs without an OUTPUT_DIR write."""
    folder = os.getcwd()
    before = set(os.listdir(folder))
    yield
    left = {name for name in os.listdir(folder) if not name.startswith((".hypothesis", ".pytest_cache", "__pycache__"))}
    assert left <= before


@pytest.fixture(autouse=True)
def no_log_of_another_test():
    """Remove the log destinations of runs in this process: later tests would print and write there too."""
    yield
    logs = sys.modules.get("slowfast.runtime.logging")
    if logs is not None:
        logs.close_logging()


@pytest.fixture
def hears_ctrl_c():
    """Have SIGINT heard here, and in the processes that the test starts.

    A shell starts jobs in the background with SIGINT ignored. Python leaves that alone, and children inherit it.
    """
    former = signal.getsignal(signal.SIGINT)
    if former is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.fixture
def odd_host(monkeypatch):
    """`with odd_host(*faults)`: have faults of a machine in this process; tests/faults/odd_host lists them."""

    @contextlib.contextmanager
    def faulty(*faults):
        known = _load_module(ROOT / "tests/faults/odd_host/sitecustomize.py").FAULTS
        with monkeypatch.context() as patch:
            for fault in faults:
                patch.setattr(*known[fault])
            yield

    return faulty


@pytest.fixture(scope="session")
def repo():
    """Return the repository's folder."""
    return ROOT


@pytest.fixture(scope="session")
def parity():
    """Return the functions of fill.py, and `load(folder, name) -> (meta, arrays)`, of the published models' numbers."""
    fill = _load_module(ROOT / "tests/fixtures/parity/fill.py")

    def load(folder, name):
        with np.load(folder / f"{name}.npz") as arrays:
            return json.loads((folder / f"{name}.json").read_text()), dict(arrays)

    return SimpleNamespace(
        fill_module=fill.fill_module, fill_tensor=fill.fill_tensor, make_clip=fill.make_clip, load=load
    )


def relative_error(actual, expected):
    """Largest difference over the largest expected number."""
    actual = actual.detach().numpy() if torch.is_tensor(actual) else np.asarray(actual)
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="session", name="relative_error")
def relative_error_fixture():
    """`relative_error(actual, expected)`: largest difference over the largest expected number."""
    return relative_error


@pytest.fixture(scope="session")
def tiny_model():
    """Overrides that make the smallest ResNet: 18 layers, width 8, 32 pixels, 5 classes."""
    return [
        "MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow", "MODEL.NUM_CLASSES", 5, "MODEL.DROPOUT_RATE", 0.0,
        "RESNET.DEPTH", 18, "RESNET.WIDTH_PER_GROUP", 8, "RESNET.NUM_BLOCK_TEMP_KERNEL", [[2], [2], [2], [2]],
        "DATA.NUM_FRAMES", 8, "DATA.SAMPLING_RATE", 1, "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32,
        "DATA.TRAIN_JITTER_SCALES", [32, 40], "DATA.INPUT_CHANNEL_NUM", [3], "NUM_GPUS", 0,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_models(tiny_model):
    """MODEL.MODEL_NAME -> overrides of a smallest model of the name: clips of 8 frames of 32 pixels, 5 classes."""
    two_pathways = [
        "MODEL.ARCH", "slowfast", "DATA.INPUT_CHANNEL_NUM", [3, 3], "SLOWFAST.ALPHA", 4, "SLOWFAST.BETA_INV", 4,
        "RESNET.NUM_BLOCK_TEMP_KERNEL", [[2, 2]] * 4, "RESNET.SPATIAL_STRIDES", [[1, 1], *[[2, 2]] * 3],
        "RESNET.SPATIAL_DILATIONS", [[1, 1]] * 4, "NONLOCAL.LOCATION", [[[], []]] * 4,
        "NONLOCAL.GROUP", [[1, 1]] * 4,
    ]  # fmt: skip
    families = {
        "ResNet": [],
        "SlowFast": two_pathways,
        "X3D": ["MODEL.ARCH", "x3d", "RESNET.TRANS_FUNC", "x3d_transform", "X3D.DEPTH_FACTOR", 0.4, "X3D.DIM_C5", 32],
        "RegNet": ["MODEL.ARCH", "r3d"],
        "MViT": [
            "MODEL.ARCH", "mvit", "MVIT.EMBED_DIM", 8, "MVIT.DEPTH", 3, "MVIT.PATCH_PADDING", [1, 3, 3],
            "MVIT.DROPPATH_RATE", 0.0, "MVIT.DIM_MUL", [[1, 2.0]], "MVIT.HEAD_MUL", [[1, 2.0]],
            "MVIT.POOL_Q_STRIDE", [[1, 1, 2, 2]], "MVIT.POOL_KV_STRIDE_ADAPTIVE", [1, 4, 4],
            "MVIT.POOL_KVQ_KERNEL", [3, 3, 3], "MVIT.REL_POS_SPATIAL", True, "MVIT.REL_POS_TEMPORAL", True,
        ],
        "TimeSformer": [
            "MODEL.ARCH", "timesformer", "TIMESFORMER.EMBED_DIM", 16, "TIMESFORMER.DEPTH", 2,
            "TIMESFORMER.NUM_HEADS", 2, "TIMESFORMER.DROPPATH_RATE", 0.0,
        ],
    }  # fmt: skip
    return {name: [*tiny_model, "MODEL.MODEL_NAME", name, *settings] for name, settings in families.items()}


@pytest.fixture(scope="session")
def exchange_counter():
    """Source of `count_exchanges(model)`, for scripts: a list that gets how many numbers each exchange of gradients has
    between the two processes of a wrapped model.
    """
    return """
import torch

def count_exchanges(model):
    exchanged = []
    def count(state, bucket):
        exchanged.append(sum(p.numel() for p in bucket.parameters()))
        future = torch.distributed.all_reduce(bucket.buffer().div_(2), async_op=True).get_future()
        return future.then(lambda f: f.value()[0])
    model.register_comm_hook(None, count)
    return exchanged
"""


@pytest.fixture(scope="session")
def one_block_model():
    """`one_block_model(dropout, norm)`: a ResNet of one residual block with a temporal kernel, any clip, 5 classes."""

    def build(dropout=0.0, norm=torch.nn.BatchNorm3d):
        from slowfast.layers.pool import SpaceTimePool
        from slowfast.models.blocks import BasicTransform, BranchOptions, ResStage, residual_pathway
        from slowfast.models.build import init_weights
        from slowfast.models.heads import ClassificationHead
        from slowfast.models.resnet import PathwayStems, ResNet, ResNetStem

        torch.manual_seed(0)
        blocks = residual_pathway(BasicTransform, 4, 8, 4, [3], 2, BranchOptions(norm))
        stages = [ResStage([blocks]), *(ResStage([{}]) for _ in range(3))]
        head = ClassificationHead([8], 5, [SpaceTimePool()], dropout)
        model = ResNet(PathwayStems([ResNetStem(3, 4, 1, norm)]), stages, head, [(1, 1, 1)])
        init_weights(model, fc_std=0.1)
        return model

    return build


@pytest.fixture(scope="session")
def tiny_mvit(tiny_model):
    """Overrides that make an MViT of 2 blocks, the second with half the side and twice the channels; 32 channels."""
    return [
        *tiny_model, "MODEL.MODEL_NAME", "MViT", "MODEL.ARCH", "mvit",
        "MVIT.EMBED_DIM", 32, "MVIT.DEPTH", 2, "MVIT.NUM_HEADS", 1, "MVIT.PATCH_PADDING", [1, 3, 3],
        "MVIT.DIM_MUL", [[1, 2.0]], "MVIT.HEAD_MUL", [[1, 2.0]], "MVIT.POOL_Q_STRIDE", [[1, 1, 2, 2]],
        "MVIT.POOL_KV_STRIDE_ADAPTIVE", [1, 4, 4], "MVIT.POOL_KVQ_KERNEL", [3, 3, 3], "MVIT.DROPPATH_RATE", 0.0,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_timesformer(tiny_model):
    """Overrides that make a TimeSformer of 2 blocks, 16 channels, patches of 8 pixels."""
    return [
        *tiny_model, "MODEL.MODEL_NAME", "TimeSformer", "MODEL.ARCH", "timesformer", "TIMESFORMER.EMBED_DIM", 16,
        "TIMESFORMER.DEPTH", 2, "TIMESFORMER.NUM_HEADS", 2, "TIMESFORMER.PATCH_SIZE", 8,
        "TIMESFORMER.DROPPATH_RATE", 0.0,
    ]  # fmt: skip


@pytest.fixture
def saved_weights(parity, tmp_path):
    """`saved_weights(load, *overrides) -> (cfg, model)`: fill a model, save it, and set it as the weights to test.

    `load(*overrides)` returns a config. The weights are far from those of a fresh model.
    """
    from slowfast.checkpoint.io import save_checkpoint
    from slowfast.models import build_model

    def save(load, *overrides):
        model = parity.fill_module(build_model(load(*overrides))).eval()
        path = str(tmp_path / "weights.pyth")
        save_checkpoint({"model_state": model.state_dict()}, path)
        return load(*overrides, "TEST.CHECKPOINT_FILE_PATH", path), model

    return save


@pytest.fixture
def shallow(monkeypatch):
    """Networks of one block a stage, where time counts more than depth (RESNET.DEPTH 18, REGNET.DEPTH 400M)."""
    from slowfast.config.resolve import STAGE_BLOCKS
    from slowfast.models.regnet import SIZES

    monkeypatch.setitem(STAGE_BLOCKS, 18, (1, 1, 1, 1))
    monkeypatch.setitem(SIZES, "400M", dataclasses.replace(SIZES["400M"], depths=(1, 1, 1, 1)))
    return ["RESNET.NUM_BLOCK_TEMP_KERNEL", [[1]] * 4]


@pytest.fixture
def fast_compiler(monkeypatch):
    """Have torch.compile trace and differentiate, but write no code, which would take minutes."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))


class Replays:
    """Backend of torch.compile that treats results as CUDA graphs do, without speed.

    The memory of all results is overwritten, here by NaN, at the next call that begins a new iteration: one for which
    no forward waits for its backward pass (torch/_inductor/cudagraph_trees.py).

    Attributes:
        modes: modes of the models that were compiled.
    """

    def __init__(self):
        self.modes, self._given, self._pending = set(), [], False

    def __call__(self, graph, inputs, mode=None):
        from torch._dynamo.backends.common import aot_autograd

        self.modes.add(mode)
        kinds = {"fw": (True, True), "bw": (False, False), "inference": (True, False)}
        compilers = {f"{kind}_compiler": functools.partial(self._wrap, *how) for kind, how in kinds.items()}
        return aot_autograd(**compilers)(graph, inputs)

    def _wrap(self, is_call, has_backward, graph, inputs):
        def run(args):
            if is_call and not self._pending:
                for memory in self._given:
                    memory.fill_(float("nan"))
                self._given = []
            results = graph(*args)
            self._pending = has_backward
            own = {x.untyped_storage().data_ptr() for x in args if torch.is_tensor(x)}
            made = [x for x in results if torch.is_tensor(x) and x.untyped_storage().data_ptr() not in own]
            self._given += [x.data for x in made if x.is_floating_point()]  # leaves autograd the only reference
            return results

        run._boxed_call = True  # it takes a list
        return run


@pytest.fixture
def replays(monkeypatch):
    """Have torch.compile compile for `Replays`, which is returned."""
    torch._dynamo.reset()
    backend = Replays()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    return backend


@pytest.fixture(scope="session")
def last_state():
    """`last_state(cfg)`: read the newest checkpoint of a run."""
    from slowfast.checkpoint.io import find_checkpoints, load_checkpoint

    return lambda cfg: load_checkpoint(find_checkpoints(cfg.OUTPUT_DIR)[-1].path)
