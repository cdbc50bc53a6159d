"""Names of 2-D ResNets as torchvision has them (`layer1.0.conv2.weight`), and the state-dict keys they stand for.

Also timm's, whose ResNets have the same names. Our own names without time need no rule: their keys are the same.
"""

from __future__ import annotations

import re

import torch

_STEM = re.compile(r"(conv|bn)1\.(\w+)")
_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.(conv|bn)([123])\.(\w+)")
_SHORTCUT = re.compile(r"layer([1-4])\.(\d+)\.downsample\.([01])\.(\w+)")
_HEAD = re.compile(r"fc\.(\w+)")


def state_dict_key(name: str) -> str | None:
    """The state-dict key of a weight's name, in the slow or only pathway; None for a name of another kind."""
    if match := _STEM.fullmatch(name):
        return f"s1.pathway0_stem.{match[1]}.{match[2]}"
    if match := _BLOCK.fullmatch(name):
        stage, block, part, number, tensor = match.groups()
        layer = "abc"[int(number) - 1] + ("_bn" if part == "bn" else "")
        return f"s{int(stage) + 1}.pathway0_res{block}.branch2.{layer}.{tensor}"
    if match := _SHORTCUT.fullmatch(name):
        stage, block, part, tensor = match.groups()
        return f"s{int(stage) + 1}.pathway0_res{block}.branch1{'_bn' if part == '1' else ''}.{tensor}"
    if match := _HEAD.fullmatch(name):
        return f"head.projection.{match[1]}"
    return None


def rename(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by state-dict key, where the names are torchvision's; otherwise as they are."""
    if not any(_BLOCK.fullmatch(name) for name in weights):
        return weights
    return {state_dict_key(name) or name: value for name, value in weights.items()}
