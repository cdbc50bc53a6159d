"""From a clip model to a Markov model: same parameters under the same names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fvcore.common.config import CfgNode
from torch import nn

from pgt.config import NAME, head_cache
from pgt.markov import CacheRule, MarkovConv3d, MarkovNonLocal, MarkovPool, StepFusion, WholeStep
from pgt.progressive import Progressive
from slowfast.layers.nonlocal_ import NonLocal
from slowfast.layers.pool import SpaceTimePool
from slowfast.models.build import MODEL_ADAPTERS, build_norm
from slowfast.models.slowfast import FuseFastToSlow


@dataclass(frozen=True)
class Rules:
    """What the operators of a model remember.

    Args:
        body, head: of each pathway, in the body and in the head; None for a head without memory.
        positions: temporal positions the head scores in a whole clip, a pathway.
        nonlocal_norm: constructor of the norm of non-local blocks with memory; None leaves these blocks plain.
    """

    body: Sequence[CacheRule]
    head: Sequence[CacheRule] | None
    positions: Sequence[int]
    nonlocal_norm: Callable[[int], nn.Module] | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Rules:
        """What the section PGT asks for."""
        options = cfg.PGT
        body = [CacheRule(frames, options.CACHE, options.CACHE_MOMENTUM) for frames in options.OVERLAP]
        head = [CacheRule(frames, head_cache(cfg), options.CACHE_MOMENTUM) for frames in options.OVERLAP]
        norm = build_norm(cfg, options.NL_NORM) if cfg.NONLOCAL.PROGRESS else None
        return cls(body, head if options.HEAD else None, options.TPOOL_SIZE, norm)


@MODEL_ADAPTERS.register(NAME)
def progressive_model(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Turns a clip model into a progressive one by the section PGT; see `convert`."""
    convert(model, Rules.from_config(cfg))
    model.full_gradient = cfg.PGT.FULL_GRADIENT
    model.carries_memory = cfg.PGT.MEMORY
    return model


def convert(model: nn.Module, rules: Rules) -> nn.Module:
    """Makes a clip model progressive, in place: each layer that needs another forward gets another class, so
    parameters, state-dict keys and hooks stay as they are.

    What becomes of a layer says the first row of `_CONVERTERS` that its class fits; the model itself becomes
    `Progressive`.

    Raises:
        ValueError: a temporal convolution with stride or dilation in time, or a non-local block over groups of frames,
            which carry no memory.
    """
    operators = []
    for name, module in list(model.named_modules()):
        converter = next((c for layer, c in _CONVERTERS if isinstance(module, layer)), None)
        if converter is not None and converter(name, module, rules):
            operators.append(name)
    clip_class = type(model)
    model.__class__ = type(f"Progressive{clip_class.__name__}", (Progressive, clip_class), {})
    model.operators = frozenset(operators)
    return model


def _convert_fusion(name: str, fusion: FuseFastToSlow, rules: Rules) -> bool:
    fusion.__class__ = StepFusion
    return False


def _convert_pool(name: str, pool: SpaceTimePool, rules: Rules) -> bool:
    pathway = _pathway(name)
    pool.__class__ = MarkovPool
    pool.name, pool.positions = name, rules.positions[pathway]
    pool.rule = rules.head[pathway] if rules.head else None
    return pool.rule is not None


def _convert_conv(name: str, conv: nn.Conv3d, rules: Rules) -> bool:
    if conv.kernel_size[0] == 1 or name.endswith(".conv_f2s"):
        return False
    _check_conv(name, conv)
    conv.__class__ = MarkovConv3d
    conv.name, conv.rule = name, rules.body[_pathway(name)]
    return True


def _convert_nonlocal(name: str, block: NonLocal, rules: Rules) -> bool:
    if rules.nonlocal_norm is None:
        return False
    if block.group > 1:
        raise ValueError(f"{name}: NONLOCAL.GROUP {block.group} with NONLOCAL.PROGRESS; groups of frames need GROUP 1")
    block.__class__ = MarkovNonLocal
    block.name, block.rule = name, WholeStep()
    if not isinstance(block.bn, nn.Identity):
        block.bn = rules.nonlocal_norm(block.conv_out.out_channels)
        nn.init.zeros_(block.bn.weight)  # the block starts as the identity
    return True


# Class of a layer -> converter(name, layer, rules), which says whether the layer now has memory of its own.
_CONVERTERS: list[tuple[type[nn.Module], Callable[[str, Any, Rules], bool]]] = [
    (FuseFastToSlow, _convert_fusion),
    (SpaceTimePool, _convert_pool),
    (NonLocal, _convert_nonlocal),
    (nn.Conv3d, _convert_conv),
]


def _pathway(name: str) -> int:
    """The pathway of a module by its name, such as s4.pathway1_res0.branch2.a."""
    _, found, rest = name.partition("pathway")
    return int(rest[0]) if found else 0


def _check_conv(name: str, conv: nn.Conv3d) -> None:
    k = conv.kernel_size[0]
    if conv.stride[0] != 1 or conv.dilation[0] != 1 or k % 2 == 0 or conv.padding[0] != k // 2:
        raise ValueError(
            f"{name}: a temporal convolution with kernel {k}, stride {conv.stride[0]}, dilation {conv.dilation[0]} and "
            f"padding {conv.padding[0]} cannot carry memory; it takes an odd kernel k, stride 1, dilation 1, padding "
            "k // 2"
        )
