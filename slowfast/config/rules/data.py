"""Rules between keys of the data: frames, crops, channels, augmentation, AVA's key frames, multigrid shapes."""

from fvcore.common.config import CfgNode

from slowfast.config.resolve import num_pathways
from slowfast.utils.errors import nearest_multiples
from slowfast.utils.registry import REGISTRIES


def validate(cfg: CfgNode) -> None:
    """Check the rules of this module.

    Raises:
        ValueError: with the key, its value and what to set.
    """
    _key_frames(cfg)
    _crops(cfg)
    _channels(cfg)
    _augmentation(cfg)
    _shapes(cfg)


def _crops(cfg: CfgNode) -> None:
    data = cfg.DATA
    scales = data.TRAIN_JITTER_SCALES
    if len(scales) != 2 or not 0 < scales[0] <= scales[1]:
        raise ValueError(f"DATA.TRAIN_JITTER_SCALES is {scales}; it is [min, max], pixels of the short side.")
    if cfg.TRAIN.ENABLE and scales[0] < data.TRAIN_CROP_SIZE:
        raise ValueError(
            f"DATA.TRAIN_CROP_SIZE {data.TRAIN_CROP_SIZE} does not fit into frames with a short side of "
            f"DATA.TRAIN_JITTER_SCALES {scales}. Raise the scales to at least {data.TRAIN_CROP_SIZE}, or "
            "crop less."
        )
    for key in ("TRAIN_JITTER_SCALES_RELATIVE", "TRAIN_JITTER_ASPECT_RELATIVE"):
        pair = data[key]
        if pair and (len(pair) != 2 or not 0 < pair[0] <= pair[1]):
            raise ValueError(f"DATA.{key} is {pair}; it is [min, max], both over 0, or [] for off.")


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


def _augmentation(cfg: CfgNode) -> None:
    data = cfg.DATA
    values, directions = data.TRAIN_PCA_EIGVAL, data.TRAIN_PCA_EIGVEC
    if len(values) != 3 or len(directions) != 3 or any(len(row) != 3 for row in directions):
        raise ValueError(
            f"DATA.TRAIN_PCA_EIGVAL {values} and TRAIN_PCA_EIGVEC {directions} are 3 numbers and 3 rows of 3, one for "
            "each channel."
        )
    _resized_crops(cfg)
    if cfg.AUG.ENABLE:
        _strong(cfg)
    if cfg.DETECTION.ENABLE:
        _with_boxes(cfg)
    if cfg.MIXUP.ENABLE:
        _mixing(cfg)


def _resized_crops(cfg: CfgNode) -> None:
    data = cfg.DATA
    areas, aspects = data.TRAIN_JITTER_SCALES_RELATIVE, data.TRAIN_JITTER_ASPECT_RELATIVE
    if aspects and not areas:
        raise ValueError(
            f"DATA.TRAIN_JITTER_ASPECT_RELATIVE {aspects} needs random resized crops: set TRAIN_JITTER_SCALES_RELATIVE "
            "too, for instance to [0.08, 1.0], or leave both []."
        )
    if areas and areas[1] > 1:
        raise ValueError(f"DATA.TRAIN_JITTER_SCALES_RELATIVE is {areas}; a crop's area is at most 1 of the frame's.")
    if data.TRAIN_JITTER_MOTION_SHIFT and not areas:
        raise ValueError(
            "DATA.TRAIN_JITTER_MOTION_SHIFT True moves random resized crops: set TRAIN_JITTER_SCALES_RELATIVE too, for "
            "instance to [0.08, 1.0], or MOTION_SHIFT to False."
        )


def _strong(cfg: CfgNode) -> None:
    aug = cfg.AUG
    if aug.NUM_SAMPLE < 1:
        raise ValueError(f"AUG.NUM_SAMPLE is {aug.NUM_SAMPLE}, but it must be at least 1.")
    if not aug.AA_TYPE and aug.COLOR_JITTER is not None and not 0 <= aug.COLOR_JITTER <= 1:
        raise ValueError(f"AUG.COLOR_JITTER is {aug.COLOR_JITTER}; it must be 0 to 1, or None for off.")
    if aug.RE_SPLIT and aug.NUM_SAMPLE < 2:
        raise ValueError(
            f"AUG.RE_SPLIT True erases in the second half of a video's clips only, but AUG.NUM_SAMPLE is "
            f"{aug.NUM_SAMPLE}; set NUM_SAMPLE to at least 2, or RE_SPLIT to False."
        )


