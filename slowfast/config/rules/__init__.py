"""Check a configuration at load: registered names, ranges of single keys, rules between keys.

Arguments that an object checks itself have no rule here: its builder adds the key to the message (`naming_keys`), when
a run starts. So are GPUs counted.
"""

from __future__ import annotations

from fvcore.common.config import CfgNode

from slowfast.config.merge import get_key, leaf_keys
from slowfast.config.rules import contrastive, data, model, run
from slowfast.utils.errors import check_choice
from slowfast.utils.registry import CHOICES, REGISTRIES

# Keys by the names that they take, where no object takes them (see `CHOICES` for the others).
_CHOICES = {
    "DATA.ENSEMBLE_METHOD": ("sum", "max"),
    "DEMO.INPUT_FORMAT": ("BGR", "RGB"),
    "DEMO.VIS_MODE": ("thres", "top-k"),
    "DIST_BACKEND": ("nccl", "gloo", "mpi"),
    "LOG_STYLE": ("plain", "pyslowfast"),
    "MODEL.COMPILE_MODE": ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    "MODEL.MEMORY_FORMAT": ("auto", "contiguous", "channels_last"),
    "MVIT.REL_POS_BIAS": ("auto", "mask", "channels"),
    "RESNET.STEM_FUNC": ("resnet_stem",),
    "REGNET.DEPTH": ("400M", "400MF", "4G", "4.0G", "4.0GF"),
    "TEST.CHECKPOINT_TYPE": ("pytorch", "caffe2", "aia"),
    "TRACKER.NAMES": ("wandb", "mlflow", "trackio"),
    "TRAIN.CHECKPOINT_TYPE": ("pytorch", "caffe2", "aia"),
}
# Keys by their least value.
_LEAST = {
    -1: (
        *("DEMO.DATA_SOURCE", "DEMO.NUM_CLIPS_SKIP", "DEMO.OUTPUT_FPS", "DEMO.WEBCAM"),
        *("TEST.CHECKPOINT_FILE_EPOCH", "TRAIN.CHECKPOINT_FILE_EPOCH"),
    ),
    0: (
        *("DEMO.BUFFER_SIZE", "DEMO.CLIP_VIS_SIZE", "DEMO.DISPLAY_HEIGHT", "DEMO.DISPLAY_WIDTH"),
        *("BN.EPSILON", "BN.WEIGHT_DECAY", "DATA.MAX_FRAME_PIXELS", "DATA_LOADER.NUM_WORKERS", "DIST.MAX_RESTARTS"),
        *("DATA.LOADER_CHUNK_SIZE", "DATA.LOADER_CHUNK_OVERALL_SIZE"),
        *("DIST.STOP_TIMEOUT", "MODEL.FC_INIT_STD", "NUM_GPUS", "SHARD_ID", "SOLVER.BASE_LR", "SOLVER.COSINE_END_LR"),
        *("SOLVER.LR_REFERENCE_BATCH", "SOLVER.WARMUP_EPOCHS", "SOLVER.WARMUP_START_LR", "SOLVER.WEIGHT_DECAY"),
        *("TRAIN.EARLY_STOP_PATIENCE", "TRAIN.KILL_LOSS_EXPLOSION_FACTOR"),
    ),
    1: (
        *("BN.NUM_BATCHES_PRECISE", "BN.NUM_SPLITS", "BN.NUM_SYNC_DEVICES", "DATA.NUM_FRAMES", "DATA.SAMPLING_RATE"),
        *(
            "DATA.TARGET_FPS",
            "DATA.TEST_CROP_SIZE",
            "DATA.TRAIN_CROP_NUM_SPATIAL",
            "DATA.TRAIN_CROP_NUM_TEMPORAL",
            "DATA.TRAIN_CROP_SIZE",
            "DATA_LOADER.PREFETCH_FACTOR",
        ),
        *("DEMO.FPS", "DEMO.NUM_VIS_INSTANCES", "DEMO.SLOWMO"),
        *("DETECTION.ROI_XFORM_RESOLUTION", "DETECTION.SPATIAL_SCALE_FACTOR", "DIST.START_TIMEOUT", "DIST.TIMEOUT"),
        *("LOG_PERIOD", "MODEL.NUM_CLASSES", "MULTIGRID.BN_BASE_SIZE", "MULTIGRID.EVAL_FREQ", "NUM_SHARDS"),
        *("RESNET.NUM_GROUPS", "RESNET.WIDTH_PER_GROUP", "SLOWFAST.ALPHA", "SLOWFAST.BETA_INV"),
        *("SLOWFAST.FUSION_CONV_CHANNEL_RATIO", "SLOWFAST.FUSION_KERNEL_SZ", "SOLVER.MAX_EPOCH", "TEST.BATCH_SIZE"),
        *("TEST.NUM_ENSEMBLE_VIEWS", "TEST.NUM_SPATIAL_CROPS", "TRAIN.ACCUM_STEPS", "TRAIN.BATCH_SIZE"),
        *("TRAIN.CHECKPOINT_PERIOD", "TRAIN.EVAL_PERIOD", "X3D.DIM_C1", "X3D.DIM_C5", "TENSORBOARD.HISTOGRAM.TOPK"),
        *(f"{section}.{name}" for section in ("MVIT", "TIMESFORMER") for name in ("DEPTH", "EMBED_DIM", "NUM_HEADS")),
    ),
}
# Keys that are over 0.
_POSITIVE = (
    *("MULTIGRID.EPOCH_FACTOR", "MVIT.MLP_RATIO", "TIMESFORMER.MLP_RATIO"),
    *("X3D.BOTTLENECK_FACTOR", "X3D.DEPTH_FACTOR", "X3D.WIDTH_FACTOR"),
)
# Keys that are 0 to 1.
_FRACTIONS = (
    *("AUG.RE_PROB", "AVA.DETECTION_SCORE_THRESH", "BN.MOMENTUM", "DATA.COLOR_RND_GRAYSCALE"),
    *("DEMO.COMMON_CLASS_THRES", "DEMO.DETECTRON2_THRESH", "DEMO.UNCOMMON_CLASS_THRES"),
    *("DATA.MAX_UNREADABLE_FRACTION", "MIXUP.LABEL_SMOOTH_VALUE", "MIXUP.PROB", "MIXUP.SWITCH_PROB"),
    *("MODEL.DROPOUT_RATE", "MVIT.DROPOUT_RATE", "SOLVER.MOMENTUM", "TIMESFORMER.DROPOUT_RATE"),
)


