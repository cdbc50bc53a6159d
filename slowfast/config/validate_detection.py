"""Rules of the keys of detection: DETECTION, and what it must agree on with the network's strides."""

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
