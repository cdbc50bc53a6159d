"""Rules within and between the core's keys. Each error says what is set, what may be, and what to change.

Whether the machine has the GPUs that are asked for is no rule here: that is checked when a run starts.
"""

from collections.abc import Iterable
from typing import Any

from fvcore.common.config import CfgNode

from slowfast.config.ignored_keys import IGNORED_VALUES, missing_feature
from slowfast.config.merge import get_key, leaf_keys
from slowfast.config.resolve import STAGE_BLOCKS, num_pathways
from slowfast.config.rules.data import augmentation, detection, key_frames
from slowfast.config.rules.model import networks, shapes, token_models
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import nearest_keys, nearest_multiples
from slowfast.utils.registry import REGISTRIES

logger = get_logger(__name__)

# Models whose layers RESNET.* and NONLOCAL.* describe.
_RESNETS = ("ResNet", "SlowFast")
# Further models whose four stages read the same tables; depths and widths are their own.
_OTHER_RESIDUAL_MODELS = ("X3D", "RegNet")

_CHOICES = {
    "BN.NORM_TYPE": ("batchnorm", "frozen_batchnorm", "sync_batchnorm", "sub_batchnorm", "none"),
    "DATA.ENSEMBLE_METHOD": ("sum", "max"),
    "DIST_BACKEND": ("nccl", "gloo", "mpi"),
    "MODEL.COMPILE_MODE": ("default", "max-autotune-no-cudagraphs"),
    "MODEL.MEMORY_FORMAT": ("auto", "contiguous", "channels_last"),
    "MODEL.HEAD_ACT": ("softmax", "sigmoid", "none"),
    "NONLOCAL.INSTANTIATION": ("dot_product", "softmax"),
    "REGNET.DEPTH": ("400M", "400MF", "4.0G", "4.0GF"),
    "SOLVER.LR_POLICY": ("cosine", "steps_with_relative_lrs"),
    "SOLVER.OPTIMIZING_METHOD": ("sgd", "adam", "adamw"),
    "TEST.CHECKPOINT_TYPE": ("pytorch", "caffe2", "aia"),
    "TRAIN.CHECKPOINT_TYPE": ("pytorch", "caffe2", "aia"),
    "TRAIN.MIXED_PRECISION_DTYPE": ("bf16", "fp16"),
}
# Least values of numbers.
_LEAST = {
    "BN.EPSILON": 0,
    "BN.NUM_BATCHES_PRECISE": 1,
    "BN.NUM_SPLITS": 1,
    "BN.NUM_SYNC_DEVICES": 1,
    "BN.WEIGHT_DECAY": 0,
    "DATA.NUM_FRAMES": 1,
    "DATA.SAMPLING_RATE": 1,
    "DATA.TARGET_FPS": 1,
    "DATA.TEST_CROP_SIZE": 1,
    "DATA.TRAIN_CROP_SIZE": 1,
    "DATA_LOADER.NUM_WORKERS": 0,
    "DATA_LOADER.PREFETCH_FACTOR": 1,
    "DETECTION.ROI_XFORM_RESOLUTION": 1,
    "DETECTION.SPATIAL_SCALE_FACTOR": 1,
    "DIST.MAX_RESTARTS": 0,
    "DIST.START_TIMEOUT": 1,
    "DIST.STOP_TIMEOUT": 0,
    "DIST.TIMEOUT": 1,
    "LOG_PERIOD": 1,
    "MODEL.FC_INIT_STD": 0,
    "MODEL.NUM_CLASSES": 1,
    "MULTIGRID.BN_BASE_SIZE": 1,
    "MULTIGRID.EVAL_FREQ": 1,
    "NUM_GPUS": 0,
    "NUM_SHARDS": 1,
    "RESNET.NUM_GROUPS": 1,
    "RESNET.WIDTH_PER_GROUP": 1,
    "SHARD_ID": 0,
    "SLOWFAST.ALPHA": 1,
    "SLOWFAST.BETA_INV": 1,
    "SLOWFAST.FUSION_CONV_CHANNEL_RATIO": 1,
    "SLOWFAST.FUSION_KERNEL_SZ": 1,
    "SOLVER.BASE_LR": 0,
    "SOLVER.COSINE_END_LR": 0,
    "SOLVER.LR_REFERENCE_BATCH": 0,
    "SOLVER.MAX_EPOCH": 1,
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.WARMUP_START_LR": 0,
    "SOLVER.WEIGHT_DECAY": 0,
    "TEST.BATCH_SIZE": 1,
    "TEST.CHECKPOINT_FILE_EPOCH": -1,
    "TEST.NUM_ENSEMBLE_VIEWS": 1,
    "TEST.NUM_SPATIAL_CROPS": 1,
    "TRAIN.ACCUM_STEPS": 1,
    "TRAIN.BATCH_SIZE": 1,
    "TRAIN.CHECKPOINT_FILE_EPOCH": -1,
    "TRAIN.CHECKPOINT_PERIOD": 1,
    "TRAIN.EVAL_PERIOD": 1,
    "X3D.DIM_C1": 1,
    "X3D.DIM_C5": 1,
}
# Shares, from 0 to 1.
_FRACTIONS = (
    "AUG.MASK_RATIO",
    "AUG.RE_PROB",
    "AVA.DETECTION_SCORE_THRESH",
    "BN.MOMENTUM",
    "DATA.COLOR_RND_GRAYSCALE",
    "DATA.IN_VAL_CROP_RATIO",
    "DATA.MAX_UNREADABLE_FRACTION",
    "DATA.TIME_DIFF_PROB",
    "MIXUP.LABEL_SMOOTH_VALUE",
    "MIXUP.PROB",
    "MIXUP.SWITCH_PROB",
    "MODEL.DROPCONNECT_RATE",
    "MODEL.DROPOUT_RATE",
    "MVIT.DROPOUT_RATE",
    "MVIT.DROPPATH_RATE",
    "SOLVER.MOMENTUM",
)
# Settings of the four residual stages, one entry a pathway in each.
_STAGE_TABLES = (
    "RESNET.SPATIAL_STRIDES",
    "RESNET.SPATIAL_DILATIONS",
    "RESNET.NUM_BLOCK_TEMP_KERNEL",
    "NONLOCAL.LOCATION",
    "NONLOCAL.GROUP",
    "NONLOCAL.POOL",
)


