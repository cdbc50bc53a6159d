"""Checkpoints of AlphAction's SlowFast (`CHECKPOINT_TYPE: aia`), as the published settings on Kinetics-600 start from.

Its `res_nlN.res_M.btnk.conv2.bn` is the norm after convolution b in block M of stage N + 1. The models have no norm and
no ReLU in the lateral connections (SLOWFAST.FUSION_BN, FUSION_RELU False).
"""

from __future__ import annotations

import re

import torch

_PATHWAYS = {"slow": 0, "fast": 1}
_PREFIX = re.compile(r"(module\.)?(backbone\.)?")
_TENSOR = r"(?P<tensor>\w+)"
_STEM = re.compile(rf"(slow|fast)\.(conv|bn)1\.{_TENSOR}")
_LATERAL = re.compile(rf"fast\.Tconv(\d)\.(conv|bn)\.{_TENSOR}")
_BLOCK = re.compile(rf"(slow|fast)\.res_nl(\d)\.res_(\d+)\.(?:(shortcut)|btnk\.conv(\d))\.(conv|bn)\.{_TENSOR}")
_HEAD = re.compile(rf"(?:cls_head\.)?pred\.{_TENSOR}")


def state_dict_key(name: str) -> str | None:
    """The state-dict key of a weight's name; None for a name of another kind."""
    name = _PREFIX.sub("", name, count=1)
    if match := _STEM.fullmatch(name):
        return f"s1.pathway{_PATHWAYS[match[1]]}_stem.{match[2]}.{match['tensor']}"
    if match := _LATERAL.fullmatch(name):
        return f"s{match[1]}_fuse.{'conv_f2s' if match[2] == 'conv' else 'bn'}.{match['tensor']}"
    if match := _BLOCK.fullmatch(name):
        pathway, stage, block, shortcut, number, part, tensor = match.groups()
        layer = "branch1" if shortcut else f"branch2.{'abc'[int(number) - 1]}" if number in "123" else None
        norm = "_bn" if part == "bn" else ""
        return layer and f"s{int(stage) + 1}.pathway{_PATHWAYS[pathway]}_res{block}.{layer}{norm}.{tensor}"
    if match := _HEAD.fullmatch(name):
        return f"head.projection.{match['tensor']}"
    return None


def has_these_names(names: list[str]) -> bool:
    """Whether names of weights are of this kind: those of residual blocks tell."""
    return any(_BLOCK.fullmatch(_PREFIX.sub("", name, count=1)) for name in names)


def rename(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by state-dict key; those that no rule knows keep their name."""
    return {state_dict_key(name) or name: value for name, value in weights.items()}
