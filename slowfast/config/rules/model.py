"""Rules between keys of the models: MODEL, RESNET, NONLOCAL, X3D, REGNET, MVIT, MASK, TIMESFORMER, DETECTION."""

from collections.abc import Sequence

from fvcore.common.config import CfgNode

from slowfast.config.defaults import get_cfg
from slowfast.config.merge import get_key
from slowfast.config.resolve import STAGE_BLOCKS, STEM_STRIDE, backbone_name, feature_strides, num_pathways
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

# Models whose layers RESNET.* and NONLOCAL.* describe.
_RESNETS = ("ResNet", "SlowFast")
# Settings without effect on RegNet, which is built as published.
_NOT_OF_REGNET = (
    *("BN.NORM_TYPE", "BN.EPSILON", "BN.MOMENTUM", "MODEL.FROZEN_BN", "MODEL.HEAD_ACT", "MODEL.FINAL_POOL"),
    *("MODEL.DROPCONNECT_RATE", "NONLOCAL.LOCATION"),
)
# Settings of the four residual stages: a list for each stage, with an entry for each pathway.
_STAGE_TABLES = (
    "RESNET.SPATIAL_STRIDES",
    "RESNET.SPATIAL_DILATIONS",
    "RESNET.NUM_BLOCK_TEMP_KERNEL",
    "NONLOCAL.LOCATION",
    "NONLOCAL.GROUP",
    "NONLOCAL.POOL",
)
_WIDEST_STRIDE = 1024  # positions: more than any frame has behind the stem


def validate(cfg: CfgNode) -> None:
    """Check the rules of this module.

    Raises:
        ValueError: with the key, its value and what to set.
    """
    name = backbone_name(cfg)
    if len(cfg.MODEL.FINAL_POOL) != 2:
        raise ValueError(f"MODEL.FINAL_POOL is {cfg.MODEL.FINAL_POOL}; it is [space, time], each avg or max.")
    if cfg.NONLOCAL.PROGRESS and not cfg.MODEL.ADAPTER:
        logger.warning("NONLOCAL.PROGRESS True has no effect: no project with memory is switched on.")
    if name in (*_RESNETS, "X3D"):  # the depths and widths of X3D are its own
        _stage_tables(cfg)
    if name in _RESNETS:
        _resnet(cfg)
    shape = cfg.MODEL.POSITIONS_FOR
    if shape and (len(shape) != 2 or min(shape) < 1):
        raise ValueError(f"MODEL.POSITIONS_FOR is {shape}; it is [frames, pixels], or [] for those of training clips.")
    if name in ("MViT", "MaskMViT"):
        _mvit(cfg)
    if name == "MaskMViT":
        _masked(cfg)
    elif cfg.MASK.ENABLE:
        logger.warning("MASK.ENABLE True has no effect on MODEL.MODEL_NAME %s; MaskMViT is trained by masks.", name)
    if name == "RegNet":
        _regnet(cfg)
    if name == "X3D" and cfg.X3D.CHANNELWISE_3x3x3 and cfg.RESNET.TRANS_FUNC == "basic_transform":
        raise ValueError(
            "RESNET.TRANS_FUNC basic_transform has no depthwise convolution (X3D.CHANNELWISE_3x3x3 True); the blocks "
            "of X3D are x3d_transform."
        )
    if cfg.DETECTION.ENABLE:
        _detection(cfg)


def _resnet(cfg: CfgNode) -> None:
    depth, pathways = cfg.RESNET.DEPTH, num_pathways(cfg)
    if pathways == 2 and cfg.RESNET.WIDTH_PER_GROUP < cfg.SLOWFAST.BETA_INV:
        raise ValueError(
            f"RESNET.WIDTH_PER_GROUP {cfg.RESNET.WIDTH_PER_GROUP} over SLOWFAST.BETA_INV {cfg.SLOWFAST.BETA_INV} "
            "leaves the fast pathway no channel; raise the first or lower the second."
        )
    if depth not in STAGE_BLOCKS:
        raise ValueError(f"RESNET.DEPTH is {depth}; it can be {', '.join(map(str, STAGE_BLOCKS))}.")
    if cfg.RESNET.NUM_GROUPS > 1 and cfg.RESNET.TRANS_FUNC == "basic_transform":
        raise ValueError(
            f"RESNET.NUM_GROUPS is {cfg.RESNET.NUM_GROUPS}, but RESNET.TRANS_FUNC basic_transform has no groups; set "
            "bottleneck_transform, or NUM_GROUPS 1."
        )
    table = cfg.RESNET.NUM_BLOCK_TEMP_KERNEL
    for stage, (row, blocks) in enumerate(zip(table, STAGE_BLOCKS[depth], strict=True)):
        if max(row) > blocks:
            raise ValueError(
                f"RESNET.NUM_BLOCK_TEMP_KERNEL is {table}, with {max(row)} in stage {stage + 2}, but at RESNET.DEPTH "
                f"{depth} that stage has {blocks} blocks, so {blocks} is the most."
            )


