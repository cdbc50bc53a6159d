"""Program: train on a GPU that is not there, and tell where the host would wait for it.

`python fake_gpu.py DEVICE.so < CASES.json`, for cases {name: [KEY, VALUE, ...]}, prints the waits of a training epoch
of two batches and the dtypes of its kernels' results, as JSON. Tensors are PyTorch's fake ones, on the device of
`device.cpp`: no number is computed, and reading one gives True, or 1.
"""

from __future__ import annotations

import ctypes
import json
import sys
import traceback
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

ctypes.CDLL(sys.argv[1])  # before PyTorch looks for devices

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from slowfast.config import load_config  # noqa: E402
from slowfast.datasets.loading.unreadable import UnreadableFiles  # noqa: E402
from slowfast.engine.ema import build_average  # noqa: E402
from slowfast.engine.hooks import Hook, Recorder, build_hooks  # noqa: E402
from slowfast.engine.loop import train_epoch  # noqa: E402
from slowfast.engine.model_setup import ModelSetup, setup_model  # noqa: E402
from slowfast.engine.optim import build_optimizer  # noqa: E402
from slowfast.engine.optim_step import build_optim_step  # noqa: E402
from slowfast.engine.state import TrainState  # noqa: E402
from slowfast.engine.task import build_task  # noqa: E402
from slowfast.engine.trial import random_batch  # noqa: E402
from slowfast.models import build_model  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
# Of this project; an environment in its folder is not.
OWN = tuple(str(ROOT / name) for name in ("slowfast", "projects", "tests"))
GPU = torch.device("cuda", 0)
MODE = FakeTensorMode()
_BATCHES = 2
_WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "bincount"}
# In place, and without an implementation for fake tensors.
_IN_PLACE = ("_fused_", "_amp_")


class Watch(TorchDispatchMode):
    """Record of the kernels that run on the GPU, and of where the host waits for it.

    Attributes:
        on: False while nothing is recorded.
        waits: operator and line of each wait.
        dtypes: kernel -> dtypes of its results.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on = False
        self.waits: list[str] = []
        self.dtypes: dict[str, set[str]] = defaultdict(set)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_gpu = any(tensor.device == GPU for tensor in tensors)
        waits = on_gpu and name in _WAITING or self._copies(name, args, kwargs) or self._indexes(name, args)
        if self.on and waits:
            self.waits.append(f"{name} at {_line()}")
        if name == "_local_scalar_dense":
            return True if args[0].dtype is torch.bool else 1
        if name.startswith(_IN_PLACE):
            return None
        result = func(*args, **kwargs)
        if self.on and on_gpu:
            made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
            self.dtypes[name] |= {str(tensor.dtype).removeprefix("torch.") for tensor in made}
        return result

    @staticmethod
    def _copies(name: str, args, kwargs) -> bool:
        """Return True for a copy between host and GPU that blocks the host."""
        if name == "_to_copy":
            target, blocks = kwargs.get("device") or args[0].device, not kwargs.get("non_blocking")
            return blocks and torch.device(target).type != args[0].device.type
        if name == "copy_":
            blocks = not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
            return blocks and args[0].device.type != args[1].device.type
        return False

    @staticmethod
    def _indexes(name: str, args) -> bool:
        """Return True for indices that are a mask, or on the host."""
        if name not in ("index", "index_put", "index_put_", "_index_put_impl_") or args[0].device != GPU:
            return False
        indices = [index for index in args[1] if index is not None]
        return any(index.dtype in (torch.bool, torch.uint8) or index.device != GPU for index in indices)


def _line() -> str:
    """Return the innermost line of this project on the stack."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(OWN)]
    own = [frame for frame in frames if frame.filename != __file__]
    last = (own or frames)[-1]
    return f"{Path(last.filename).relative_to(ROOT)}:{last.lineno}: {last.line}"


class _Event:
    """Event of a stream. Waiting for the last one recorded is waiting for all work."""

    recorded: list[_Event] = []
    watch: Watch | None = None

    def record(self) -> None:
        self.recorded.append(self)

    def synchronize(self) -> None:
        if self.watch.on and self is self.recorded[-1]:
            self.watch.waits.append(f"synchronize at {_line()}")


class _Recording(Hook):
    """Record from before the first batch until after the last."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def before_epoch(self, state: TrainState) -> None:
        self.watch.on = True

    def after_step(self, state: TrainState, batch, result) -> None:
        self.watch.on = state.iteration < _BATCHES


class _Batches(list):
    """Loader of ready batches."""

    batch_sampler = SimpleNamespace(set_epoch=lambda epoch, start: None)
    dataset = SimpleNamespace(unreadable=UnreadableFiles(1, 1.0))


def _move(model: nn.Module, device: torch.device) -> nn.Module:
    """Put fake tensors on the GPU in place of a model's own, which `Module.to` cannot do."""
    moved = {}
    for module in model.modules():
        for tensors, wrap in ((module._parameters, nn.Parameter), (module._buffers, lambda buffer, _: buffer)):
            for name, tensor in tensors.items():
                if tensor is not None:
                    new = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
                    tensors[name] = moved.setdefault(id(tensor), wrap(new, tensor.requires_grad))
    return model


def observe(settings: list) -> dict:
    """Train an epoch with these settings."""
    cfg, watch = load_config(None, [*settings, "NUM_GPUS", 0, "LOG_PERIOD", 100, "SOLVER.MAX_EPOCH", 10]), Watch()
    _Event.recorded, _Event.watch = [], watch
    model = build_model(cfg)  # drawing initial weights reads tensors
    with MODE, watch:
        model = setup_model(model, GPU, ModelSetup.from_config(cfg))
        optimizer = build_optimizer(model, cfg)
        ema = build_average(cfg, model, optimizer)
        batches = _Batches(random_batch(cfg) for _ in range(_BATCHES))
        for batch in batches if cfg.MIXUP.ENABLE else ():
            batch.labels = torch.randint(cfg.MODEL.NUM_CLASSES, batch.video.shape)  # mixing makes the soft ones
        optim_step = build_optim_step(cfg, model, optimizer)
        state = TrainState(cfg, model, optimizer, optim_step, build_task(cfg), batches, GPU, ema=ema)
        hooks = build_hooks(state, Recorder(cfg))
        train_epoch(state, [*hooks, _Recording(watch)], lambda: False)
    return {"waits": watch.waits, "dtypes": {name: sorted(found) for name, found in watch.dtypes.items() if found}}


def main() -> None:
    """Observe the cases."""
    torch.set_num_threads(1)
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda *_: True
    torch.cuda.Event = _Event
    nn.Module.to = _move
    FakeTensorMode.__deepcopy__ = lambda self, memo: self  # tensors that are copied stay of one mode
    cases = json.load(sys.stdin)
    print(json.dumps({name: observe(settings) for name, settings in cases.items()}))


if __name__ == "__main__":
    main()