def _with_boxes(cfg: CfgNode) -> None:
    """Refuse transforms that boxes do not follow: they follow the published ones of AVA only."""
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
            "MIXUP.ENABLE True mixes clips of one label each, but DATA.MULTI_LABEL is True; set one of them to False."
        )
    if not REGISTRIES["MODEL.LOSS_FUNC"].fact(cfg.MODEL.LOSS_FUNC, "soft_targets"):
        raise ValueError(
            f"MODEL.LOSS_FUNC is {cfg.MODEL.LOSS_FUNC}, which takes no mixed labels; with MIXUP.ENABLE True set "
            "soft_cross_entropy."
        )
    if min(mixup.ALPHA, mixup.CUTMIX_ALPHA) < 0 or (mixup.PROB > 0 and mixup.ALPHA == mixup.CUTMIX_ALPHA == 0):
        raise ValueError(
            f"MIXUP.ALPHA {mixup.ALPHA} and CUTMIX_ALPHA {mixup.CUTMIX_ALPHA} must be at least 0, and one of "
            "them over 0. For label smoothing alone set MIXUP.PROB 0."
        )
    if mixup.PROB > 0 and clips == 1:
        raise ValueError(
            f"MIXUP.ENABLE True mixes pairs of clips, but each of {processes} processes gets one clip of a batch; "
            f"raise TRAIN.BATCH_SIZE {cfg.TRAIN.BATCH_SIZE} to at least {2 * processes}."
        )


def _key_frames(cfg: CfgNode) -> None:
    ava, frames = cfg.AVA, cfg.DATA.NUM_FRAMES
    if not ava.FPS > 0:
        raise ValueError(f"AVA.FPS is {ava.FPS}; frames per second, over 0.")
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


# Stride of the features of ResNet and SlowFast, pixels: the least side that leaves a position for the head.
_STRIDE = 32


def _shapes(cfg: CfgNode) -> None:
    if cfg.MULTIGRID.LONG_CYCLE:
        _long_cycle(cfg)
    if cfg.MULTIGRID.SHORT_CYCLE:
        _short_cycle(cfg)
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
            f"MULTIGRID.LONG_CYCLE runs once in each step of the learning rate. SOLVER.LR_POLICY is "
            f"{solver.LR_POLICY}, STEPS {solver.STEPS}, MAX_EPOCH {solver.MAX_EPOCH}; set LR_POLICY "
            "steps_with_relative_lrs and at least two STEPS, none over MAX_EPOCH."
        )
    if not factors or any(len(pair) != 2 or not all(0 < factor <= 1 for factor in pair) for pair in factors):
        raise ValueError(
            f"MULTIGRID.LONG_CYCLE_FACTORS is {factors}; it holds [frames, crop] for every shape, factors over 0 and "
            "at most 1."
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
        raise ValueError(f"MULTIGRID.SHORT_CYCLE_FACTORS is {factors}; it is two factors over 0 and at most 1.")
    crops = _long_crops(cfg) if cfg.MULTIGRID.LONG_CYCLE else [full]
    for crop in crops:
        if any(round((crop / (factor * full)) ** 2) < 1 for factor in factors):
            raise ValueError(
                f"MULTIGRID.SHORT_CYCLE_FACTORS {factors} make crops of {[round(factor * full) for factor in factors]} "
                f"pixels, so much larger than the {crop} of a stage of LONG_CYCLE_FACTORS that no clip would be left "
                "in a batch. Lower the first, or raise the second."
            )


def _slow_frames(cfg: CfgNode) -> None:
    """Check that ALPHA divides every clip length; SLOW_INDICES, if given, hold 1 / ALPHA of the frames of every clip.

    A model with an adapter may take another number, by a rule of the adapter's project.
    """
    alpha, slow = cfg.SLOWFAST.ALPHA, cfg.SLOWFAST.SLOW_INDICES
    by_ratio = not (slow and cfg.MODEL.ADAPTER)
    lengths = {"DATA.NUM_FRAMES": [cfg.DATA.NUM_FRAMES], "DATA.TRAIN_NUM_FRAMES": cfg.DATA.TRAIN_NUM_FRAMES}
    if cfg.MULTIGRID.LONG_CYCLE:
        lengths["MULTIGRID.LONG_CYCLE_FACTORS, length"] = _long_lengths(cfg)
    for key, several in lengths.items():
        for frames in several:
            if by_ratio and frames % alpha:
                raise ValueError(
                    f"{key} {frames} is no multiple of SLOWFAST.ALPHA {alpha}, so the slow pathway would not have a "
                    f"whole number of frames. Let it be {nearest_multiples(frames, alpha)}, or set another ALPHA."
                )
            within = sum(0 <= i < frames for i in slow)
            if slow and by_ratio and within != frames // alpha:
                raise ValueError(
                    f"SLOWFAST.SLOW_INDICES is {slow}; it needs {frames // alpha} frames from 0 to {frames - 1} ({key} "
                    f"{frames} / ALPHA {alpha}), or [] for evenly spaced ones."
                )
    longest = max(frames for several in lengths.values() for frames in several)
    if not all(0 <= i < longest for i in slow):
        raise ValueError(
            f"SLOWFAST.SLOW_INDICES is {slow}; its frames are from 0 to {longest - 1} (clips of {longest}), or [] for "
            "evenly spaced ones."
        )


def _long_lengths(cfg: CfgNode) -> list[int]:
    return [int(round(cfg.DATA.NUM_FRAMES * pair[0])) for pair in cfg.MULTIGRID.LONG_CYCLE_FACTORS]


def _long_crops(cfg: CfgNode) -> list[int]:
    return [int(round(cfg.DATA.TRAIN_CROP_SIZE * pair[1])) for pair in cfg.MULTIGRID.LONG_CYCLE_FACTORS]