def _regnet(cfg: CfgNode) -> None:
    default = get_cfg()
    unused = [f"{key} {get_key(cfg, key)}" for key in _NOT_OF_REGNET if get_key(cfg, key) != get_key(default, key)]
    if unused:
        logger.warning(
            "%s: no effect on RegNet, which as published has plain batch norms, no non-local blocks, and a head that "
            "averages and, in evaluation, applies softmax.",
            ", ".join(unused),
        )
    if cfg.DATA.MULTI_LABEL:
        logger.warning(
            "DATA.MULTI_LABEL True on RegNet: its scores are those of a softmax, under which classes compete, whatever "
            "MODEL.HEAD_ACT says. For independent scores take another MODEL.MODEL_NAME."
        )


def _stage_tables(cfg: CfgNode) -> None:
    pathways = num_pathways(cfg)
    for key in _STAGE_TABLES:
        table = get_key(cfg, key)
        # The default of POOL has an entry for each of two pathways; one pathway reads the first.
        sizes = {1, 2} if key == "NONLOCAL.POOL" else {1, pathways}
        if len(table) != 4 or any(not isinstance(row, list) or len(row) not in sizes for row in table):
            raise ValueError(
                f"{key} is {table}; it needs 4 lists, one for each residual stage, of {pathways} "
                f"{'entry' if pathways == 1 else 'entries'}, one for each pathway of MODEL.MODEL_NAME "
                f"{cfg.MODEL.MODEL_NAME} (one entry serves all)."
            )
    for key in ("RESNET.SPATIAL_STRIDES", "RESNET.SPATIAL_DILATIONS"):
        entries = [entry for row in get_key(cfg, key) for entry in row]
        if min(entries) < 1 or max(entries) > _WIDEST_STRIDE:
            raise ValueError(f"{key} is {get_key(cfg, key)}; every entry must be 1 to {_WIDEST_STRIDE}.")


def _detection(cfg: CfgNode) -> None:
    factor, strides = cfg.DETECTION.SPATIAL_SCALE_FACTOR, feature_strides(cfg)
    if strides and strides != {factor}:
        raise ValueError(
            f"DETECTION.SPATIAL_SCALE_FACTOR is {factor}, but the features of {cfg.MODEL.MODEL_NAME} have a "
            f"stride of {' and '.join(map(str, sorted(strides)))} pixels, so RoIAlign would read the wrong place. "
            f"{_remedy(cfg, strides)}"
        )
    if cfg.MODEL.COMPILE:
        raise ValueError(
            f"MODEL.COMPILE {cfg.MODEL.COMPILE} with DETECTION.ENABLE True: each number of boxes in a batch "
            "would be compiled again. Set MODEL.COMPILE False."
        )


def _remedy(cfg: CfgNode, strides: set[int]) -> str:
    remedies = []
    if len(strides) == 1:
        remedies.append(f"Leave the key out, or set it to {min(strides)}.")
    if cfg.MODEL.MODEL_NAME in _RESNETS:
        remedies.append(
            f"Or change RESNET.SPATIAL_STRIDES {cfg.RESNET.SPATIAL_STRIDES}, whose product per pathway, times the "
            f"stem's {STEM_STRIDE}, counts: published settings have stride 1 and SPATIAL_DILATIONS 2 in the last stage."
        )
    return " ".join(remedies)


def _mvit(cfg: CfgNode) -> None:
    options = cfg.MVIT
    if options.USE_FIXED_SINCOS_POS and (options.SEP_POS_EMBED or not options.USE_ABS_POS):
        raise ValueError(
            f"MVIT.USE_FIXED_SINCOS_POS True with USE_ABS_POS {options.USE_ABS_POS} and SEP_POS_EMBED "
            f"{options.SEP_POS_EMBED}: sin-cos embeddings are absolute and joint. Set USE_ABS_POS True and "
            "SEP_POS_EMBED False."
        )
    _mvit_tables(cfg)
    if options.PATCH_2D and cfg.DATA.NUM_FRAMES != 1:
        raise ValueError(
            f"MVIT.PATCH_2D True makes a model of images, but DATA.NUM_FRAMES is {cfg.DATA.NUM_FRAMES}; set "
            "NUM_FRAMES 1, or PATCH_2D False for clips."
        )
    if options.REV.ENABLE:
        _reversible(cfg)


