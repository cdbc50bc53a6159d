"""Multigrid over steps: number of steps, step length and learning rate cycle by the epoch.

Epoch e takes entry e mod n of PGT.MGRID_STEPS, MGRID_STEP_LEN and MGRID_LRSCALES; the last epoch takes the plain
setting, unless MGRID_NO_FINETUNE. ("PGT", section 3; the published settings.)
"""

from collections.abc import Sequence

from fvcore.common.config import CfgNode

from pgt.plan import StepPlan, per_pathway

# Keys in which the learning rate is linear, under every policy and in its warm-up.
_RATES = ("BASE_LR", "COSINE_END_LR", "WARMUP_START_LR")


def step_lengths(values: Sequence[int | Sequence[int]], pathways: int) -> list[list[int]]:
    """Return PGT.MGRID_STEP_LEN with one length per pathway in every entry; a bare integer stands for all pathways.

    Raises:
        ValueError: an entry of another number of pathways.
    """
    return [
        per_pathway(value if isinstance(value, list) else [value], pathways, f"entry {i + 1} of PGT.MGRID_STEP_LEN")
        for i, value in enumerate(values)
    ]


def epoch_config(cfg: CfgNode, epoch: int) -> CfgNode:
    """Return the config of an epoch, counted from 0, of a run with PGT.MGRID; `cfg` itself in a plain epoch."""
    options = cfg.PGT
    if not options.MGRID or (epoch >= cfg.SOLVER.MAX_EPOCH - 1 and not options.MGRID_NO_FINETUNE):
        return cfg
    entry = epoch % len(options.MGRID_STEPS)
    cfg = _entry_plan(cfg, entry).applied_to(cfg)
    cfg.defrost()
    for key in _RATES:
        cfg.SOLVER[key] *= options.MGRID_LRSCALES[entry]
    cfg.freeze()
    return cfg


def _entry_plan(cfg: CfgNode, entry: int) -> StepPlan:
    """Build the plan of one entry of the lists.

    Raises:
        ValueError: lengths out of range, or pathways that disagree; names the entry.
    """
    options = cfg.PGT
    length = options.MGRID_STEP_LEN[entry]
    alpha = cfg.SLOWFAST.ALPHA if len(length) == 2 else 1
    try:
        overlap = per_pathway(options.OVERLAP, len(length), "PGT.OVERLAP")
        return StepPlan(tuple(length), tuple(overlap), options.MGRID_STEPS[entry], alpha, options.SLOW_SAMPLING)
    except ValueError as error:
        raise ValueError(f"entry {entry + 1} of PGT.MGRID_STEPS and PGT.MGRID_STEP_LEN: {error}") from error


def validate(cfg: CfgNode) -> None:
    """Check the lists of PGT.MGRID, alone and with other settings that change clips in the course of training.

    Raises:
        ValueError: with the keys, their values and what to change.
    """
    options = cfg.PGT
    keys = ("MGRID_STEPS", "MGRID_STEP_LEN", "MGRID_LRSCALES")
    lists = [list(options[key]) for key in keys]
    if not lists[0] or len({len(values) for values in lists}) > 1:
        given = ", ".join(f"{key} has {len(values)} {values}" for key, values in zip(keys, lists, strict=True))
        raise ValueError(f"PGT.MGRID True takes one entry for each epoch of its cycle in three lists: {given}")
    if not all(scale > 0 for scale in options.MGRID_LRSCALES):
        raise ValueError(f"PGT.MGRID_LRSCALES is {lists[2]}; every factor of the learning rate must be over 0")
    for entry in range(len(lists[0])):
        plan = _entry_plan(cfg, entry)
        if options.FUSION_MEMORY:
            plan.check_fusion()
    if options.STEPS_RANGE:
        raise ValueError(
            f"PGT.STEPS_RANGE {list(options.STEPS_RANGE)} draws the number of steps by the batch, PGT.MGRID sets it by "
            "the epoch; keep one of them"
        )
    if options.STEP_WEIGHTS and set(lists[0]) != {options.STEPS}:
        raise ValueError(
            f"PGT.STEP_WEIGHTS has a weight for each of {options.STEPS} steps, but PGT.MGRID_STEPS {lists[0]} changes "
            "their number; set STEP_WEIGHTS [] for equal weights"
        )
    if cfg.MULTIGRID.LONG_CYCLE:
        raise ValueError(
            "PGT.MGRID and MULTIGRID.LONG_CYCLE both change the clips by the epoch; keep one of them "
            "(MULTIGRID.SHORT_CYCLE goes with either)"
        )
