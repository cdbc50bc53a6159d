"""Derive settings from others, once the user's are merged."""

import os
from contextlib import suppress
from fnmatch import fnmatchcase
from math import prod
from typing import Any

from fvcore.common.config import CfgNode

from slowfast.config.merge import get_key, leaf_keys, set_key
from slowfast.config.projects import import_core
from slowfast.runtime.logging import get_logger
from slowfast.utils.registry import REGISTRIES

logger = get_logger(__name__)

# Residual blocks of stages 2 to 5, by RESNET.DEPTH.
STAGE_BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}

STEM_STRIDE = 4  # of ResNet and SlowFast, in space

# Older name -> name.
_RENAMED = {
    "LOGS.DIR": "OUTPUT_DIR",
    "LOGS.PERIOD": "LOG_PERIOD",
    "LOGS.LOG_MODEL": "LOG_MODEL_INFO",
    "AVA.TRAIN_PCA_EIGVAL": "DATA.TRAIN_PCA_EIGVAL",
    "AVA.TRAIN_PCA_EIGVEC": "DATA.TRAIN_PCA_EIGVEC",
}


# Models of the library PyTorchVideo, as PySlowFast's wrappers build them -> settings that build the same model here.
_PTV_MODELS = {
    "PTVResNet": {"MODEL.MODEL_NAME": "ResNet"},
    "PTVSlowFast": {"MODEL.MODEL_NAME": "SlowFast"},
    "PTVX3D": {"MODEL.MODEL_NAME": "X3D", "X3D.SHORTCUT_BN": False},
    "PTVMViT": {"MODEL.MODEL_NAME": "MViT", "MVIT.SEPARATE_QKV": True},
    "PTVCSN": {
        "MODEL.MODEL_NAME": "ResNet",
        "MODEL.ARCH": "csn",
        "RESNET.TRANS_FUNC": "csn_transform",
        "RESNET.SPATIAL_STRIDES": [[1], [2], [2], [2]],
    },
    "PTVR2plus1D": {
        "MODEL.MODEL_NAME": "ResNet",
        "MODEL.ARCH": "r2plus1d",
        "RESNET.TRANS_FUNC": "r2plus1d_transform",
        "RESNET.SPATIAL_STRIDES": [[2], [2], [2], [2]],
    },
}
# Its data sets, in any case -> the one that reads the same lists.
_PTV_DATASETS = {"ptvkinetics": "kinetics", "ptvcharades": "charades", "ptvssv2": "ssv2"}

# TEST.NUM_TEMPORAL_CLIPS that TEST.NUM_ENSEMBLE_VIEWS -1 stands for, as published.
_VIEW_SWEEP = (1, 3, 5, 7, 10)

# Keys that hold paths, of the core and, by the same endings, of projects. A leading "~" is the user's home folder.
_PATHS = (
    *("*_DIR", "*.DIR", "*_PATH", "*_FILE", "*_LISTS", "*.INPUT_VIDEO"),
    *("DATA.PATH_TO_*", "DATA.PATH_PREFIX", "DATA.IN22k_VAL_IN1K"),
)


def num_pathways(cfg: CfgNode) -> int:
    """Return the number of frame streams that the model takes, as stated where it is registered."""
    import_core()
    models = REGISTRIES["MODEL.MODEL_NAME"]
    name = backbone_name(cfg)
    if name in models and (stated := models.fact(name, "num_pathways")):
        return stated
    # A model as PySlowFast's users write it, or a name that `validate` will refuse.
    return 2 if cfg.MODEL.ARCH in cfg.MODEL.MULTI_PATHWAY_ARCH else 1


def backbone_name(cfg: CfgNode) -> str:
    """Return MODEL.MODEL_NAME, or for ContrastiveModel the name of the network inside, which MODEL.ARCH tells."""
    name, arch = cfg.MODEL.MODEL_NAME, cfg.MODEL.ARCH
    if name != "ContrastiveModel":
        return name
    models = REGISTRIES["MODEL.MODEL_NAME"]
    by_arch = {each: other for other in models for each in models.fact(other, "archs")}
    return {**by_arch, "x3d": "X3D", "mvit": "MViT"}.get(arch, name)


def num_labels(cfg: CfgNode) -> tuple[int, str]:
    """Return the number of classes of the labels in a list, and its key; the outputs of ContrastiveModel are others."""
    if cfg.MODEL.MODEL_NAME == "ContrastiveModel":
        return cfg.CONTRASTIVE.NUM_CLASSES_DOWNSTREAM, "CONTRASTIVE.NUM_CLASSES_DOWNSTREAM"
    return cfg.MODEL.NUM_CLASSES, "MODEL.NUM_CLASSES"


def _expand_home(value: Any) -> Any:
    if isinstance(value, list):
        return [_expand_home(item) for item in value]
    return os.path.expanduser(value) if isinstance(value, str) else value


def stage_entry(table: list, stage: int, pathway: int) -> Any:
    """Return table[stage][pathway]; a row of one entry serves all pathways."""
    row = table[stage]
    return row[pathway] if pathway < len(row) else row[0]


