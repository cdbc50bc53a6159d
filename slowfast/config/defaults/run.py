"""Defaults of a run: top-level keys, DIST, TRAIN, TEST, SOLVER, EMA, TENSORBOARD and others."""

TOP = {
    # Modules outside this package that add config sections, models, tasks and data sets, in the order in which they
    # apply.
    "PROJECTS": [],
    # Training and evaluation step, by registered name; "" for "clip", a loss on whole clips. Projects set theirs.
    # ssl_eval... is "clip", and starts from the newest ssl_checkpoint_epoch_NUMBER.pyth of OUTPUT_DIR, if there is one.
    "TASK": "",
    # Folder of checkpoints, logs and results.
    "OUTPUT_DIR": ".",
    # Seed of initial weights, data order and augmentation.
    "RNG_SEED": 1,
    # GPUs of this host, one process each; 0 for one process on the CPU.
    "NUM_GPUS": 1,
    # Number of hosts that train together.
    "NUM_SHARDS": 1,
    # Index of this host, from 0.
    "SHARD_ID": 0,
    # Backend of torch.distributed: nccl for GPUs, gloo for CPUs.
    "DIST_BACKEND": "nccl",
    # Iterations between two lines of the log.
    "LOG_PERIOD": 10,
    # Names and rows in logs and results: pyslowfast also writes those that its scripts read, beside ours
    # (docs/migrating.md); plain writes ours alone.
    "LOG_STYLE": "pyslowfast",
    # Log the model, its parameters and its multiply-adds at the start.
    "LOG_MODEL_INFO": True,
    # Older files set it; nothing reads it.
    "DEBUG": False,
}

# Distributed training.
DIST = {
    # Timeout of a collective operation, seconds; then the other processes are taken for lost.
    "TIMEOUT": 1800.0,
    # Timeout of the rendezvous of processes and hosts at the start, seconds.
    "START_TIMEOUT": 600.0,
    # Seconds that processes have to save and end after a SIGTERM, before they are killed.
    "STOP_TIMEOUT": 60.0,
    # Number of restarts of all processes, from the last checkpoint, after one failed (torchrun: --max-restarts).
    "MAX_RESTARTS": 0,
}

# Older names of top-level keys.
LOGS = {
    # Older name of OUTPUT_DIR, which wins if both are set.
    "DIR": "./logs",
    # Older name of LOG_PERIOD, which wins if both are set.
    "PERIOD": 100,
    # Older name of LOG_MODEL_INFO, which wins if both are set.
    "LOG_MODEL": False,
    # Older files set it; the log file is always stdout.log.
    "FILE_NAME": "",
}

