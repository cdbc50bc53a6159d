"""State-dict keys of checkpoints of other programs: AlphAction's SlowFast, torchvision's 2-D ResNets, Caffe2.

AlphAction's `res_nlN.res_M.btnk.conv2.bn` is the norm after convolution b in block M of stage N + 1. Its models have no
norm and no ReLU in the lateral connections (SLOWFAST.FUSION_BN, FUSION_RELU False). torchvision's
`layer1.0.conv2.weight` is also timm's name.

Caffe2 checkpoints (`.pkl`): a pickle of `{"blobs": {name: array}}`.

A blob's name holds stage, block and layer: `res3_1_branch2a_bn_rm` is the running mean of the norm after convolution a
in block 1 of stage 3. The prefix `t_` marks the fast pathway. Source: the published `.pkl` files.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch

from slowfast.checkpoint.formats.pytorchvideo_names import pytorchvideo_keys
from slowfast.utils.errors import short

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

    Names of residual blocks decide. Names without a rule are kept, as are those of RegNet3D: torchvision's, but of
    kernels with time.
    """
    if any(_AIA_BLOCK.fullmatch(_AIA_PREFIX.sub("", name, count=1)) for name in weights):
        return {aia_key(name) or name: value for name, value in weights.items()}, "aia"
    if keys := pytorchvideo_keys(weights):
        return {keys.get(name, name): value for name, value in weights.items()}, "pytorch"
    if any(_BLOCK.fullmatch(name) and value.dim() == 4 for name, value in weights.items()):
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


_NORM = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
_PLAIN = {"w": "weight", "b": "bias"}

# Start of a blob's name -> the layer if `_bn` does not follow, and if it does; {p} is the pathway.
_LAYERS = (
    (r"(?P<fast>t_)pool1_subsample", "s1_fuse.conv_f2s", "s1_fuse.bn"),
    (r"(?P<fast>t_)res(\d+)_\d+_branch2c_bn_subsample", "s{0}_fuse.conv_f2s", "s{0}_fuse.bn"),
    (r"(?P<fast>t_)?conv1", "s1.pathway{p}_stem.conv", None),
    (r"(?P<fast>t_)?res_conv1", None, "s1.pathway{p}_stem.bn"),
    (r"(?P<fast>t_)?res(\d+)_(\d+)_branch1", "s{0}.pathway{p}_res{1}.branch1", "s{0}.pathway{p}_res{1}.branch1_bn"),
    (
        r"(?P<fast>t_)?res(\d+)_(\d+)_branch2([a-z])",
        "s{0}.pathway{p}_res{1}.branch2.{2}",
        "s{0}.pathway{p}_res{1}.branch2.{2}_bn",
    ),
    (
        r"(?P<fast>t_)?nonlocal_conv(\d+)_(\d+)_(theta|phi|g|out)",
        "s{0}.pathway{p}_nonlocal{1}.conv_{2}",
        None,
    ),
    (r"(?P<fast>t_)?nonlocal_conv(\d+)_(\d+)", None, "s{0}.pathway{p}_nonlocal{1}.bn"),
    (r"(?P<fast>)pred", "head.projection", None),
)
_RULES = tuple((re.compile(front + r"(?P<norm>_bn)?_(?P<tensor>[a-z]+)"), *layers) for front, *layers in _LAYERS)
# Optimizer state, which the files also hold.
_TRAINING = re.compile(r"(^|_)(momentum|lr|model_iter)($|_)")


def state_dict_key(blob: str) -> str | None:
    """Return the state-dict key of a blob; None if it is no weight."""
    for rule, plain, norm in _RULES:
        match = rule.fullmatch(blob)
        if match is None:
            continue
        layer, tensors = (norm, _NORM) if match["norm"] else (plain, _PLAIN)
        if layer is None or match["tensor"] not in tensors:
            continue
        numbers = [group for name, group in _groups(match) if name not in ("fast", "norm", "tensor")]
        return f"{layer.format(*numbers, p=int(bool(match['fast'])))}.{tensors[match['tensor']]}"
    return None


def is_training_state(blob: str) -> bool:
    """Return True for a blob of optimizer state, such as `conv1_w_momentum`, `lr` or `model_iter`."""
    return state_dict_key(blob) is None and _TRAINING.search(blob) is not None


def weights_of_blobs(blobs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return tensors by state-dict key; unknown blobs keep their name, optimizer state is left out.

    Raises:
        ValueError: a blob is no array.
    """
    arrays = {name: np.array(blob) for name, blob in blobs.items() if not is_training_state(name) and _is_array(blob)}
    wrong = [name for name in blobs if name not in arrays and not is_training_state(name)]
    wrong += [name for name, array in arrays.items() if array.dtype == object]  # a number of more than 64 bits
    if wrong:
        shown = ", ".join(f"{short(name)} ({type(blobs[name]).__name__})" for name in wrong[:10])
        raise ValueError(f"{len(wrong)} blobs are no arrays of numbers: {shown}")
    return {state_dict_key(name) or name: torch.from_numpy(array) for name, array in arrays.items()}


def _is_array(blob: Any) -> bool:
    return isinstance(blob, (np.ndarray, int, float))


def _groups(match: re.Match[str]) -> list[tuple[str | None, str | None]]:
    """Return (name, text) of each group of a match, in order."""
    names = {index: name for name, index in match.re.groupindex.items()}
    return [(names.get(index), match[index]) for index in range(1, match.re.groups + 1)]
