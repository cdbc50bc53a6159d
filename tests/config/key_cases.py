"""Tables of `test_no_dead_key.py`: how each key is shown to be alive, and under which settings it counts."""

MVIT = ("MVIT.EMBED_DIM", 8, "MVIT.DEPTH", 3, "MVIT.PATCH_PADDING", [1, 3, 3], "MVIT.DIM_MUL", [[1, 2.0]],
        "MVIT.POOL_Q_STRIDE", [[1, 1, 2, 2]], "MVIT.POOL_KV_STRIDE_ADAPTIVE", [1, 4, 4],
        "MVIT.POOL_KVQ_KERNEL", [3, 3, 3], "MVIT.HEAD_MUL", [[1, 2.0]])  # fmt: skip
_REV = ("MVIT.REV.ENABLE", True, "MVIT.REV.BUFFER_LAYERS", [1], "MVIT.DEPTH", 4, "MVIT.CLS_EMBED_ON", False)
_PLAIN_VIT = (
    "MVIT.EMBED_DIM", 32, "MVIT.NUM_HEADS", 2, "MVIT.DEPTH", 2, "MVIT.PATCH_KERNEL", [2, 16, 16],
    "MVIT.PATCH_STRIDE", [2, 16, 16], "MVIT.PATCH_PADDING", [0, 0, 0], "MVIT.DROPPATH_RATE", 0.0, "MVIT.DIM_MUL", [],
    "MVIT.HEAD_MUL", [], "MVIT.POOL_Q_STRIDE", [], "MVIT.POOL_KV_STRIDE_ADAPTIVE", None, "MVIT.POOL_KVQ_KERNEL", None,
    "MVIT.REL_POS_SPATIAL", False, "MVIT.REL_POS_TEMPORAL", False,
)  # fmt: skip
_MASKED = (
    *_PLAIN_VIT, "TASK", "ssl", "MODEL.MODEL_NAME", "MaskMViT", "MODEL.ARCH", "maskmvit", "MODEL.LOSS_FUNC",
    "multi_mse", "MASK.ENABLE", True, "MASK.PRETRAIN_DEPTH", [1], "AUG.MASK_RATIO", 0.5,
)  # fmt: skip
_MAE = (
    *_MASKED, "MASK.MAE_ON", True, "MASK.MAE_RND_MASK", True, "MASK.HEAD_TYPE", "separate_xformer",
    "MASK.DECODER_DEPTH", 1, "MASK.DECODER_EMBED_DIM", 64,
)  # fmt: skip
_MASKFEAT = (*_MASKED, "AUG.GEN_MASK_LOADER", True, "AUG.MASK_WINDOW_SIZE", [4, 2, 2], "MASK.PRED_HOG", True)
_IMAGES = (
    *_MASKFEAT, "MVIT.PATCH_2D", True, "MVIT.PATCH_KERNEL", [8, 8], "MVIT.PATCH_STRIDE", [8, 8],
    "MVIT.PATCH_PADDING", [0, 0], "DATA.NUM_FRAMES", 1,
)  # fmt: skip
CONTRASTIVE = (
    "TASK", "ssl", "MODEL.MODEL_NAME", "ContrastiveModel", "MODEL.LOSS_FUNC", "contrastive_loss", "MODEL.HEAD_ACT",
    "none", "DATA.TRAIN_CROP_NUM_TEMPORAL", 2, "CONTRASTIVE.NUM_CLASSES_DOWNSTREAM", 3, "CONTRASTIVE.DIM", 5,
    "CONTRASTIVE.MLP_DIM", 8, "CONTRASTIVE.T", 0.2, "CONTRASTIVE.QUEUE_LEN", 8, "CONTRASTIVE.NUM_MLP_LAYERS", 2,
    "BN.USE_PRECISE_STATS", False, "TRAIN.BATCH_SIZE", 4,
)  # fmt: skip
_MOCO = ("CONTRASTIVE.TYPE", "moco")
_BYOL = ("CONTRASTIVE.TYPE", "byol", "CONTRASTIVE.PREDICTOR_DEPTHS", [2])
# Section -> (what is observed, model of `tiny_models`, settings under which its keys count).
SECTIONS = {
    "MODEL": ("model", "ResNet"), "RESNET": ("model", "ResNet"), "BN": ("model", "ResNet"),
    "SLOWFAST": ("model", "SlowFast"), "X3D": ("model", "X3D"), "REGNET": ("model", "RegNet"),
    "MVIT": ("model", "MViT"), "TIMESFORMER": ("model", "TimeSformer"),
    "NONLOCAL": ("model", "ResNet", "NONLOCAL.LOCATION", [[[0]], [[]], [[]], [[]]]),
    "DETECTION": ("model", "ResNet", "DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce"),
    "SOLVER": ("optimizer", "ResNet", "SOLVER.MAX_EPOCH", 20),
    "AUG": ("clips", "ResNet", "AUG.ENABLE", True), "DATA": ("clips", "ResNet"),
    "DATA_LOADER": ("clips", "ResNet"),
    "MASK": ("pretraining", "MViT", *_MAE),
    "CONTRASTIVE": ("pretraining", "ResNet", *CONTRASTIVE, "CONTRASTIVE.TYPE", "simclr"),
    "MIXUP": ("training", "ResNet", "MIXUP.ENABLE", True, "MODEL.LOSS_FUNC", "soft_cross_entropy"),
    "MULTIGRID": ("training", "ResNet", "MULTIGRID.LONG_CYCLE", True, "MULTIGRID.SHORT_CYCLE", True,
                  "SOLVER.LR_POLICY", "steps_with_relative_lrs", "SOLVER.STEPS", [0, 4, 8],
                  "SOLVER.LRS", [1, 0.1, 0.01], "SOLVER.MAX_EPOCH", 10, "TRAIN.BATCH_SIZE", 8),
}  # fmt: skip
# Key -> (value away from its default, "@WHAT/MODEL" if not the section's, settings under which it counts). Other keys
# get the value of `away`.
_ADAM = ("SOLVER.OPTIMIZING_METHOD", "adam")
_STEPS = ("SOLVER.LR_POLICY", "steps_with_relative_lrs", "SOLVER.STEPS", [0, 10], "SOLVER.LRS", [1, 0.1])
_WARM_UP = ("SOLVER.WARMUP_EPOCHS", 2.0)
_CROPS = ("DATA.TRAIN_JITTER_SCALES_RELATIVE", [0.2, 1.0], "DATA.TRAIN_JITTER_ASPECT_RELATIVE", [0.75, 1.33])
_BLOCKS = [[1], [1], [1], [1]]
_PLAIN = ("AUG.AA_TYPE", "", "AUG.RE_PROB", 0.0)
_JITTER = ("DATA.SSL_COLOR_JITTER", True, "DATA.SSL_MOCOV2_AUG", True)
_CHUNKS = ("DATA.LOADER_CHUNK_SIZE", 4)
CASES = {
    "MODEL.ARCH": ("i3d",), "MODEL.MODEL_NAME": ("X3D",), "MODEL.NUM_CLASSES": (7,), "MODEL.HEAD_ACT": ("sigmoid",),
    "MODEL.FINAL_POOL": (["max", "avg"],), "MODEL.POSITIONS_FOR": ([4, 32], "@model/MViT", *MVIT),
    "MODEL.LOSS_FUNC": ("bce_logit", "@training"), "MODEL.DROPOUT_RATE": (0.3,), "MODEL.DROPCONNECT_RATE": (0.4,),
    "MODEL.MEMORY_FORMAT": ("contiguous", "@training"), "MODEL.ACT_CHECKPOINT": (True, "@training"),
    "MODEL.COMPILE": (True, "@training"), "MODEL.FREEZE_STAGES": (["s1"], "@training"),
    "MODEL.COMPILE_MODE": ("max-autotune-no-cudagraphs", "@training", "MODEL.COMPILE", True),
    "MODEL.DETACH_FINAL_FC": (True, "@training"), "MODEL.FP16_ALLREDUCE": (True, "@training"),
    "RESNET.DEPTH": (50,), "RESNET.TRANS_FUNC": ("basic_transform",), "RESNET.WIDTH_PER_GROUP": (4,),
    "RESNET.NUM_GROUPS": (2,), "RESNET.SPATIAL_STRIDES": ([[1], [2], [2], [1]],),
    "RESNET.SPATIAL_DILATIONS": ([[1], [1], [1], [2]],), "RESNET.NUM_BLOCK_TEMP_KERNEL": (_BLOCKS,),
    "RESNET.STRIDE_1X1": (True, "RESNET.TRANS_FUNC", "bottleneck_transform"),
    "BN.NORM_TYPE": ("sub_batchnorm",), "BN.NUM_SPLITS": (2, "BN.NORM_TYPE", "sub_batchnorm"),
    "BN.WEIGHT_DECAY": (0.25, "@optimizer"),
    "SLOWFAST.BETA_INV": (2,), "SLOWFAST.ALPHA": (2,), "SLOWFAST.SLOW_INDICES": ([0, 3],),
    "SLOWFAST.FUSION_KERNEL_SZ": (3,), "X3D.DIM_C5": (16,), "X3D.DIM_C1": (16,), "X3D.BOTTLENECK_FACTOR": (2.0,),
    "X3D.CHANNELWISE_3x3x3": (False,), "REGNET.DEPTH": ("4G",),
    "NONLOCAL.LOCATION": ([[[]], [[1]], [[]], [[]]],), "NONLOCAL.GROUP": ([[2], [1], [1], [1]],),
    "NONLOCAL.INSTANTIATION": ("softmax",), "NONLOCAL.POOL": ([[[1, 1, 1]]] * 4,),
    "DETECTION.ENABLE": (True, "DETECTION.ENABLE", False),
    "MVIT.MODE": ("avg",), "MVIT.PATCH_KERNEL": ([1, 7, 7], "MVIT.PATCH_PADDING", [0, 3, 3]),
    "MVIT.PATCH_STRIDE": ([2, 8, 8],), "MVIT.PATCH_PADDING": ([1, 2, 2],), "MVIT.DEPTH": (4,),
    "MVIT.EMBED_DIM": (16,), "MVIT.USE_FIXED_SINCOS_POS": (True, "MVIT.EMBED_DIM", 16),
    "MVIT.ZERO_DECAY_POS_CLS": (False, "@optimizer"), "MVIT.REL_POS_SPATIAL": (False,),
    "MVIT.REL_POS_TEMPORAL": (False,),
    "MVIT.DIM_MUL": ([[2, 2.0]],), "MVIT.HEAD_MUL": ([[2, 2.0]],),
    "MVIT.POOL_KV_STRIDE": ([[0, 1, 4, 4]], "MVIT.POOL_KV_STRIDE_ADAPTIVE", None),
    "MVIT.POOL_Q_STRIDE": ([[2, 1, 2, 2]],), "MVIT.POOL_KV_STRIDE_ADAPTIVE": ([1, 2, 2],),
    "MVIT.POOL_KVQ_KERNEL": ([1, 3, 3],),
    "TIMESFORMER.EMBED_DIM": (8,), "TIMESFORMER.NUM_HEADS": (4,), "TIMESFORMER.DEPTH": (1,),
    "TIMESFORMER.ZERO_DECAY_POS_CLS": (False, "@optimizer"),
    "SOLVER.OPTIMIZING_METHOD": ("adamw",), "SOLVER.BASE_LR_SCALE_NUM_SHARDS": (True, "NUM_SHARDS", 2),
    "SOLVER.LR_POLICY": ("steps_with_relative_lrs", "SOLVER.STEPS", [0, 10], "SOLVER.LRS", [1, 0.1]),
    "SOLVER.STEPS": ([0, 5], *_STEPS), "SOLVER.LRS": ([1, 0.2], *_STEPS), "SOLVER.WARMUP_START_LR": (0.02, *_WARM_UP),
    "SOLVER.COSINE_AFTER_WARMUP": (True, *_WARM_UP), "SOLVER.DAMPENING": (0.2, "SOLVER.NESTEROV", False),
    "SOLVER.BETAS": ([0.5, 0.9], *_ADAM), "SOLVER.CLIP_GRAD_VAL": (1.0,), "SOLVER.CLIP_GRAD_L2NORM": (1.0,),
    "SOLVER.GAMMA": (0.5, "@training", *SECTIONS["MULTIGRID"][2:]),
    "DATA.TRAIN_NUM_FRAMES": ([2, 4],),
    "DATA.INPUT_CHANNEL_NUM": ([1], "@model", "DATA.MEAN", [0.4], "DATA.STD", [0.2]), "DATA.NUM_FRAMES": (2,),
    "DATA.MEAN": ([0.4, 0.4, 0.4],),
    "DATA.STD": ([0.3, 0.3, 0.3],), "DATA.TRAIN_CROP_SIZE": (28,), "DATA.TEST_CROP_SIZE": (28,),
    "DATA.TRAIN_JITTER_SCALES": ([44, 48],), "DATA.TRAIN_JITTER_SCALES_RELATIVE": ([0.5, 1.0], *_CROPS),
    "DATA.TRAIN_JITTER_ASPECT_RELATIVE": ([1.0, 1.0], *_CROPS), "DATA.TRAIN_JITTER_MOTION_SHIFT": (True, *_CROPS),
    "DATA.TRAIN_JITTER_FPS": (60.0,), "DATA.COLOR_RND_GRAYSCALE": (1.0,),
    "DATA.LOADER_CHUNK_SIZE": (4,), "DATA.LOADER_CHUNK_OVERALL_SIZE": (5, *_CHUNKS),
    "DATA_LOADER.NUM_WORKERS": (1,), "DATA_LOADER.PREFETCH_FACTOR": (3, "DATA_LOADER.NUM_WORKERS", 1),
    "AUG.ENABLE": (True, "AUG.ENABLE", False), "AUG.COLOR_JITTER": (0.1, *_PLAIN), "AUG.AA_TYPE": ("rand-m3-n1",),
    "AUG.INTERPOLATION": ("bilinear", *_CROPS), "AUG.RE_MODE": ("const", "AUG.RE_PROB", 1.0),
    "AUG.RE_COUNT": (2, "AUG.RE_PROB", 1.0), "AUG.RE_SPLIT": (True, "AUG.NUM_SAMPLE", 2, "AUG.RE_PROB", 1.0),
    "AUG.MASK_TUBE": (True, "@pretraining/MViT", *_MAE), "AUG.MASK_RATIO": (0.75, "@pretraining/MViT", *_MAE),
    "AUG.MASK_FRAMES": (True, "@pretraining/MViT", *_MASKFEAT),
    "AUG.MASK_WINDOW_SIZE": ([4, 3, 4], "@pretraining/MViT", *_MASKFEAT),
    "AUG.MAX_MASK_PATCHES_PER_BLOCK": (1, "@pretraining/MViT", *_IMAGES),
    "DATA.TIME_DIFF_PROB": (1.0,),
    "DATA.SSL_COLOR_JITTER": (True,), "DATA.SSL_COLOR_BRI_CON_SAT": ([0.1, 0.1, 0.1], *_JITTER),
    "DATA.SSL_COLOR_HUE": (0.4, *_JITTER), "DATA.SSL_MOCOV2_AUG": (False, *_JITTER),
    "DATA.SSL_BLUR_SIGMA_MIN": ([0.0, 1.9], *_JITTER), "DATA.SSL_BLUR_SIGMA_MAX": ([0.0, 0.2], *_JITTER),
    "MASK.PRETRAIN_DEPTH": ([0],), "MASK.HEAD_TYPE": ("separate",), "MASK.DECODER_EMBED_DIM": (128,),
    "MASK.DEC_KV_KERNEL": ([1, 3, 3], "MASK.DEC_KV_STRIDE", [1, 1, 1]),
    "MASK.DEC_KV_STRIDE": ([1, 2, 2], "MASK.DEC_KV_KERNEL", [1, 3, 3]),
    "CONTRASTIVE.TYPE": ("swav",), "CONTRASTIVE.BN_MLP": (True,),
    "CONTRASTIVE.PREDICTOR_DEPTHS": ([3], "@pretraining", *CONTRASTIVE, *_BYOL),
    "CONTRASTIVE.QUEUE_LEN": (16, *_MOCO), "CONTRASTIVE.NUM_MLP_LAYERS": (3,),
    "CONTRASTIVE.MOCO_MULTI_VIEW_QUEUE": (True, *_MOCO, "CONTRASTIVE.SEQUENTIAL", True),
    "CONTRASTIVE.MOMENTUM": (0.9, *_MOCO), "CONTRASTIVE.MOMENTUM_ANNEALING": (True, *_MOCO, "SOLVER.MAX_EPOCH", 20),
    "CONTRASTIVE.SEQUENTIAL": (True, *_MOCO), "CONTRASTIVE.SWAV_QEUE_LEN": (8, "CONTRASTIVE.TYPE", "swav"),
    "CONTRASTIVE.DELTA_CLIPS_MIN": (2.0, "@clips", "DATA.TRAIN_CROP_NUM_TEMPORAL", 2),
    "CONTRASTIVE.DELTA_CLIPS_MAX": (-3.0, "@clips", "DATA.TRAIN_CROP_NUM_TEMPORAL", 2),
    "MVIT.REV.ENABLE": (True, "MVIT.REV.BUFFER_LAYERS", [1], "MVIT.DEPTH", 4, "MVIT.CLS_EMBED_ON", False),
    "MVIT.REV.RESPATH_FUSE": ("avg", *_REV, "MVIT.USE_MEAN_POOLING", True), "MVIT.REV.PRE_Q_FUSION": ("max", *_REV),
    "MVIT.REV.BUFFER_LAYERS": ([1, 3], *_REV, "MVIT.DEPTH", 5), "MVIT.REV.RES_PATH": ("max", *_REV),
    "MULTIGRID.DEFAULT_B": (2, "@optimizer", "SOLVER.LR_REFERENCE_BATCH", 8), "MULTIGRID.DEFAULT_S": (16, "@clips"),
    "MULTIGRID.LONG_CYCLE_SAMPLING_RATE": (4, "@clips"), "MIXUP.ENABLE": (True, "MIXUP.ENABLE", False),
    "MULTIGRID.SHORT_CYCLE": (False, "DATA.TRAIN_CROP_SIZE", 64, "DATA.TRAIN_JITTER_SCALES", [64, 80]),
    "MULTIGRID.LONG_CYCLE": (False,), "MULTIGRID.SHORT_CYCLE_FACTORS": ([0.4, 0.6],),
    "MULTIGRID.LONG_CYCLE_FACTORS": ([[0.5, 0.7], [1.0, 1.0]],),
    "TRAIN.BATCH_SIZE": (2, "@clips"),
    "TEST.BATCH_SIZE": (2, "@clips"), "TEST.NUM_ENSEMBLE_VIEWS": (3, "@clips"), "TEST.NUM_SPATIAL_CROPS": (3, "@clips"),
    "TEST.FOLD_NORMS": (False, "@training"), "TRAIN.MIXED_PRECISION": (True, "@training"),
    "TRAIN.MIXED_PRECISION_DTYPE": ("fp16", "@training", "TRAIN.MIXED_PRECISION", True),
    "TRAIN.DEPTHWISE_FP32": (True, "@training", "TRAIN.MIXED_PRECISION", True),
    "TRAIN.ACCUM_STEPS": (2, "@optimizer"), "RNG_SEED": (5, "@clips"),
    "NUM_SHARDS": (2, "@optimizer", "SOLVER.BASE_LR_SCALE_NUM_SHARDS", True),
}  # fmt: skip


