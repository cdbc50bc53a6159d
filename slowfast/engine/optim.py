"""The optimizer and its parameter groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

NORM_TYPES = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def parameter_groups(
    model: nn.Module, weight_decay: float, norm_weight_decay: float, zero_decay_1d: bool
) -> list[dict[str, Any]]:
    """Split the trainable parameters by weight decay; each is in exactly one group, empty groups are left out.

    Args:
        model: its parameters with `requires_grad`, shared ones once; `model.no_weight_decay()`, where it exists,
            names parameters that are never decayed.
        weight_decay: of everything that is neither of the following.
        norm_weight_decay: of the parameters of normalisation layers.
        zero_decay_1d: do not decay other parameters of one dimension, nor biases.

    Returns:
        Groups with the keys `params`, `weight_decay` and `name` (norm, rest, no_decay).

    Raises:
        ValueError: the model has nothing to train.
    """
    undecayed = set(getattr(model, "no_weight_decay", set)())
    members: dict[str, list[nn.Parameter]] = {"norm": [], "rest": [], "no_decay": []}
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for local_name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = f"{module_name}.{local_name}" if module_name else local_name
            one_dimensional = parameter.dim() <= 1 or local_name == "bias"
            if isinstance(module, NORM_TYPES):
                members["norm"].append(parameter)
            elif name in undecayed or (zero_decay_1d and one_dimensional):
                members["no_decay"].append(parameter)
            else:
                members["rest"].append(parameter)
    if not seen:
        raise ValueError("the model has no trainable parameter")
    decay = {"norm": norm_weight_decay, "rest": weight_decay, "no_decay": 0.0}
    return [{"params": members[n], "weight_decay": decay[n], "name": n} for n in members if members[n]]


def build_optimizer(model: nn.Module, cfg: Any) -> torch.optim.Optimizer:
    """The optimizer `SOLVER.OPTIMIZING_METHOD` (sgd, adam or adamw) over the model's parameter groups.

    Raises:
        ValueError: another method, or a model without trainable parameters.
    """
    solver = cfg.SOLVER
    groups = parameter_groups(model, solver.WEIGHT_DECAY, cfg.BN.WEIGHT_DECAY, solver.ZERO_WD_1D_PARAM)
    method = solver.OPTIMIZING_METHOD
    if method == "sgd":
        return torch.optim.SGD(
            groups,
            lr=solver.BASE_LR,
            momentum=solver.MOMENTUM,
            dampening=solver.DAMPENING,
            nesterov=solver.NESTEROV,
        )
    if method in ("adam", "adamw"):
        kind = torch.optim.Adam if method == "adam" else torch.optim.AdamW
        return kind(groups, lr=solver.BASE_LR, betas=tuple(solver.BETAS), eps=1e-8)
    raise ValueError(f"SOLVER.OPTIMIZING_METHOD {method!r} is not one of sgd, adam, adamw")


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use `lr` in every parameter group from now on."""
    for group in optimizer.param_groups:
        group["lr"] = lr
