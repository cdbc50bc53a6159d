"""TimeSformer from a configuration."""

from fvcore.common.config import CfgNode

from slowfast.models.build import MODEL_REGISTRY
from slowfast.models.build_parts import positions_for
from slowfast.models.timesformer import ATTENTION_TYPES, DividedBlock, TimeSformer
from slowfast.models.tokens import TokenHead


@MODEL_REGISTRY.register("TimeSformer")
def build_timesformer(cfg: CfgNode) -> TimeSformer:
    """TimeSformer by TIMESFORMER.*, for clips of DATA.NUM_FRAMES and DATA.TRAIN_CROP_SIZE (or MODEL.POSITIONS_FOR).

    Raises:
        ValueError: another attention type, patches larger than the crop, or detection, for which it has no head.
    """
    options = cfg.TIMESFORMER
    if options.ATTENTION_TYPE not in ATTENTION_TYPES:
        raise ValueError(
            f"TIMESFORMER.ATTENTION_TYPE is {options.ATTENTION_TYPE!r}; what is built is {', '.join(ATTENTION_TYPES)}"
        )
    if cfg.DETECTION.ENABLE:
        raise ValueError("DETECTION.ENABLE True: TimeSformer scores clips only; set it False, or take MViT")
    frames, crop = positions_for(cfg)
    side = crop // options.PATCH_SIZE
    if not side:
        raise ValueError(
            f"TIMESFORMER.PATCH_SIZE {options.PATCH_SIZE} is over the {crop} pixels of DATA.TRAIN_CROP_SIZE"
        )
    rates = [options.DROPPATH_RATE * i / max(options.DEPTH - 1, 1) for i in range(options.DEPTH)]
    blocks = [
        DividedBlock(
            options.EMBED_DIM,
            options.NUM_HEADS,
            options.MLP_RATIO,
            options.QKV_BIAS,
            options.DROPOUT_RATE,
            rate,
        )
        for rate in rates
    ]
    model = TimeSformer(
        cfg.DATA.INPUT_CHANNEL_NUM[0],
        (frames, side, side),
        options.PATCH_SIZE,
        options.EMBED_DIM,
        blocks,
        TokenHead(options.EMBED_DIM, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DROPOUT_RATE, cfg.MODEL.HEAD_ACT),
        options.DROPOUT_RATE,
        decay_positions=not options.ZERO_DECAY_POS_CLS,
    )
    model.init_weights()
    return model
