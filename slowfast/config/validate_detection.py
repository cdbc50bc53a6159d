"""Rules of the keys of detection: DETECTION, what it must agree on with the network's strides, and AVA."""

from fvcore.common.config import CfgNode

from slowfast.config.resolve import STEM_STRIDE, feature_strides


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
            f"DETECTION.SPATIAL_SCALE_FACTOR is {factor}, but the network of MODEL.ARCH {cfg.MODEL.ARCH} makes one "
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
