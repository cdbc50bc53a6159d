"""Rules between keys of contrastive learning: CONTRASTIVE, DATA.TRAIN_CROP_NUM_*, TIME_DIFF_PROB, SSL_*."""

from fvcore.common.config import CfgNode

from slowfast.utils.errors import nearest_multiples

_PAIRS = ("byol", "simclr")  # methods that take two clips at once


def validate(cfg: CfgNode) -> None:
    """Check the rules of this module.

    Raises:
        ValueError: with the key, its value and what to set.
    """
    _views(cfg)
    if cfg.MODEL.MODEL_NAME == "ContrastiveModel":
        _model(cfg)
        _run(cfg)


def _views(cfg: CfgNode) -> None:
    data, options = cfg.DATA, cfg.CONTRASTIVE
    if data.TRAIN_CROP_NUM_TEMPORAL * data.TRAIN_CROP_NUM_SPATIAL > 1 and cfg.DETECTION.ENABLE:
        raise ValueError(
            f"DATA.TRAIN_CROP_NUM_TEMPORAL {data.TRAIN_CROP_NUM_TEMPORAL} and TRAIN_CROP_NUM_SPATIAL "
            f"{data.TRAIN_CROP_NUM_SPATIAL}: with DETECTION.ENABLE True a key frame has one clip; set both to 1."
        )
    if not options.DELTA_CLIPS_MIN <= options.DELTA_CLIPS_MAX:
        raise ValueError(
            f"CONTRASTIVE.DELTA_CLIPS_MIN {options.DELTA_CLIPS_MIN} is over DELTA_CLIPS_MAX {options.DELTA_CLIPS_MAX}; "
            "they are the least and the greatest distance of two clips, in frames."
        )
    if not 0 <= data.TIME_DIFF_PROB <= 1 or (data.TIME_DIFF_PROB and data.NUM_FRAMES < 2):
        raise ValueError(
            f"DATA.TIME_DIFF_PROB is {data.TIME_DIFF_PROB} with NUM_FRAMES {data.NUM_FRAMES}; it is a probability, 0 "
            "to 1, and changes from frame to frame take at least 2 frames."
        )
    if len(data.SSL_COLOR_BRI_CON_SAT) != 3 or min(data.SSL_COLOR_BRI_CON_SAT) < 0:
        raise ValueError(
            f"DATA.SSL_COLOR_BRI_CON_SAT is {data.SSL_COLOR_BRI_CON_SAT}; it is three numbers, for brightness, "
            "contrast and saturation, none under 0."
        )
    if not 0 <= data.SSL_COLOR_HUE <= 0.5:
        raise ValueError(f"DATA.SSL_COLOR_HUE is {data.SSL_COLOR_HUE}; it is a part of the color circle, 0 to 0.5.")
    least, greatest = data.SSL_BLUR_SIGMA_MIN, data.SSL_BLUR_SIGMA_MAX
    if len(least) != 2 or len(greatest) != 2 or not 0 <= least[1] <= greatest[1]:
        raise ValueError(
            f"DATA.SSL_BLUR_SIGMA_MIN {least} and SSL_BLUR_SIGMA_MAX {greatest} are two numbers each, of which the "
            "second counts; the sigma of the blur is drawn between these, at least 0."
        )


def _model(cfg: CfgNode) -> None:
    options = cfg.CONTRASTIVE
    if cfg.MODEL.LOSS_FUNC != "contrastive_loss" or cfg.DETECTION.ENABLE or cfg.DATA.MULTI_LABEL:
        raise ValueError(
            f"MODEL.MODEL_NAME ContrastiveModel with MODEL.LOSS_FUNC {cfg.MODEL.LOSS_FUNC}, DETECTION.ENABLE "
            f"{cfg.DETECTION.ENABLE} and DATA.MULTI_LABEL {cfg.DATA.MULTI_LABEL}; set contrastive_loss, False and "
            "False."
        )
    for key in ("NUM_MLP_LAYERS", "DIM", "MLP_DIM", "QUEUE_LEN", "NUM_CLASSES_DOWNSTREAM"):
        if options[key] < 1:
            raise ValueError(f"CONTRASTIVE.{key} is {options[key]}, but it must be at least 1.")
    if not options.T > 0 or not 0 <= options.MOMENTUM <= 1 or options.SWAV_QEUE_LEN < 0:
        raise ValueError(
            f"CONTRASTIVE.T is {options.T}, MOMENTUM {options.MOMENTUM} and SWAV_QEUE_LEN {options.SWAV_QEUE_LEN}; "
            "they must be over 0, 0 to 1, and at least 0."
        )
    depths = options.PREDICTOR_DEPTHS
    if bool(depths) != (options.TYPE == "byol") or min(depths, default=2) < 2:
        raise ValueError(
            f"CONTRASTIVE.PREDICTOR_DEPTHS is {depths} with TYPE {options.TYPE}; byol alone has predictors, each of 2 "
            "layers or more. Set [2] for byol, [] for other methods."
        )


