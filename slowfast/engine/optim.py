"""Optimizers, their parameter groups, and the learning rate as a function of progress in epochs."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from slowfast.checkpoint.weights import plain_weights
from slowfast.engine.optim_step import autocast_dtype
from slowfast.models.base import VideoModel
from slowfast.utils.errors import naming_keys, short
from slowfast.utils.registry import Registry

# Optimizers: builder(parameter groups, cfg) -> optimizer.
OPTIMIZERS = Registry("SOLVER.OPTIMIZING_METHOD")
# Schedules: policy(SOLVER section of a config, epoch) -> learning rate, after the warm-up.
LR_POLICIES = Registry("SOLVER.LR_POLICY")

# Trust coefficient of LARS, as published in PySlowFast.
_LARS_TRUST = 0.001

_NORM_TYPES = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def layer_scales(model: VideoModel, decay: float) -> dict[int, float]:
    """Return the learning-rate factor of each parameter, by its `id`: decay ** (D - d) at depth d of 0 to D.

    Depth counts along `VideoModel.depth_groups`, from the stem (0) to the head (D, factor 1). Blocks of parallel
    pathways share a depth. Source: layer-wise decay as in BEiT (arXiv 2106.08254) and MViT.

    Raises:
        ValueError: the model does not define `depth_groups`, or leaves out a parameter there.
    """
    try:
        layers = model.depth_groups()
    except ValueError as error:
        raise ValueError(f"SOLVER.LAYER_DECAY {decay}: {error}, or set SOLVER.LAYER_DECAY 1.0") from error
    scales = {
        id(parameter): decay ** (len(layers) - 1 - depth)
        for depth, modules in enumerate(layers)
        for module in modules
        for parameter in module.parameters()
    }
    left_out = [name for name, parameter in model.named_parameters() if id(parameter) not in scales]
    if left_out:
        raise ValueError(f"SOLVER.LAYER_DECAY {decay}: depth_groups() of the model lacks {', '.join(left_out[:5])}")
    return scales


def parameter_groups(
    model: VideoModel, weight_decay: float, norm_weight_decay: float, zero_decay_1d: bool, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Split the trainable parameters by weight decay and depth; each is in exactly one group.

    Args:
        model: shared parameters count once; see `VideoModel.no_weight_decay`, which other modules may lack.
        weight_decay: of all parameters but the following.
        norm_weight_decay: of the parameters of normalization layers.
        zero_decay_1d: no decay of biases and other one-dimensional parameters.
        layer_decay: see `layer_scales`; 1 for equal learning rates.

    Returns:
        Groups with the keys `params`, `weight_decay`, `name` (norm, rest, no_decay) and `lr_scale`, the head first;
        empty groups are left out.

    Raises:
        ValueError: the model has no trainable parameter, or see `layer_scales`.
    """
    scales = layer_scales(model, layer_decay) if layer_decay != 1.0 else {}
    undecayed = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    members: dict[str, list[nn.Parameter]] = {"norm": [], "rest": [], "no_decay": []}
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for local_name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = f"{module_name}.{local_name}" if module_name else local_name
            one_dimensional = parameter.dim() <= 1 or local_name == "bias"
            if isinstance(module, _NORM_TYPES):
                members["norm"].append(parameter)
            elif name in undecayed or (zero_decay_1d and one_dimensional):
                members["no_decay"].append(parameter)
            else:
                members["rest"].append(parameter)
    if not seen:
        raise ValueError("the model has no trainable parameter")
    decay = {"norm": norm_weight_decay, "rest": weight_decay, "no_decay": 0.0}
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    for name, parameters in members.items():
        for parameter in parameters:
            scale = scales.get(id(parameter), 1.0)
            group = {"params": [], "weight_decay": decay[name], "name": name, "lr_scale": scale}
            groups.setdefault((name, scale), group)["params"].append(parameter)
    return sorted(groups.values(), key=lambda group: -group["lr_scale"])


