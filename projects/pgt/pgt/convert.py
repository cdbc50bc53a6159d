"""From a clip model to a Markov model: same parameters under the same names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fvcore.common.config import CfgNode
from torch import nn

from pgt.attention import StepWindow, convert_attention, convert_positions, step_window
from pgt.attention_memory import TOKEN_MODELS, memory_frames, token_frames
from pgt.config import NAME, head_cache
from pgt.detection import MarkovTimePool
from pgt.fusion import MarkovFusion
from pgt.markov import CacheRule, MarkovConv3d, MarkovNonLocal, MarkovPool, StepFusion, WholeStep
from pgt.plan import StepPlan
from pgt.progressive import Progressive
from slowfast.layers.attention import PoolingAttention
from slowfast.layers.nonlocal_ import NonLocal
from slowfast.layers.pool import SpaceTimePool, TimePool
from slowfast.models.build import MODEL_ADAPTERS, build_norm
from slowfast.models.mvit import MultiscaleBlock, PatchEmbed
from slowfast.models.slowfast import FuseFastToSlow
from slowfast.models.timesformer import TimeAttention
from slowfast.models.tokens import TokenModel


@dataclass(frozen=True)
class Rules:
    """What the operators of a model remember.

    Args:
        body, head: of each pathway, in the body and in the head; None for a head without memory.
        positions: temporal positions the head scores in a whole clip, a pathway.
        nonlocal_norm: constructor of the norm of non-local blocks with memory; None leaves these blocks plain.
        fusion: whether lateral connections have memory, by the fast pathway's rule.
        step_tokens: temporal positions of a later step, of a model over tokens; the frames of its rules are such
            positions.
    """

    body: Sequence[CacheRule]
    head: Sequence[CacheRule] | None
    positions: Sequence[int]
    nonlocal_norm: Callable[[int], nn.Module] | None = None
    fusion: bool = False
    step_tokens: int = 0

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Rules:
        """What the section PGT asks for."""
        options = cfg.PGT
        tokens = cfg.MODEL.MODEL_NAME in TOKEN_MODELS
        sizes = [memory_frames(cfg)] if tokens else options.OVERLAP
        body = [CacheRule(frames, options.CACHE, options.CACHE_MOMENTUM) for frames in sizes]
        head = [CacheRule(frames, head_cache(cfg), options.CACHE_MOMENTUM) for frames in sizes]
        norm = build_norm(cfg, options.NL_NORM) if cfg.NONLOCAL.PROGRESS else None
        later = token_frames(cfg, options.STEP_LEN[0] - options.OVERLAP[0]) if tokens else 0
        return cls(body, head if options.HEAD else None, options.TPOOL_SIZE, norm, options.FUSION_MEMORY, later)


@MODEL_ADAPTERS.register(NAME)
def progressive_model(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Turns a clip model into a progressive one by the section PGT; see `convert`."""
    convert(model, Rules.from_config(cfg))
    model.full_gradient = cfg.PGT.FULL_GRADIENT
    model.carries_memory = cfg.PGT.MEMORY
    model.step_len = StepPlan.from_config(cfg).step_len
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
    fusion.__class__ = MarkovFusion if rules.fusion else StepFusion
    return False


def _convert_pool(name: str, pool: SpaceTimePool, rules: Rules) -> bool:
    pathway = _pathway(name)
    pool.__class__ = MarkovPool
    pool.name, pool.positions = name, rules.positions[pathway]
    pool.rule = rules.head[pathway] if rules.head else None
    return pool.rule is not None


def _convert_time_pool(name: str, pool: TimePool, rules: Rules) -> bool:
    if rules.head is None:
        return False
    pool.__class__ = MarkovTimePool
    pool.name, pool.rule = name, rules.head[_pathway(name)]
    return True


def _convert_conv(name: str, conv: nn.Conv3d, rules: Rules) -> bool:
    lateral = name.endswith(".conv_f2s")
    if conv.kernel_size[0] == 1 or (lateral and not rules.fusion):
        return False
    # The stride of a lateral convolution divides a step's frames, see pgt.fusion.
    _check_conv(name, conv, stride=conv.stride[0] if lateral else 1)
    conv.__class__ = MarkovConv3d
    conv.name, conv.rule = name, rules.body[1 if lateral else _pathway(name)]
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


def _convert_token_model(name: str, model: TokenModel, rules: Rules) -> bool:
    convert_positions(model, rules.step_tokens)
    return False


def _convert_attention(name: str, attention: nn.Module, rules: Rules) -> bool:
    convert_attention(name, attention, rules.body[0])
    return True


def _convert_patches(name: str, patches: PatchEmbed, rules: Rules) -> bool:
    step_window(f"{name}.proj", patches.proj, rules.body[0])
    return False


def _convert_skip(name: str, block: MultiscaleBlock, rules: Rules) -> bool:
    step_window(f"{name}.pool_skip", block.pool_skip, rules.body[0])
    return False


def _converted_window(name: str, window: StepWindow, rules: Rules) -> bool:
    """One that the layer around it has converted."""
    return window.rule is not None


# Class of a layer -> converter(name, layer, rules), which says whether the layer now has memory of its own.
_CONVERTERS: list[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Callable[[str, Any, Rules], bool]]] = [
    (TokenModel, _convert_token_model),
    (PatchEmbed, _convert_patches),
    (MultiscaleBlock, _convert_skip),
    ((PoolingAttention, TimeAttention), _convert_attention),
    (StepWindow, _converted_window),
    (FuseFastToSlow, _convert_fusion),
    (SpaceTimePool, _convert_pool),
    (TimePool, _convert_time_pool),
    (NonLocal, _convert_nonlocal),
    (nn.Conv3d, _convert_conv),
]


def _pathway(name: str) -> int:
    """The pathway of a module by its name, such as s4.pathway1_res0.branch2.a."""
    _, found, rest = name.partition("pathway")
    return int(rest[0]) if found else 0


def _check_conv(name: str, conv: nn.Conv3d, stride: int = 1) -> None:
    k = conv.kernel_size[0]
    if conv.stride[0] != stride or conv.dilation[0] != 1 or k % 2 == 0 or conv.padding[0] != k // 2:
        raise ValueError(
            f"{name}: a temporal convolution with kernel {k}, stride {conv.stride[0]}, dilation {conv.dilation[0]} and "
            f"padding {conv.padding[0]} cannot carry memory; it takes an odd kernel k, stride 1, dilation 1, padding "
            "k // 2"
        )
