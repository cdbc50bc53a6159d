"""State-dict keys of PyTorch checkpoints of other programs: AlphAction's SlowFast, and torchvision's 2-D ResNets.

AlphAction's `res_nlN.res_M.btnk.conv2.bn` is the norm after convolution b in block M of stage N + 1. Its models have no
norm and no ReLU in the lateral connections (SLOWFAST.FUSION_BN, FUSION_RELU False). torchvision's
`layer1.0.conv2.weight` is also timm's name.
"""

from __future__ import annotations

import re

import torch

_PATHWAYS = {"slow": 0, "fast": 1}
_TENSOR = r"(?P<tensor>\w+)"
_AIA_PREFIX = re.compile(r"(module\.)?(backbone\.)?")
_AIA_STEM = re.compile(rf"(slow|fast)\.(conv|bn)1\.{_TENSOR}")
_AIA_LATERAL = re.compile(rf"fast\.Tconv(\d)\.(conv|bn)\.{_TENSOR}")
_AIA_BLOCK = re.compile(rf"(slow|fast)\.res_nl(\d)\.res_(\d+)\.(?:(shortcut)|btnk\.conv(\d))\.(conv|bn)\.{_TENSOR}")
_AIA_HEAD = re.compile(rf"(?:cls_head\.)?pred\.{_TENSOR}")

_STEM = re.compile(r"(conv|bn)1\.(\w+)")
_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.(conv|bn)([123])\.(\w+)")
_SHORTCUT = re.compile(r"layer([1-4])\.(\d+)\.downsample\.([01])\.(\w+)")
_HEAD = re.compile(r"fc\.(\w+)")


def rename_foreign(weights: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], str]:
    """Return weights by state-dict key, and their CHECKPOINT_TYPE: "aia", or "pytorch" for all other names.

    Names of residual blocks decide. Names without a rule are kept.
    """
    if any(_AIA_BLOCK.fullmatch(_AIA_PREFIX.sub("", name, count=1)) for name in weights):
        return {aia_key(name) or name: value for name, value in weights.items()}, "aia"
    if any(_BLOCK.fullmatch(name) for name in weights):
        return {torchvision_key(name) or name: value for name, value in weights.items()}, "pytorch"
    return weights, "pytorch"


def aia_key(name: str) -> str | None:
    """Return the state-dict key of AlphAction's name of a weight; None for other names."""
    name = _AIA_PREFIX.sub("", name, count=1)
    if match := _AIA_STEM.fullmatch(name):
        return f"s1.pathway{_PATHWAYS[match[1]]}_stem.{match[2]}.{match['tensor']}"
    if match := _AIA_LATERAL.fullmatch(name):
        return f"s{match[1]}_fuse.{'conv_f2s' if match[2] == 'conv' else 'bn'}.{match['tensor']}"
    if match := _AIA_BLOCK.fullmatch(name):
        pathway, stage, block, shortcut, number, part, tensor = match.groups()
        layer = "branch1" if shortcut else f"branch2.{'abc'[int(number) - 1]}" if number in "123" else None
        norm = "_bn" if part == "bn" else ""
        return layer and f"s{int(stage) + 1}.pathway{_PATHWAYS[pathway]}_res{block}.{layer}{norm}.{tensor}"
    if match := _AIA_HEAD.fullmatch(name):
        return f"head.projection.{match['tensor']}"
    return None


def torchvision_key(name: str) -> str | None:
    """Return the state-dict key, in the slow or only pathway, of torchvision's name; None for other names."""
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
