"""Default settings of a run: the top-level keys, TRAIN, TEST, SOLVER, logs, TensorBoard, benchmark, demo."""

TOP = {
    # Modules, outside this package, that add sections, models and tasks.
    "PROJECTS": [],
    # What one iteration does, by name; "" is a loss on clips. Projects set theirs.
    "TASK": "",
    # Folder for checkpoints and logs.
    "OUTPUT_DIR": ".",
    # Seed of weights, order and augmentation.
    "RNG_SEED": 1,
    # GPUs of this host, one process each; 0 for one process on the CPU.
    "NUM_GPUS": 1,
    # Hosts that train together.
    "NUM_SHARDS": 1,
    # Which of them this one is, from 0.
    "SHARD_ID": 0,
    # How processes talk: nccl for GPUs, gloo for CPUs.
    "DIST_BACKEND": "nccl",
    # Iterations from one line of the log to the next.
    "LOG_PERIOD": 10,
    # Write the model, its parameters and its cost to the log at the start.
    "LOG_MODEL_INFO": True,
    # Older files carry it and nothing reads it.
    "DEBUG": False,
}

DIST = {
    # Seconds that a process waits for the others in an exchange before it takes one for lost.
    "TIMEOUT": 1800.0,
    # Seconds in which processes and hosts have to find each other at the start.
    "START_TIMEOUT": 600.0,
    # Seconds that processes get to save and end after a SIGTERM, before they are killed.
    "STOP_TIMEOUT": 60.0,
    # How often all processes are started again, from the last checkpoint, after one failed (torchrun: --max-restarts).
    "MAX_RESTARTS": 0,
}

LOGS = {
    # Older name of OUTPUT_DIR, which counts where both are set.
    "DIR": "./logs",
    # Older name of LOG_PERIOD, which counts where both are set.
    "PERIOD": 100,
    # Older name of LOG_MODEL_INFO, which counts where both are set.
    "LOG_MODEL": False,
    # Name of the log file; it is stdout.log here whatever this says.
    "FILE_NAME": "",
}

TRAIN = {
    # Train at all.
    "ENABLE": True,
    # Data set, by name.
    "DATASET": "kinetics",
    # Clips of one forward pass, over all processes of this host.
    "BATCH_SIZE": 64,
    # Batches whose gradients are added up (and averaged) before one update of the weights.
    "ACCUM_STEPS": 1,
    # Epochs from one evaluation to the next.
    "EVAL_PERIOD": 10,
    # Epochs from one checkpoint to the next.
    "CHECKPOINT_PERIOD": 10,
    # Go on from the newest checkpoint in OUTPUT_DIR.
    "AUTO_RESUME": True,
    # Weights to start from, where there is nothing to resume: a file, or zoo://NAME; "" for fresh ones.
    "CHECKPOINT_FILE_PATH": "",
    # Whose file that is: pytorch (also safetensors), caffe2 or aia; of the zoo's files it is known.
    "CHECKPOINT_TYPE": "pytorch",
    # Take weights of an image model: kernels are repeated over time, the classifier may be of other classes.
    "CHECKPOINT_INFLATE": False,
    # Start at epoch 0 with a fresh optimizer although the file has an epoch.
    "CHECKPOINT_EPOCH_RESET": False,
    # Parts cut off the front of the names of weights in the file.
    "CHECKPOINT_CLEAR_NAME_PATTERN": [],
    # As CHECKPOINT_INFLATE; published files of transformers that start from ImageNet ("IN") set this one.
    "CHECKPOINT_IN_INIT": False,
    # Start weights of another shape (a head of other classes) afresh and report them, rather than stop.
    "CHECKPOINT_DROP_MISMATCH": False,
    # Stop when a weight of the model or of the file has no counterpart.
    "CHECKPOINT_STRICT": False,
    # Epoch of the checkpoint in OUTPUT_DIR to start from, from 0; -1 for the newest.
    "CHECKPOINT_FILE_EPOCH": -1,
    # From a file of another TASK or TRAIN.DATASET take the weights only, not the epoch and the optimizer.
    "TRANSFER_WEIGHT": True,
    # Compute in 16 bits where that is safe.
    "MIXED_PRECISION": False,
    # Which 16 bits: bf16 or fp16.
    "MIXED_PRECISION_DTYPE": "bf16",
    # Stop when a loss is this many times the mean so far; 0 for off.
    "KILL_LOSS_EXPLOSION_FACTOR": 0.0,
    # Evaluate on all frames of a clip at once.
    "FULL_TIME_EVAL": False,
}

