"""Program: train, predict and export on a GPU that is not there, and tell what would happen on it.

`python fake_gpu.py DEVICE.so < CASES.json`, for cases {name: [WORK, [KEY, VALUE, ...]]}, prints the result of a work of
`WORKS` for each case, as JSON. Tensors are PyTorch's fake ones, on the device of `device.cpp`: no number is computed,
and reading one gives True, or 1. A kernel that gets tensors of two devices, or dtypes that it cannot mix, fails.
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
from torch import Tensor, nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from slowfast.apps.export.export import example_inputs, trace  # noqa: E402
from slowfast.config import load_config  # noqa: E402
from slowfast.datasets.loading.unreadable import UnreadableFiles  # noqa: E402
from slowfast.engine.ema import build_average  # noqa: E402
from slowfast.engine.hooks import Hook, Recorder, build_hooks  # noqa: E402
from slowfast.engine.loop import train_epoch  # noqa: E402
from slowfast.engine.model_setup import ModelSetup, setup_model  # noqa: E402
from slowfast.engine.optim import build_optimizer  # noqa: E402
from slowfast.engine.optim_step import autocast, autocast_dtype, build_optim_step  # noqa: E402
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
        layouts: layouts of what convolutions read.
        reordered: shape and line of each copy of features from one layout into the other, in forward passes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on = False
        self.waits: list[str] = []
        self.dtypes: dict[str, set[str]] = defaultdict(set)
        self.layouts: set[str] = set()
        self.reordered: list[str] = []

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
            self._note_layouts(name, args, result)
        return result

    def seen(self) -> dict:
        """Return all that was recorded, as JSON can hold it."""
        return {
            "waits": self.waits,
            "dtypes": {name: sorted(found) for name, found in self.dtypes.items() if found},
            "layouts": sorted(self.layouts),
            "reordered": self.reordered,
        }

    def _note_layouts(self, name: str, args, result) -> None:
        if name == "convolution":
            self.layouts |= {_layout(args[0])} - {""}
        elif name == "clone":
            before, after = _layout(args[0]), _layout(result)
            # Clips come from the loader in its own layout; single frames and pooled features are small.
            large = args[0].shape[1:2] != (3,) and min(args[0].shape[2:4], default=1) > 1
            if large and before and after and before != after and (line := _line()):
                self.reordered.append(f"{tuple(result.shape)} at {line}")

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


def _layout(x: Tensor) -> str:
    """Return the layout of the images or clips x; "" for neither, or for a shape that both fit."""
    if x.dim() not in (4, 5):
        return ""
    formats = {"contiguous": torch.contiguous_format}
    formats["channels_last"] = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    fitting = [name for name, memory_format in formats.items() if x.is_contiguous(memory_format=memory_format)]
    return fitting[0] if len(fitting) == 1 else ""


def _line() -> str:
    """Return the innermost line of this project on the stack; "" in a backward pass, which has its own threads."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(OWN)]
    own = [frame for frame in frames if frame.filename != __file__]
    if not own:
        return ""
    last = own[-1]
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


def _move(model: nn.Module, *args: torch.device | torch.dtype) -> nn.Module:
    """Put fake tensors of a device or dtype in place of a model's own, which `Module.to` cannot do."""
    device, dtype, *_ = torch._C._nn._parse_to(*args)
    moved = {}
    for module in model.modules():
        for tensors, wrap in ((module._parameters, nn.Parameter), (module._buffers, lambda buffer, _: buffer)):
            for name, tensor in tensors.items():
                if tensor is not None:
                    own = {"dtype": dtype if tensor.is_floating_point() else None, "device": device}
                    new = torch.empty_strided(
                        tensor.shape,
                        tensor.stride(),
                        dtype=own["dtype"] or tensor.dtype,
                        device=device or tensor.device,
                    )
                    tensors[name] = moved.setdefault(id(tensor), wrap(new, tensor.requires_grad))
    return model


def train_an_epoch(settings: list) -> dict:
    """Run the training loop over two batches."""
    cfg, watch = load_config(None, [*settings, "LOG_PERIOD", 100, "SOLVER.MAX_EPOCH", 10]), _new_watch()
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
    return watch.seen()


def train_and_predict(settings: list) -> dict:
    """Train on one batch, and predict another with a model that is set up for inference."""
    cfg, seen = load_config(None, settings), {}
    for training in (True, False):
        model, watch = build_model(cfg), _new_watch()
        with MODE, watch:
            model = setup_model(model, GPU, ModelSetup.from_config(cfg), training).train(training)
            task, batch = build_task(cfg), random_batch(cfg).to(GPU)
            optim_step = build_optim_step(cfg, model, build_optimizer(model, cfg))
            watch.on = True
            if training:
                result = task.train_step(model, batch, optim_step)["loss"]
            else:
                with torch.no_grad(), autocast(GPU, autocast_dtype(cfg)):
                    result = task.predict(model, batch).scores
        seen["training" if training else "prediction"] = {**watch.seen(), "device": str(result.device)}
    return seen


def export(settings: list) -> dict:
    """Trace the graphs of an exported model, with model and clips on the GPU; return the devices of each graph."""
    cfg = load_config(None, settings)
    model, clips = build_model(cfg).eval(), example_inputs(cfg, 2)
    with MODE, torch.no_grad():
        model = setup_model(model, GPU, ModelSetup(), training=False).requires_grad_(False)
        graphs = build_task(cfg).export_graphs(model, [torch.empty(clip.shape, device=GPU) for clip in clips])
        programs = {graph.name: trace(model, graph, any_batch=False)[0] for graph in graphs}
    values = {name: [node.meta.get("val") for node in program.graph.nodes] for name, program in programs.items()}
    return {
        name: sorted({str(leaf.device) for leaf in tree_leaves(found) if isinstance(leaf, Tensor)})
        for name, found in values.items()
    }


WORKS = {"epoch": train_an_epoch, "train and predict": train_and_predict, "export": export}


def _new_watch() -> Watch:
    watch = Watch()
    _Event.recorded, _Event.watch = [], watch
    return watch


def main() -> None:
    """Run the cases."""
    torch.set_num_threads(1)
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda *_: True
    torch.cuda.Event = _Event
    nn.Module.to = _move
    FakeTensorMode.__deepcopy__ = lambda self, memo: self  # tensors that are copied stay of one mode
    cases = json.load(sys.stdin)
    print(json.dumps({name: WORKS[work]([*settings, "NUM_GPUS", 0]) for name, (work, settings) in cases.items()}))


if __name__ == "__main__":
    main()