def validate(cfg: CfgNode) -> None:
    """Check a merged and resolved configuration.

    Raises:
        ValueError: with the key, its value and what to set.
    """
    _check_names(cfg)
    _check_ranges(cfg)
    model.validate(cfg)
    data.validate(cfg)
    run.validate(cfg)
    contrastive.validate(cfg)


def _check_names(cfg: CfgNode) -> None:
    """Check that keys of registries hold registered names."""
    keys = set(leaf_keys(cfg))
    for key, registry in list(REGISTRIES.items()):  # another thread may import a project with registries of its own
        if key in keys:
            registry.check(get_key(cfg, key), key)
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
    check_choice("MODEL.ARCH", arch, [arch for model in models for arch in models.fact(model, "archs")])


def _check_ranges(cfg: CfgNode) -> None:
    for key, choices in {**_CHOICES, **CHOICES}.items():
        value = get_key(cfg, key)
        for name in value if isinstance(value, list) else [value]:
            check_choice(key, name, choices)
    for least, keys in _LEAST.items():
        for key in keys:
            if get_key(cfg, key) < least:
                raise ValueError(f"{key} is {get_key(cfg, key)}, but it must be at least {least}.")
    for key in _POSITIVE:
        if not get_key(cfg, key) > 0:
            raise ValueError(f"{key} is {get_key(cfg, key)}; it must be over 0.")
    for key in _FRACTIONS:
        if not 0 <= get_key(cfg, key) <= 1:
            raise ValueError(f"{key} is {get_key(cfg, key)}, but it must be 0 to 1.")
    if not 0 <= cfg.EMA.DECAY < 1:
        raise ValueError(f"EMA.DECAY is {cfg.EMA.DECAY}; it must be at least 0 and under 1: at 1 nothing would change.")