# Training.
TRAIN = {
    # Train.
    "ENABLE": True,
    # Data set of training and validation, by registered name: kinetics, charades, ssv2, ava, imagenet, cater, or a
    # project's. Case does not matter.
    "DATASET": "kinetics",
    # Clips of one forward pass, over all processes of this host.
    "BATCH_SIZE": 64,
    # Batches whose gradients are accumulated (averaged) before an optimizer step.
    "ACCUM_STEPS": 1,
    # Epochs between two validations.
    "EVAL_PERIOD": 10,
    # Epochs between two checkpoints.
    "CHECKPOINT_PERIOD": 10,
    # Metric of the validation by which checkpoint_best.pyth is kept, such as top1_acc, map or loss; "" for none. Of
    # loss and of what ends in _err less is better, of others more.
    "BEST_METRIC": "",
    # Validations in a row without a better BEST_METRIC after which training ends early; 0 for never.
    "EARLY_STOP_PATIENCE": 0,
    # Resume from the newest checkpoint in OUTPUT_DIR.
    "AUTO_RESUME": True,
    # Initial weights if there is nothing to resume: a file, or zoo://NAME; "" for random ones.
    "CHECKPOINT_FILE_PATH": "",
    # Format of that file: pytorch (also safetensors), caffe2 or aia. Files of the zoo need no setting.
    "CHECKPOINT_TYPE": "pytorch",
    # Inflate the weights of an image model: kernels are repeated over time, and a classifier of other classes is left
    # out.
    "CHECKPOINT_INFLATE": False,
    # Start at epoch 0 with a new optimizer, even if the file holds an epoch.
    "CHECKPOINT_EPOCH_RESET": False,
    # Prefixes removed from the names of weights in the file.
    "CHECKPOINT_CLEAR_NAME_PATTERN": [],
    # As CHECKPOINT_INFLATE; published files of transformers pretrained on ImageNet ("IN") set this one.
    "CHECKPOINT_IN_INIT": False,
    # Initialize weights of another shape (such as a head of other classes) randomly and report them, instead of
    # stopping.
    "CHECKPOINT_DROP_MISMATCH": False,
    # Stop if a weight of the model or of the file has no counterpart.
    "CHECKPOINT_STRICT": False,
    # Epoch of the checkpoint in OUTPUT_DIR to start from, from 0; -1 for the newest.
    "CHECKPOINT_FILE_EPOCH": -1,
    # Load only the weights, not epoch and optimizer, from a file of another TASK or TRAIN.DATASET.
    "TRANSFER_WEIGHT": True,
    # Use automatic mixed precision (autocast); "auto": where it is faster, as measured before the first batch.
    "MIXED_PRECISION": False,
    # Data type of mixed precision: bf16 or fp16.
    "MIXED_PRECISION_DTYPE": "bf16",
    # In mixed precision, compute depthwise convolutions (X3D, pooling of MViT) in float32; "auto": where that is
    # faster, as measured before the first batch.
    "DEPTHWISE_FP32": "auto",
    # Stop if a loss exceeds this factor times the mean of the last five of its epoch; 0 for off.
    "KILL_LOSS_EXPLOSION_FACTOR": 0.0,
    # Validate on the whole video: TEST.NUM_ENSEMBLE_VIEWS clips spread over it, joined as in a test; False: on one clip
    # from its middle.
    "FULL_TIME_EVAL": False,
}

# Testing: scores of several views of a video, joined.
TEST = {
    # Test, after training if both are on.
    "ENABLE": True,
    # Data set of testing, as TRAIN.DATASET.
    "DATASET": "kinetics",
    # Clips of one forward pass, over all processes of this host.
    "BATCH_SIZE": 8,
    # Weights to test, a file or zoo://NAME; "" for the newest checkpoint in OUTPUT_DIR, else
    # TRAIN.CHECKPOINT_FILE_PATH.
    "CHECKPOINT_FILE_PATH": "",
    # Format of that file: pytorch (also safetensors), caffe2 or aia. Files of the zoo need no setting.
    "CHECKPOINT_TYPE": "pytorch",
    # Initialize weights of another shape randomly and report them, instead of stopping.
    "CHECKPOINT_DROP_MISMATCH": False,
    # Stop if a weight of the model or of the file has no counterpart.
    "CHECKPOINT_STRICT": False,
    # Test a model of random weights where there is no checkpoint, rather than stop.
    "ALLOW_RANDOM_WEIGHTS": False,
    # Epoch of the checkpoint in OUTPUT_DIR to test, from 0; -1 for the newest.
    "CHECKPOINT_FILE_EPOCH": -1,
    # Temporal views: clips spread over a video; -1 for NUM_TEMPORAL_CLIPS [1, 3, 5, 7, 10].
    "NUM_ENSEMBLE_VIEWS": 10,
    # Spatial views of each clip: 1 for the center crop, 3 for crops along the longer side.
    "NUM_SPATIAL_CROPS": 3,
    # Several values of NUM_ENSEMBLE_VIEWS to test one after the other, in place of that key; [] for that alone.
    "NUM_TEMPORAL_CLIPS": [],
    # File in OUTPUT_DIR for the predictions, .npz or .parquet; "" for test_predictions.npz. A .pkl is written besides
    # that: PySlowFast's pickle of [scores, labels], a row for each video of the list.
    "SAVE_RESULTS_PATH": "",
    # Fold batch norms into the convolutions before them: faster, with the same scores up to rounding.
    "FOLD_NORMS": True,
    # Loop a video that is shorter than a clip, instead of repeating its last frame.
    "CYCLIC_LOAD": False,
}