def feature_strides(cfg: CfgNode) -> set[int]:
    """Return the spatial strides, pixels, of the features of all pathways; empty for other models, as of projects.

    Raises:
        TypeError, IndexError: a table of strides has another shape.
    """
    name = cfg.MODEL.MODEL_NAME
    if name == "X3D":
        return {2**5}  # the stem and four stages each halve height and width
    if name == "MViT":
        return {cfg.MVIT.PATCH_STRIDE[-1] * prod(strides[-1] for strides in cfg.MVIT.POOL_Q_STRIDE)}
    if name not in ("ResNet", "SlowFast"):
        return set()
    strides = cfg.RESNET.SPATIAL_STRIDES
    stem = 2 if cfg.MODEL.ARCH == "r2plus1d" else STEM_STRIDE
    return {
        stem * prod(stage_entry(strides, stage, p) for stage in range(len(strides))) for p in range(num_pathways(cfg))
    }


def _read_pytorchvideo(cfg: CfgNode) -> None:
    """Replace the names of PyTorchVideo's models and data sets by settings of ours."""
    import_core()
    name = cfg.MODEL.MODEL_NAME
    # A project may have registered a model of that name.
    changes = {} if name in REGISTRIES["MODEL.MODEL_NAME"] else dict(_PTV_MODELS.get(name, {}))
    if "MODEL.ARCH" in changes and cfg.RESNET.DEPTH in STAGE_BLOCKS:
        # All their blocks have temporal kernels, whatever RESNET.NUM_BLOCK_TEMP_KERNEL says.
        changes["RESNET.NUM_BLOCK_TEMP_KERNEL"] = [[blocks] for blocks in STAGE_BLOCKS[cfg.RESNET.DEPTH]]
    for key in ("TRAIN.DATASET", "TEST.DATASET"):
        if name := _PTV_DATASETS.get(get_key(cfg, key).lower()):
            changes[key] = name
    read = [f"{key} {get_key(cfg, key)} as {value}" for key, value in changes.items() if get_key(cfg, key) != value]
    for key, value in changes.items():
        set_key(cfg, key, value)
    if read:
        logger.warning("Names of PyTorchVideo are read as the same models and data sets of ours: %s.", "; ".join(read))


def resolve(cfg: CfgNode, given: set[str]) -> None:
    """Derive values in place, except for the keys in `given`, which the user set."""
    for key in leaf_keys(cfg):
        if any(fnmatchcase(key, pattern) for pattern in _PATHS):
            set_key(cfg, key, _expand_home(get_key(cfg, key)))
    for old, new in _RENAMED.items():
        if old in given and new not in given:
            set_key(cfg, new, get_key(cfg, old))
    _read_pytorchvideo(cfg)
    if cfg.MODEL.MODEL_NAME == "ResNet_nopool":
        cfg.MODEL.MODEL_NAME, cfg.MODEL.ARCH = "ResNet", f"{cfg.MODEL.ARCH.removesuffix('_nopool')}_nopool"
        logger.warning("MODEL.MODEL_NAME ResNet_nopool is read as ResNet with MODEL.ARCH %s.", cfg.MODEL.ARCH)
    if cfg.MODEL.MODEL_NAME == "MViT" and cfg.MVIT.REV.ENABLE and cfg.MVIT.CLS_EMBED_ON:
        cfg.MVIT.CLS_EMBED_ON = False
        logger.warning("MVIT.CLS_EMBED_ON True is read as False: with MVIT.REV.ENABLE True there is no class token.")
    if cfg.BN.NORM_TYPE == "sync_batchnorm_apex":
        logger.warning("BN.NORM_TYPE sync_batchnorm_apex is read as sync_batchnorm, PyTorch's norm of the same name.")
        cfg.BN.NORM_TYPE = "sync_batchnorm"
    if cfg.TEST.NUM_ENSEMBLE_VIEWS == -1:
        cfg.TEST.NUM_TEMPORAL_CLIPS = cfg.TEST.NUM_TEMPORAL_CLIPS or list(_VIEW_SWEEP)
        cfg.TEST.NUM_ENSEMBLE_VIEWS = max(cfg.TEST.NUM_TEMPORAL_CLIPS)
    if cfg.DATA.DECODING_BACKEND == "torchvision":
        # A warning, because INFO is not shown before the log is set up.
        logger.warning("DATA.DECODING_BACKEND torchvision is read as pyav, which decodes the same files.")
        cfg.DATA.DECODING_BACKEND = "pyav"
    if "DATA.INPUT_CHANNEL_NUM" not in given:
        cfg.DATA.INPUT_CHANNEL_NUM = cfg.DATA.INPUT_CHANNEL_NUM[:1] * num_pathways(cfg)
    if "RESNET.NUM_BLOCK_TEMP_KERNEL" not in given and cfg.RESNET.DEPTH in STAGE_BLOCKS:
        cfg.RESNET.NUM_BLOCK_TEMP_KERNEL = [
            [min(count, blocks) for count in counts]
            for counts, blocks in zip(cfg.RESNET.NUM_BLOCK_TEMP_KERNEL, STAGE_BLOCKS[cfg.RESNET.DEPTH], strict=True)
        ]
    if cfg.DETECTION.ENABLE and "DETECTION.SPATIAL_SCALE_FACTOR" not in given:
        with suppress(TypeError, IndexError):  # config/rules reports wrong tables
            strides = feature_strides(cfg)
            cfg.DETECTION.SPATIAL_SCALE_FACTOR = max(strides, default=cfg.DETECTION.SPATIAL_SCALE_FACTOR)