def validate(cfg: CfgNode) -> None:
    """Checks a merged and resolved configuration.

    Raises:
        ValueError: with the key, its value and what to do.
    """
    rules = (
        _names,
        _values,
        _model,
        networks,
        token_models,
        detection,
        key_frames,
        _crops,
        augmentation,
        _channels,
        _views,
        _schedule,
        shapes,
        _optimizer,
        _batches,
        _hosts,
    )
    for rule in rules:
        rule(cfg)


def _values(cfg: CfgNode) -> None:
    for key, choices in _CHOICES.items():
        _one_of(key, get_key(cfg, key), choices)
    for key, least in _LEAST.items():
        if get_key(cfg, key) < least:
            raise ValueError(f"{key} is {get_key(cfg, key)}, but it must be at least {least}.")
    for key in _FRACTIONS:
        if not 0 <= get_key(cfg, key) <= 1:
            raise ValueError(f"{key} is {get_key(cfg, key)}, but it is a share from 0 to 1.")


def _one_of(key: str, value: Any, choices: Iterable[str]) -> None:
    choices = list(choices)
    if value not in choices:
        nearest = nearest_keys(str(value), choices)[0]
        raise ValueError(f"{key} is {value!r}; it can be {', '.join(choices)}. The nearest is {nearest}.")


def _model(cfg: CfgNode) -> None:
    model = cfg.MODEL
    _arch(cfg)
    if len(model.FINAL_POOL) != 2 or not set(model.FINAL_POOL) <= {"avg", "max"}:
        raise ValueError(f"MODEL.FINAL_POOL is {model.FINAL_POOL}; it is [space, time], each avg or max.")
    if cfg.NONLOCAL.PROGRESS and not model.ADAPTER:
        logger.warning("NONLOCAL.PROGRESS has no effect: no project that carries frames along is switched on.")
    if model.MODEL_NAME in (*_RESNETS, *_OTHER_RESIDUAL_MODELS):
        _stage_tables(cfg)
    if model.MODEL_NAME in _RESNETS:
        _resnet(cfg)


