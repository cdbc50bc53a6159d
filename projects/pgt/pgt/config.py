"""The PGT section: keys, what follows from them, and what they must agree on."""

from dataclasses import replace

from fvcore.common.config import CfgNode

from pgt import mgrid
from pgt.attention_memory import TOKEN_MODELS, validate_memory
from pgt.plan import StepPlan, per_pathway
from slowfast.config import add_adapter, remove_adapter, set_task

CACHES = ("last", "max", "avg")
ENSEMBLES = ("sum", "max", "last")
NAME = "progressive"  # of the task and of the model adapter


def add_config(cfg: CfgNode) -> None:
    """Adds the section PGT with its defaults."""
    cfg.PGT = CfgNode(
        {
            # Train and test in steps.
            "ENABLE": False,
            # Frames of the first step, a pathway (slow first).
            "STEP_LEN": [8],
            # Steps a clip.
            "STEPS": 5,
            # [least, most] steps of a training clip, drawn for each batch; [] for STEPS, as in testing anyway.
            "STEPS_RANGE": [],
            # Frames of memory, a pathway; a later step reads STEP_LEN - OVERLAP new frames.
            "OVERLAP": [1],
            # One update a clip, on the sum of the steps' gradients; False: one update a step.
            "TRAIN_TOGETHER": False,
            # What an operator remembers of its input: its "last" frames, or a "max" or "avg" pooling of all of them.
            "CACHE": "last",
            # Weight of the old memory in the new one, 0 <= m < 1.
            "CACHE_MOMENTUM": 0.0,
            # Evaluate step by step; False: one forward over the whole clip, without memory.
            "PG_EVAL": False,
            # Class scores of a clip from those of its steps: "sum", "max" or the "last" step's.
            "ENSEMBLE_METHOD": "sum",
            # Temporal positions that the head scores in a whole-clip evaluation, a pathway.
            "TPOOL_SIZE": [4],
            # Memory in the head.
            "HEAD": True,
            # MViT and TimeSformer: temporal positions of keys and values carried (and of the head's memory); 0 for as
            # many as a later step has fewer than the first, at least 1.
            "ATTENTION_MEMORY": 0,
            # Memory in the lateral connections of SlowFast; published without.
            "FUSION_MEMORY": False,
            # Pooling of the head's memory: "last", "max", "avg", or "published": CACHE, but avg where that is max
            # (heads of X3D and for boxes: max).
            "HEAD_CACHE": "published",
            # Gradients flow through the memory over all steps (needs TRAIN_TOGETHER); False cuts them between steps.
            "FULL_GRADIENT": False,
            # Weight of each step's loss; [] is 1 for all.
            "STEP_WEIGHTS": [],
            # False: every step starts without memory (an ablation).
            "MEMORY": True,
            # Slow frames of a later step of a two-pathway model: "published" (after its first L_slow frames), or
            # "even".
            "SLOW_SAMPLING": "published",
            # Published name of the switch that KEEPS the graph; only False is accepted, see FULL_GRADIENT.
            "TRUNCATE_GRAD": False,
            # Progressive multigrid: steps, their length and the learning rate change by the epoch, in turn.
            "MGRID": False,
            # Steps of a clip, an entry for each epoch of the cycle.
            "MGRID_STEPS": [],
            # STEP_LEN, likewise.
            "MGRID_STEP_LEN": [],
            # Factors of the learning rate, likewise.
            "MGRID_LRSCALES": [],
            # The last epoch takes its turn too; False: it takes STEPS, STEP_LEN and the plain learning rate.
            "MGRID_NO_FINETUNE": False,
            # Norm of progressive non-local blocks.
            "NL_NORM": "batchnorm",
            # Detection: evaluate the boxes of all steps, joined by ENSEMBLE_METHOD where a second is met several
            # times; False: those of the last.
            "ALL_STEP_TEST": False,
        }
    )