def _reversible(cfg: CfgNode) -> None:
    options, stops = cfg.MVIT, cfg.MVIT.REV.BUFFER_LAYERS
    unwanted = {
        "DETECTION.ENABLE": cfg.DETECTION.ENABLE,
        "MVIT.LAYER_SCALE_INIT_VALUE": options.LAYER_SCALE_INIT_VALUE,
    }
    for key, value in unwanted.items():
        if value:
            raise ValueError(
                f"{key} is {value}, but reversible blocks (MVIT.REV.ENABLE True) take no boxes and no layer "
                f"scale; set {key} {0.0 if value is not True else False}."
            )
    if cfg.MODEL.COMPILE and cfg.TRAIN.ENABLE:
        raise ValueError(
            f"MODEL.COMPILE {cfg.MODEL.COMPILE} with MVIT.REV.ENABLE True: the compiler cannot trace a backward "
            "pass that computes activations again. Set MODEL.COMPILE False in training."
        )
    gaps = [after - before for before, after in zip([-1, *stops], [*stops, options.DEPTH], strict=True)]
    if any(gap < 2 for gap in gaps):
        raise ValueError(
            f"MVIT.REV.BUFFER_LAYERS is {stops}; these blocks end a stage, in rising order, and a reversible block "
            f"stands before, between and after them: 1 to {options.DEPTH - 2}, no two in a row (MVIT.DEPTH "
            f"{options.DEPTH})."
        )
    changing = {
        "POOL_Q_STRIDE": [row for row in options.POOL_Q_STRIDE if set(row[1:]) != {1}],
        "DIM_MUL": [row for row in options.DIM_MUL if row[1] != 1],
    }
    for key, rows in changing.items():
        for row in rows:
            if row[0] not in stops:
                raise ValueError(
                    f"MVIT.{key} has {row}, but a reversible block keeps its tokens and channels; add block {row[0]} "
                    f"to MVIT.REV.BUFFER_LAYERS {stops}."
                )


def _masked(cfg: CfgNode) -> None:
    mask, aug, depth = cfg.MASK, cfg.AUG, cfg.MVIT.DEPTH
    if not mask.ENABLE:
        raise ValueError(
            "MODEL.MODEL_NAME MaskMViT is trained by masks: set MASK.ENABLE True, or MODEL_NAME MViT to train with "
            "labels."
        )
    if cfg.MODEL.LOSS_FUNC != "multi_mse":
        raise ValueError(f"MODEL.LOSS_FUNC {cfg.MODEL.LOSS_FUNC} with MODEL.MODEL_NAME MaskMViT; set it to multi_mse.")
    if cfg.MVIT.REV.ENABLE:
        raise ValueError(
            "MVIT.REV.ENABLE True with MODEL.MODEL_NAME MaskMViT: masked learning is not built for reversible blocks; "
            "set it False."
        )
    if cfg.DETECTION.ENABLE or cfg.MIXUP.ENABLE:
        raise ValueError(
            f"DETECTION.ENABLE {cfg.DETECTION.ENABLE}, MIXUP.ENABLE {cfg.MIXUP.ENABLE} with MODEL.MODEL_NAME MaskMViT, "
            "which has no labels; set both False."
        )
    depths = mask.PRETRAIN_DEPTH
    if not depths or len(set(depths)) < len(depths) or min(depths) < 0 or max(depths) >= depth:
        raise ValueError(
            f"MASK.PRETRAIN_DEPTH is {depths}; its entries are different blocks from 0 to {depth - 1} (MVIT.DEPTH "
            f"{depth})."
        )
    if not 0 < aug.MASK_RATIO < 1:
        raise ValueError(f"AUG.MASK_RATIO is {aug.MASK_RATIO}; masked learning needs one over 0 and under 1.")
    if mask.DECODER_DEPTH < 0 or mask.DECODER_EMBED_DIM < 1:
        raise ValueError(
            f"MASK.DECODER_DEPTH is {mask.DECODER_DEPTH} and DECODER_EMBED_DIM {mask.DECODER_EMBED_DIM}; they must be "
            "at least 0 and at least 1."
        )
    if aug.MAX_MASK_PATCHES_PER_BLOCK is not None and aug.MAX_MASK_PATCHES_PER_BLOCK < 1:
        raise ValueError(
            f"AUG.MAX_MASK_PATCHES_PER_BLOCK is {aug.MAX_MASK_PATCHES_PER_BLOCK}; it must be at least 1, or None for "
            "no limit."
        )
    frames, crop, stride = cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE, cfg.MVIT.PATCH_STRIDE
    if any(n % step for n, step in zip((frames, crop, crop)[-len(stride) :], stride, strict=True)):
        raise ValueError(
            f"DATA.NUM_FRAMES {frames} and TRAIN_CROP_SIZE {crop} with MVIT.PATCH_STRIDE {stride}: masked learning "
            "predicts whole patches; set them to multiples of the stride."
        )
    for key in ("DEC_KV_KERNEL", "DEC_KV_STRIDE"):
        if mask[key]:
            _row(f"MASK.{key}", mask[key], 3, 1)
    if mask.MAE_ON:
        _mae(cfg)
    elif not aug.GEN_MASK_LOADER:
        raise ValueError(
            "AUG.GEN_MASK_LOADER False with MASK.MAE_ON False: MaskFeat takes the masks of the loader; set it True."
        )
    if aug.GEN_MASK_LOADER:
        _mask_window(cfg)


