"""Rules of the keys that change the shape of clips in the course of training: MULTIGRID, DATA.TRAIN_NUM_FRAMES."""

from fvcore.common.config import CfgNode

from slowfast.config.nearest import nearest_multiples
from slowfast.config.resolve import num_pathways

# The head's window is a clip's side after the network's strides, which make one position of so many pixels.
_STRIDE = 32


def shapes(cfg: CfgNode) -> None:
    """Checks that every shape a training clip may take can be made, and that no two keys set the same thing.

    Raises:
        ValueError: with the key, its value and what to do.
    """
    if cfg.MULTIGRID.LONG_CYCLE:
        _long_cycle(cfg)
    if cfg.MULTIGRID.SHORT_CYCLE:
        _short_cycle(cfg)
    if not cfg.MULTIGRID.EPOCH_FACTOR > 0:
        raise ValueError(f"MULTIGRID.EPOCH_FACTOR is {cfg.MULTIGRID.EPOCH_FACTOR}; it must be over 0.")
    if cfg.DATA.TRAIN_NUM_FRAMES and min(cfg.DATA.TRAIN_NUM_FRAMES) < 1:
        raise ValueError(f"DATA.TRAIN_NUM_FRAMES is {cfg.DATA.TRAIN_NUM_FRAMES}; every entry must be at least 1.")
    if num_pathways(cfg) == 2:
        _slow_frames(cfg)


def _long_cycle(cfg: CfgNode) -> None:
    solver, factors, frames = cfg.SOLVER, cfg.MULTIGRID.LONG_CYCLE_FACTORS, cfg.DATA.NUM_FRAMES
    if (
        solver.LR_POLICY != "steps_with_relative_lrs"
        or not 2 <= len(solver.STEPS)
        or solver.STEPS[-1] > solver.MAX_EPOCH
    ):
        raise ValueError(
            f"MULTIGRID.LONG_CYCLE has its turns between the steps of the learning rate. SOLVER.LR_POLICY is "
            f"{solver.LR_POLICY}, STEPS {solver.STEPS}, MAX_EPOCH {solver.MAX_EPOCH}; set LR_POLICY "
            "steps_with_relative_lrs and at least two STEPS, none over MAX_EPOCH."
        )
    if not factors or any(len(pair) != 2 or not all(0 < factor <= 1 for factor in pair) for pair in factors):
        raise ValueError(
            f"MULTIGRID.LONG_CYCLE_FACTORS is {factors}; it holds a [frames, crop] for every shape, as shares over 0 "
            "and at most 1."
        )
    if 0 in _long_lengths(cfg):
        raise ValueError(f"MULTIGRID.LONG_CYCLE_FACTORS {factors} leave no frame of DATA.NUM_FRAMES {frames}.")
    smallest = min(_long_crops(cfg))
    if smallest < _STRIDE and not cfg.MULTIGRID.SHORT_CYCLE:
        raise ValueError(
            f"MULTIGRID.LONG_CYCLE_FACTORS {factors} of DATA.TRAIN_CROP_SIZE {cfg.DATA.TRAIN_CROP_SIZE} make crops of "
            f"{smallest} pixels; the head needs at least {_STRIDE}."
        )
    if cfg.DATA.TRAIN_NUM_FRAMES and any(pair[0] != 1 for pair in factors):
        raise ValueError(
            f"DATA.TRAIN_NUM_FRAMES {cfg.DATA.TRAIN_NUM_FRAMES} and MULTIGRID.LONG_CYCLE_FACTORS {factors} both set "
            "the frames of a clip. Keep one, or let every first factor be 1."
        )


def _short_cycle(cfg: CfgNode) -> None:
    factors, full = cfg.MULTIGRID.SHORT_CYCLE_FACTORS, cfg.DATA.TRAIN_CROP_SIZE
    if len(factors) != 2 or not all(0 < factor <= 1 for factor in factors):
        raise ValueError(f"MULTIGRID.SHORT_CYCLE_FACTORS is {factors}; it is two shares over 0 and at most 1.")
    crops = _long_crops(cfg) if cfg.MULTIGRID.LONG_CYCLE else [full]
    for crop in crops:
        if any(round((crop / (factor * full)) ** 2) < 1 for factor in factors):
            raise ValueError(
                f"MULTIGRID.SHORT_CYCLE_FACTORS {factors} make crops of {[round(factor * full) for factor in factors]} "
                f"pixels, so much larger than the {crop} of a stage of LONG_CYCLE_FACTORS that no clip would be left "
                "in a batch. Lower the first, or raise the second."
            )


def _slow_frames(cfg: CfgNode) -> None:
    """Every length divides by ALPHA, and SLOW_INDICES, where they are given, hold the slow frames of every length."""
    alpha, slow = cfg.SLOWFAST.ALPHA, cfg.SLOWFAST.SLOW_INDICES
    lengths = {"DATA.NUM_FRAMES": [cfg.DATA.NUM_FRAMES], "DATA.TRAIN_NUM_FRAMES": cfg.DATA.TRAIN_NUM_FRAMES}
    if cfg.MULTIGRID.LONG_CYCLE:
        lengths["of MULTIGRID.LONG_CYCLE_FACTORS the length"] = _long_lengths(cfg)
    for key, several in lengths.items():
        for frames in several:
            if frames % alpha:
                raise ValueError(
                    f"{key} {frames} is no multiple of SLOWFAST.ALPHA {alpha}, so the slow pathway has no whole number "
                    f"of frames. Let it be {nearest_multiples(frames, alpha)}, or set another ALPHA."
                )
            if slow and (len(slow) < frames // alpha or not all(0 <= i < frames for i in slow[: frames // alpha])):
                raise ValueError(
                    f"SLOWFAST.SLOW_INDICES is {slow}; it needs {frames // alpha} frames from 0 to {frames - 1} ({key} "
                    f"{frames} / ALPHA {alpha}) to begin with, or [] for even ones."
                )
    longest = max(frames for several in lengths.values() for frames in several)
    if len(slow) > longest // alpha:
        raise ValueError(
            f"SLOWFAST.SLOW_INDICES is {slow}; it needs {longest // alpha} frames (clips of {longest} / ALPHA "
            f"{alpha}), or [] for even ones."
        )


def _long_lengths(cfg: CfgNode) -> list[int]:
    return [int(round(cfg.DATA.NUM_FRAMES * pair[0])) for pair in cfg.MULTIGRID.LONG_CYCLE_FACTORS]


def _long_crops(cfg: CfgNode) -> list[int]:
    return [int(round(cfg.DATA.TRAIN_CROP_SIZE * pair[1])) for pair in cfg.MULTIGRID.LONG_CYCLE_FACTORS]