def _arch(cfg: CfgNode) -> None:
    name, arch = cfg.MODEL.MODEL_NAME, cfg.MODEL.ARCH
    models = REGISTRIES["MODEL.MODEL_NAME"]
    if name not in models or not models.fact(name, "archs") or arch in models.fact(name, "archs"):
        return
    fitting = [other for other in models if arch in models.fact(other, "archs")]
    if fitting:
        raise ValueError(
            f"MODEL.ARCH {arch} with MODEL.MODEL_NAME {name}: that model takes MODEL.ARCH "
            f"{', '.join(models.fact(name, 'archs'))}. For {arch} set MODEL_NAME {' or '.join(fitting)}."
        )
    _one_of("MODEL.ARCH", arch, [arch for model in models for arch in models.fact(model, "archs")])


def _names(cfg: CfgNode) -> None:
    """Every key that a registry serves holds registered names, or published ones that are not implemented here."""
    keys = set(leaf_keys(cfg))
    for key, registry in REGISTRIES.items():
        if key in keys and not (key in IGNORED_VALUES and missing_feature(cfg, key)):
            registry.check(get_key(cfg, key), key)


def _resnet(cfg: CfgNode) -> None:
    depth, pathways = cfg.RESNET.DEPTH, num_pathways(cfg)
    if pathways == 2 and cfg.RESNET.WIDTH_PER_GROUP < cfg.SLOWFAST.BETA_INV:
        raise ValueError(
            f"RESNET.WIDTH_PER_GROUP {cfg.RESNET.WIDTH_PER_GROUP} over SLOWFAST.BETA_INV {cfg.SLOWFAST.BETA_INV} "
            "leaves the fast pathway no channel; raise the first or lower the second."
        )
    if depth not in STAGE_BLOCKS:
        raise ValueError(f"RESNET.DEPTH is {depth}; it can be {', '.join(map(str, STAGE_BLOCKS))}.")
    if cfg.RESNET.NUM_GROUPS > 1 and cfg.RESNET.TRANS_FUNC == "basic_transform":
        raise ValueError(
            f"RESNET.NUM_GROUPS is {cfg.RESNET.NUM_GROUPS}, but RESNET.TRANS_FUNC basic_transform has no groups; set "
            "bottleneck_transform, or NUM_GROUPS 1."
        )
    _blocks(cfg, "RESNET.NUM_BLOCK_TEMP_KERNEL", cfg.RESNET.NUM_BLOCK_TEMP_KERNEL, last=0)
    locations = [[max(blocks, default=-1) for blocks in row] for row in cfg.NONLOCAL.LOCATION]
    _blocks(cfg, "NONLOCAL.LOCATION", locations, last=-1)


def _stage_tables(cfg: CfgNode) -> None:
    pathways = num_pathways(cfg)
    for key in _STAGE_TABLES:
        table = get_key(cfg, key)
        # The default of POOL has an entry for each of two pathways; one pathway reads the first.
        sizes = {1, 2} if key == "NONLOCAL.POOL" else {1, pathways}
        if len(table) != 4 or any(not isinstance(row, list) or len(row) not in sizes for row in table):
            raise ValueError(
                f"{key} is {table}; it needs 4 lists, one for each residual stage, of {pathways} "
                f"{'entry' if pathways == 1 else 'entries'}, one for each pathway of MODEL.MODEL_NAME "
                f"{cfg.MODEL.MODEL_NAME} (one entry serves all)."
            )
    for key in ("RESNET.SPATIAL_STRIDES", "RESNET.SPATIAL_DILATIONS"):
        if min(map(min, get_key(cfg, key))) < 1:
            raise ValueError(f"{key} is {get_key(cfg, key)}; every entry must be at least 1.")