def _mae(cfg: CfgNode) -> None:
    mask, options = cfg.MASK, cfg.MVIT
    pooled = [key for key in ("POOL_Q_STRIDE", "POOL_KV_STRIDE", "POOL_KV_STRIDE_ADAPTIVE") if options[key]]
    relative = [key for key in ("REL_POS_SPATIAL", "REL_POS_TEMPORAL") if options[key]]
    if pooled or relative:
        raise ValueError(
            f"MASK.MAE_ON True with {', '.join(f'MVIT.{key} {options[key]}' for key in pooled + relative)}: visible "
            "tokens form no grid that could be pooled or has relative positions. Leave these keys out, or set MAE_ON "
            "False (MaskFeat)."
        )
    if len(mask.PRETRAIN_DEPTH) != 1:
        raise ValueError(f"MASK.PRETRAIN_DEPTH is {mask.PRETRAIN_DEPTH}; MASK.MAE_ON True decodes one block.")
    if mask.MAE_RND_MASK == cfg.AUG.GEN_MASK_LOADER:
        raise ValueError(
            f"MASK.MAE_RND_MASK {mask.MAE_RND_MASK} with AUG.GEN_MASK_LOADER {cfg.AUG.GEN_MASK_LOADER}: masks come "
            "either from the model or from the loader; set one of them True."
        )
    if mask.PER_FRAME_MASKING and cfg.AUG.MASK_TUBE:
        raise ValueError(
            "MASK.PER_FRAME_MASKING True with AUG.MASK_TUBE True: one draws places for each frame, the other the same "
            "for all. Set one of them False."
        )


def _mask_window(cfg: CfgNode) -> None:
    window, tube = cfg.AUG.MASK_WINDOW_SIZE, cfg.AUG.MASK_TUBE
    if cfg.MVIT.PATCH_2D:
        return  # the grid of patches
    if tube and cfg.AUG.MASK_FRAMES:
        raise ValueError("AUG.MASK_TUBE True with AUG.MASK_FRAMES True: a mask is of one kind; set one of them False.")
    if len(window) not in ((2, 3) if tube else (3,)) or min(window) < 1:
        raise ValueError(
            f"AUG.MASK_WINDOW_SIZE is {window}; it is [time, height, width]{', or [height, width]' if tube else ''}, "
            "each at least 1."
        )
    if not cfg.AUG.MASK_FRAMES and min(window[-2:]) < 2:
        raise ValueError(
            f"AUG.MASK_WINDOW_SIZE is {window}; a masked block is smaller than it in height and width, so these are at "
            "least 2."
        )
    frames = cfg.DATA.NUM_FRAMES // cfg.MVIT.PATCH_STRIDE[0]
    if len(window) == 3 and window[0] != frames:
        raise ValueError(
            f"AUG.MASK_WINDOW_SIZE is {window}; its time must be {frames}, as many as the tokens have (DATA.NUM_FRAMES "
            f"{cfg.DATA.NUM_FRAMES} / MVIT.PATCH_STRIDE {cfg.MVIT.PATCH_STRIDE[0]})."
        )


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
    """Check that attention and shortcut (pooling kernel stride + 1) leave the same number of positions."""
    around = [stride + 1 if stride > 1 else 1 for stride in row[1:]]
    if any((size - other) % 2 for size, other in zip(kernel, around, strict=True)):
        raise ValueError(
            f"MVIT.POOL_Q_STRIDE has {list(row)} with POOL_KVQ_KERNEL {list(kernel)}: the shortcut of the "
            f"attention pools with kernel {around}, which leaves another number of positions. Take odd kernels, and "
            "strides of 1 or even ones."
        )


def _row(key: str, values: Sequence[int], axes: int, least: int) -> None:
    names = ("time", "height", "width")[-axes:]
    if len(values) != axes or min(values) < least:
        raise ValueError(f"{key} is {list(values)}; it is [{', '.join(names)}], each at least {least}.")


def _of_block(cfg: CfgNode, key: str, row: Sequence[float], form: str, length: int) -> None:
    depth = cfg.MVIT.DEPTH
    numbers = isinstance(row, list) and all(isinstance(entry, (int, float)) for entry in row)
    if not numbers or len(row) != length or not 0 <= row[0] < depth:
        raise ValueError(
            f"MVIT.{key} has {row}; its entries are {form}, blocks from 0 to {depth - 1} (MVIT.DEPTH {depth})."
        )
