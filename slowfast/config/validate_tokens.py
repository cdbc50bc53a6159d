"""Rules of the keys of models over tokens: MVIT, TIMESFORMER, MODEL.POSITIONS_FOR."""

from collections.abc import Sequence

from fvcore.common.config import CfgNode

POOL_MODES = ("conv", "conv_unshared", "avg", "max")


def token_models(cfg: CfgNode) -> None:
    """Checks the settings of the family that is built.

    Raises:
        ValueError: with the key, its value and what to do.
    """
    shape = cfg.MODEL.POSITIONS_FOR
    if shape and (len(shape) != 2 or min(shape) < 1):
        raise ValueError(f"MODEL.POSITIONS_FOR is {shape}; it is [frames, pixels], or [] for those of training clips.")
    if cfg.MODEL.MODEL_NAME == "MViT":
        _sizes(cfg, "MVIT")
        _mvit_choices(cfg)
        _mvit_tables(cfg)
    if cfg.MODEL.MODEL_NAME == "TimeSformer":
        _sizes(cfg, "TIMESFORMER")


def _sizes(cfg: CfgNode, section: str) -> None:
    options = cfg[section]
    for key in ("EMBED_DIM", "DEPTH", "NUM_HEADS"):
        if options[key] < 1:
            raise ValueError(f"{section}.{key} is {options[key]}, but it must be at least 1.")
    if options.EMBED_DIM % options.NUM_HEADS:
        raise ValueError(
            f"{section}.NUM_HEADS {options.NUM_HEADS} does not divide {section}.EMBED_DIM {options.EMBED_DIM}; every "
            "head takes as many channels."
        )
    if not options.MLP_RATIO > 0:
        raise ValueError(f"{section}.MLP_RATIO is {options.MLP_RATIO}; it must be over 0.")
    if not 0 <= options.DROPPATH_RATE < 1:
        raise ValueError(f"{section}.DROPPATH_RATE is {options.DROPPATH_RATE}; it is at least 0 and under 1.")


def _mvit_choices(cfg: CfgNode) -> None:
    options = cfg.MVIT
    if options.MODE not in POOL_MODES:
        raise ValueError(f"MVIT.MODE is {options.MODE!r}; it can be {', '.join(POOL_MODES)}.")
    if options.NORM != "layernorm":
        raise ValueError(f"MVIT.NORM is {options.NORM!r}; it can be layernorm.")
    if options.USE_FIXED_SINCOS_POS and (options.SEP_POS_EMBED or not options.USE_ABS_POS):
        raise ValueError(
            f"MVIT.USE_FIXED_SINCOS_POS True with USE_ABS_POS {options.USE_ABS_POS} and SEP_POS_EMBED "
            f"{options.SEP_POS_EMBED}: fixed positions are absolute and joint. Set USE_ABS_POS True and SEP_POS_EMBED "
            "False."
        )
    if options.USE_FIXED_SINCOS_POS and options.EMBED_DIM % 16:
        raise ValueError(f"MVIT.EMBED_DIM is {options.EMBED_DIM}; with USE_FIXED_SINCOS_POS True 16 must divide it.")


def _mvit_tables(cfg: CfgNode) -> None:
    options = cfg.MVIT
    axes = 2 if options.PATCH_2D else 3
    for key, least in (("PATCH_KERNEL", 1), ("PATCH_STRIDE", 1), ("PATCH_PADDING", 0)):
        _row(f"MVIT.{key}", options[key], axes, least)
    for key in ("POOL_KVQ_KERNEL", "POOL_KV_STRIDE_ADAPTIVE"):
        if options[key] is not None:
            _row(f"MVIT.{key}", options[key], 3, 1)
    for key in ("POOL_Q_STRIDE", "POOL_KV_STRIDE"):
        for row in options[key]:
            _of_block(cfg, key, row, "[block, time, height, width]", 4)
            _row(f"an entry of MVIT.{key}", row[1:], 3, 1)
    for row in options.POOL_Q_STRIDE if options.POOL_KVQ_KERNEL else ():
        _same_positions(options.POOL_KVQ_KERNEL, row)
    for key in ("DIM_MUL", "HEAD_MUL"):
        for row in options[key]:
            _of_block(cfg, key, row, "[block, factor]", 2)
            if not row[1] > 0:
                raise ValueError(f"MVIT.{key} has {row}; a factor must be over 0.")


def _same_positions(kernel: Sequence[int], row: Sequence[int]) -> None:
    """The attention, and the path around it with windows of one more than the stride, leave as many positions."""
    around = [stride + 1 if stride > 1 else 1 for stride in row[1:]]
    if any((size - other) % 2 for size, other in zip(kernel, around, strict=True)):
        raise ValueError(
            f"MVIT.POOL_Q_STRIDE has {list(row)} with POOL_KVQ_KERNEL {list(kernel)}: the path around the attention "
            f"pools windows of {around}, which leave another number of positions. Take odd kernels, and strides of 1 "
            "or even ones."
        )


def _row(key: str, values: Sequence[int], axes: int, least: int) -> None:
    names = ("time", "height", "width")[-axes:]
    if len(values) != axes or min(values) < least:
        raise ValueError(f"{key} is {list(values)}; it is [{', '.join(names)}], each at least {least}.")


def _of_block(cfg: CfgNode, key: str, row: Sequence[float], form: str, length: int) -> None:
    depth = cfg.MVIT.DEPTH
    if not isinstance(row, (list, tuple)) or len(row) != length or not 0 <= row[0] < depth:
        raise ValueError(
            f"MVIT.{key} has {row}; its entries are {form}, blocks from 0 to {depth - 1} (MVIT.DEPTH {depth})."
        )