TEST = {
    # Test at all.
    "ENABLE": True,
    # Data set, by name.
    "DATASET": "kinetics",
    # Clips of one forward pass, over all processes of this host.
    "BATCH_SIZE": 8,
    # Weights to test, a file or zoo://NAME; "" for the newest in OUTPUT_DIR, else TRAIN.CHECKPOINT_FILE_PATH.
    "CHECKPOINT_FILE_PATH": "",
    # Whose file that is: pytorch (also safetensors), caffe2 or aia; of the zoo's files it is known.
    "CHECKPOINT_TYPE": "pytorch",
    # Start weights of another shape afresh and report them, rather than stop.
    "CHECKPOINT_DROP_MISMATCH": False,
    # Stop when a weight of the model or of the file has no counterpart.
    "CHECKPOINT_STRICT": False,
    # Test a model of random weights where there is no checkpoint, rather than stop.
    "ALLOW_RANDOM_WEIGHTS": False,
    # Epoch of the checkpoint in OUTPUT_DIR to test, from 0; -1 for the newest.
    "CHECKPOINT_FILE_EPOCH": -1,
    # Clips of a video, spread over its length; their scores are put together.
    "NUM_ENSEMBLE_VIEWS": 10,
    # Crops of each clip: 1 for the center; 3 along the long side.
    "NUM_SPATIAL_CROPS": 3,
    # Several numbers of clips to test one after the other, in place of NUM_ENSEMBLE_VIEWS.
    "NUM_TEMPORAL_CLIPS": [],
    # File in OUTPUT_DIR for the predictions of a test, .npz or .parquet; "" for test_predictions.npz.
    "SAVE_RESULTS_PATH": "",
    # Fold batch norms into the convolutions before them: the same scores to rounding, sooner.
    "FOLD_NORMS": True,
    # Repeat a short video from its start rather than its last frame.
    "CYCLIC_LOAD": False,
}

SOLVER = {
    # sgd, adam or adamw.
    "OPTIMIZING_METHOD": "sgd",
    # Learning rate after the warm-up.
    "BASE_LR": 0.1,
    # Multiply it by the number of hosts.
    "BASE_LR_SCALE_NUM_SHARDS": False,
    # Clips of an update (BATCH_SIZE x ACCUM_STEPS) that the rates here are meant for; they are scaled to the
    # real number. 0 for off.
    "LR_REFERENCE_BATCH": 0,
    # Course of the learning rate: cosine or steps_with_relative_lrs.
    "LR_POLICY": "cosine",
    # Epochs to train.
    "MAX_EPOCH": 300,
    # Epochs over which the rate rises in a straight line.
    "WARMUP_EPOCHS": 0.0,
    # Rate the rise starts from.
    "WARMUP_START_LR": 0.01,
    # Rate at the end of the cosine.
    "COSINE_END_LR": 0.0,
    # Begin the cosine at the end of the warm-up rather than at epoch 0.
    "COSINE_AFTER_WARMUP": False,
    # steps_with_relative_lrs: epochs at which a rate begins, the first 0.
    "STEPS": [],
    # steps_with_relative_lrs: each of those rates over BASE_LR.
    "LRS": [],
    # Older schedules: epochs of a step.
    "STEP_SIZE": 1,
    # MULTIGRID.LONG_CYCLE: what a step multiplies the rate by (in place of LRS).
    "GAMMA": 0.1,
    # Older schedules: first rate of the warm-up over BASE_LR.
    "WARMUP_FACTOR": 0.1,
    # sgd: share of the last update kept, 0 to 1.
    "MOMENTUM": 0.9,
    # sgd: share of the gradient left out of the update, 0 to 1.
    "DAMPENING": 0.0,
    # sgd: take the gradient where the last update leads.
    "NESTEROV": True,
    # adam, adamw: shares of the last mean and of the last square kept.
    "BETAS": [0.9, 0.999],
    # Share of the weights subtracted, times the rate.
    "WEIGHT_DECAY": 1e-4,
    # No decay on biases and other vectors.
    "ZERO_WD_1D_PARAM": False,
    # Rate of a layer over that of the layer above, over 0 up to 1 (1 for the same in all); the head has the full
    # rate, each residual block and the stem are a layer.
    "LAYER_DECAY": 1.0,
    # Scale each layer's rate by the size of its weights over that of its gradient.
    "LARS_ON": False,
    # Bound of every entry of the gradient; None for none.
    "CLIP_GRAD_VAL": None,
    # Bound of the length of the whole gradient; None for none.
    "CLIP_GRAD_L2NORM": None,
}

EMA = {
    # Keep an exponential moving average of the weights, which is evaluated and tested in their place.
    "ENABLE": False,
    # Share of the average kept at each update of the weights, 0 to under 1.
    "DECAY": 0.9999,
}