def _blocks(cfg: CfgNode, key: str, numbers: list[list[int]], last: int) -> None:
    """No number of a stage is over its count of blocks, or, counted from 0 (`last` -1), over the last."""
    for stage, (row, blocks) in enumerate(zip(numbers, STAGE_BLOCKS[cfg.RESNET.DEPTH], strict=True)):
        if max(row) > blocks + last:
            raise ValueError(
                f"{key} is {get_key(cfg, key)}, with {max(row)} in stage {stage + 2}, but at RESNET.DEPTH "
                f"{cfg.RESNET.DEPTH} that stage has {blocks} blocks, so {blocks + last} is the most."
            )


def _crops(cfg: CfgNode) -> None:
    data = cfg.DATA
    scales = data.TRAIN_JITTER_SCALES
    if len(scales) != 2 or not 0 < scales[0] <= scales[1]:
        raise ValueError(f"DATA.TRAIN_JITTER_SCALES is {scales}; it is [least, most], pixels of the short side.")
    if cfg.TRAIN.ENABLE and scales[0] < data.TRAIN_CROP_SIZE:
        raise ValueError(
            f"DATA.TRAIN_CROP_SIZE {data.TRAIN_CROP_SIZE} does not fit into frames with a short side of "
            f"DATA.TRAIN_JITTER_SCALES {scales}. Raise the scales to at least {data.TRAIN_CROP_SIZE}, or "
            "crop less."
        )
    for key in ("TRAIN_JITTER_SCALES_RELATIVE", "TRAIN_JITTER_ASPECT_RELATIVE"):
        pair = data[key]
        if pair and (len(pair) != 2 or not 0 < pair[0] <= pair[1]):
            raise ValueError(f"DATA.{key} is {pair}; it is [least, most], both over 0, or [] for off.")


def _channels(cfg: CfgNode) -> None:
    data, pathways = cfg.DATA, num_pathways(cfg)
    channels = data.INPUT_CHANNEL_NUM
    if len(channels) != pathways or min(channels) < 1:
        raise ValueError(
            f"DATA.INPUT_CHANNEL_NUM is {channels}, but MODEL.MODEL_NAME {cfg.MODEL.MODEL_NAME} takes {pathways} "
            f"pathway{'s' if pathways > 1 else ''}. Write {[3] * pathways}, or leave the key out."
        )
    if len(data.MEAN) != len(data.STD) or len(data.MEAN) not in (1, max(channels)) or min(data.STD) <= 0:
        raise ValueError(
            f"DATA.MEAN {data.MEAN} and DATA.STD {data.STD} need one number for each of the {max(channels)} channels, "
            "or one for all, those of STD over 0."
        )
    if not data.PATH_LABEL_SEPARATOR:
        raise ValueError("DATA.PATH_LABEL_SEPARATOR is empty; it stands between path and label, for instance ' '.")


def _views(cfg: CfgNode) -> None:
    if cfg.TEST.NUM_SPATIAL_CROPS > 3:
        raise ValueError(
            f"TEST.NUM_SPATIAL_CROPS is {cfg.TEST.NUM_SPATIAL_CROPS}; it can be 1 (center) to 3 (both ends and center)."
        )
    if any(clips < 1 for clips in cfg.TEST.NUM_TEMPORAL_CLIPS):
        raise ValueError(f"TEST.NUM_TEMPORAL_CLIPS is {cfg.TEST.NUM_TEMPORAL_CLIPS}; every entry must be at least 1.")


