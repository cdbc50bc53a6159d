"""Rules between keys of a run: optimizer, schedule, batches, views, hosts."""

from fvcore.common.config import CfgNode

from slowfast.config.merge import get_key
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import nearest_multiples

logger = get_logger(__name__)


def validate(cfg: CfgNode) -> None:
    """Check the rules of this module.

    Raises:
        ValueError: with the key, its value and what to set.
    """
    _check_views(cfg)
    _check_warmup(cfg)
    _check_early_stop(cfg)
    if cfg.SOLVER.LR_POLICY == "steps_with_relative_lrs":
        _check_steps(cfg)
    _check_optimizer(cfg)
    _check_batches(cfg)
    _check_hosts(cfg)
    if cfg.DEMO.ENABLE:
        _check_demo(cfg)


def _check_views(cfg: CfgNode) -> None:
    if cfg.TEST.NUM_SPATIAL_CROPS > 3:
        raise ValueError(
            f"TEST.NUM_SPATIAL_CROPS is {cfg.TEST.NUM_SPATIAL_CROPS}; it can be 1 (center), 2 (ends) or 3 (ends and "
            "center)."
        )
    if any(clips < 1 for clips in cfg.TEST.NUM_TEMPORAL_CLIPS):
        raise ValueError(f"TEST.NUM_TEMPORAL_CLIPS is {cfg.TEST.NUM_TEMPORAL_CLIPS}; every entry must be at least 1.")
    for key in ("TRAIN.FULL_TIME_EVAL", "TEST.CYCLIC_LOAD", "TEST.NUM_TEMPORAL_CLIPS"):
        if cfg.DETECTION.ENABLE and get_key(cfg, key):
            raise ValueError(
                f"{key} is {get_key(cfg, key)}, but with DETECTION.ENABLE True each key frame has one clip, around it; "
                f"set it to {'[]' if isinstance(get_key(cfg, key), list) else False}."
            )


def _check_warmup(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    if cfg.TRAIN.ENABLE and solver.WARMUP_EPOCHS > 0 and solver.WARMUP_START_LR > solver.BASE_LR:
        logger.warning(
            "SOLVER.WARMUP_START_LR %g is above BASE_LR %g: the warm-up lowers the learning rate. Set WARMUP_START_LR "
            "below BASE_LR, or WARMUP_EPOCHS 0.",
            solver.WARMUP_START_LR,
            solver.BASE_LR,
        )


def _check_early_stop(cfg: CfgNode) -> None:
    if cfg.TRAIN.EARLY_STOP_PATIENCE and not cfg.TRAIN.BEST_METRIC:
        raise ValueError(
            f"TRAIN.EARLY_STOP_PATIENCE is {cfg.TRAIN.EARLY_STOP_PATIENCE}, but TRAIN.BEST_METRIC names no metric to "
            "watch; set it to one of the validation, such as top1_acc, map or loss, or the patience to 0."
        )


def _check_steps(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    steps, rates = solver.STEPS, solver.LRS
    if not steps or steps[0] != 0 or any(a >= b for a, b in zip(steps, steps[1:], strict=False)):
        raise ValueError(
            f"SOLVER.STEPS is {steps}; with LR_POLICY steps_with_relative_lrs it holds the first epoch of each step: 0 "
            "first, then rising."
        )
    # Published files keep steps that begin after the last epoch, and more rates than steps.
    used = [step for step in steps if step < solver.MAX_EPOCH]
    if len(rates) < len(used):
        raise ValueError(
            f"SOLVER.LRS has {len(rates)} entries {rates}, but {len(used)} SOLVER.STEPS {used} begin before "
            f"MAX_EPOCH {solver.MAX_EPOCH}. Give every step its rate, as a multiple of BASE_LR."
        )
    if any(not rate >= 0 for rate in rates):
        raise ValueError(f"SOLVER.LRS is {rates}; no rate can be under 0.")


def _check_optimizer(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    if not 0 < solver.LAYER_DECAY <= 1:
        raise ValueError(f"SOLVER.LAYER_DECAY is {solver.LAYER_DECAY}; it must be over 0 and at most 1 (no decay).")
    if len(solver.BETAS) != 2:
        raise ValueError(f"SOLVER.BETAS is {solver.BETAS}; it must be two numbers.")


def _check_batches(cfg: CfgNode) -> None:
    gpus = cfg.NUM_GPUS
    for split in ("TRAIN", "TEST"):
        size = cfg[split].BATCH_SIZE
        if gpus < 2 or not cfg[split].ENABLE:
            continue
        if size >= gpus:
            share_of_batch(split, size, gpus)
            continue
        logger.warning(
            "%s.BATCH_SIZE %d is less than NUM_GPUS %d: it is the total over the GPUs of this host, so set "
            "at least %d.",
            split,
            size,
            gpus,
            gpus,
        )


def share_of_batch(section: str, size: int, processes: int) -> int:
    """Return the clips of a batch for each process of a host.

    Raises:
        ValueError: the processes cannot share the batch evenly.
    """
    if size % processes:
        raise ValueError(
            f"{section}.BATCH_SIZE {size} cannot be shared evenly by the {processes} processes of a host (one for "
            f"each GPU); set it to {nearest_multiples(size, processes)}"
        )
    return size // processes


def _check_hosts(cfg: CfgNode) -> None:
    if cfg.SOLVER.LR_REFERENCE_BATCH and cfg.SOLVER.BASE_LR_SCALE_NUM_SHARDS:
        raise ValueError(
            f"SOLVER.LR_REFERENCE_BATCH {cfg.SOLVER.LR_REFERENCE_BATCH} and BASE_LR_SCALE_NUM_SHARDS True both scale "
            "the learning rate with the number of hosts; keep one of them."
        )
    if cfg.SHARD_ID >= cfg.NUM_SHARDS:
        raise ValueError(f"SHARD_ID {cfg.SHARD_ID} is not under NUM_SHARDS {cfg.NUM_SHARDS}; hosts are counted from 0.")
    if not cfg.OUTPUT_DIR:
        raise ValueError("OUTPUT_DIR is empty; name a folder for checkpoints and logs, '.' for this one.")


def _check_demo(cfg: CfgNode) -> None:
    demo, length = cfg.DEMO, cfg.DATA.NUM_FRAMES * cfg.DATA.SAMPLING_RATE
    if demo.BUFFER_SIZE > length // 2:
        raise ValueError(
            f"DEMO.BUFFER_SIZE is {demo.BUFFER_SIZE}; two clips of {length} frames (DATA.NUM_FRAMES x SAMPLING_RATE) "
            f"can share at most {length // 2}."
        )
    if demo.NUM_CLIPS_SKIP == -1 and not demo.THREAD_ENABLE:
        raise ValueError(
            "DEMO.NUM_CLIPS_SKIP -1 takes the newest clip that a thread has read; set DEMO.THREAD_ENABLE True, or skip "
            "0 clips or more."
        )
    if demo.OUTPUT_FPS == 0:
        raise ValueError("DEMO.OUTPUT_FPS is 0; it must be over 0, or -1 for the rate of the source.")
    if demo.VIS_MODE == "top-k" and cfg.TENSORBOARD.MODEL_VIS.TOPK_PREDS < 1:
        raise ValueError(
            f"TENSORBOARD.MODEL_VIS.TOPK_PREDS is {cfg.TENSORBOARD.MODEL_VIS.TOPK_PREDS}; with DEMO.VIS_MODE top-k it "
            "is the number of classes that are shown, at least 1."
        )