# Optimizer and learning rate schedule.
SOLVER = {
    # Optimizer: sgd, adam or adamw; mt_adamw is adamw in PyTorch's multi-tensor form.
    "OPTIMIZING_METHOD": "sgd",
    # Learning rate after the warm-up.
    "BASE_LR": 0.1,
    # Multiply the learning rates by NUM_SHARDS.
    "BASE_LR_SCALE_NUM_SHARDS": False,
    # Batch (BATCH_SIZE x NUM_SHARDS x ACCUM_STEPS, clips) for which the learning rates are set; they are scaled
    # linearly to the real one. 0 for no scaling.
    "LR_REFERENCE_BATCH": 0,
    # Schedule: cosine or steps_with_relative_lrs.
    "LR_POLICY": "cosine",
    # Number of epochs.
    "MAX_EPOCH": 300,
    # Epochs of linear warm-up.
    "WARMUP_EPOCHS": 0.0,
    # Learning rate at the start of the warm-up.
    "WARMUP_START_LR": 0.01,
    # Learning rate at the end of the cosine schedule.
    "COSINE_END_LR": 0.0,
    # Start the cosine at the end of the warm-up instead of at epoch 0.
    "COSINE_AFTER_WARMUP": False,
    # steps_with_relative_lrs: first epoch of each step, the first 0.
    "STEPS": [],
    # steps_with_relative_lrs: learning rate of each step, as a multiple of BASE_LR.
    "LRS": [],
    # Older files set it; nothing reads it.
    "STEP_SIZE": 1,
    # Factor of the learning rate at each step under MULTIGRID.LONG_CYCLE (in place of LRS).
    "GAMMA": 0.1,
    # Older files set it; nothing reads it.
    "WARMUP_FACTOR": 0.1,
    # SGD momentum.
    "MOMENTUM": 0.9,
    # SGD dampening.
    "DAMPENING": 0.0,
    # Use Nesterov momentum (SGD).
    "NESTEROV": True,
    # Adam betas: decay rates of the first- and second-moment estimates.
    "BETAS": [0.9, 0.999],
    # Weight decay.
    "WEIGHT_DECAY": 1e-4,
    # Apply no weight decay to one-dimensional parameters (biases); those of norms follow BN.WEIGHT_DECAY.
    "ZERO_WD_1D_PARAM": False,
    # Layer-wise learning rate decay: factor from a layer to the one below it, over 0 and up to 1 (1 for none). The head
    # has the full rate; each residual block and the stem are a layer.
    "LAYER_DECAY": 1.0,
    # Scale gradients by layer-wise adaptive rates (LARS) before each step. Parameters of norms, and other
    # one-dimensional ones, are left out.
    "LARS_ON": False,
    # Clip every entry of the gradient to this absolute value; None for no clipping.
    "CLIP_GRAD_VAL": None,
    # Clip the L2 norm of the whole gradient; None for no clipping.
    "CLIP_GRAD_L2NORM": None,
}

# Exponential moving average of the weights.
EMA = {
    # Keep an exponential moving average of the weights, and validate and test with it.
    "ENABLE": False,
    # Decay at each optimizer step, at least 0 and under 1.
    "DECAY": 0.9999,
}

# Trackers of experiments, which get the statistics of training and test as TensorBoard does.
TRACKER = {
    # Trackers: wandb, mlflow, trackio. Each has to be installed, and is set up by its own environment variables.
    "NAMES": [],
    # Project, or experiment, of the runs.
    "PROJECT": "slowfast",
    # Name of the run; "" for that of the folder OUTPUT_DIR.
    "RUN_NAME": "",
}