def _schedule(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    if cfg.TRAIN.ENABLE and solver.WARMUP_EPOCHS > 0 and solver.WARMUP_START_LR > solver.BASE_LR:
        logger.warning(
            "SOLVER.WARMUP_START_LR %g is above BASE_LR %g: the warm-up lowers the learning rate. Set WARMUP_START_LR "
            "below BASE_LR, or WARMUP_EPOCHS 0.",
            solver.WARMUP_START_LR,
            solver.BASE_LR,
        )
    if solver.LR_POLICY != "steps_with_relative_lrs":
        return
    steps, rates = solver.STEPS, solver.LRS
    if not steps or steps[0] != 0 or any(a >= b for a, b in zip(steps, steps[1:], strict=False)):
        raise ValueError(
            f"SOLVER.STEPS is {steps}; with LR_POLICY steps_with_relative_lrs it holds the epochs at which "
            "a rate begins: 0 first, then rising."
        )
    # Published files keep steps that begin when training is over, and more rates than steps.
    used = [step for step in steps if step < solver.MAX_EPOCH]
    if len(rates) < len(used):
        raise ValueError(
            f"SOLVER.LRS has {len(rates)} entries {rates}, but {len(used)} SOLVER.STEPS {used} begin before "
            f"MAX_EPOCH {solver.MAX_EPOCH}. Give every step its rate, as a multiple of BASE_LR."
        )
    if any(not rate >= 0 for rate in rates):
        raise ValueError(f"SOLVER.LRS is {rates}; no rate can be under 0.")


def _optimizer(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    if not 0 < solver.LAYER_DECAY <= 1:
        raise ValueError(
            f"SOLVER.LAYER_DECAY is {solver.LAYER_DECAY}; it is over 0 and up to 1, where all layers learn alike."
        )
    if not 0 <= cfg.EMA.DECAY < 1:
        raise ValueError(f"EMA.DECAY is {cfg.EMA.DECAY}; it is at least 0 and under 1, where the average would stand.")
    if len(solver.BETAS) != 2 or not all(0 <= beta < 1 for beta in solver.BETAS):
        raise ValueError(f"SOLVER.BETAS is {solver.BETAS}; it is two numbers from 0 to under 1.")
    if solver.OPTIMIZING_METHOD == "sgd" and solver.NESTEROV and (solver.MOMENTUM == 0 or solver.DAMPENING != 0):
        raise ValueError(
            f"SOLVER.NESTEROV needs a MOMENTUM over 0 and DAMPENING 0, got {solver.MOMENTUM} and "
            f"{solver.DAMPENING}. Set NESTEROV to False, or change those."
        )
    bounds = {name: solver[name] for name in ("CLIP_GRAD_VAL", "CLIP_GRAD_L2NORM")}
    if any(bound is not None and not bound > 0 for bound in bounds.values()):
        raise ValueError(f"SOLVER bounds of the gradient must be over 0, or None for off, got {bounds}.")
    if None not in bounds.values():
        raise ValueError(f"SOLVER bounds the gradient by its entries or by its length, not both, got {bounds}.")


def _batches(cfg: CfgNode) -> None:
    gpus = cfg.NUM_GPUS
    for split in ("TRAIN", "TEST"):
        size = cfg[split].BATCH_SIZE
        if gpus < 2 or not cfg[split].ENABLE or size % gpus == 0:
            continue
        if size > gpus:
            raise ValueError(
                f"{split}.BATCH_SIZE {size} cannot be shared evenly by NUM_GPUS {gpus}. Set it to "
                f"{nearest_multiples(size, gpus)}; it is the total over the GPUs of this host."
            )
        logger.warning(
            "%s.BATCH_SIZE %d is less than NUM_GPUS %d: it is the total over the GPUs of this host, so set "
            "at least %d.",
            split,
            size,
            gpus,
            gpus,
        )


def _hosts(cfg: CfgNode) -> None:
    if cfg.SOLVER.LR_REFERENCE_BATCH and cfg.SOLVER.BASE_LR_SCALE_NUM_SHARDS:
        raise ValueError(
            f"SOLVER.LR_REFERENCE_BATCH {cfg.SOLVER.LR_REFERENCE_BATCH} and BASE_LR_SCALE_NUM_SHARDS True both scale "
            "the learning rate with the number of hosts; keep one of them."
        )
    if cfg.SHARD_ID >= cfg.NUM_SHARDS:
        raise ValueError(f"SHARD_ID {cfg.SHARD_ID} is not under NUM_SHARDS {cfg.NUM_SHARDS}; hosts are counted from 0.")
    if not cfg.OUTPUT_DIR:
        raise ValueError("OUTPUT_DIR is empty; name a folder for checkpoints and logs, '.' for this one.")
