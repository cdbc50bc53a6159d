"""Section PGT of the config: keys with defaults, derived settings, rules between keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fvcore.common.config import CfgNode

from pgt import mgrid
from pgt.memory import CACHE_POLICIES
from pgt.plan import StepPlan, per_pathway
from slowfast.config import add_adapter, remove_adapter, set_task
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import check_choice

ENSEMBLES = ("sum", "max", "last")
NAME = "progressive"  # of the task and of the model adapter
MASKED_NAME = "progressive_masked"  # of the task of masked learning
MASKED_MODEL = "MaskMViT"  # value of MODEL.MODEL_NAME
TOKEN_MODELS = ("MViT", MASKED_MODEL, "TimeSformer")  # values of MODEL.MODEL_NAME

logger = get_logger(__name__)


def add_config(cfg: CfgNode) -> None:
    """Add the section PGT with its defaults."""
    cfg.PGT = defaults()


def defaults() -> CfgNode:
    """Return the section PGT with its defaults."""
    return CfgNode(
        {
            # Train and test in steps.
            "ENABLE": False,
            # Frames of the first step, one entry per pathway (slow first).
            "STEP_LEN": [8],
            # Steps of a clip.
            "STEPS": 5,
            # [min, max] steps of a training clip, drawn for each batch; [] for STEPS. Testing takes STEPS.
            "STEPS_RANGE": [],
            # Frames of memory, one entry per pathway. A later step reads STEP_LEN - OVERLAP new frames.
            "OVERLAP": [1],
            # Update the weights once a clip, by the sum of the steps' gradients; False: after each step.
            "TRAIN_TOGETHER": False,
            # Memory of an operator: the "last" frames, adaptive "max" or "avg" pooling over time, a learned "gate" or
            # learned "slots", or another policy that a project registers in pgt.memory.CACHE_POLICIES.
            "CACHE": "last",
            # Momentum m of the memory: weight of the old one, 0 <= m < 1.
            "CACHE_MOMENTUM": 0.0,
            # Evaluate in steps; False: in one forward over the whole clip, without memory.
            "PG_EVAL": False,
            # Scores of a clip: "sum" or "max" of the scores of its steps, or those of the "last" step.
            "ENSEMBLE_METHOD": "sum",
            # Temporal positions that the head scores in a whole-clip evaluation, one entry per pathway.
            "TPOOL_SIZE": [4],
            # Give the head memory.
            "HEAD": True,
            # MViT and TimeSformer: temporal positions of keys and values in memory, and of the head's memory. 0: the
            # positions of the first step minus those of a later step, at least 1.
            "ATTENTION_MEMORY": 0,
            # Give the lateral connections of SlowFast memory; the published models have none there.
            "FUSION_MEMORY": False,
            # Policy of the head's memory, a value of CACHE. "published": CACHE, but "avg" in place of "max", except in
            # heads of X3D and heads for boxes; the head of RegNet then has no memory.
            "HEAD_CACHE": "published",
            # Backpropagate through the memory over all steps (needs TRAIN_TOGETHER); False: truncate between steps.
            "FULL_GRADIENT": False,
            # Steps in a group with one backward pass, through which gradients pass; 1: truncate between all steps.
            "GRADIENT_STEPS": 1,
            # Masked learning (MODEL.MODEL_NAME MaskMViT): steps between the memory and the masked step. 0 masks the
            # step right behind the memory; n predicts further ahead, and the n steps between are not seen.
            "MASK_AHEAD": 0,
            # Weight of each step's loss; [] for 1 each.
            "STEP_WEIGHTS": [],
            # Hand memory from step to step; False: every step starts without memory (ablation).
            "MEMORY": True,
            # Frames of the slow pathway in a later step: "even" over its new frames, or "published", which skips the
            # first STEP_LEN[0] of them.
            "SLOW_SAMPLING": "published",
            # Published switch that KEEPS the graph between steps. Only False is accepted; see FULL_GRADIENT.
            "TRUNCATE_GRAD": False,
            # Progressive multigrid: number of steps, step length and learning rate cycle by the epoch.
            "MGRID": False,
            # Multigrid: steps of a clip, one entry for each epoch of the cycle.
            "MGRID_STEPS": [],
            # Multigrid: STEP_LEN in each epoch of the cycle.
            "MGRID_STEP_LEN": [],
            # Multigrid: factor of the learning rate in each epoch of the cycle.
            "MGRID_LRSCALES": [],
            # Multigrid: the last epoch follows the cycle too; False: it takes STEPS, STEP_LEN and factor 1.
            "MGRID_NO_FINETUNE": False,
            # Norm of non-local blocks with memory (NONLOCAL.PROGRESS), a value of BN.NORM_TYPE.
            "NL_NORM": "batchnorm",
            # Detection: evaluate the boxes of all steps; False: of the last step. ENSEMBLE_METHOD joins the scores of a
            # box that several clips see.
            "ALL_STEP_TEST": False,
        }
    )


def resolve(cfg: CfgNode) -> None:
    """Derive settings from the section: task, model adapter, lists per pathway, frames of the slow pathway."""
    if not cfg.PGT.ENABLE:
        _warn_of_unused(cfg)
        if cfg.TASK in (NAME, MASKED_NAME):  # a saved configuration with the section switched off again
            cfg.TASK, cfg.SLOWFAST.SLOW_INDICES = "", []
            remove_adapter(cfg, NAME)
            cfg.DATA.TRAIN_NUM_FRAMES = []
            cfg.AVA.FRAMES_AFTER_KEY, cfg.AVA.BOX_FRAMES = -1, []
        return
    _reject_published_traps(cfg)
    plan = StepPlan.from_config(cfg)
    if cfg.DATA.NUM_FRAMES != plan.num_frames:
        logger.warning(
            "DATA.NUM_FRAMES is %s, but clips have %s frames, as the published code counts them: %s. For %s frames set "
            "%s",
            *(cfg.DATA.NUM_FRAMES, plan.num_frames, plan.pathway_sums(), cfg.DATA.NUM_FRAMES, plan.fitting()),
        )
        cfg.DATA.NUM_FRAMES = plan.num_frames
    _set_task(cfg)
    add_adapter(cfg, NAME)
    cfg.PGT.TPOOL_SIZE = per_pathway(cfg.PGT.TPOOL_SIZE, plan.num_pathways, "PGT.TPOOL_SIZE")
    cfg.PGT.MGRID_STEP_LEN = mgrid.step_lengths(cfg.PGT.MGRID_STEP_LEN, plan.num_pathways)
    cfg.DATA.TRAIN_NUM_FRAMES = _train_lengths(cfg, plan)
    _reject_models_without_memory(cfg)
    if cfg.MODEL.MODEL_NAME in TOKEN_MODELS and not cfg.MODEL.POSITIONS_FOR:
        cfg.MODEL.POSITIONS_FOR = [plan.step_len[0], cfg.DATA.TRAIN_CROP_SIZE]
    # The slow frames of fewer steps are the first ones of these.
    longest = replace(plan, steps=max(plan.steps, *cfg.PGT.STEPS_RANGE, 0))
    cfg.SLOWFAST.SLOW_INDICES = longest.slow_indices() if plan.num_pathways == 2 else []
    if cfg.DETECTION.ENABLE:
        cfg.AVA.FRAMES_AFTER_KEY, cfg.AVA.BOX_FRAMES = plan.frames_after_key, longest.centers()
    if cfg.PGT.ALL_STEP_TEST and cfg.PGT.ENSEMBLE_METHOD != "last":
        cfg.DATA.ENSEMBLE_METHOD = cfg.PGT.ENSEMBLE_METHOD  # of the boxes that several clips score


def _set_task(cfg: CfgNode) -> None:
    masked = cfg.MODEL.MODEL_NAME == MASKED_MODEL
    if masked and cfg.TASK == "ssl":
        cfg.TASK = ""  # it says that no label is read, which holds
    set_task(cfg, MASKED_NAME if masked else NAME, "PGT.ENABLE True")


def _warn_of_unused(cfg: CfgNode) -> None:
    """Warn of keys of the section that are set and do nothing, because PGT.ENABLE is False."""
    default = defaults()
    unused = [f"PGT.{key}" for key, value in cfg.PGT.items() if value != default[key]]
    if unused:
        logger.warning("PGT.ENABLE is False, so %s has no effect; set PGT.ENABLE True", ", ".join(unused))


def _train_lengths(cfg: CfgNode, plan: StepPlan) -> list[int]:
    """Return the frames of a clip for every number of steps in PGT.STEPS_RANGE."""
    bounds, given = list(cfg.PGT.STEPS_RANGE), list(cfg.DATA.TRAIN_NUM_FRAMES)
    if bounds and (len(bounds) != 2 or not 1 <= bounds[0] <= bounds[1]):
        raise ValueError(
            f"PGT.STEPS_RANGE is {bounds}; it must be [min, max] steps of a clip, at least 1, or [] for STEPS"
        )
    lengths = [replace(plan, steps=steps).num_frames for steps in range(bounds[0], bounds[1] + 1)] if bounds else []
    if given and given != lengths:
        raise ValueError(
            f"DATA.TRAIN_NUM_FRAMES is {given}, but PGT.STEPS_RANGE {bounds} makes it {lengths}; remove the key, and "
            "set STEPS_RANGE"
        )
    return lengths


def _reject_published_traps(cfg: CfgNode) -> None:
    if cfg.PGT.TRUNCATE_GRAD:
        raise ValueError(
            "PGT.TRUNCATE_GRAD is True, which in the published code keeps the graph between steps, against its name. "
            "Set PGT.FULL_GRADIENT True for gradients through all steps, or remove the key for truncated ones"
        )


def _reject_models_without_memory(cfg: CfgNode) -> None:
    options = cfg.MVIT
    if cfg.MODEL.MODEL_NAME not in ("MViT", MASKED_MODEL) or not (options.REV.ENABLE or options.PATCH_2D):
        return
    if options.REV.ENABLE and through_memory(cfg):
        key, value, off = through_memory(cfg)
        raise ValueError(
            f"{key} {value} with MVIT.REV.ENABLE True: reversible blocks keep no activations, by which "
            f"gradients could reach the memory of earlier steps. Set {key} {off}, or MVIT.REV.ENABLE "
            "False and MODEL.ACT_CHECKPOINT True"
        )
    if not options.PATCH_2D:
        return
    raise ValueError(
        "PGT.ENABLE True with MVIT.PATCH_2D True: a model of images has no steps in time. Set MVIT.PATCH_2D False, or "
        "PGT.ENABLE False"
    )


def head_cache(cfg: CfgNode) -> str | None:
    """Return the policy of the head's memory, PGT.HEAD_CACHE with "published" resolved; None for no memory.

    In the published code the classification head of ResNet and SlowFast averages where CACHE is max. Heads of X3D and
    heads for boxes do not. The head of RegNet has no memory.
    """
    if not cfg.PGT.HEAD:
        return None
    if cfg.PGT.HEAD_CACHE != "published":
        return cfg.PGT.HEAD_CACHE
    if cfg.MODEL.MODEL_NAME == "RegNet":
        return None
    pools_apart = cfg.MODEL.MODEL_NAME == "X3D" or cfg.DETECTION.ENABLE
    return "avg" if cfg.PGT.CACHE == "max" and not pools_apart else cfg.PGT.CACHE


def through_memory(cfg: CfgNode) -> tuple[str, Any, Any] | None:
    """Return the key that lets gradients through memory, its value, and that without; None if no key does."""
    if cfg.PGT.FULL_GRADIENT:
        return "PGT.FULL_GRADIENT", True, False
    return ("PGT.GRADIENT_STEPS", cfg.PGT.GRADIENT_STEPS, 1) if cfg.PGT.GRADIENT_STEPS > 1 else None


def token_frames(cfg: CfgNode, frames: int) -> int:
    """Return the temporal positions of the tokens of `frames` frames."""
    if cfg.MODEL.MODEL_NAME == "TimeSformer":
        return frames
    options = cfg.MVIT
    kernel, stride, padding = options.PATCH_KERNEL[0], options.PATCH_STRIDE[0], options.PATCH_PADDING[0]
    return (frames + 2 * padding - kernel) // stride + 1


def memory_frames(cfg: CfgNode) -> int:
    """Return the temporal positions of keys and values in memory, PGT.ATTENTION_MEMORY with 0 resolved."""
    step, overlap = cfg.PGT.STEP_LEN[0], cfg.PGT.OVERLAP[0]
    return cfg.PGT.ATTENTION_MEMORY or max(1, token_frames(cfg, step) - token_frames(cfg, step - overlap))


def validate(cfg: CfgNode) -> None:
    """Check the rules within the section and between it and the core.

    Raises:
        ValueError: with the key, its value and what it may be.
    """
    options = cfg.PGT
    if not options.ENABLE:
        return
    check_choice("PGT.HEAD_CACHE", options.HEAD_CACHE, ("published", *CACHE_POLICIES))
    check_choice("PGT.ENSEMBLE_METHOD", options.ENSEMBLE_METHOD, ENSEMBLES)
    if not 0.0 <= options.CACHE_MOMENTUM < 1.0:
        raise ValueError(f"PGT.CACHE_MOMENTUM is {options.CACHE_MOMENTUM}; it must be at least 0 and under 1")
    if min(options.TPOOL_SIZE) < 1:
        raise ValueError(f"PGT.TPOOL_SIZE is {list(options.TPOOL_SIZE)}; every entry must be at least 1")
    if cfg.MODEL.MODEL_NAME in TOKEN_MODELS:
        _validate_attention(cfg)
    _validate_masked(cfg)
    _validate_training(cfg)
    _validate_multigrid(cfg)
    plan = StepPlan.from_config(cfg)
    if options.FUSION_MEMORY:
        plan.check_fusion()
    if not (options.PG_EVAL or plan.fits_alpha):
        raise ValueError(
            "PGT.PG_EVAL False evaluates the whole clip at once, which takes SLOWFAST.ALPHA "
            f"{plan.alpha} fast frames for each slow one, but {plan.pathway_sums()}; set PG_EVAL True, or take "
            f"{plan.fitting()}"
        )
    if options.ALL_STEP_TEST and not (cfg.DETECTION.ENABLE and options.PG_EVAL):
        raise ValueError(
            f"PGT.ALL_STEP_TEST True evaluates the boxes of all steps, but DETECTION.ENABLE is {cfg.DETECTION.ENABLE} "
            f"and PGT.PG_EVAL {options.PG_EVAL}; it needs both, or set it False"
        )
    if options.ALL_STEP_TEST and options.ENSEMBLE_METHOD == "last":
        raise ValueError(
            "PGT.ALL_STEP_TEST True evaluates the boxes of all steps, but PGT.ENSEMBLE_METHOD last takes one step; set "
            "ENSEMBLE_METHOD sum or max, or ALL_STEP_TEST False"
        )


def _validate_attention(cfg: CfgNode) -> None:
    step, overlap = cfg.PGT.STEP_LEN[0], cfg.PGT.OVERLAP[0]
    first, later = token_frames(cfg, step), token_frames(cfg, step - overlap)
    if later < 1:
        raise ValueError(
            f"PGT.STEP_LEN {list(cfg.PGT.STEP_LEN)} with PGT.OVERLAP {list(cfg.PGT.OVERLAP)}: the {step - overlap} new "
            f"frames of a later step give no token (MVIT.PATCH_KERNEL {cfg.MVIT.PATCH_KERNEL}); lower the overlap"
        )
    if not 0 <= cfg.PGT.ATTENTION_MEMORY <= first:
        raise ValueError(
            f"PGT.ATTENTION_MEMORY is {cfg.PGT.ATTENTION_MEMORY}; the first step of {step} frames has {first} "
            f"positions in time to remember: set 1 to {first}, or 0 for the default"
        )


def _validate_masked(cfg: CfgNode) -> None:
    options, loader = cfg.PGT, cfg.AUG.GEN_MASK_LOADER
    if cfg.MODEL.MODEL_NAME != MASKED_MODEL:
        if options.MASK_AHEAD:
            raise ValueError(
                f"PGT.MASK_AHEAD is {options.MASK_AHEAD} with MODEL.MODEL_NAME {cfg.MODEL.MODEL_NAME}, which masks "
                f"nothing; set it to 0, or MODEL_NAME {MASKED_MODEL}"
            )
        return
    fewest = min(options.STEPS_RANGE[0] if options.STEPS_RANGE else options.STEPS, options.STEPS)
    if fewest < 2 and options.MEMORY:
        raise ValueError(
            f"a clip of {fewest} step (PGT.STEPS, PGT.STEPS_RANGE) has no memory to predict a masked step from; take "
            "longer clips of at least 2 steps, or set PGT.MEMORY False"
        )
    if not 0 <= options.MASK_AHEAD < fewest - options.MEMORY:
        raise ValueError(
            f"PGT.MASK_AHEAD is {options.MASK_AHEAD}; in clips of {fewest} steps (PGT.STEPS, PGT.STEPS_RANGE) it is "
            f"0 to {fewest - options.MEMORY - 1}"
        )
    stride = cfg.MVIT.PATCH_STRIDE[0]
    step, new = options.STEP_LEN[0], options.STEP_LEN[0] - options.OVERLAP[0]
    if any(frames % stride or token_frames(cfg, frames) != frames // stride for frames in (step, new)):
        raise ValueError(
            f"the {step} frames of the first step and the {new} new ones of a later step (PGT.STEP_LEN, PGT.OVERLAP) "
            f"must be whole patches of MVIT.PATCH_STRIDE[0] {stride} frames, so that each has a target"
        )
    if cfg.MODEL.COMPILE:
        raise ValueError(
            f"MODEL.COMPILE {cfg.MODEL.COMPILE} with PGT.ENABLE True and MODEL.MODEL_NAME {MASKED_MODEL}: the "
            "number of masked tokens breaks the graph, and memory would be lost in the break. Set MODEL.COMPILE False"
        )
    if options.MGRID or (loader and options.STEPS_RANGE):
        raise ValueError(
            f"PGT.MGRID {options.MGRID}, PGT.STEPS_RANGE {list(options.STEPS_RANGE)} and AUG.GEN_MASK_LOADER {loader} "
            f"with MODEL.MODEL_NAME {MASKED_MODEL}: masks of the loader have one size. Set MGRID False, and "
            "STEPS_RANGE [] or GEN_MASK_LOADER False"
        )


def _validate_multigrid(cfg: CfgNode) -> None:
    if cfg.PGT.MGRID:
        mgrid.validate(cfg)
    factors = cfg.MULTIGRID.LONG_CYCLE_FACTORS
    if cfg.MULTIGRID.LONG_CYCLE and any(frames != 1 for frames, _ in factors):
        raise ValueError(
            f"MULTIGRID.LONG_CYCLE_FACTORS {factors} shorten DATA.NUM_FRAMES, which the steps of PGT fix at "
            f"{cfg.DATA.NUM_FRAMES}. For shorter clips set PGT.MGRID with MGRID_STEPS and MGRID_STEP_LEN in place of "
            "MULTIGRID.LONG_CYCLE; for smaller ones alone let every first factor be 1"
        )


def _validate_training(cfg: CfgNode) -> None:
    options = cfg.PGT
    weights = list(options.STEP_WEIGHTS)
    if weights and options.STEPS_RANGE:
        raise ValueError(
            f"PGT.STEP_WEIGHTS {weights} has a weight for each step, but PGT.STEPS_RANGE {list(options.STEPS_RANGE)} "
            "draws their number; keep one of them"
        )
    if weights and (len(weights) != options.STEPS or min(weights) < 0 or sum(weights) <= 0):
        raise ValueError(
            f"PGT.STEP_WEIGHTS is {weights}; it must hold one weight for each of the {options.STEPS} steps, none "
            "below 0 and not all 0, or be [] for equal weights"
        )
    if options.GRADIENT_STEPS < 1:
        raise ValueError(f"PGT.GRADIENT_STEPS is {options.GRADIENT_STEPS}; it must be at least 1")
    if options.FULL_GRADIENT and options.GRADIENT_STEPS > 1:
        raise ValueError(
            f"PGT.FULL_GRADIENT True with PGT.GRADIENT_STEPS {options.GRADIENT_STEPS}: the one passes through all "
            "steps, the other through some; set FULL_GRADIENT False or GRADIENT_STEPS 1"
        )
    if through_memory(cfg) and cfg.MODEL.ACT_CHECKPOINT and cfg.MODEL.COMPILE:
        key, value, off = through_memory(cfg)
        raise ValueError(
            f"{key} {value} with MODEL.ACT_CHECKPOINT True and MODEL.COMPILE {cfg.MODEL.COMPILE}: compiled, a "
            "step's activations cannot be computed again once later steps have changed the norms' statistics; set "
            f"{key} {off}, or one of the other two to False"
        )
    if options.TRAIN_TOGETHER:
        return
    if options.FULL_GRADIENT:
        raise ValueError(
            "PGT.FULL_GRADIENT True with PGT.TRAIN_TOGETHER False: an update after every step would change the weights "
            "that later gradients still need; set PGT.TRAIN_TOGETHER True"
        )
    if cfg.TRAIN.ACCUM_STEPS > 1:
        raise ValueError(
            f"TRAIN.ACCUM_STEPS is {cfg.TRAIN.ACCUM_STEPS} with PGT.TRAIN_TOGETHER False: updates come after every "
            "step, so there is nothing to accumulate over batches; set PGT.TRAIN_TOGETHER True or TRAIN.ACCUM_STEPS 1"
        )
