"""Rules of the keys of what is done to training clips.

Rules of the keys of detection: DETECTION, what it must agree on with the network's strides, and AVA.
"""

from fvcore.common.config import CfgNode

from slowfast.config.augment_recipe import parse_recipe
from slowfast.config.resolve import STEM_STRIDE, feature_strides

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
                f"{'[]' if isinstance(value, list) else False}; for colors there is AVA.TRAIN_USE_COLOR_AUGMENTATION."
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


def detection(cfg: CfgNode) -> None:
    """Checks the section where it is switched on.

    Raises:
        ValueError: with the key, its value and what to do.
    """
    if not cfg.DETECTION.ENABLE:
        return
    factor, strides = cfg.DETECTION.SPATIAL_SCALE_FACTOR, feature_strides(cfg)
    if strides and strides != {factor}:
        raise ValueError(
            f"DETECTION.SPATIAL_SCALE_FACTOR is {factor}, but {cfg.MODEL.MODEL_NAME} makes one "
            f"position of {' and '.join(map(str, sorted(strides)))} pixels, so boxes would be cut out at the wrong "
            f"place. {_remedy(cfg, factor, strides)}"
        )
    if cfg.MODEL.COMPILE:
        raise ValueError(
            "MODEL.COMPILE True with DETECTION.ENABLE True: the number of boxes changes by the batch, and every number "
            "would be compiled anew; set MODEL.COMPILE False"
        )


def key_frames(cfg: CfgNode) -> None:
    """Checks which frames and seconds the data set with boxes is asked for.

    Raises:
        ValueError: with the key, its value and what to do.
    """
    ava, frames = cfg.AVA, cfg.DATA.NUM_FRAMES
    if not 0 < ava.FPS < float("inf"):
        raise ValueError(f"AVA.FPS is {ava.FPS}; frames a second of the lists of frames, over 0.")
    if ava.KEY_SECONDS and (len(ava.KEY_SECONDS) != 2 or ava.KEY_SECONDS[0] > ava.KEY_SECONDS[1]):
        raise ValueError(f"AVA.KEY_SECONDS is {ava.KEY_SECONDS}; it is [first, last], or [] for all with a frame.")
    if not -1 <= ava.FRAMES_AFTER_KEY <= frames:
        raise ValueError(
            f"AVA.FRAMES_AFTER_KEY is {ava.FRAMES_AFTER_KEY}; it is 0 to DATA.NUM_FRAMES {frames}, or -1 for half of "
            "them."
        )
    wanted, most = ava.BOX_FRAMES, max(frames, *cfg.DATA.TRAIN_NUM_FRAMES, 0)
    if wanted != sorted(set(wanted)) or any(not 0 <= frame < most for frame in wanted):
        raise ValueError(f"AVA.BOX_FRAMES is {wanted}; frames of the clip, rising, 0 to {most - 1} (DATA.NUM_FRAMES).")


def _remedy(cfg: CfgNode, factor: int, strides: set[int]) -> str:
    remedies = []
    if len(strides) == 1:
        remedies.append(f"Leave the key out, or set it to {min(strides)}.")
    if cfg.MODEL.MODEL_NAME in ("ResNet", "SlowFast"):
        remedies.append(
            f"Or change RESNET.SPATIAL_STRIDES {cfg.RESNET.SPATIAL_STRIDES}, whose product in a pathway, times the "
            f"stem's {STEM_STRIDE}, counts: published settings have stride 1 and SPATIAL_DILATIONS 2 in the last stage."
        )
    return " ".join(remedies)
