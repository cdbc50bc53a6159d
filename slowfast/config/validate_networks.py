"""Rules of the keys that single families of models read: X3D, REGNET, and what they share with RESNET."""

from fvcore.common.config import CfgNode

# Which archs a builder (MODEL.MODEL_NAME) makes, where that is one.
_ARCH_OF = {"X3D": "x3d", "RegNet": "r3d"}


def networks(cfg: CfgNode) -> None:
    """Checks the settings of the family that is built.

    Raises:
        ValueError: with the key, its value and what to do.
    """
    rate = cfg.MODEL.DROPCONNECT_RATE
    if rate == 1:
        raise ValueError(f"MODEL.DROPCONNECT_RATE is {rate}; under 1 some branches are left, 0 drops none.")
    name, arch = cfg.MODEL.MODEL_NAME, cfg.MODEL.ARCH
    if name in _ARCH_OF and arch != _ARCH_OF[name]:
        raise ValueError(f"MODEL.ARCH is {arch!r}; with MODEL.MODEL_NAME {name} it is {_ARCH_OF[name]}.")
    if name == "X3D":
        _x3d(cfg)
    if name == "RegNet" and cfg.RESNET.TRANS_FUNC != "bottleneck_transform":
        raise ValueError(
            f"RESNET.TRANS_FUNC is {cfg.RESNET.TRANS_FUNC!r}; the blocks of RegNet are bottleneck_transform."
        )


def _x3d(cfg: CfgNode) -> None:
    for key in ("WIDTH_FACTOR", "DEPTH_FACTOR", "BOTTLENECK_FACTOR"):
        if not cfg.X3D[key] > 0:
            raise ValueError(f"X3D.{key} is {cfg.X3D[key]}; it must be over 0, and 1 leaves sizes as they are.")
    if cfg.X3D.CHANNELWISE_3x3x3 and cfg.RESNET.TRANS_FUNC == "basic_transform":
        raise ValueError(
            "RESNET.TRANS_FUNC basic_transform has no convolution within a channel (X3D.CHANNELWISE_3x3x3 True); the "
            "blocks of X3D are x3d_transform."
        )