def resolve(cfg: CfgNode) -> None:
    """Settings that follow from the section: task, model adapter, lists per pathway, frames of the slow pathway."""
    if not cfg.PGT.ENABLE:
        if cfg.TASK == NAME:  # a saved configuration with the section switched off again
            cfg.TASK, cfg.SLOWFAST.SLOW_INDICES = "", []
            remove_adapter(cfg, NAME)
            cfg.DATA.TRAIN_NUM_FRAMES = []
            cfg.AVA.FRAMES_AFTER_KEY, cfg.AVA.BOX_FRAMES = -1, []
        return
    _reject_published_traps(cfg)
    plan = StepPlan.from_config(cfg)
    set_task(cfg, NAME, "PGT.ENABLE True")
    add_adapter(cfg, NAME)
    cfg.PGT.TPOOL_SIZE = per_pathway(cfg.PGT.TPOOL_SIZE, plan.num_pathways, "PGT.TPOOL_SIZE")
    cfg.PGT.MGRID_STEP_LEN = mgrid.step_lengths(cfg.PGT.MGRID_STEP_LEN, plan.num_pathways)
    cfg.DATA.TRAIN_NUM_FRAMES = _train_lengths(cfg, plan)
    if cfg.MODEL.MODEL_NAME in TOKEN_MODELS and not cfg.MODEL.POSITIONS_FOR:
        cfg.MODEL.POSITIONS_FOR = [plan.step_len[0], cfg.DATA.TRAIN_CROP_SIZE]
    # Those of fewer steps are the first of those of more.
    longest = replace(plan, steps=max(plan.steps, *cfg.PGT.STEPS_RANGE, 0))
    cfg.SLOWFAST.SLOW_INDICES = longest.slow_indices() if plan.num_pathways == 2 else []
    if cfg.DETECTION.ENABLE:
        cfg.AVA.FRAMES_AFTER_KEY, cfg.AVA.BOX_FRAMES = plan.frames_after_key, longest.centers()
    if cfg.PGT.ALL_STEP_TEST and cfg.PGT.ENSEMBLE_METHOD != "last":
        cfg.DATA.ENSEMBLE_METHOD = cfg.PGT.ENSEMBLE_METHOD  # of the boxes that several clips score


def _train_lengths(cfg: CfgNode, plan: StepPlan) -> list[int]:
    """Frames of a clip for every number of steps in PGT.STEPS_RANGE."""
    bounds, given = list(cfg.PGT.STEPS_RANGE), list(cfg.DATA.TRAIN_NUM_FRAMES)
    if bounds and (len(bounds) != 2 or not 1 <= bounds[0] <= bounds[1]):
        raise ValueError(f"PGT.STEPS_RANGE is {bounds}; it is [least, most] steps of a clip, from 1, or [] for STEPS")
    lengths = [replace(plan, steps=steps).num_frames for steps in range(bounds[0], bounds[1] + 1)] if bounds else []
    if given and given != lengths:
        raise ValueError(
            f"DATA.TRAIN_NUM_FRAMES is {given}, but PGT.STEPS_RANGE {bounds} makes it {lengths}; leave the key "
            "out, and set STEPS_RANGE"
        )
    return lengths


def _reject_published_traps(cfg: CfgNode) -> None:
    if cfg.PGT.TRUNCATE_GRAD:
        raise ValueError(
            "PGT.TRUNCATE_GRAD True keeps the graph between steps in the published code, against its name. Say what "
            "you want: PGT.FULL_GRADIENT True for gradients through all steps, or remove the key for truncated ones"
        )


def head_cache(cfg: CfgNode) -> str:
    """How the head's memory is pooled: PGT.HEAD_CACHE with "published" resolved.

    In the published code the classification head of ResNet and SlowFast averages where CACHE is max; those of X3D and
    for boxes do not.
    """
    if cfg.PGT.HEAD_CACHE != "published":
        return cfg.PGT.HEAD_CACHE
    pools_apart = cfg.MODEL.MODEL_NAME == "X3D" or cfg.DETECTION.ENABLE
    return "avg" if cfg.PGT.CACHE == "max" and not pools_apart else cfg.PGT.CACHE


def validate(cfg: CfgNode) -> None:
    """Rules within the section and between it and the core.

    Raises:
        ValueError: with the key, its value and what it may be.
    """
    options = cfg.PGT
    if not options.ENABLE:
        return
    _one_of("PGT.CACHE", options.CACHE, CACHES)
    _one_of("PGT.HEAD_CACHE", options.HEAD_CACHE, ("published", *CACHES))
    _one_of("PGT.ENSEMBLE_METHOD", options.ENSEMBLE_METHOD, ENSEMBLES)
    if not 0.0 <= options.CACHE_MOMENTUM < 1.0:
        raise ValueError(f"PGT.CACHE_MOMENTUM is {options.CACHE_MOMENTUM}; it must be at least 0 and under 1")
    if min(options.TPOOL_SIZE) < 1:
        raise ValueError(f"PGT.TPOOL_SIZE is {list(options.TPOOL_SIZE)}; every entry must be at least 1")
    if cfg.MODEL.MODEL_NAME in TOKEN_MODELS:
        validate_memory(cfg)
    _validate_training(cfg)
    _validate_multigrid(cfg)
    if options.FUSION_MEMORY:
        StepPlan.from_config(cfg).check_fusion()
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
    if options.FULL_GRADIENT and cfg.MODEL.ACT_CHECKPOINT and cfg.MODEL.COMPILE:
        raise ValueError(
            "PGT.FULL_GRADIENT, MODEL.ACT_CHECKPOINT and MODEL.COMPILE, all True: compiled, a step's activations "
            "cannot be computed again once later steps have changed the norms' statistics; set one of the three to "
            "False"
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
            "step, "
            "so there is nothing to accumulate over batches; set PGT.TRAIN_TOGETHER True or TRAIN.ACCUM_STEPS 1"
        )


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{key} is {value!r}; it must be one of {', '.join(choices)}")