def _add_lars(optimizer: torch.optim.Optimizer) -> None:
    """Scale gradients by layer-wise adaptive rates (LARS) before each step of `optimizer`.

    The gradient g of a weight w with weight decay d becomes (g + d w) * 0.001 * |w| / (|g| + d |w| + 1e-8). The
    optimizer itself then applies no decay. Parameters of norm layers follow the plain optimizer. One-dimensional
    parameters, and those with |w| or |g| of 0, keep their gradient and have no decay. State and groups are unchanged.

    Source: "Large Batch Training of Convolutional Networks" (arXiv 1708.03888); details as published in PySlowFast.
    """
    norms = [group["name"] == "norm" for group in optimizer.param_groups]
    decays: list[float] = []

    @torch.no_grad()
    def scale(*_: Any) -> None:
        decays[:] = [group["weight_decay"] for group in optimizer.param_groups]
        for group, norm, decay in zip(optimizer.param_groups, norms, decays, strict=True):
            if norm:
                continue
            group["weight_decay"] = 0.0
            for weight in group["params"]:
                if weight.grad is not None and weight.dim() > 1:
                    _scale_by_lars(weight, decay)

    def restore(*_: Any) -> None:
        for group, decay in zip(optimizer.param_groups, decays, strict=True):
            group["weight_decay"] = decay

    optimizer.register_step_pre_hook(scale)
    optimizer.register_step_post_hook(restore)


def _scale_by_lars(weight: torch.Tensor, decay: float) -> None:
    """Replace the gradient of `weight`, in place and without waiting for the device."""
    gradient, size, slope = weight.grad, torch.linalg.vector_norm(weight), torch.linalg.vector_norm(weight.grad)
    rate = _LARS_TRUST * size / (slope + decay * size + 1e-8)
    gradient.copy_(torch.where((size > 0) & (slope > 0), (gradient + decay * weight) * rate, gradient))


def build_optimizer(model: VideoModel, cfg: Any) -> torch.optim.Optimizer:
    """Build the optimizer named by `SOLVER.OPTIMIZING_METHOD`, with LARS if `SOLVER.LARS_ON`.

    Raises:
        ValueError: unknown method, or see `parameter_groups`.
    """
    solver = cfg.SOLVER
    groups = parameter_groups(
        model, solver.WEIGHT_DECAY, cfg.BN.WEIGHT_DECAY, solver.ZERO_WD_1D_PARAM, solver.LAYER_DECAY
    )
    optimizer = OPTIMIZERS.get(solver.OPTIMIZING_METHOD)(groups, cfg)
    if solver.LARS_ON:
        _add_lars(optimizer)
    return optimizer


@OPTIMIZERS.register("sgd")
def _sgd(groups: list[dict[str, Any]], cfg: Any) -> torch.optim.Optimizer:
    solver = cfg.SOLVER
    overflows = autocast_dtype(cfg) is torch.float16
    late = cfg.MODEL.MODEL_NAME == "ContrastiveModel" and cfg.CONTRASTIVE.TYPE == "swav"
    with naming_keys(cfg, "SOLVER.NESTEROV", "SOLVER.MOMENTUM", "SOLVER.DAMPENING"):
        return torch.optim.SGD(
            groups,
            lr=solver.BASE_LR,
            momentum=solver.MOMENTUM,
            dampening=solver.DAMPENING,
            nesterov=solver.NESTEROV,
            # If float16 overflows in the first step, PyTorch's fused kernel leaves the momentum uninitialized. It also
            # fails where a parameter has its first gradient later than others, as SwAV's prototypes.
            fused=not (overflows or late),
        )


@OPTIMIZERS.register("adam")
def _adam(groups: list[dict[str, Any]], cfg: Any) -> torch.optim.Optimizer:
    return _with_moments(torch.optim.Adam, groups, cfg, fused=True)


@OPTIMIZERS.register("adamw")
def _adamw(groups: list[dict[str, Any]], cfg: Any) -> torch.optim.Optimizer:
    return _with_moments(torch.optim.AdamW, groups, cfg, fused=True)


