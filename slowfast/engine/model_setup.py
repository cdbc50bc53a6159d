"""Move a built model to a device, set it up for training or inference, and wrap it, in one order."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import weakref
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils import _pytree as pytree

from slowfast.engine.optim_step import autocast_dtype
from slowfast.layers.activation_checkpoint import CheckpointedBlock
from slowfast.layers.attention import pooling_attentions
from slowfast.layers.conv import Conv3d, depthwise_convolutions, pack_weights, set_planar
from slowfast.layers.norm import BatchNorm, FrozenBatchNorm3d, SubBatchNorm3d, freeze_bn_stats, trainable_batchnorms
from slowfast.models.heads import Classifier
from slowfast.runtime.distributed import get_world_size, reduce_mean
from slowfast.utils.errors import first_line, nearest_keys

# Broadcasting buffers between forwards breaks a backward through several of them. PyTorch has renamed the option.
_OPTIONS = inspect.signature(DistributedDataParallel).parameters
_BUFFER_OPTION = "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers"
# Modes of torch.compile with CUDA graphs.
_GRAPH_MODES = ("reduce-overhead", "max-autotune")
# One graph for each input shape, with and without memory, in training and in evaluation. Beyond PyTorch's limit of 8
# a model would silently run uncompiled.
_MAX_GRAPHS = 64

_DAMAGED_CACHE = (
    "A job killed while compiling may have damaged PyTorch's cache of compiled code: remove the folder of "
    "TORCHINDUCTOR_CACHE_DIR, by default torchinductor_USER in the system's temporary folder"
)


@dataclasses.dataclass(frozen=True)
class ModelSetup:
    """Steps between building a model and using it. Only folding changes state-dict keys.

    Attributes:
        memory_format: "auto", "contiguous" or "channels_last", see `move_model` (`MODEL.MEMORY_FORMAT`).
        freeze: names of modules that are not trained, see `freeze_stages` (`MODEL.FREEZE_STAGES`).
        linear_probe: train the classifier alone, see `freeze_features` (`MODEL.DETACH_FINAL_FC`).
        checkpoint_activations: recompute activations of blocks in the backward pass (`MODEL.ACT_CHECKPOINT`).
        compile_mode: mode of torch.compile, "" to run uncompiled (`MODEL.COMPILE`, `MODEL.COMPILE_MODE`).
        fp16_allreduce: compress gradients to float16 for the all-reduce (`MODEL.FP16_ALLREDUCE`).
        fold_norms: fold batch norms into convolutions, for inference only (`TEST.FOLD_NORMS`).
        dtype: of autocast around the model's calls (`TRAIN.MIXED_PRECISION`), None for no autocast. For inference,
            convolutions are cast to it once rather than at every call.
        depthwise_fp32: leave depthwise convolutions out of autocast (`TRAIN.DEPTHWISE_FP32`).
        rel_pos_bias: "auto", "mask" or "channels", see `scaled_dot_product` (`MVIT.REL_POS_BIAS`).
    """

    memory_format: str = "auto"
    freeze: tuple[str, ...] = ()
    linear_probe: bool = False
    checkpoint_activations: bool = False
    compile_mode: str = ""
    fp16_allreduce: bool = False
    fold_norms: bool = False
    dtype: torch.dtype | None = None
    depthwise_fp32: bool = False
    rel_pos_bias: str = "auto"

    @classmethod
    def from_config(cls, cfg: Any) -> ModelSetup:
        """Read the sections MODEL, TEST and TRAIN."""
        model = cfg.MODEL
        return cls(
            model.MEMORY_FORMAT,
            tuple(model.FREEZE_STAGES),
            model.DETACH_FINAL_FC,
            model.ACT_CHECKPOINT,
            model.COMPILE_MODE if model.COMPILE is True else "",
            model.FP16_ALLREDUCE,
            cfg.TEST.FOLD_NORMS,
            autocast_dtype(cfg),
            cfg.TRAIN.DEPTHWISE_FP32 is True,
            cfg.MVIT.REL_POS_BIAS,
        )


def setup_model(
    model: nn.Module, device: torch.device, setup: ModelSetup | None = None, training: bool = True
) -> nn.Module:
    """Move, freeze, checkpoint, compile and wrap `model`, in this order.

    DDP must see which parameters are frozen, and the compiler which blocks are checkpointed. Running statistics of
    batch norms stay local to a process until `average_bn_stats`.

    Args:
        setup: None to move and wrap only.
        training: False for inference: the model is moved, optimized for inference and compiled.

    Raises:
        ValueError: synchronized batch norms on the CPU; see also `freeze_stages`, `freeze_features`,
            `checkpoint_blocks`, `compile_model`.
    """
    setup = setup or ModelSetup()
    model = move_model(model, device, setup.memory_format)
    for convolution in depthwise_convolutions(model):
        convolution.full_precision = setup.depthwise_fp32
    for attention in pooling_attentions(model):
        attention.bias_as = setup.rel_pos_bias
    if not training:
        _optimize_for_inference(model, setup)
        pack_weights(model)
    else:
        _check_batchnorms(model, device)
        freeze_stages(model, setup.freeze)
        if setup.linear_probe:
            freeze_features(model)
        if setup.checkpoint_activations:
            checkpoint_blocks(model)
    if setup.compile_mode:
        compile_model(model, setup.compile_mode, device)
    if not training or get_world_size() == 1:
        return model
    # Without device_ids, which would move the boxes of a batch from the CPU to the GPU.
    model = DistributedDataParallel(model, **{_BUFFER_OPTION: False})
    if setup.fp16_allreduce:
        model.register_comm_hook(None, fp16_compress_hook)
    return model


def _optimize_for_inference(model: nn.Module, setup: ModelSetup) -> None:
    """Fold batch norms into convolutions and cast convolutions, in place, where `setup` asks for it."""
    if setup.fold_norms:
        fold_norms(model)
    if setup.dtype is not None:
        for module in model.modules():
            if isinstance(module, Conv3d) and not module.full_precision:
                module.to(setup.dtype)


def move_model(model: nn.Module, device: torch.device, memory_format: str = "auto") -> nn.Module:
    """Move `model` to `device` and set the memory format of its weights, which activations follow.

    Args:
        memory_format: "contiguous": plain 3-D convolutions. "channels_last": planar convolutions where kernels allow.
            "auto": `default_memory_format`.
    """
    if memory_format == "auto":
        memory_format = default_memory_format(device)
    in_last = memory_format == "channels_last"
    set_planar(model, in_last)
    model = model.to(device)
    if in_last:
        # Module.to(memory_format=...) would refuse the 2-D convolution of a model of images.
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dim() == 5:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last_3d)
    return model


def default_memory_format(device: torch.device) -> str:
    """Return the format that is mostly the faster one: channels_last on the CPU (docs/performance.md)."""
    return "channels_last" if device.type == "cpu" else "contiguous"


def _check_batchnorms(model: nn.Module, device: torch.device) -> None:
    """Check that the batch norms can be trained on `device`.

    Raises:
        ValueError: synchronized batch norms on the CPU.
    """
    if device.type == "cpu" and any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        raise ValueError(
            "BN.NORM_TYPE sync_batchnorm, as CONTRASTIVE.BN_SYNC_MLP, trains on GPUs only, and NUM_GPUS is 0; set "
            "BN.NORM_TYPE batchnorm and BN_SYNC_MLP False, which have the same weights"
        )


def freeze_stages(model: nn.Module, names: Sequence[str]) -> None:
    """Freeze modules in place: parameters are not trained, and batch norms stay in eval mode.

    Args:
        names: modules as in the state dict, such as s1, s1_fuse or s4.pathway0_res2; * matches anything
            (`*pathway0*`).

    Raises:
        ValueError: a name matches no module, or no parameter is left to train.
    """
    modules = {key: module for key, module in model.named_modules() if key}
    for name in names:
        matched = [key for key in modules if fnmatchcase(key, name)]
        if not matched:
            raise ValueError(
                f"MODEL.FREEZE_STAGES has {name!r}, which is no module of {type(model).__name__}; the nearest is "
                f"{nearest_keys(name, list(modules))[0]}. Its stages are "
                f"{', '.join(key for key, _ in model.named_children())}"
            )
        for key in matched:
            modules[key].requires_grad_(False)
            freeze_bn_stats(model, key)
    if names and not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"MODEL.FREEZE_STAGES {list(names)} leaves no parameter to train; leave some stage out")


def freeze_features(model: nn.Module) -> None:
    """Freeze all parameters but those of the classifier, `Classifier.projection`, in place.

    Batch norms stay in train mode, so their running statistics move, as published for linear probes.

    Raises:
        ValueError: the model has no `Classifier`, or a frozen one.
    """
    heads = [module for module in model.modules() if isinstance(module, Classifier)]
    kept = {id(p) for head in heads for p in head.projection.parameters() if p.requires_grad}
    if not kept:
        parts = ", ".join(key for key, _ in model.named_children())
        found = "a frozen one (MODEL.FREEZE_STAGES)" if heads else "no slowfast.models.heads.Classifier"
        raise ValueError(
            f"MODEL.DETACH_FINAL_FC True trains the classifier alone, but {type(model).__name__} has {found}; "
            f"set it False, and in MODEL.FREEZE_STAGES name what is not trained of {parts or 'the model'}"
        )
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in kept)


def checkpoint_blocks(model: nn.Module) -> None:
    """Turn on activation checkpointing in every `CheckpointedBlock`, in place.

    Raises:
        ValueError: the model has no such block.
    """
    blocks = [module for module in model.modules() if isinstance(module, CheckpointedBlock)]
    if not blocks:
        raise ValueError(
            f"MODEL.ACT_CHECKPOINT True, but {type(model).__name__} has no CheckpointedBlock "
            "(slowfast.layers.activation_checkpoint); derive its blocks from that class, or set False"
        )
    for block in blocks:
        block.checkpoint_activations = True


def compile_model(model: nn.Module, mode: str, device: torch.device) -> None:
    """Compile `model` as a whole, in place; the first call with each input shape is slow.

    With CUDA graphs all that a call hands out is a copy: see `_keep_from_replays`.

    Raises:
        ValueError: torch.compile does not work on this machine.
    """
    try:
        torch.compile(torch.square, dynamic=False, mode=mode)(torch.zeros(2, device=device))
    except Exception as error:  # each backend raises errors of its own
        raise ValueError(
            "MODEL.COMPILE True, but torch.compile does not work on this machine. It takes a C++ compiler (g++), for "
            "GPUs also Triton; install that, or set MODEL.COMPILE False. "
            f"{_DAMAGED_CACHE}. PyTorch reported: {first_line(error)}"
        ) from error
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MAX_GRAPHS)
    # Side effects of checkpointed blocks belong to the first run.
    torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True
    model.compile(dynamic=False, mode=mode)
    if mode in _GRAPH_MODES:
        _keep_from_replays(model)


def _keep_from_replays(model: nn.Module) -> None:
    """Copy the results and gradients of a compiled `model`, in place, out of the memory of its CUDA graphs.

    The next call overwrites that memory. Yet the memory of a progressive model goes into the next call, scores of
    steps are kept, and gradients are summed over several backward passes.
    """
    replay = model._compiled_call_impl  # `Module.compile` has no public place for what follows a compiled call

    def call(*args: Any, **kwargs: Any) -> Any:
        return pytree.tree_map_only(torch.Tensor, torch.clone, replay(*args, **kwargs))

    model._compiled_call_impl = call
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_hook(functools.partial(_own_gradient, weakref.ref(parameter)))


def _own_gradient(parameter: weakref.ref[nn.Parameter], gradient: torch.Tensor) -> torch.Tensor:
    """Return a gradient that may become that of a parameter; one that is added to an earlier one needs no copy."""
    return gradient.clone() if parameter().grad is None else gradient


class CompileError(RuntimeError):
    """Failure of torch.compile during a run."""


@contextlib.contextmanager
def compile_failures_explained(compiles: bool) -> Iterator[None]:
    """Turn a compiler error, a hundred lines long, into one that names the remedy; for calls of a compiled model.

    Raises:
        CompileError: the compiler failed.
    """
    if not compiles:
        yield
        return
    from torch._dynamo.exc import BackendCompilerFailed  # imported late: it takes a second

    try:
        yield
    except BackendCompilerFailed as error:
        raise CompileError(
            f"MODEL.COMPILE True: PyTorch failed to compile ({first_line(error)}). {_DAMAGED_CACHE}. Or set "
            "MODEL.COMPILE False"
        ) from error


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside a parallel wrapper."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def average_bn_stats(model: nn.Module) -> None:
    """Average the running statistics of batch norms over processes, before evaluating or saving."""
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


# Names of the convolution in front of a norm named "bn". Other norms are named after their convolution, as in a, a_bn
# or conv1, bn1, or stand behind it in a Sequential.
_BEFORE_BN = ("conv", "conv_f2s", "conv_out")


@torch.no_grad()
def fold_norms(model: nn.Module) -> int:
    """Fold every batch norm into the convolution in front of it, in place; scores in eval mode stay.

    With y = scale * conv(x) + shift, scale multiplies the weights and shift becomes the bias. State-dict keys change,
    so a folded model is neither saved nor trained.

    Returns:
        Number of norms that were folded.
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
    children = dict(module.named_children())
    if isinstance(module, nn.Sequential):
        names = list(children)[: list(children).index(norm_name)][-1:]
    elif norm_name == "bn":
        names = _BEFORE_BN
    else:
        names = (norm_name.removesuffix("_bn"), norm_name.replace("bn", "conv"))
    convolutions = {name: child for name, child in children.items() if isinstance(child, Conv3d)}
    return next((convolutions[name] for name in names if name in convolutions), None)


def _fold(conv: Conv3d, norm: BatchNorm | FrozenBatchNorm3d) -> None:
    # In float64: the statistics of a trained norm can be far from 0 and 1.
    terms = (conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    bias, mean, var, scale, shift = (None if term is None else term.double() for term in terms)
    weight, bias = fuse_conv_bn_weights(conv.weight, bias, mean, var, norm.eps, scale, shift)
    conv.weight.copy_(weight)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
