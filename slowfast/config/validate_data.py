"""Rules of the keys of what is done to training clips."""

from fvcore.common.config import CfgNode

from slowfast.config.augment_recipe import parse_recipe

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "random")
ERASING_MODES = ("pixel", "rand", "const")


def augmentation(cfg: CfgNode) -> None:
    """Checks what is done to the pixels of training clips.

    Raises:
        ValueError: with the key, its value and what to do.
    """
    data = cfg.DATA
    values, directions = data.TRAIN_PCA_EIGVAL, data.TRAIN_PCA_EIGVEC
    if len(values) != 3 or len(directions) != 3 or any(len(row) != 3 for row in directions):
        raise ValueError(
            f"DATA.TRAIN_PCA_EIGVAL {values} and TRAIN_PCA_EIGVEC {directions} are 3 numbers and 3 rows of 3, one a "
            "channel."
        )
    _crops_by_area(cfg)
    if cfg.AUG.ENABLE:
        _strong(cfg)
    if cfg.DETECTION.ENABLE:
        _with_boxes(cfg)
    if cfg.MIXUP.ENABLE:
        _mixing(cfg)


def _crops_by_area(cfg: CfgNode) -> None:
    data = cfg.DATA
    areas, aspects = data.TRAIN_JITTER_SCALES_RELATIVE, data.TRAIN_JITTER_ASPECT_RELATIVE
    if aspects and not areas:
        raise ValueError(
            f"DATA.TRAIN_JITTER_ASPECT_RELATIVE {aspects} is for crops by area; set TRAIN_JITTER_SCALES_RELATIVE too, "
            "for instance to [0.08, 1.0], or leave both []."
        )
    if areas and areas[1] > 1:
        raise ValueError(f"DATA.TRAIN_JITTER_SCALES_RELATIVE is {areas}; shares of a frame's area are at most 1.")
    if data.TRAIN_JITTER_MOTION_SHIFT and not areas:
        raise ValueError(
            "DATA.TRAIN_JITTER_MOTION_SHIFT True moves crops by area; set TRAIN_JITTER_SCALES_RELATIVE too, for "
            "instance to [0.08, 1.0], or MOTION_SHIFT to False."
        )


def _strong(cfg: CfgNode) -> None:
    aug = cfg.AUG
    for name, choices in (("INTERPOLATION", INTERPOLATIONS), ("RE_MODE", ERASING_MODES)):
        if aug[name] not in choices:
            raise ValueError(f"AUG.{name} is {aug[name]!r}; it can be {', '.join(choices)}.")
    for name in ("NUM_SAMPLE", "RE_COUNT"):
        if aug[name] < 1:
            raise ValueError(f"AUG.{name} is {aug[name]}, but it must be at least 1.")
    if aug.AA_TYPE:
        parse_recipe(aug.AA_TYPE)
    elif aug.COLOR_JITTER is not None and not 0 <= aug.COLOR_JITTER <= 1:
        raise ValueError(f"AUG.COLOR_JITTER is {aug.COLOR_JITTER}; it is a share from 0 to 1, or None for off.")
    if aug.RE_SPLIT and aug.NUM_SAMPLE < 2:
        raise ValueError(
            f"AUG.RE_SPLIT True erases in the second half of a video's clips only, but AUG.NUM_SAMPLE is "
            f"{aug.NUM_SAMPLE}; set NUM_SAMPLE to at least 2, or RE_SPLIT to False."
        )


def _with_boxes(cfg: CfgNode) -> None:
    """Boxes follow the published transforms of AVA, and no others."""
    wanted = {
        "AUG.ENABLE": cfg.AUG.ENABLE,
        "MIXUP.ENABLE": cfg.MIXUP.ENABLE,
        "DATA.TRAIN_JITTER_SCALES_RELATIVE": cfg.DATA.TRAIN_JITTER_SCALES_RELATIVE,
    }
    for key, value in wanted.items():
        if value:
            raise ValueError(
                f"{key} is {value}, but boxes (DETECTION.ENABLE True) do not follow it. Set it to "
                f"{'[]' if isinstance(value, list) else False}; for colours there is AVA.TRAIN_USE_COLOR_AUGMENTATION."
            )


def _mixing(cfg: CfgNode) -> None:
    mixup, processes = cfg.MIXUP, max(cfg.NUM_GPUS, 1)
    clips = cfg.TRAIN.BATCH_SIZE * (cfg.AUG.NUM_SAMPLE if cfg.AUG.ENABLE else 1) // processes
    if cfg.DATA.MULTI_LABEL:
        raise ValueError(
            "MIXUP.ENABLE True blends clips of one label each, but DATA.MULTI_LABEL is True; set one of them to False."
        )
    if cfg.MODEL.LOSS_FUNC != "soft_cross_entropy":
        raise ValueError(
            f"MODEL.LOSS_FUNC is {cfg.MODEL.LOSS_FUNC}, which takes no blended labels; with MIXUP.ENABLE True set "
            "soft_cross_entropy."
        )
    if min(mixup.ALPHA, mixup.CUTMIX_ALPHA) < 0 or (mixup.PROB > 0 and mixup.ALPHA == mixup.CUTMIX_ALPHA == 0):
        raise ValueError(
            f"MIXUP.ALPHA {mixup.ALPHA} and CUTMIX_ALPHA {mixup.CUTMIX_ALPHA} are over 0, or one of them 0 to leave "
            "that way of blending out; to smooth labels alone set MIXUP.PROB 0."
        )
    if mixup.PROB > 0 and clips == 1:
        raise ValueError(
            f"MIXUP.ENABLE True blends pairs of clips, but each of {processes} processes gets one clip of a batch; "
            f"raise TRAIN.BATCH_SIZE {cfg.TRAIN.BATCH_SIZE} to at least {2 * processes}."
        )
