"""Rules of the keys that single families of models read: X3D, REGNET, and what they share with RESNET.

Rules of the keys that change the shape of clips in the course of training: MULTIGRID, DATA.TRAIN_NUM_FRAMES.

Rules of the keys of models over tokens: MVIT, TIMESFORMER, MODEL.POSITIONS_FOR.
"""

from collections.abc import Sequence

from fvcore.common.config import CfgNode

from slowfast.config.resolve import num_pathways
from slowfast.utils.errors import nearest_multiples


def networks(cfg: CfgNode) -> None:
    """Checks the settings of the family that is built.

    Raises:
        ValueError: with the key, its value and what to do.
    """
    rate = cfg.MODEL.DROPCONNECT_RATE
    if rate == 1:
        raise ValueError(f"MODEL.DROPCONNECT_RATE is {rate}; under 1 some branches are left, 0 drops none.")
    name = cfg.MODEL.MODEL_NAME
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


# The head's window is a clip's side after the network's strides, which make one position of so many pixels.
_STRIDE = 32


def shapes(cfg: CfgNode) -> None:
    """Checks that every shape a training clip may take can be made, and that no two keys set the same thing.

    Raises:
        ValueError: with the key, its value and what to do.
    """
    if cfg.MULTIGRID.LONG_CYCLE:
        _long_cycle(cfg)
    if cfg.MULTIGRID.SHORT_CYCLE:
        _short_cycle(cfg)
    if not cfg.MULTIGRID.EPOCH_FACTOR > 0:
        raise ValueError(f"MULTIGRID.EPOCH_FACTOR is {cfg.MULTIGRID.EPOCH_FACTOR}; it must be over 0.")
    if cfg.DATA.TRAIN_NUM_FRAMES and min(cfg.DATA.TRAIN_NUM_FRAMES) < 1:
        raise ValueError(f"DATA.TRAIN_NUM_FRAMES is {cfg.DATA.TRAIN_NUM_FRAMES}; every entry must be at least 1.")
    if num_pathways(cfg) == 2:
        _slow_frames(cfg)


def _long_cycle(cfg: CfgNode) -> None:
    solver, factors, frames = cfg.SOLVER, cfg.MULTIGRID.LONG_CYCLE_FACTORS, cfg.DATA.NUM_FRAMES
    if (
        solver.LR_POLICY != "steps_with_relative_lrs"
        or not 2 <= len(solver.STEPS)
        or solver.STEPS[-1] > solver.MAX_EPOCH
    ):
        raise ValueError(
            f"MULTIGRID.LONG_CYCLE has its turns between the steps of the learning rate. SOLVER.LR_POLICY is "
            f"{solver.LR_POLICY}, STEPS {solver.STEPS}, MAX_EPOCH {solver.MAX_EPOCH}; set LR_POLICY "
            "steps_with_relative_lrs and at least two STEPS, none over MAX_EPOCH."
        )
    if not factors or any(len(pair) != 2 or not all(0 < factor <= 1 for factor in pair) for pair in factors):
        raise ValueError(
            f"MULTIGRID.LONG_CYCLE_FACTORS is {factors}; it holds a [frames, crop] for every shape, as shares over 0 "
            "and at most 1."
        )
    if 0 in _long_lengths(cfg):
        raise ValueError(f"MULTIGRID.LONG_CYCLE_FACTORS {factors} leave no frame of DATA.NUM_FRAMES {frames}.")
    smallest = min(_long_crops(cfg))
    if smallest < _STRIDE and not cfg.MULTIGRID.SHORT_CYCLE:
        raise ValueError(
            f"MULTIGRID.LONG_CYCLE_FACTORS {factors} of DATA.TRAIN_CROP_SIZE {cfg.DATA.TRAIN_CROP_SIZE} make crops of "
            f"{smallest} pixels; the head needs at least {_STRIDE}."
        )
    if cfg.DATA.TRAIN_NUM_FRAMES and any(pair[0] != 1 for pair in factors):
        raise ValueError(
            f"DATA.TRAIN_NUM_FRAMES {cfg.DATA.TRAIN_NUM_FRAMES} and MULTIGRID.LONG_CYCLE_FACTORS {factors} both set "
            "the frames of a clip. Keep one, or let every first factor be 1."
        )


def _short_cycle(cfg: CfgNode) -> None:
    factors, full = cfg.MULTIGRID.SHORT_CYCLE_FACTORS, cfg.DATA.TRAIN_CROP_SIZE
    if len(factors) != 2 or not all(0 < factor <= 1 for factor in factors):
        raise ValueError(f"MULTIGRID.SHORT_CYCLE_FACTORS is {factors}; it is two shares over 0 and at most 1.")
    crops = _long_crops(cfg) if cfg.MULTIGRID.LONG_CYCLE else [full]
    for crop in crops:
        if any(round((crop / (factor * full)) ** 2) < 1 for factor in factors):
            raise ValueError(
                f"MULTIGRID.SHORT_CYCLE_FACTORS {factors} make crops of {[round(factor * full) for factor in factors]} "
                f"pixels, so much larger than the {crop} of a stage of LONG_CYCLE_FACTORS that no clip would be left "
                "in a batch. Lower the first, or raise the second."
            )


def _slow_frames(cfg: CfgNode) -> None:
    """Every length divides by ALPHA, and SLOW_INDICES, where they are given, hold the slow frames of every length."""
    alpha, slow = cfg.SLOWFAST.ALPHA, cfg.SLOWFAST.SLOW_INDICES
    lengths = {"DATA.NUM_FRAMES": [cfg.DATA.NUM_FRAMES], "DATA.TRAIN_NUM_FRAMES": cfg.DATA.TRAIN_NUM_FRAMES}
    if cfg.MULTIGRID.LONG_CYCLE:
        lengths["of MULTIGRID.LONG_CYCLE_FACTORS the length"] = _long_lengths(cfg)
    for key, several in lengths.items():
        for frames in several:
            if frames % alpha:
                raise ValueError(
                    f"{key} {frames} is no multiple of SLOWFAST.ALPHA {alpha}, so the slow pathway has no whole number "
                    f"of frames. Let it be {nearest_multiples(frames, alpha)}, or set another ALPHA."
                )
            if slow and (len(slow) < frames // alpha or not all(0 <= i < frames for i in slow[: frames // alpha])):
                raise ValueError(
                    f"SLOWFAST.SLOW_INDICES is {slow}; it needs {frames // alpha} frames from 0 to {frames - 1} ({key} "
                    f"{frames} / ALPHA {alpha}) to begin with, or [] for even ones."
                )
    longest = max(frames for several in lengths.values() for frames in several)
    if len(slow) > longest // alpha:
        raise ValueError(
            f"SLOWFAST.SLOW_INDICES is {slow}; it needs {longest // alpha} frames (clips of {longest} / ALPHA "
            f"{alpha}), or [] for even ones."
        )


def _long_lengths(cfg: CfgNode) -> list[int]:
    return [int(round(cfg.DATA.NUM_FRAMES * pair[0])) for pair in cfg.MULTIGRID.LONG_CYCLE_FACTORS]


def _long_crops(cfg: CfgNode) -> list[int]:
    return [int(round(cfg.DATA.TRAIN_CROP_SIZE * pair[1])) for pair in cfg.MULTIGRID.LONG_CYCLE_FACTORS]


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