# Key -> a value that is refused; the message names the key. Some have one value only.
REFUSED = {
    "MVIT.NORM": "batchnorm", "RESNET.STEM_FUNC": "x3d_stem", "TIMESFORMER.ATTENTION_TYPE": "space_only",
    "DIST_BACKEND": "carrier", "DATA.DECODING_BACKEND": "film", "DATA.MULTI_LABEL": True,
    "DATA.ENSEMBLE_METHOD": "most",
    "DATA.PATH_TO_DATA_DIR": "/nowhere", "DATA.PATH_LABEL_SEPARATOR": "|", "MODEL.ADAPTER": "none", "TASK": "rest",
    "TRAIN.DATASET": "none", "TEST.DATASET": "none",
}  # fmt: skip
# Keys that are older names of others, by these.
RENAMED = {
    "LOGS.DIR": "OUTPUT_DIR", "LOGS.PERIOD": "LOG_PERIOD", "LOGS.LOG_MODEL": "LOG_MODEL_INFO",
    "AVA.TRAIN_PCA_EIGVAL": "DATA.TRAIN_PCA_EIGVAL", "AVA.TRAIN_PCA_EIGVEC": "DATA.TRAIN_PCA_EIGVEC",
}  # fmt: skip
# Keys of whole programs, by pattern -> the test files that show their effect; they have the key's name in them.
ELSEWHERE = {
    "PROJECTS": "tests/config/test_projects.py", "OUTPUT_DIR": "tests/engine/test_training.py",
    "SHARD_ID": "tests/runtime/test_launch.py",
    "LOG_STYLE": "tests/engine/test_pyslowfast_rows.py",
    "LOG_*": "tests/engine/test_epoch_config.py tests/apps/demo/test_demo.py",
    "DIST.*": "tests/runtime/test_launch.py tests/faults/test_several_processes.py",
    "TRAIN.*CHECKPOINT*": "tests/engine/test_resume.py tests/engine/test_epoch_config.py "
    "tests/checkpoint/test_forms.py",
    "TRAIN.BEST_METRIC": "tests/engine/test_best_checkpoint.py", "TRAIN.EARLY_*": "tests/engine/test_early_stop.py",
    "TRAIN.KILL_*": "tests/engine/test_hooks.py",
    "TRAIN.*": "tests/engine/test_training.py tests/engine/test_resume.py tests/engine/test_early_stop.py",
    "TEST.CYCLIC_LOAD": "tests/datasets/test_ssv2.py", "TEST.CHECKPOINT_TYPE": "tests/checkpoint/test_forms.py",
    "TEST.*": "tests/engine/test_training.py tests/engine/test_resume.py", "EMA.*": "tests/engine/test_ema.py",
    "TRACKER.*": "tests/engine/test_trackers.py", "BN.*PRECISE*": "tests/engine/test_training.py",
    "TENSORBOARD.*": "tests/apps/visualize/test_visualize.py tests/evaluation/test_class_plots.py "
    "tests/engine/test_pictures.py tests/tools/test_visualization_tool.py",
    "DEMO.*": "tests/apps/demo/test_demo.py tests/apps/demo/test_boxes.py tests/apps/people/test_sources.py",
    "AVA.*": "tests/datasets/ava/test_dataset.py tests/datasets/clips/test_clips_with_boxes.py "
    "tests/tools/test_detection_runs.py tests/apps/people/test_ava_boxes.py tests/apps/predict/test_people.py "
    "projects/pgt/tests/test_targets.py",
    "BENCHMARK.*": "tests/tools/test_benchmark.py",
    "PGT.*": "projects/pgt/tests/test_task.py projects/pgt/tests/test_plan.py projects/pgt/tests/test_mgrid.py "
    "projects/pgt/tests/test_masked_memory.py "
    "projects/pgt/tests/test_conversion.py projects/pgt/tests/test_attention.py projects/pgt/tests/test_lateral.py "
    "projects/pgt/tests/test_progressive.py projects/pgt/tests/test_targets.py",
    "NONLOCAL.PROGRESS": "projects/pgt/tests/test_progressive.py",
    "MULTIGRID.EVAL_FREQ": "tests/engine/test_epoch_config.py",
    "DATA.CACHE_VIDEOS": "tests/engine/test_epoch_config.py",
    "DATA.M[AE][XD]*_*S": "tests/datasets/video/test_limits.py",
    "DATA.INDEX_CACHE": "tests/datasets/video/test_index_cache.py",
    "DATA.MEDIA_FORMATS_EXTRA": "tests/datasets/video/test_limits.py",
    "DATA.TRAIN_PCA_*": "tests/config/test_rules_augment.py",
    "DATA.PATH_PREFIX": "tests/config/test_load.py",
    "VIS_MASK.*": "tests/engine/test_masked.py", "MASK.ENABLE": "tests/engine/test_masked.py",
    "CONTRASTIVE.LOCAL_SHUFFLE_BN": "tests/engine/test_contrastive_processes.py",
    "MASK.MAE_*": "tests/engine/test_masked.py", "AUG.GEN_MASK_LOADER": "tests/engine/test_masked.py",
    "MVIT.PATCH_2D": "tests/checkpoint/test_inflate.py", "MVIT.REL_POS_BIAS": "tests/engine/test_fastest.py",
    "DATA.PATH_TO_PRELOAD_IMDB": "tests/datasets/test_imagenet.py", "DATA.IN[2_]*": "tests/datasets/test_imagenet.py",
    "DATA_LOADER.NORMALIZE_ON_DEVICE": "tests/engine/test_bytes.py",
    "DATA_LOADER.IN_STEPS": "projects/pgt/tests/test_training_in_steps.py",
    "DATA_LOADER.ENABLE_*": "tests/datasets/video/test_frame_folder.py",
    "DETECTION.SPATIAL_*": "tests/config/test_rules_detection.py",
}  # fmt: skip
# Keys with a test of their own in test_no_dead_key.py.
HERE = (
    "NUM_GPUS", "BN.NUM_SYNC_DEVICES", "BN.GLOBAL_SYNC", "DATA_LOADER.PIN_MEMORY", "DATA.DUMMY_LOAD",
    "MODEL.MULTI_PATHWAY_ARCH", "CONTRASTIVE.SIMCLR_DIST_ON", "CONTRASTIVE.BN_SYNC_MLP",
)  # fmt: skip
