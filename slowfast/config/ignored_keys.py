"""Keys of published files that have no effect here, and why.

A published file keeps loading. A warning names those of its keys that are set away from their default.
"""

from fnmatch import fnmatchcase

from fvcore.common.config import CfgNode

from slowfast.config.merge import get_key, leaf_keys
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

_BANK = "a memory bank of all videos (CONTRASTIVE.TYPE mem), which the published code cannot train either"
_OLDER = "older keys that nothing reads, here or in the published code"

# Pattern of full key names -> the missing feature. The first pattern that matches counts.
IGNORED_KEYS = {
    "CONTRASTIVE.LENGTH": _BANK,
    "CONTRASTIVE.MEM_TYPE": _BANK,
    "CONTRASTIVE.INTERP_MEMORY": _BANK,
    "DATA.DECODING_SHORT_SIZE": "scaling inside the decoder; tools/prepare_kinetics.py --resize scales the files once",
    "AVA.IMG_PROC_BACKEND": "choice of the image library; there is one here, and pictures are read and resized by it",
    "BENCHMARK.*": "these benchmarks (tools/benchmark.py has its own options)",
    "MULTIGRID.DEFAULT_T": "set by multigrid training itself",
    "SOLVER.STEP_SIZE": _OLDER,
    "SOLVER.WARMUP_FACTOR": _OLDER,
    "DATA.CROP_SIZE": _OLDER,
    "DATA.VIEW": _OLDER,
    "DEBUG": _OLDER,
    "LOGS.FILE_NAME": _OLDER,
    "MODEL.SINGLE_PATHWAY_ARCH": "list of models with one pathway; a registered model says how many it takes",
    "PREFETCH.NUM_LOADERS": _OLDER,
}


def ignored_feature(key: str) -> str:
    """Return the feature that `key` belongs to and that is not implemented; "" for a key with an effect."""
    return next((feature for pattern, feature in IGNORED_KEYS.items() if fnmatchcase(key, pattern)), "")


def warn_of_ignored(cfg: CfgNode, defaults: CfgNode) -> None:
    """Warn of ignored keys that `cfg` sets away from `defaults`, by reason."""
    features: dict[str, list[str]] = {}
    for key in leaf_keys(cfg):
        if get_key(cfg, key) != get_key(defaults, key) and (feature := ignored_feature(key)):
            features.setdefault(feature, []).append(key)
    if features:
        listed = "; ".join(f"{', '.join(keys)} ({feature})" for feature, keys in features.items())
        logger.warning("Ignored: not implemented here: %s. The run goes without; remove these keys.", listed)