# TensorBoard, and pictures of what a model sees and confuses (docs/visualization.md).
TENSORBOARD = {
    # Write scalars for TensorBoard, and the pictures below that are enabled.
    "ENABLE": False,
    # Folder for them, inside OUTPUT_DIR; "" for one named after the data set.
    "LOG_DIR": "",
    # File of class names: JSON {"name": number from 0, ...}, a label map or lines; "" for those of the data set.
    "CLASS_NAMES_PATH": "",
    # JSON file {"group": ["class", ...], ...}; each group has a confusion matrix of its own. "" for none.
    "CATEGORIES_PATH": "",
    # File of saved predictions to draw the confusion of: .npz or .parquet of a test, or PySlowFast's pickle; "" for
    # none.
    "PREDICTIONS_PATH": "",
    # Confusion matrix, after each validation and test.
    "CONFUSION_MATRIX": {
        # Draw it.
        "ENABLE": False,
        # [width, height], inches of 100 pixels.
        "FIGSIZE": [8.0, 8.0],
        # Text file of classes, one name a line, to draw in a second matrix; "" for none.
        "SUBSET_PATH": "",
    },
    # Most frequent predictions for the videos of each class, after each validation and test.
    "HISTOGRAM": {
        # Draw them.
        "ENABLE": False,
        # Text file of the classes to draw, one name a line; "" for all.
        "SUBSET_PATH": "",
        # Number of most frequent predictions drawn.
        "TOPK": 10,
        # [width, height], inches of 100 pixels.
        "FIGSIZE": [8.0, 8.0],
    },
    # Pictures of the model and of the clips of the test split (run_net, after training and test; visualization.py).
    "MODEL_VIS": {
        # Draw them.
        "ENABLE": False,
        # Draw the weights of the layers.
        "MODEL_WEIGHTS": False,
        # Draw the activations of the layers, for each clip.
        "ACTIVATIONS": False,
        # Draw the clips themselves, beside Grad-CAM if that is drawn.
        "INPUT_VIDEO": False,
        # Layers whose weights and activations are drawn: "NAME", or "NAME 1,2;0,3" for the part [[1, 2], [0, 3]] of
        # each clip's activations.
        "LAYER_LIST": [],
        # Color map of the classes below a clip, by matplotlib's name.
        "COLORMAP": "Pastel2",
        # Number of best classes shown with a clip; also of the demo with DEMO.VIS_MODE top-k.
        "TOPK_PREDS": 1,
        # Grad-CAM: where a clip has the evidence for a class.
        "GRAD_CAM": {
            # Draw it over each clip.
            "ENABLE": True,
            # Layers, one for each pathway, such as "s5/pathway0_res2"; one serves all.
            "LAYER_LIST": [],
            # Explain the true class instead of the predicted one.
            "USE_TRUE_LABEL": False,
            # Color map of the heat, by matplotlib's name.
            "COLORMAP": "viridis",
        },
    },
    # Clips of the test split whose best class is not their label (run_net, after training and test; visualization.py).
    "WRONG_PRED_VIS": {
        # Draw them.
        "ENABLE": False,
        # First part of their tags, and folder of their files.
        "TAG": "Incorrectly classified videos.",
        # Text file of labels, one name a line, whose clips are drawn; "" for all.
        "SUBSET_PATH": "",
    },
}

# PySlowFast's benchmark of data loading: tools/benchmark.py --epochs.
BENCHMARK = {
    # Epochs of loading to time.
    "NUM_EPOCHS": 5,
    # Iterations between two lines of the log.
    "LOG_PERIOD": 100,
    # Load in random order; False: in that of the list.
    "SHUFFLE": True,
}

