"""From a clip model to a progressive one: layers become Markov operators with the same parameters and names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fvcore.common.config import CfgNode
from torch import nn

from pgt.config import NAME, TOKEN_MODELS, head_cache, memory_frames, through_memory, token_frames
from pgt.masked import MaskedProgressiveModel
from pgt.memory import CACHE_POLICIES, CachePolicy, WholeStep
from pgt.model import ProgressiveModel
from pgt.operators.attention import (
    MarkovNonLocal,
    MarkovPoolingAttention,
    MarkovTimeAttention,
    StepAvgPool3d,
    StepConv3d,
    StepMaxPool3d,
    StepPositions,
    StepTransition,
    StepWindow,
)
from pgt.operators.layers import MarkovConv3d, MarkovOperator, MarkovPool, MarkovTimePool, StepFusion
from pgt.plan import StepPlan
from slowfast.layers.attention import PoolingAttention
from slowfast.layers.conv import Conv3d
from slowfast.layers.nonlocal_ import NonLocal
from slowfast.layers.pool import AvgPool3d, SpaceTimePool, TimePool
from slowfast.models.base import VideoModel
from slowfast.models.build import MODEL_ADAPTERS, NORMS, build_norm
from slowfast.models.heads import Classifier
from slowfast.models.masked import MaskMViT, PredictionHead
from slowfast.models.mvit_blocks import MultiscaleBlock, PatchEmbed
from slowfast.models.reversible import StageTransition
from slowfast.models.slowfast import FuseFastToSlow
from slowfast.models.timesformer import TimeAttention
from slowfast.models.tokens import TokenModel
from slowfast.runtime.logging import get_logger
from slowfast.utils.registry import REGISTRIES

logger = get_logger(__name__)

REGISTRIES["PGT.NL_NORM"] = NORMS


@dataclass(frozen=True)
class Rules:
    """Memory of the operators of a model. Each operator gets a copy of its policy.

    Args:
        body: policy of each pathway in front of the head.
        head: policy of each pathway in the head; None for a head without memory.
        positions: temporal positions that the head scores in a whole clip, per pathway.
        nonlocal_norm: constructor `norm(channels)` of non-local blocks with memory; None leaves these blocks plain.
        fusion: lateral connections have memory, by the fast pathway's policy.
        step_tokens: temporal positions of a later step of a model over tokens, whose policies count such positions.
    """

    body: Sequence[CachePolicy]
    head: Sequence[CachePolicy] | None
    positions: Sequence[int]
    nonlocal_norm: Callable[[int], nn.Module] | None = None
    fusion: bool = False
    step_tokens: int = 0

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Rules:
        """Read the section PGT."""
        options = cfg.PGT
        tokens = cfg.MODEL.MODEL_NAME in TOKEN_MODELS
        sizes = [memory_frames(cfg)] if tokens else options.OVERLAP
        body, head = (
            cache and [CACHE_POLICIES.get(cache)(frames, options.CACHE_MOMENTUM) for frames in sizes]
            for cache in (options.CACHE, head_cache(cfg))
        )
        norm = build_norm(cfg, options.NL_NORM) if cfg.NONLOCAL.PROGRESS else None
        later = token_frames(cfg, options.STEP_LEN[0] - options.OVERLAP[0]) if tokens else 0
        return cls(body, head, options.TPOOL_SIZE, norm, options.FUSION_MEMORY, later)


@MODEL_ADAPTERS.register(NAME)
def build_progressive_model(model: VideoModel, cfg: CfgNode) -> ProgressiveModel:
    """Convert a clip model by the section PGT; see `convert`.

    Raises:
        ValueError: what `convert` raises.
    """
    model = convert(model, Rules.from_config(cfg))
    model.full_gradient = through_memory(cfg) is not None
    model.carries_memory = cfg.PGT.MEMORY
    model.step_len = StepPlan.from_config(cfg).step_len
    logger.info("%s has %d operators with memory", type(model.clip_model).__name__, len(model.operators))
    return model


def convert(model: VideoModel, rules: Rules) -> ProgressiveModel:
    """Make a clip model progressive: replace its layers in place and wrap it.

    Parameters are those of the clip model, under the same names. `CONVERTERS` says how each kind of layer is converted.

    Raises:
        ValueError: no layer can carry memory; a temporal convolution with stride or dilation in time; a non-local block
            over groups of frames; a layer that is used twice, or whose class has a forward of its own.
    """
    conversion = Conversion(model, rules)
    conversion.visit("", model)
    if not conversion.operators:
        raise ValueError(
            f"{type(model).__name__} has no layer that can carry memory, so its steps would know nothing of each "
            "other: it has no convolution or attention along time, and "
            + ("PGT.HEAD is False; set it True" if rules.head is None else "no pooling of its head is known here")
            + ", take another model, or set PGT.ENABLE False"
        )
    kind = MaskedProgressiveModel if isinstance(model, MaskMViT) else ProgressiveModel
    return kind(model, conversion.operators)


class Conversion:
    """Pass over a clip model that replaces layers by operators.

    Args:
        model: clip model, changed in place.
        rules: memory of its operators.
    """

    def __init__(self, model: VideoModel, rules: Rules):
        self.model, self.rules = model, rules
        self.operators: list[str] = []
        self._uses = Counter(id(layer) for _, layer in model.named_modules(remove_duplicate=False))
        self._pathways = {
            id(layer): pathway
            for pathway, parts in enumerate(model.pathways())
            for part in parts
            for layer in part.modules()
        }

    def visit(self, name: str, layer: nn.Module) -> None:
        """Convert a layer by the nearest of its classes in `CONVERTERS`, or otherwise the layers in it."""
        convert_layer = next((CONVERTERS[cls] for cls in type(layer).__mro__ if cls in CONVERTERS), None)
        if convert_layer is None:
            self.visit_children(name, layer)
        else:
            convert_layer(self, name, layer)

    def visit_children(self, name: str, layer: nn.Module) -> None:
        """Convert the layers in a layer."""
        for child, module in list(layer.named_children()):
            self.visit(f"{name}.{child}" if name else child, module)

    def replace(self, name: str, layer: nn.Module, operator: nn.Module) -> None:
        """Put an operator in the place of a layer.

        Raises:
            ValueError: the layer is used in several places, or computes something else than the operator knows.
        """
        if self._uses[id(layer)] > 1:
            raise ValueError(f"{name} is used in {self._uses[id(layer)]} places; an operator with memory has one place")
        known = next(cls for cls in type(layer).__mro__ if cls in CONVERTERS or cls in WINDOWS)
        if type(layer).forward is not known.forward:
            raise ValueError(
                f"{name} is a {type(layer).__name__} with a forward of its own, which a {type(operator).__name__} "
                f"would not run: register a converter for it in pgt.conversion.CONVERTERS"
            )
        self.model.set_submodule(name, operator)
        if isinstance(operator, MarkovOperator) and operator.policy is not None:
            self.operators.append(name)

    def body_policy(self, layer: nn.Module, channels: int) -> CachePolicy:
        """Return the policy of a layer in front of the head, for `channels` channels of memory.

        A layer of no pathway is of the first.
        """
        policy = self.rules.body[self.pathway(layer)]
        return policy.for_operator(policy.frames, channels)

    def head_policy(self, layer: nn.Module) -> CachePolicy | None:
        """Return the policy of a pooling in the head; None for a head without memory."""
        if self.rules.head is None:
            return None
        pathway = self.pathway(layer)
        policy = self.rules.head[pathway]
        heads = [part for part in self.model.modules() if isinstance(part, Classifier) and layer in part.modules()]
        channels = heads[0].pooled_channels()[pathway] if heads else self.model.num_features
        return policy.for_operator(policy.frames, channels)

    def pathway(self, layer: nn.Module) -> int:
        """Return the pathway of a layer; 0 for a layer of none."""
        return self._pathways.get(id(layer), 0)

    def convert_window(self, name: str, layer: nn.Module | None, channels: int, heads: int = 1) -> None:
        """Let the windows along time of a convolution or pooling of the first pathway read memory.

        Only the frames that padding stands for can be read, so the memory has as many; without such frames the layer
        stays as it is.

        Args:
            channels: channels of the layer's input, those of all heads.
            heads: groups of channels that lie side by side in the batch of the layer.
        """
        if layer is None or layer.kernel_size[0] == 1 or not layer.padding[0]:
            return
        operator = next(WINDOWS[cls] for cls in type(layer).__mro__ if cls in WINDOWS)
        policy = self.rules.body[0].for_operator(layer.padding[0], channels)
        window = operator.from_layer(layer, name, policy, heads=heads)
        self.replace(name, layer, window)


def _convert_pool(conversion: Conversion, name: str, pool: SpaceTimePool) -> None:
    positions = conversion.rules.positions[conversion.pathway(pool)]
    policy = conversion.head_policy(pool)
    conversion.replace(name, pool, MarkovPool.from_layer(pool, name, policy, positions=positions))


def _convert_time_pool(conversion: Conversion, name: str, pool: TimePool) -> None:
    policy = conversion.head_policy(pool)
    if policy is not None:
        conversion.replace(name, pool, MarkovTimePool.from_layer(pool, name, policy))


def _convert_conv(conversion: Conversion, name: str, conv: nn.Conv3d) -> None:
    if conv.kernel_size[0] == 1:
        return
    _check_conv(name, conv, stride=1)
    conversion.replace(name, conv, MarkovConv3d.from_layer(conv, name, conversion.body_policy(conv, conv.in_channels)))


def _convert_fusion(conversion: Conversion, name: str, fusion: FuseFastToSlow) -> None:
    """Convert a lateral connection, whose convolution reads the fast pathway."""
    if not conversion.rules.fusion:
        conversion.replace(name, fusion, StepFusion.from_layer(fusion))
        return
    conv, name = fusion.conv_f2s, f"{name}.conv_f2s"
    _check_conv(name, conv, stride=conv.stride[0])  # it divides the fast frames of a step, see pgt.operators.layers
    policy = conversion.rules.body[1]
    policy = policy.for_operator(policy.frames, conv.in_channels)
    conversion.replace(name, conv, MarkovConv3d.from_layer(conv, name, policy))


def _convert_nonlocal(conversion: Conversion, name: str, block: NonLocal) -> None:
    norm = conversion.rules.nonlocal_norm
    if norm is None:
        return
    if block.group > 1:
        raise ValueError(f"{name}: NONLOCAL.GROUP {block.group} with NONLOCAL.PROGRESS; groups of frames need GROUP 1")
    operator = MarkovNonLocal.from_layer(block, name, WholeStep())
    if not isinstance(operator.bn, nn.Identity):
        operator.bn = norm(operator.conv_out.out_channels)
        nn.init.zeros_(operator.bn.weight)  # the block starts as the identity
    conversion.replace(name, block, operator)


def _convert_token_model(conversion: Conversion, name: str, model: TokenModel) -> None:
    model.position_fit = StepPositions(conversion.rules.step_tokens)
    conversion.visit_children(name, model)


def _convert_patches(conversion: Conversion, name: str, patches: PatchEmbed) -> None:
    conversion.convert_window(f"{name}.proj", patches.proj, patches.proj.in_channels)


def _convert_block(conversion: Conversion, name: str, block: MultiscaleBlock) -> None:
    conversion.convert_window(f"{name}.pool_skip", block.pool_skip, block.attn.proj.in_features)
    conversion.visit(f"{name}.attn", block.attn)


def _convert_transition(conversion: Conversion, name: str, transition: StageTransition) -> None:
    conversion.convert_window(f"{name}.pool_skip", transition.pool_skip, transition.F.attn.proj.in_features)
    conversion.visit_children(name, transition)
    queries = f"{name}.F.attn.pool_q"
    if transition.residual_path == "conv" and queries in conversion.operators:
        conversion.replace(name, transition, StepTransition.from_layer(transition))
        conversion.operators.append(queries + StepTransition.ending)


def _convert_pooling_attention(conversion: Conversion, name: str, attention: PoolingAttention) -> None:
    width = attention.proj.in_features
    heads = 1 if attention.options.mode == "conv_unshared" else attention.heads
    pools = {"pool_q": attention.pool_q, "pool_k": attention.pool_k, "pool_v": attention.pool_v}
    for child, pool in pools.items():
        conversion.convert_window(f"{name}.{child}", pool, attention.pooled_channels, heads)
    policy = conversion.body_policy(attention, 2 * width)
    conversion.replace(name, attention, MarkovPoolingAttention.from_layer(attention, name, policy))


def _leave_plain(conversion: Conversion, name: str, layer: nn.Module) -> None:
    """Convert nothing. The decoder of masked learning sees memory through the encoder, which is what is kept of it."""


def _convert_time_attention(conversion: Conversion, name: str, attention: TimeAttention) -> None:
    policy = conversion.body_policy(attention, 2 * attention.proj.in_features)
    conversion.replace(name, attention, MarkovTimeAttention.from_layer(attention, name, policy))


def _check_conv(name: str, conv: nn.Conv3d, stride: int) -> None:
    k = conv.kernel_size[0]
    if conv.stride[0] != stride or conv.dilation[0] != 1 or k % 2 == 0 or conv.padding[0] != k // 2:
        raise ValueError(
            f"{name}: a temporal convolution with kernel {k}, stride {conv.stride[0]}, dilation {conv.dilation[0]} and "
            f"padding {conv.padding[0]} cannot carry memory; it takes an odd kernel k, stride 1, dilation 1, padding "
            "k // 2"
        )


# Class of a layer -> converter(conversion, name, layer), which also answers for the layers in it. A layer is converted
# by the nearest of its classes; a project may add its own.
CONVERTERS: dict[type[nn.Module], Callable[[Conversion, str, nn.Module], None]] = {
    nn.Conv3d: _convert_conv,
    Conv3d: _convert_conv,
    SpaceTimePool: _convert_pool,
    TimePool: _convert_time_pool,
    NonLocal: _convert_nonlocal,
    FuseFastToSlow: _convert_fusion,
    TokenModel: _convert_token_model,
    PatchEmbed: _convert_patches,
    MultiscaleBlock: _convert_block,
    StageTransition: _convert_transition,
    PoolingAttention: _convert_pooling_attention,
    TimeAttention: _convert_time_attention,
    PredictionHead: _leave_plain,
}

# Class of a layer with windows along time -> operator.
WINDOWS: dict[type[nn.Module], type[StepWindow]] = {
    Conv3d: StepConv3d,
    nn.MaxPool3d: StepMaxPool3d,
    nn.AvgPool3d: StepAvgPool3d,
    AvgPool3d: StepAvgPool3d,
}