def _run(cfg: CfgNode) -> None:
    data, options, batch = cfg.DATA, cfg.CONTRASTIVE, cfg.TRAIN.BATCH_SIZE * cfg.NUM_SHARDS
    clips = data.TRAIN_CROP_NUM_TEMPORAL * data.TRAIN_CROP_NUM_SPATIAL * (cfg.AUG.NUM_SAMPLE if cfg.AUG.ENABLE else 1)
    pairs = options.TYPE in _PAIRS and not options.SEQUENTIAL
    if cfg.TRAIN.ENABLE and (clips < 2 or (pairs and clips > 2)):
        wanted = "2, or more with CONTRASTIVE.SEQUENTIAL True" if pairs else "2 or more"
        raise ValueError(
            f"CONTRASTIVE.TYPE {options.TYPE} compares clips of a video, and DATA.TRAIN_CROP_NUM_TEMPORAL "
            f"{data.TRAIN_CROP_NUM_TEMPORAL} x TRAIN_CROP_NUM_SPATIAL {data.TRAIN_CROP_NUM_SPATIAL} (x AUG.NUM_SAMPLE) "
            f"gives {clips}; it takes {wanted}."
        )
    if cfg.TRAIN.ENABLE and options.TYPE == "moco" and options.QUEUE_LEN % batch:
        raise ValueError(
            f"CONTRASTIVE.QUEUE_LEN {options.QUEUE_LEN} is no multiple of the batch of {batch} videos "
            f"(TRAIN.BATCH_SIZE x NUM_SHARDS); set it to {nearest_multiples(options.QUEUE_LEN, batch)}."
        )
    if cfg.TRAIN.ENABLE:
        _batch(cfg, batch)
    unfit = {"MIXUP.ENABLE": cfg.MIXUP.ENABLE, "BN.USE_PRECISE_STATS": cfg.BN.USE_PRECISE_STATS}
    for key, value in unfit.items():
        if value:
            raise ValueError(f"{key} is True, which does not fit MODEL.MODEL_NAME ContrastiveModel; set it to False.")


def _batch(cfg: CfgNode, batch: int) -> None:
    """Check that `batch`, the videos of a batch in all processes, are enough for what is computed over them."""
    options, own = cfg.CONTRASTIVE, batch // (max(cfg.NUM_GPUS, 1) * cfg.NUM_SHARDS)
    if options.TYPE == "swav" and 0 < options.SWAV_QEUE_LEN < batch:
        raise ValueError(
            f"CONTRASTIVE.SWAV_QEUE_LEN {options.SWAV_QEUE_LEN} does not hold a batch of {batch} videos "
            f"(TRAIN.BATCH_SIZE x NUM_SHARDS); set it to {batch} or more, or to 0 for no queue."
        )
    if options.TYPE == "simclr" and (batch if options.SIMCLR_DIST_ON else own) < 2:
        raise ValueError(
            f"TRAIN.BATCH_SIZE {cfg.TRAIN.BATCH_SIZE} with CONTRASTIVE.TYPE simclr and SIMCLR_DIST_ON "
            f"{options.SIMCLR_DIST_ON} leaves no other video to tell a clip from; a batch of 2 videos is the least."
        )
    if options.BN_MLP and (batch if options.BN_SYNC_MLP else own) < 2:
        raise ValueError(
            f"TRAIN.BATCH_SIZE {cfg.TRAIN.BATCH_SIZE} gives one clip a process to CONTRASTIVE.BN_MLP True, and a batch "
            "norm needs 2; raise it, or set BN_MLP False."
        )
