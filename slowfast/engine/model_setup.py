"""The one place where a built model is moved, changed for training and wrapped, in one order.

Batch norms folded into the convolutions before them, for models that only predict.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from slowfast.engine.optim_step import autocast_dtype
from slowfast.layers.activation_checkpoint import recompute
from slowfast.layers.conv import Conv3d, set_planar
from slowfast.layers.norm import BatchNorm, FrozenBatchNorm3d, SubBatchNorm3d, freeze_bn_stats, trainable_batchnorms
from slowfast.runtime.distributed import get_world_size, reduce_mean
from slowfast.utils.errors import first_line, nearest_keys

# Copying buffers between forwards would break a backward through several of them. PyTorch has renamed the option.
_OPTIONS = inspect.signature(DistributedDataParallel).parameters
_BUFFER_OPTION = "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers"
# Graphs by shape of clip, by with and without memory, by training and evaluation; over PyTorch's limit of 8 everything
# would quietly run uncompiled.
_MOST_GRAPHS = 64

_DAMAGED_CACHE = (
    "A job that was killed while it compiled may have left a damaged file in PyTorch's cache of compiled code: remove "
    "the folder that TORCHINDUCTOR_CACHE_DIR names, by default torchinductor_USER in the system's temporary folder"
)


@dataclasses.dataclass(frozen=True)
class ModelSetup:
    """What becomes of a built model before it is used; only folding changes the names in its state dict.

    Attributes:
        memory_format: "auto", "contiguous" or "channels_last", see `place_model` (`MODEL.MEMORY_FORMAT`).
        freeze: names of modules that are not trained, see `freeze_stages` (`MODEL.FREEZE_STAGES`).
        recompute: compute the activations of residual blocks again in the backward pass (`MODEL.ACT_CHECKPOINT`).
        compile_mode: mode of torch.compile, "" to run uncompiled (`MODEL.COMPILE`, `MODEL.COMPILE_MODE`).
        half_gradients: send gradients between processes as float16 (`MODEL.FP16_ALLREDUCE`).
        fold_norms: fold batch norms into convolutions where the model only predicts (`TEST.FOLD_NORMS`).
        dtype: of autocast around the model's calls (`TRAIN.MIXED_PRECISION`), None for none. Where the model only
            predicts its convolutions hold their weights in it, so that these are not cast at every call.
    """

    memory_format: str = "auto"
    freeze: tuple[str, ...] = ()
    recompute: bool = False
    compile_mode: str = ""
    half_gradients: bool = False
    fold_norms: bool = False
    dtype: torch.dtype | None = None

    @classmethod
    def from_config(cls, cfg: Any) -> ModelSetup:
        """What the section MODEL asks for."""
        model = cfg.MODEL
        return cls(
            model.MEMORY_FORMAT,
            tuple(model.FREEZE_STAGES),
            model.ACT_CHECKPOINT,
            model.COMPILE_MODE if model.COMPILE else "",
            model.FP16_ALLREDUCE,
            cfg.TEST.FOLD_NORMS,
            autocast_dtype(cfg),
        )


def setup_model(
    model: nn.Module, device: torch.device, how: ModelSetup | None = None, training: bool = True
) -> nn.Module:
    """Place, freeze, set up recomputation, compile and, where several processes train together, wrap `model`.

    The order matters: gradients are exchanged of what is not frozen, and the compiler sees what is recomputed. The
    statistics of norm layers stay each process's own until `average_norm_buffers`.

    Args:
        how: None for placing and wrapping alone.
        training: False for a model that only predicts, which is placed, folded and compiled.

    Raises:
        ValueError: what `check_norms`, `freeze_stages`, `recompute_blocks` and `compile_model` raise.
    """
    how = how or ModelSetup()
    model = place_model(model, device, how.memory_format)
    if not training:
        prepare_prediction(model, how)
    else:
        check_norms(model, device)
        freeze_stages(model, how.freeze)
        if how.recompute:
            recompute_blocks(model)
    if how.compile_mode:
        compile_model(model, how.compile_mode, device)
    if not training or get_world_size() == 1:
        return model
    ids = [device] if device.index is not None else None
    model = DistributedDataParallel(model, device_ids=ids, **{_BUFFER_OPTION: False})
    if how.half_gradients:
        model.register_comm_hook(None, fp16_compress_hook)
    return model


def prepare_prediction(model: nn.Module, how: ModelSetup) -> None:
    """Fold norms into convolutions and cast these, in place, as `how` says."""
    if how.fold_norms:
        fold_norms(model)
    if how.dtype is not None:
        for module in model.modules():
            if isinstance(module, Conv3d):
                module.to(how.dtype)


def place_model(model: nn.Module, device: torch.device, memory_format: str = "auto") -> nn.Module:
    """Move `model` to `device` and lay out its convolutions' weights, which the features of clips follow.

    Args:
        memory_format: "contiguous", with plain 3-D convolutions; "channels_last", with convolutions computed in two
            dimensions where their kernels allow; "auto": the second on the CPU, where it is measured to be the faster
            (docs/performance.md), the first elsewhere.
    """
    if memory_format == "auto":
        memory_format = "channels_last" if device.type == "cpu" else "contiguous"
    in_last = memory_format == "channels_last"
    set_planar(model, in_last)
    return model.to(device, memory_format=torch.channels_last_3d if in_last else torch.preserve_format)


def check_norms(model: nn.Module, device: torch.device) -> None:
    """Refuse norms that cannot be trained on `device`; for predicting they do.

    Raises:
        ValueError: synchronized norms on the CPU.
    """
    if device.type == "cpu" and any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        raise ValueError(
            "BN.NORM_TYPE sync_batchnorm is PyTorch's SyncBatchNorm, which trains on GPUs only, and NUM_GPUS is 0; set "
            "BN.NORM_TYPE batchnorm, which has the same weights"
        )


def freeze_stages(model: nn.Module, names: Sequence[str]) -> None:
    """Stop the training of some modules, in place: their parameters are fixed, and their norms stay in eval mode.

    Args:
        names: of modules as in the state dict, such as s1, s1_fuse or s4.pathway0_res2; * stands for anything
            (`*pathway0*`).

    Raises:
        ValueError: no module has such a name, or nothing would be left to train.
    """
    modules = dict(model.named_modules())
    for name in names:
        matched = [module for key, module in modules.items() if key and fnmatchcase(key, name)]
        if not matched:
            raise ValueError(
                f"MODEL.FREEZE_STAGES has {name!r}, which is no module of {type(model).__name__}; the nearest is "
                f"{nearest_keys(name, [key for key in modules if key])[0]}. Its stages are "
                f"{', '.join(key for key, _ in model.named_children())}"
            )
        for module in matched:
            module.requires_grad_(False)
            freeze_bn_stats(module)
    if names and not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"MODEL.FREEZE_STAGES {list(names)} leaves no parameter to train; leave some stage out")


def recompute_blocks(model: nn.Module) -> None:
    """Have every block, a module whose class says `recomputable = True`, compute its activations again in the backward
    pass, in place.

    Raises:
        ValueError: the model has no such block.
    """
    blocks = [module for module in model.modules() if getattr(module, "recomputable", False)]
    if not blocks:
        raise ValueError(
            f"MODEL.ACT_CHECKPOINT True recomputes blocks whose class says `recomputable = True`, and "
            f"{type(model).__name__} has none; set it False"
        )
    for block in blocks:
        recompute(block)


def compile_model(model: nn.Module, mode: str, device: torch.device) -> None:
    """Have calls of `model` compiled as a whole, in place; each shape of input takes a while at its first call.

    Raises:
        ValueError: nothing can be compiled on this machine.
    """
    try:
        torch.compile(torch.square, dynamic=False, mode=mode)(torch.zeros(2, device=device))
    except Exception as error:  # whatever is missing: each backend has errors of its own
        raise ValueError(
            "MODEL.COMPILE True: PyTorch can compile nothing on this machine. It takes a C++ compiler (g++), for GPUs "
            f"also Triton; install that, or set MODEL.COMPILE False. {_DAMAGED_CACHE}. Its words: {first_line(error)}"
        ) from error
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_GRAPHS)
    # What a recomputed block does besides computing, it does the second time as the first.
    torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True
    model.compile(dynamic=False, mode=mode)


class CompileError(RuntimeError):
    """PyTorch's compiler failed in the midst of a run."""


