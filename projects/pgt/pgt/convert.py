"""From a clip model to a Markov model: same parameters under the same names."""

from collections.abc import Callable

from fvcore.common.config import CfgNode
from torch import nn

from pgt.config import NAME, head_cache
from pgt.markov import CacheRule, MarkovConv3d, MarkovNonLocal, MarkovPool, StepFusion, WholeStep
from pgt.progressive import Progressive
from slowfast.layers.nonlocal_ import NonLocal
from slowfast.layers.pool import SpaceTimePool
from slowfast.models.build import MODEL_ADAPTERS, build_norm
from slowfast.models.slowfast import FuseFastToSlow


@MODEL_ADAPTERS.register(NAME)
def progressive_model(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Turns a clip model into a progressive one by the section PGT; see `convert`."""
    options = cfg.PGT
    rules = [CacheRule(frames, options.CACHE, options.CACHE_MOMENTUM) for frames in options.OVERLAP]
    head_rules = [CacheRule(frames, head_cache(cfg), options.CACHE_MOMENTUM) for frames in options.OVERLAP]
    norm = build_norm(cfg, options.NL_NORM) if cfg.NONLOCAL.PROGRESS else None
    convert(model, rules, head_rules if options.HEAD else None, options.TPOOL_SIZE, norm)
    model.full_gradient = options.FULL_GRADIENT
    model.carries_memory = options.MEMORY
    return model


def convert(
    model: nn.Module,
    rules: list[CacheRule],
    head_rules: list[CacheRule] | None,
    positions: list[int],
    nonlocal_norm: Callable[[int], nn.Module] | None = None,
) -> nn.Module:
    """Makes a clip model progressive, in place: each layer that needs another forward gets another class, so
    parameters, state-dict keys and hooks stay as they are.

    Convolutions with a temporal kernel over 1 in stem and residual branches become `MarkovConv3d`, the head's pooling
    `MarkovPool`, lateral connections `StepFusion`, non-local blocks, if asked for, `MarkovNonLocal`, and the model
    itself `Progressive`.

    Args:
        rules, head_rules: what operators of each pathway remember, in the body and in the head; None for a head
            without.
        positions: temporal positions the head scores in a whole clip, a pathway.
        nonlocal_norm: constructor of the norm of progressive non-local blocks; None leaves these blocks plain.

    Raises:
        ValueError: a temporal convolution with stride or dilation in time, or a non-local block over groups of frames,
            which carry no memory.
    """
    operators = []
    lateral = {id(m) for fusion in model.modules() if isinstance(fusion, FuseFastToSlow) for m in fusion.modules()}
    for name, module in list(model.named_modules()):
        if isinstance(module, FuseFastToSlow):
            module.__class__ = StepFusion
        elif isinstance(module, SpaceTimePool):
            pathway = _pathway(name)
            module.__class__ = MarkovPool
            module.name, module.positions = name, positions[pathway]
            module.rule = head_rules[pathway] if head_rules else None
            operators += [name] if head_rules else []
        elif isinstance(module, nn.Conv3d) and module.kernel_size[0] > 1 and id(module) not in lateral:
            _check_conv(name, module)
            module.__class__ = MarkovConv3d
            module.name, module.rule = name, rules[_pathway(name)]
            operators.append(name)
        elif isinstance(module, NonLocal) and nonlocal_norm is not None:
            _make_progressive(name, module, nonlocal_norm)
            operators.append(name)
    clip_class = type(model)
    model.__class__ = type(f"Progressive{clip_class.__name__}", (Progressive, clip_class), {})
    model.operators = frozenset(operators)
    return model


def _pathway(name: str) -> int:
    """The pathway of a module by its name, such as s4.pathway1_res0.branch2.a."""
    _, found, rest = name.partition("pathway")
    return int(rest[0]) if found else 0


def _make_progressive(name: str, block: NonLocal, norm: Callable[[int], nn.Module]) -> None:
    if block.group > 1:
        raise ValueError(f"{name}: NONLOCAL.GROUP {block.group} with NONLOCAL.PROGRESS; groups of frames need GROUP 1")
    block.__class__ = MarkovNonLocal
    block.name, block.rule = name, WholeStep()
    if not isinstance(block.bn, nn.Identity):
        block.bn = norm(block.conv_out.out_channels)
        nn.init.zeros_(block.bn.weight)  # the block starts as the identity


def _check_conv(name: str, conv: nn.Conv3d) -> None:
    k = conv.kernel_size[0]
    if conv.stride[0] != 1 or conv.dilation[0] != 1 or k % 2 == 0 or conv.padding[0] != k // 2:
        raise ValueError(
            f"{name}: a temporal convolution with kernel {k}, stride {conv.stride[0]}, dilation {conv.dilation[0]} and "
            f"padding {conv.padding[0]} cannot carry memory; it takes an odd kernel k, stride 1, dilation 1, padding "
            "k // 2"
        )
