"""State-dict keys of PyTorchVideo's models: ResNet (C2D, I3D, Slow), SlowFast, X3D, CSN, R(2+1)D, MViT.

PySlowFast saves them behind `model.`, the library's own files have `blocks.N` at the start. Modules `blocks.N` count
the stem, the stages, and where there is one the pooling after the first stage. In a stage,
`blocks.1.multipathway_blocks.0.res_blocks.2.branch2.norm_a` is the norm after convolution a in block 2 of the slow
pathway; models of one pathway lack `multipathway_blocks.0`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_PREFIX = re.compile(r"(module\.)?(model\.)?")
_PART = re.compile(r"blocks\.(\d+)\.(?:multipathway_blocks\.(\d+)\.)?(.+)\.(\w+)")
_BLOCK = re.compile(r"res_blocks\.(\d+)\.(.+)")
_VIT_SIGN = "patch_embed.patch_model.weight"

# Layer of a block -> ours.
_IN_BLOCK = {
    "branch1_conv": "branch1",
    "branch1_norm": "branch1_bn",
    "branch2.conv_a": "branch2.a",
    "branch2.norm_a": "branch2.a_bn",
    "branch2.conv_b": "branch2.b",
    "branch2.norm_b": "branch2.b_bn",
    "branch2.conv_c": "branch2.c",
    "branch2.norm_c": "branch2.c_bn",
    # X3D: norm and squeeze-excitation
    "branch2.norm_b.0": "branch2.b_bn",
    "branch2.norm_b.1.block.0": "branch2.se.fc1",
    "branch2.norm_b.1.block.2": "branch2.se.fc2",
    # R(2+1)D: time, then space
    "branch2.conv_b.conv_t": "branch2.t",
    "branch2.conv_b.norm": "branch2.t_bn",
    "branch2.conv_b.conv_xy": "branch2.b",
}
# In X3D's stem the names of time and space are swapped.
_IN_STEM = {"conv": "conv", "norm": "bn", "conv.conv_t": "conv_xy", "conv.conv_xy": "conv"}
_LATERAL = {"multipathway_fusion.conv_fast_to_slow": "conv_f2s", "multipathway_fusion.norm": "bn"}
_IN_HEAD = {
    "proj": "projection",
    "pool.pre_conv": "conv_5",
    "pool.pre_norm": "conv_5_bn",
    "pool.post_conv": "lin_5",
    "pool.post_norm": "lin_5_bn",
}
# Starts of MViT's names -> ours; the blocks have the same.
_IN_VIT = {
    "patch_embed.patch_model.": "patch_embed.proj.",
    "cls_positional_encoding.": "",
    "norm_embed.": "norm.",
    "head.proj.": "head.projection.",
}


def pytorchvideo_keys(names: Iterable[str]) -> dict[str, str]:
    """Return the state-dict key of each name of a PyTorchVideo model; {} if these are no names of one.

    Names without a rule are left out.
    """
    short = {name: _PREFIX.sub("", name, count=1) for name in names}
    if _VIT_SIGN in short.values():
        return {name: _vit_key(plain) for name, plain in short.items()}
    parts = {name: match for name, plain in short.items() if (match := _PART.fullmatch(plain))}
    stages = sorted({int(match[1]) for match in parts.values() if _BLOCK.fullmatch(match[3])})
    if not stages:
        return {}
    # Stem 1, stages 2 to 5.
    numbers = {0: 1, **{block: number for number, block in enumerate(stages, 2)}}
    keys = {name: _key(match, numbers) for name, match in parts.items()}
    # With boxes the head stands beside the blocks.
    boxes = {f"detection_head.proj.{tensor}": f"head.projection.{tensor}" for tensor in ("weight", "bias")}
    keys |= {name: boxes[plain] for name, plain in short.items() if plain in boxes}
    return {name: key for name, key in keys.items() if key}


def _key(match: re.Match[str], numbers: dict[int, int]) -> str | None:
    """Return the key of `blocks.N...`; None without a rule.

    Args:
        numbers: N -> the number of the part here, 1 for the stem; the head has none.
    """
    block, pathway, layer, tensor = match.groups()
    number, pathway = numbers.get(int(block)), pathway or "0"
    if number is None:
        return f"head.{_IN_HEAD[layer]}.{tensor}" if layer in _IN_HEAD else None
    if layer in _LATERAL:
        return f"s{number}_fuse.{_LATERAL[layer]}.{tensor}"
    if number == 1:
        return f"s1.pathway{pathway}_stem.{_IN_STEM[layer]}.{tensor}" if layer in _IN_STEM else None
    inside = _BLOCK.fullmatch(layer)
    if not inside or inside[2] not in _IN_BLOCK:
        return None
    return f"s{number}.pathway{pathway}_res{inside[1]}.{_IN_BLOCK[inside[2]]}.{tensor}"


def _vit_key(name: str) -> str:
    for theirs, ours in _IN_VIT.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