@OPTIMIZERS.register("mt_adamw")
def _mt_adamw(groups: list[dict[str, Any]], cfg: Any) -> torch.optim.Optimizer:
    """Build PyTorch's multi-tensor (foreach) form of AdamW."""
    return _with_moments(torch.optim.AdamW, groups, cfg, foreach=True)


def _with_moments(
    kind: type[torch.optim.Optimizer], groups: list[dict[str, Any]], cfg: Any, **kernel: bool
) -> torch.optim.Optimizer:
    with naming_keys(cfg, "SOLVER.BETAS"):
        return kind(groups, lr=cfg.SOLVER.BASE_LR, betas=tuple(cfg.SOLVER.BETAS), **kernel)


# Entries of a parameter group that the settings decide. A project's optimizer may keep state of its own in others.
_SETTINGS_OF_GROUP = (
    *("name", "weight_decay", "lr_scale", "momentum", "dampening", "nesterov", "betas"),
    *("fused", "foreach", "decoupled_weight_decay"),
)
# State of PyTorch's optimizers that has the shape of the parameter.
_MOMENTS = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, model: VideoModel, saved: dict[str, Any], before: dict[str, Any], cfg: Any
) -> None:
    """Load the state that `optimizer.state_dict()` returned, parameter by parameter.

    Weight decay, momentum and other settings stay those of `optimizer`, also where they put parameters in other groups.

    Args:
        optimizer: `build_optimizer(model, cfg)`.
        saved: the state.
        before: settings under which it was saved, by full key; {} if they are not known.

    Raises:
        ValueError: the state is of other groups, or of parameters of other shapes.
        KeyError, TypeError, AttributeError, IndexError: it is not such a state.
    """
    solver, own = cfg.SOLVER, optimizer.state_dict()["param_groups"]
    former = {name: before.get(f"SOLVER.{name}", solver[name]) for name in ("ZERO_WD_1D_PARAM", "LAYER_DECAY")}
    same_groups = all(value == solver[name] for name, value in former.items())
    then = (
        optimizer.param_groups
        if same_groups
        else parameter_groups(model, 0.0, 0.0, former["ZERO_WD_1D_PARAM"], former["LAYER_DECAY"])
    )
    if not isinstance(saved["state"], dict):
        raise TypeError(f"its state is {short(saved['state'])}")
    found, wanted = ([len(group["params"]) for group in groups] for groups in (saved["param_groups"], then))
    if found != wanted:
        raise ValueError(f"its groups have {found} parameters, and those of the model {wanted}")
    numbers = {
        id(parameter): number
        for group, plain in zip(optimizer.param_groups, own, strict=True)
        for parameter, number in zip(group["params"], plain["params"], strict=True)
    }
    needed = ("step", "exp_avg", "exp_avg_sq") if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)) else ()
    state = {}
    for group, parameters in zip(saved["param_groups"], then, strict=True):
        for number, parameter in zip(group["params"], parameters["params"], strict=True):
            if number in saved["state"]:
                state[numbers[id(parameter)]] = _of_shape(saved["state"][number], parameter, group, needed)
    for group, now in zip(saved["param_groups"], own, strict=False):
        _check_group(group, now)
    if same_groups:
        own = [
            {**group, **{name: now[name] for name in _SETTINGS_OF_GROUP if name in now}, "params": now["params"]}
            for group, now in zip(saved["param_groups"], own, strict=True)
        ]
    optimizer.load_state_dict({**saved, "state": state, "param_groups": own})


def _of_shape(
    entry: dict[str, Any], parameter: nn.Parameter, group: dict[str, Any], needed: Collection[str]
) -> dict[str, Any]:
    """Return the state of a parameter of a saved group.

    Raises:
        ValueError: it lacks some of `needed`, its momentum or moments are of a parameter of another shape, or its
            values are no numbers.
    """
    needed = {*needed, *(["max_exp_avg_sq"] if needed and group.get("amsgrad") else [])}
    missing = sorted(needed - entry.keys())
    if entry and missing:
        raise ValueError(f"the state of a parameter has no {', '.join(missing)}")
    for name in {"step", *_MOMENTS} & entry.keys():
        value, is_step = entry[name], name == "step"
        if isinstance(value, torch.Tensor):
            plain_weights({name: value}, "the state of a parameter")
            if value.numel() != 1 if is_step else value.shape != parameter.shape:
                raise ValueError(f"{name} of a parameter of shape {tuple(parameter.shape)} has {tuple(value.shape)}")
        elif not isinstance(value, (int, float) if is_step else type(None)):
            raise ValueError(f"{name} of a parameter is {short(value)}")
    return entry


