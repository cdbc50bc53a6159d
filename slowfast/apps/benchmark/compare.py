"""Prediction and training iterations on random clips: variants, and their time and memory."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fvcore.common.config import CfgNode

from slowfast.engine.task import task_class
from slowfast.engine.trial import Trial, seconds_of
from slowfast.runtime.device import device_of, peak_memory_of

BASELINE = "baseline"
# Works to measure: prediction and training iteration on whole clips, and by the config's own task in steps.
WORKS = ("forward", "train", "forward_steps", "train_steps")
# Overrides of each part of a variant's name; parts are joined with +.
VARIANTS = {
    "config": (),
    "fp32": ("TRAIN.MIXED_PRECISION", False),
    "bf16": ("TRAIN.MIXED_PRECISION", True, "TRAIN.MIXED_PRECISION_DTYPE", "bf16"),
    "fp16": ("TRAIN.MIXED_PRECISION", True, "TRAIN.MIXED_PRECISION_DTYPE", "fp16"),
    "depthwise_fp32": ("TRAIN.DEPTHWISE_FP32", True),
    "compile": ("MODEL.COMPILE", True),
    "graphs": ("MODEL.COMPILE", True, "MODEL.COMPILE_MODE", "reduce-overhead"),
    "contiguous": ("MODEL.MEMORY_FORMAT", "contiguous"),
    "channels_last": ("MODEL.MEMORY_FORMAT", "channels_last"),
    "recompute": ("MODEL.ACT_CHECKPOINT", True),
    "unfolded": ("TEST.FOLD_NORMS", False),
}
_BASELINE_SETTINGS = (*VARIANTS["fp32"], *VARIANTS["contiguous"], *VARIANTS["unfolded"], "MODEL.COMPILE", False)
_SHORTEST_TURN = 0.2  # seconds; shorter works are repeated within a turn


@dataclass(frozen=True)
class Variant:
    """One benchmark variant: the baseline or a candidate.

    Attributes:
        name: `BASELINE`, or parts of `VARIANTS` joined with +.
        cfg: config of the variant.
        plain: run convolutions as plain `nn.Conv3d` modules.
    """

    name: str
    cfg: CfgNode
    plain: bool = False


def variant_settings(name: str) -> tuple[Any, ...]:
    """Return the overrides KEY, VALUE, ... of a variant such as bf16+compile; ValueError for an unknown part."""
    parts = name.split("+")
    unknown = [part for part in parts if part not in VARIANTS]
    if unknown:
        raise ValueError(f"variant {name!r}: {', '.join(unknown)} is not one of {', '.join(VARIANTS)} (joined with +)")
    return sum((VARIANTS[part] for part in parts), ())


def clip_config(cfg: CfgNode) -> CfgNode:
    """Return the config with which the same model reads the same clips at once."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TASK = cfg.MODEL.ADAPTER = ""
    cfg.freeze()
    return cfg


def make_variant(load: Callable[[Sequence[Any]], CfgNode], work: str, name: str, steps: int | None = None) -> Variant:
    """Build a variant of a work.

    Args:
        load: overrides -> config.
        work: of `WORKS`.
        name: `BASELINE` or a variant. The baseline always reads whole clips: in steps, it is training end to end.
        steps: number of steps of a clip; None for that of the config.

    Raises:
        ValueError: an unknown variant, a task without steps, or settings that do not fit.
    """
    plain = name == BASELINE
    cfg = load(_BASELINE_SETTINGS if plain else variant_settings(name))
    if steps is not None:
        cfg = task_class(cfg).steps_config(cfg, steps)
    if plain or not work.endswith("_steps"):
        cfg = clip_config(cfg)
    return Variant(name, cfg, plain)


def _work(variant: Variant, training: bool) -> Callable[[], Any]:
    return Trial(variant.cfg, training, variant.plain)


def measure_alone(variant: Variant, training: bool, iterations: int) -> dict[str, float]:
    """Measure the time of one variant in `iterations`, or with 0 its memory; each after an iteration to warm up.

    Returns:
        `seconds`, the median of an iteration; or `process_mib`, the peak memory in use, and `peak_mib`, the part of it
        above the idle process (libraries, model, optimizer state and batch).
    """
    device, work = device_of(variant.cfg), _work(variant, training)
    if not iterations:
        return peak_memory_of(work, device)
    seconds_of(work, 1, device)
    return {"seconds": statistics.median(seconds_of(work, 1, device) for _ in range(iterations))}


def compare(variants: Sequence[Variant], training: bool, rounds: int) -> list[dict[str, Any]]:
    """Measure the time of variants in turn, A B A B, in this process.

    Returns:
        For every variant its `name`; `first`, the seconds of the first iteration (with compilation); and `seconds` of
        an iteration in each round.
    """
    device = device_of(variants[0].cfg)
    works = [_work(variant, training) for variant in variants]
    first = [seconds_of(work, 1, device) for work in works]
    counts = [max(1, round(_SHORTEST_TURN / seconds_of(work, 1, device))) for work in works]
    turns = [
        [seconds_of(work, count, device) for work, count in zip(works, counts, strict=True)] for _ in range(rounds)
    ]
    return [
        {"name": variant.name, "first": first[i], "seconds": [turn[i] for turn in turns]}
        for i, variant in enumerate(variants)
    ]