@contextlib.contextmanager
def compile_failures_explained(compiles: bool) -> Iterator[None]:
    """Around calls of a compiled model: turn the compiler's error, a hundred lines, into one that helps.

    Raises:
        CompileError: the compiler failed.
    """
    if not compiles:
        yield
        return
    from torch._dynamo.exc import BackendCompilerFailed  # late: it takes a second

    try:
        yield
    except BackendCompilerFailed as error:
        raise CompileError(
            f"MODEL.COMPILE True: PyTorch failed to compile ({first_line(error)}). {_DAMAGED_CACHE}. Or set "
            "MODEL.COMPILE False"
        ) from error


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a parallel wrapper."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def average_norm_buffers(model: nn.Module) -> None:
    """Give every process the mean of the processes' running statistics, before evaluating or saving."""
    if get_world_size() == 1:
        return
    norms = trainable_batchnorms(model)
    buffers = []
    for norm in norms:
        parts = isinstance(norm, SubBatchNorm3d)
        buffers += [norm.split_mean, norm.split_var] if parts else [norm.running_mean, norm.running_var]
    for buffer, mean in zip(buffers, reduce_mean(buffers), strict=True):
        buffer.copy_(mean)
    for norm in norms:
        if isinstance(norm, SubBatchNorm3d):
            norm.aggregate()


# Convolutions that a norm called "bn" follows, the last one first; another norm follows the convolution whose name it
# bears, as a_bn follows a.
_BEFORE_BN = ("conv", "conv_f2s", "conv_out")


@torch.no_grad()
def fold_norms(model: nn.Module) -> int:
    """Put every batch norm behind a convolution into the convolution's weights, in place; scores in eval mode stay.

    With y = scale * conv(x) + shift, scale becomes part of the weights and shift the bias. State-dict keys change, so a
    folded model is not saved, nor trained.

    Returns:
        How many norms were folded.
    """
    folded = 0
    for module in list(model.modules()):
        for name, norm in list(module.named_children()):
            conv = _convolution_before(module, name)
            if isinstance(norm, (BatchNorm, FrozenBatchNorm3d)) and conv is not None:
                _fold(conv, norm)
                setattr(module, name, nn.Identity())
                folded += 1
    return folded


def _convolution_before(module: nn.Module, norm_name: str) -> Conv3d | None:
    names = _BEFORE_BN if norm_name == "bn" else (norm_name.removesuffix("_bn"),)
    found = [child for child in (getattr(module, name, None) for name in names) if isinstance(child, Conv3d)]
    return found[0] if found else None


def _fold(conv: Conv3d, norm: nn.Module) -> None:
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.double()
    shift = (bias - norm.running_mean) * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    weight = conv.weight * scale.view(-1, 1, 1, 1, 1)
    conv.weight.copy_(weight.to(conv.weight.dtype))
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