def _check_group(found: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise ValueError if a setting of a parameter group has another type than the optimizer's own."""
    for name in own.keys() & found.keys() - {"params", *_SETTINGS_OF_GROUP}:
        kinds = [float if type(value) is int else type(value) for value in (found[name], own[name])]
        if kinds[0] is not kinds[1] and type(None) not in kinds:
            raise ValueError(f"{name} of its parameter groups is {short(found[name])}, and here {short(own[name])}")


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of each group to `lr` times its `lr_scale` (1 if it has none)."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def get_lr(optimizer: torch.optim.Optimizer) -> float:
    """Return the learning rate without `lr_scale`, that of the head."""
    group = optimizer.param_groups[0]
    return group["lr"] / group.get("lr_scale", 1.0)


def lr_at(solver: Any, epoch: float) -> float:
    """Return the learning rate at `epoch` (0.0 is the first iteration, 1.5 the middle of the second epoch).

    Args:
        solver: the section SOLVER.
        epoch: 0 <= epoch < MAX_EPOCH.

    Raises:
        ValueError: unknown policy, or a warm-up that leaves no epoch for the cosine.
    """
    policy = LR_POLICIES.get(solver.LR_POLICY)
    if epoch < solver.WARMUP_EPOCHS:
        start, end = solver.WARMUP_START_LR, policy(solver, solver.WARMUP_EPOCHS)
        return start + (end - start) * epoch / solver.WARMUP_EPOCHS
    return policy(solver, epoch)


def lr_scale(cfg: Any) -> float:
    """Return the factor on every learning rate: linear scaling rule, and number of hosts.

    The linear scaling rule (`LR_REFERENCE_BATCH`; Goyal et al. 2017, arXiv 1706.02677) keeps lr / batch size constant.
    The batch of an optimizer step has `TRAIN.BATCH_SIZE * NUM_SHARDS * TRAIN.ACCUM_STEPS` clips. The larger batches of
    multigrid do not count: the rates of its schedule already include them.
    """
    scale = 1.0
    if cfg.SOLVER.LR_REFERENCE_BATCH:
        batch = cfg.MULTIGRID.DEFAULT_B or cfg.TRAIN.BATCH_SIZE
        scale *= batch * cfg.NUM_SHARDS * cfg.TRAIN.ACCUM_STEPS / cfg.SOLVER.LR_REFERENCE_BATCH
    if cfg.SOLVER.BASE_LR_SCALE_NUM_SHARDS:
        scale *= cfg.NUM_SHARDS
    return scale


@LR_POLICIES.register("cosine")
def _cosine(solver: Any, epoch: float) -> float:
    offset = solver.WARMUP_EPOCHS if solver.COSINE_AFTER_WARMUP else 0.0
    if solver.MAX_EPOCH <= offset:
        raise ValueError(
            f"SOLVER.WARMUP_EPOCHS {offset} leaves nothing of SOLVER.MAX_EPOCH {solver.MAX_EPOCH} for the cosine that "
            "COSINE_AFTER_WARMUP starts there; set fewer WARMUP_EPOCHS"
        )
    progress = (epoch - offset) / (solver.MAX_EPOCH - offset)
    span = solver.BASE_LR - solver.COSINE_END_LR
    return solver.COSINE_END_LR + span * (math.cos(math.pi * progress) + 1.0) * 0.5


@LR_POLICIES.register("steps_with_relative_lrs")
def _relative_steps(solver: Any, epoch: float) -> float:
    # config/rules checks STEPS and LRS.
    stage = sum(epoch >= step for step in solver.STEPS if step < solver.MAX_EPOCH) - 1
    return solver.LRS[stage] * solver.BASE_LR
