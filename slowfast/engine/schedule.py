"""Learning rate schedules: pure functions of the epoch, with fractions.

Source: the policies of PySlowFast.
"""

from __future__ import annotations

import math
from typing import Any

from slowfast.utils.registry import Registry

# Schedules: policy(SOLVER section of a config, epoch) -> learning rate, after the warm-up.
LR_POLICIES = Registry("SOLVER.LR_POLICY")


def lr_at(solver: Any, epoch: float) -> float:
    """Return the learning rate at `epoch` (0.0 is the first iteration, 1.5 the middle of the second epoch).

    Args:
        solver: the section SOLVER.
        epoch: 0 <= epoch < MAX_EPOCH.

    Raises:
        ValueError: unknown policy, or a warm-up that leaves no epoch for the cosine.
    """
    policy = LR_POLICIES.get(solver.LR_POLICY)
    if epoch < solver.WARMUP_EPOCHS:
        start, end = solver.WARMUP_START_LR, policy(solver, solver.WARMUP_EPOCHS)
        return start + (end - start) * epoch / solver.WARMUP_EPOCHS
    return policy(solver, epoch)


def lr_scale(cfg: Any) -> float:
    """Return the factor on every learning rate: linear scaling rule, and number of hosts.

    The linear scaling rule (`LR_REFERENCE_BATCH`; Goyal et al. 2017, arXiv 1706.02677) keeps lr / batch size constant.
    The batch of an optimizer step has `TRAIN.BATCH_SIZE * NUM_SHARDS * TRAIN.ACCUM_STEPS` clips. The larger batches of
    multigrid do not count: the rates of its schedule already include them.
    """
    scale = 1.0
    if cfg.SOLVER.LR_REFERENCE_BATCH:
        batch = cfg.MULTIGRID.DEFAULT_B or cfg.TRAIN.BATCH_SIZE
        scale *= batch * cfg.NUM_SHARDS * cfg.TRAIN.ACCUM_STEPS / cfg.SOLVER.LR_REFERENCE_BATCH
    if cfg.SOLVER.BASE_LR_SCALE_NUM_SHARDS:
        scale *= cfg.NUM_SHARDS
    return scale


@LR_POLICIES.register("cosine")
def _cosine(solver: Any, epoch: float) -> float:
    offset = solver.WARMUP_EPOCHS if solver.COSINE_AFTER_WARMUP else 0.0
    if solver.MAX_EPOCH <= offset:
        raise ValueError(
            f"SOLVER.WARMUP_EPOCHS {offset} leaves nothing of SOLVER.MAX_EPOCH {solver.MAX_EPOCH} for the cosine that "
            "COSINE_AFTER_WARMUP starts there; set fewer WARMUP_EPOCHS"
        )
    progress = (epoch - offset) / (solver.MAX_EPOCH - offset)
    span = solver.BASE_LR - solver.COSINE_END_LR
    return solver.COSINE_END_LR + span * (math.cos(math.pi * progress) + 1.0) * 0.5


@LR_POLICIES.register("steps_with_relative_lrs")
def _relative_steps(solver: Any, epoch: float) -> float:
    # config/rules checks STEPS and LRS.
    stage = sum(epoch >= step for step in solver.STEPS if step < solver.MAX_EPOCH) - 1
    return solver.LRS[stage] * solver.BASE_LR