# PySlowFast's demo on a video or a camera.
DEMO = {
    # Run the demo (run_net, after training and test; demo_net always does).
    "ENABLE": False,
    # File of class names: JSON {"name": number from 0, ...}, a label map or lines; "" for those in the checkpoint.
    "LABEL_FILE_PATH": "",
    # Index of the camera; -1 for none.
    "WEBCAM": -1,
    # Video file or folder of images, if WEBCAM is -1.
    "INPUT_VIDEO": "",
    # Older name of WEBCAM, which counts where neither WEBCAM nor INPUT_VIDEO is set.
    "DATA_SOURCE": 0,
    # Width to which frames are scaled when they are read, pixels; 0 for that of the source, or by DISPLAY_HEIGHT.
    "DISPLAY_WIDTH": 0,
    # Height to which frames are scaled, pixels; 0 for that of the source, or by DISPLAY_WIDTH.
    "DISPLAY_HEIGHT": 0,
    # Frames per second of the output file or window; -1 for those of the source.
    "OUTPUT_FPS": -1,
    # Video file to write (.mp4, .mkv, .mov, .avi); "" for a window, which the key q closes.
    "OUTPUT_FILE": "",
    # Frames that two neighboring clips share, at most half of a clip.
    "BUFFER_SIZE": 0,
    # Clips left out, of answers and of the output, between two; -1 for those that come while the model is busy.
    "NUM_CLIPS_SKIP": 0,
    # Number of threads that draw.
    "NUM_VIS_INSTANCES": 2,
    # Read the source in a thread, ahead of the model.
    "THREAD_ENABLE": False,
    # Channel order of the source: BGR, as usual; RGB for one whose red and blue are swapped, which the model gets back.
    "INPUT_FORMAT": "BGR",
    # Frames per second of a folder of images, or of a camera that does not tell.
    "FPS": 30,
    # Times that each frame with an answer is shown, for slow motion.
    "SLOWMO": 1,
    # Second, in the files of boxes, at which the video begins.
    "STARTING_SECOND": 900,
    # Frames before and after the middle of a clip that show its answer.
    "CLIP_VIS_SIZE": 10,
    # Classes shown: the best TENSORBOARD.MODEL_VIS.TOPK_PREDS (top-k), or those over a threshold (thres).
    "VIS_MODE": "thres",
    # Threshold of common classes, 0 to 1; of all if COMMON_CLASS_NAMES is [].
    "COMMON_CLASS_THRES": 0.7,
    # Threshold of other classes, 0 to 1.
    "UNCOMMON_CLASS_THRES": 0.3,
    # Common classes, by name.
    "COMMON_CLASS_NAMES": [
        "watch (a person)",
        "talk to (e.g., self, a person, a group)",
        "listen to (a person)",
        "touch (an object)",
        "carry/hold (an object)",
        "walk",
        "sit",
        "lie/sleep",
        "bend/bow (at the waist)",
    ],
    # Config of the person detector, by its name in detectron2's model zoo or as a file.
    "DETECTRON2_CFG": "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
    # Weights of the person detector.
    "DETECTRON2_WEIGHTS": "detectron2://COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl",
    # Least score of a person, 0 to 1.
    "DETECTRON2_THRESH": 0.9,
    # Older name of DETECTRON2_CFG; used if it is set.
    "DETECTRON2_OBJECT_DETECTION_MODEL_CFG": "",
    # Older name of DETECTRON2_WEIGHTS; used if it is set.
    "DETECTRON2_OBJECT_DETECTION_MODEL_WEIGHTS": "",
    # CSV file of persons, as AVA's, in place of a detector; each second of it is the middle of a clip. "" for none.
    "PREDS_BOXES": "",
    # CSV file of ground truth, as AVA's annotations, to draw too; "" for none.
    "GT_BOXES": "",
}

# Pictures of masked learning.
VIS_MASK = {
    # After each epoch draw clips, their masks and what is predicted: OUTPUT_DIR/visualization/mask/epoch_N.png.
    "ENABLE": False,
}
