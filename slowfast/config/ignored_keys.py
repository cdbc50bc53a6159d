"""Keys of published files that have no effect here, and why.

A published file keeps loading. A warning names those of its keys that are set away from their default.
"""

from fnmatch import fnmatchcase

from fvcore.common.config import CfgNode

from slowfast.config.merge import get_key, leaf_keys
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

_BANK = "of CONTRASTIVE.TYPE mem, which the published code cannot train either"
_OLDER = "nothing reads it in the published code either"

# Pattern of full key names -> the reason. The first pattern that matches counts.
IGNORED_KEYS = {
    "CONTRASTIVE.LENGTH": _BANK,
    "CONTRASTIVE.MEM_TYPE": _BANK,
    "CONTRASTIVE.INTERP_MEMORY": _BANK,
    "DATA.DECODING_SHORT_SIZE": "each frame is resized once, to what its clip needs, as it is decoded; "
    "tools/prepare_kinetics.py --resize scales the files",
    "AVA.IMG_PROC_BACKEND": "both backends resize bilinearly, as is done here; they differ in rounding",
    "MULTIGRID.DEFAULT_T": "the run sets it, as in the published code",
    "SOLVER.STEP_SIZE": _OLDER,
    "SOLVER.WARMUP_FACTOR": _OLDER,
    "DATA.CROP_SIZE": _OLDER,
    "DATA.VIEW": _OLDER,
    "DEBUG": _OLDER,
    "LOGS.FILE_NAME": _OLDER,
    "MODEL.SINGLE_PATHWAY_ARCH": "a model says how many pathways it takes, or MULTI_PATHWAY_ARCH",
    "PREFETCH.NUM_LOADERS": _OLDER,
}


def reason_without_effect(key: str) -> str:
    """Return why `key` has no effect; "" for a key with one."""
    return next((reason for pattern, reason in IGNORED_KEYS.items() if fnmatchcase(key, pattern)), "")


def warn_of_ignored(cfg: CfgNode, defaults: CfgNode) -> None:
    """Warn of keys without effect that `cfg` sets away from `defaults`, by reason."""
    reasons: dict[str, list[str]] = {}
    for key in leaf_keys(cfg):
        if get_key(cfg, key) != get_key(defaults, key) and (reason := reason_without_effect(key)):
            reasons.setdefault(reason, []).append(key)
    if reasons:
        listed = "; ".join(f"{', '.join(keys)} ({reason})" for reason, keys in reasons.items())
        logger.warning("Ignored keys: %s. Remove them.", listed)
