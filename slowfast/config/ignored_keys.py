"""Settings that are accepted but change nothing, because the part they belong to is not built.

A published file keeps loading; whoever relies on such a key is told so by one warning.
"""

from fnmatch import fnmatchcase
from typing import Any

from fvcore.common.config import CfgNode

from slowfast.config.merge import get_key, leaf_keys
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

# Pattern of full names -> the part that is missing. The first that fits counts.
UNBUILT_KEYS = {
    "AUG.GEN_MASK_LOADER": "learning by masking",
    "AUG.MASK_*": "learning by masking",
    "AUG.MAX_MASK_*": "learning by masking",
    "MASK.*": "learning by masking",
    "VIS_MASK.*": "learning by masking",
    "CONTRASTIVE.*": "learning without labels",
    "DATA.SSL_*": "learning without labels",
    "DATA.TIME_DIFF_PROB": "learning without labels",
    "DATA.TRAIN_CROP_NUM_*": "several clips of a training video",
    "DATA.DUMMY_LOAD": "timing without data",
    "DATA.LOADER_CHUNK_*": "lists read in parts",
    "DATA.IN_VAL_CROP_RATIO": "images",
    "DATA.IN22K_TRAINVAL": "images",
    "DATA.IN22k_VAL_IN1K": "images",
    "DATA.PATH_TO_PRELOAD_IMDB": "images",
    "DATA.DECODING_SHORT_SIZE": "scaling inside the decoder",
    "TEST.CYCLIC_LOAD": "repeating of short videos",
    "TEST.NUM_TEMPORAL_CLIPS": "several numbers of views in one test",
    "TRAIN.FULL_TIME_EVAL": "evaluation on all frames by this key",
    "TRAIN.KILL_LOSS_EXPLOSION_FACTOR": "stopping by the size of the loss",
    "MODEL.DETACH_FINAL_FC": "learning without labels",
    "RESNET.STEM_FUNC": "other stems",
    "MVIT.REV.*": "reversible blocks",
    "MVIT.PATCH_2D": "images",
    "AVA.IMG_PROC_BACKEND": "scaling of frames by another library",
    "DEMO.*": "the demo on a video",
    "BENCHMARK.*": "benchmarks",
    "TENSORBOARD.MODEL_VIS.*": "drawing of models",
    "TENSORBOARD.WRONG_PRED_VIS.*": "drawing of predictions",
    "TENSORBOARD.HISTOGRAM.*": "drawing of predictions",
    "TENSORBOARD.CONFUSION_MATRIX.*": "drawing of predictions",
    "TENSORBOARD.*_PATH": "drawing of predictions",
    "SOLVER.LARS_ON": "layer-wise learning rates",
    "SOLVER.STEP_SIZE": "older schedules",
    "SOLVER.WARMUP_FACTOR": "older schedules",
    "DATA.CROP_SIZE": "older keys that nothing reads",
    "DATA.VIEW": "older keys that nothing reads",
    "DEBUG": "older keys that nothing reads",
    "LOGS.FILE_NAME": "older keys that nothing reads",
    "PREFETCH.NUM_LOADERS": "older keys that nothing reads",
}
# Values (patterns) of keys that are otherwise built.
UNBUILT_VALUES = {
    "BN.NORM_TYPE": (("none",), "other norms"),
    "TASK": (("ssl*",), "learning without labels"),
}


def unbuilt_settings(cfg: CfgNode, defaults: CfgNode) -> dict[str, str]:
    """Keys that `cfg` sets away from `defaults` without effect: full name -> the part that is missing."""
    found = {}
    for key in leaf_keys(cfg):
        value = get_key(cfg, key)
        part = _missing_part(key, value) if value != get_key(defaults, key) else None
        if part is not None:
            found[key] = part
    return found


def warn_of_unbuilt(cfg: CfgNode, defaults: CfgNode) -> None:
    """One warning that lists them all, by part; none when there is nothing to list."""
    parts: dict[str, list[str]] = {}
    for key, part in unbuilt_settings(cfg, defaults).items():
        parts.setdefault(part, []).append(key)
    if parts:
        listed = "; ".join(f"{part} ({', '.join(keys)})" for part, keys in parts.items())
        logger.warning("Accepted, but without effect, since these are not built yet: %s.", listed)


def _missing_part(key: str, value: Any) -> str | None:
    patterns, part = UNBUILT_VALUES.get(key, ((), ""))
    if any(fnmatchcase(value, pattern) for pattern in patterns):
        return part
    return next((part for pattern, part in UNBUILT_KEYS.items() if fnmatchcase(key, pattern)), None)