TENSORBOARD = {
    # Write curves for TensorBoard.
    "ENABLE": False,
    # Folder for them, inside OUTPUT_DIR; "" for one named after the data set.
    "LOG_DIR": "",
    # File of the names of the classes.
    "CLASS_NAMES_PATH": "",
    # File of groups of classes.
    "CATEGORIES_PATH": "",
    # File of stored predictions, to draw without testing.
    "PREDICTIONS_PATH": "",
    # Table of which class is taken for which.
    "CONFUSION_MATRIX": {
        # Draw it.
        "ENABLE": False,
        # [width, height], inches.
        "FIGSIZE": [8.0, 8.0],
        # File with the classes to draw; "" for all.
        "SUBSET_PATH": "",
    },
    # What the clips of one class are taken for.
    "HISTOGRAM": {
        # Draw it.
        "ENABLE": False,
        # File with the classes to draw; "" for none.
        "SUBSET_PATH": "",
        # Predictions drawn, the most frequent first.
        "TOPK": 10,
        # [width, height], inches.
        "FIGSIZE": [8.0, 8.0],
    },
    # Pictures of weights, activations and inputs.
    "MODEL_VIS": {
        # Draw them.
        "ENABLE": False,
        # Draw weights.
        "MODEL_WEIGHTS": False,
        # Draw activations.
        "ACTIVATIONS": False,
        # Draw the input video.
        "INPUT_VIDEO": False,
        # Layers to draw, each "name" or "name index,index".
        "LAYER_LIST": [],
        # Colors, by matplotlib's name.
        "COLORMAP": "Pastel2",
        # Predictions written on a picture.
        "TOPK_PREDS": 1,
        # Where in the picture a class is seen.
        "GRAD_CAM": {
            # Draw it.
            "ENABLE": True,
            # Layers to look at, one a pathway.
            "LAYER_LIST": [],
            # For the true class rather than the predicted one.
            "USE_TRUE_LABEL": False,
            # Colors, by matplotlib's name.
            "COLORMAP": "viridis",
        },
    },
    # Pictures of the videos that were classified wrongly.
    "WRONG_PRED_VIS": {
        # Draw them.
        "ENABLE": False,
        # Title they stand under.
        "TAG": "Incorrectly classified videos.",
        # File with the classes to draw; "" for all.
        "SUBSET_PATH": "",
    },
}

BENCHMARK = {
    # Epochs of loading to time.
    "NUM_EPOCHS": 5,
    # Iterations from one line to the next.
    "LOG_PERIOD": 100,
    # Load in random order.
    "SHUFFLE": True,
}

DEMO = {
    # Run the model on a video or a camera.
    "ENABLE": False,
    # Names of the classes, a file.
    "LABEL_FILE_PATH": "",
    # Number of the camera; -1 for none.
    "WEBCAM": -1,
    # Video file, where there is no camera.
    "INPUT_VIDEO": "",
    # Older name of the source: a camera's number.
    "DATA_SOURCE": 0,
    # Width of the window, pixels; 0 as the source.
    "DISPLAY_WIDTH": 0,
    # Height of the window, pixels; 0 as the source.
    "DISPLAY_HEIGHT": 0,
    # Frames per second of the file to write; -1 as the source.
    "OUTPUT_FPS": -1,
    # File to write; "" for a window.
    "OUTPUT_FILE": "",
    # Frames that two neighboring clips share.
    "BUFFER_SIZE": 0,
    # Clips left out between two.
    "NUM_CLIPS_SKIP": 0,
    # Processes that draw.
    "NUM_VIS_INSTANCES": 2,
    # Read and draw in threads.
    "THREAD_ENABLE": False,
    # Order of the source's colors: BGR or RGB.
    "INPUT_FORMAT": "BGR",
    # Frames per second of the source.
    "FPS": 30,
    # How many times slower to show it.
    "SLOWMO": 1,
    # Second of the video at which stored boxes begin.
    "STARTING_SECOND": 900,
    # Frames drawn of a clip.
    "CLIP_VIS_SIZE": 10,
    # Show the best classes (top-k) or those over a threshold (thres).
    "VIS_MODE": "thres",
    # Threshold of the common classes, 0 to 1.
    "COMMON_CLASS_THRES": 0.7,
    # Threshold of the other classes, 0 to 1.
    "UNCOMMON_CLASS_THRES": 0.3,
    # The common classes.
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
    # Detector of people: its config.
    "DETECTRON2_CFG": "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
    # Detector of people: its weights.
    "DETECTRON2_WEIGHTS": "detectron2://COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl",
    # Detector of people: least confidence, 0 to 1.
    "DETECTRON2_THRESH": 0.9,
    # Older name of DETECTRON2_CFG.
    "DETECTRON2_OBJECT_DETECTION_MODEL_CFG": "",
    # Older name of DETECTRON2_WEIGHTS.
    "DETECTRON2_OBJECT_DETECTION_MODEL_WEIGHTS": "",
    # File of stored boxes, in place of a detector; "" for none.
    "PREDS_BOXES": "",
    # File of true boxes to draw beside them; "" for none.
    "GT_BOXES": "",
}

VIS_MASK = {
    # Draw what a model that fills in masks has filled in.
    "ENABLE": False,
}
