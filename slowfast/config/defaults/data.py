"""Defaults of the data: DATA, DATA_LOADER, AUG, MIXUP, AVA, MULTIGRID and others."""

# Videos, clips and transforms.
DATA = {
    # Folder of the lists of videos: train.csv, val.csv, test.csv.
    "PATH_TO_DATA_DIR": "",
    # Separator between path and label on a line of a list.
    "PATH_LABEL_SEPARATOR": " ",
    # Prefix of every path in a list.
    "PATH_PREFIX": "",
    # Number of header lines of a list.
    "SKIP_ROWS": 0,
    # Video decoder: pyav (torchvision is read as pyav), or torchcodec, an optional extra with the same frames.
    "DECODING_BACKEND": "pyav",
    # Short side, pixels, to which a decoder that can scale resizes frames; 0 for none.
    "DECODING_SHORT_SIZE": 256,
    # Frames of a clip (of the fast pathway, if there are two).
    "NUM_FRAMES": 8,
    # Numbers of frames of training clips, one drawn uniformly for each batch; [] for NUM_FRAMES. Validation and testing
    # take NUM_FRAMES.
    "TRAIN_NUM_FRAMES": [],
    # Temporal stride of the frames of a clip, in frames at TARGET_FPS.
    "SAMPLING_RATE": 8,
    # Frame rate at which SAMPLING_RATE counts, whatever the video's own.
    "TARGET_FPS": 30,
    # Input channels of each pathway.
    "INPUT_CHANNEL_NUM": [3, 3],
    # Mean of each channel, subtracted; values are 0 to 1.
    "MEAN": [0.45, 0.45, 0.45],
    # Standard deviation of each channel; values are divided by it.
    "STD": [0.225, 0.225, 0.225],
    # Reverse the channel order. The order without it is RGB; for charades and ssv2, whose published settings reverse
    # it, BGR.
    "REVERSE_INPUT_CHANNEL": False,
    # Side of the square crop in training, pixels.
    "TRAIN_CROP_SIZE": 224,
    # Side of the square crop in testing, and the short side to which frames are resized, pixels.
    "TEST_CROP_SIZE": 256,
    # [min, max] of the random short side of a training clip, pixels.
    "TRAIN_JITTER_SCALES": [256, 320],
    # Random resized crop: [min, max] of its area relative to the frame's, in place of TRAIN_JITTER_SCALES; [] for off.
    "TRAIN_JITTER_SCALES_RELATIVE": [],
    # Random resized crop: [min, max] of its aspect ratio, width over height; [] for 3/4 to 4/3.
    "TRAIN_JITTER_ASPECT_RELATIVE": [],
    # Random resized crop: move it from one place to another during the clip.
    "TRAIN_JITTER_MOTION_SHIFT": False,
    # Greatest random change of TARGET_FPS in training, frames per second; 0 for none.
    "TRAIN_JITTER_FPS": 0.0,
    # Flip training clips horizontally with probability 0.5.
    "RANDOM_FLIP": True,
    # Place test clips at whole-frame offsets that reach to the end of the video, a single clip at its middle. False:
    # at the starts of equal parts of it.
    "USE_OFFSET_SAMPLING": False,
    # Draw the random short side uniformly in 1 / pixels instead of in pixels.
    "INV_UNIFORM_SAMPLE": False,
    # Clips of a training video in a batch, at different times; the batch holds this many times TRAIN.BATCH_SIZE clips.
    "TRAIN_CROP_NUM_TEMPORAL": 1,
    # Crops of each of these clips in a batch.
    "TRAIN_CROP_NUM_SPATIAL": 1,
    # Videos have any number of labels.
    "MULTI_LABEL": False,
    # Joining of the scores of a video's views: sum or max.
    "ENSEMBLE_METHOD": "sum",
    # Decode each video once and keep its frames (uint8) in memory; for small data sets.
    "CACHE_VIDEOS": False,
    # Fraction of unreadable files in a split above which the run stops, 0 to 1.
    "MAX_UNREADABLE_FRACTION": 0.05,
    # Greatest number of pixels of a frame; a file of larger ones is unreadable. The default allows 8K (8192 x 4320). 0
    # for no limit.
    "MAX_FRAME_PIXELS": 36_000_000,
    # Container formats to read besides the usual ones, by FFmpeg's names. A file of hls, concat, dash, sdp or image2
    # makes FFmpeg open others that it names, so allow those for data that you trust only.
    "MEDIA_FORMATS_EXTRA": [],
    # Folder of the packet indices of long files, so that a file is indexed once, not by every process. "" for none:
    # nothing is written where nobody asked for it, and files of seconds gain nothing.
    "INDEX_CACHE": "",
    # Read the first sample alone, and give it out for all others, to time training without data. Key frames whose boxes
    # are scored, in validation and testing, are read.
    "DUMMY_LOAD": False,
    # Samples of a training epoch: epochs take one chunk of the list after the other; 0 for the whole list.
    "LOADER_CHUNK_SIZE": 0,
    # First samples of the list that the chunks are taken from; 0 for all.
    "LOADER_CHUNK_OVERALL_SIZE": 0,
    # Probability of a grayscale training clip, 0 to 1.
    "COLOR_RND_GRAYSCALE": 0.0,
    # Probability that a training clip shows the changes from frame to frame in place of frames, 0 to 1. The last change
    # comes twice.
    "TIME_DIFF_PROB": 0.0,
    # AlexNet lighting noise (AVA.TRAIN_USE_COLOR_AUGMENTATION): PCA eigenvalues of the training set's RGB values.
    "TRAIN_PCA_EIGVAL": [0.225, 0.224, 0.229],
    # The eigenvectors, one a column; rows are channels, red first.
    "TRAIN_PCA_EIGVEC": [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.814], [-0.5836, -0.6948, 0.4203]],
    # Self-supervised learning: augment the colors of each training clip, with grayscale as COLOR_RND_GRAYSCALE says.
    "SSL_COLOR_JITTER": False,
    # Strength of the jitter of brightness, contrast and saturation.
    "SSL_COLOR_BRI_CON_SAT": [0.4, 0.4, 0.4],
    # Strength of the jitter of the hue.
    "SSL_COLOR_HUE": 0.1,
    # Use the augmentation of MoCo v2: jitter with probability 0.8, grayscale, blur with probability 0.5. False:
    # grayscale, then jitter always.
    "SSL_MOCOV2_AUG": False,
    # [0, min]: least sigma of the Gaussian blur of SSL_MOCOV2_AUG, pixels; the first number is not used.
    "SSL_BLUR_SIGMA_MIN": [0.0, 0.1],
    # [0, max]: greatest sigma of that blur, pixels; the first number is not used.
    "SSL_BLUR_SIGMA_MAX": [0.0, 2.0],
    # Images: folder of the lists train.json, val.json and test.json, [{"im_path": ..., "class": ...}, ...]; "" for the
    # folders of classes, or the lists of paths and labels, in PATH_TO_DATA_DIR.
    "PATH_TO_PRELOAD_IMDB": "",
    # Images, with AUG.ENABLE: crop (TEST_CROP_SIZE) over short side in validation and testing, over 0, at most 1; 0 to
    # resize to a square without a crop.
    "IN_VAL_CROP_RATIO": 0.875,
    # Images: train on the images of val too (ImageNet-22K is trained on as a whole).
    "IN22K_TRAINVAL": False,
    # Images: folder of ImageNet-1K, whose val is the val of ImageNet-22K, and the test where there is no other. Class
    # folders are matched by name, lists have the numbers of the model's classes; "" for the val of the data set itself.
    "IN22k_VAL_IN1K": "",
    # Older files set it; nothing reads it (see TRAIN_CROP_SIZE and TEST_CROP_SIZE).
    "CROP_SIZE": 224,
    # Older files set it; nothing reads it.
    "VIEW": "3rd",
}

# Data loading.
DATA_LOADER = {
    # Worker processes of each training process; 0 to load in the training process.
    "NUM_WORKERS": 8,
    # Batches prefetched by each worker.
    "PREFETCH_FACTOR": 2,
    # Copy batches into pinned memory, for faster transfer to a GPU.
    "PIN_MEMORY": True,
    # Hand over clips as 8-bit pixels, and normalize them on the device: a quarter of the bytes to copy. It is refused
    # with augmentation that needs more than 8 bits (color jitter, random erasing). Val and test clips are 8-bit if
    # their frames have the size that they are resized to; others are normalized before they are handed over.
    "NORMALIZE_ON_DEVICE": False,
    # Read training clips step by step, as a task that trains in steps (PGT) needs them, in the memory of a few steps.
    "IN_STEPS": False,
    # Decode a video with several threads.
    "ENABLE_MULTI_THREAD_DECODE": False,
}

# Older keys of published files.
PREFETCH = {
    # Published files set it; nothing reads it.
    "NUM_LOADERS": 1,
}

# Strong augmentation of training clips: RandAugment, color jitter, random erasing.
AUG = {
    # Apply the augmentations of this section to training clips.
    "ENABLE": False,
    # Repeated augmentation: clips of the same frames, each augmented on its own, for each of BATCH_SIZE videos.
    "NUM_SAMPLE": 1,
    # Strength of the jitter of brightness, contrast and saturation, 0 to 1, if AA_TYPE is ""; None for off.
    "COLOR_JITTER": 0.4,
    # RandAugment, in timm's form: rand-mMAGNITUDE-nNUMBER-mstdSTD-incORDER; "" for none.
    "AA_TYPE": "rand-m9-mstd0.5-inc1",
    # Interpolation of its geometric operations: nearest, bilinear, bicubic, or random (bilinear or bicubic).
    "INTERPOLATION": "bicubic",
    # Random erasing: probability, 0 to 1.
    "RE_PROB": 0.25,
    # Random erasing: fill with pixel (noise), rand (one color) or const (black).
    "RE_MODE": "pixel",
    # Random erasing: greatest number of rectangles of a clip.
    "RE_COUNT": 1,
    # Random erasing: only in the second half of the NUM_SAMPLE clips of a video.
    "RE_SPLIT": False,
    # Masked learning: draw the masks in the loader, as MaskFeat needs; False: in the model (MASK.MAE_RND_MASK).
    "GEN_MASK_LOADER": False,
    # Masked learning: mask the same places in all frames, in the loader as in the model.
    "MASK_TUBE": False,
    # Masked learning, in the loader: mask whole frames. By default boxes in space and time are masked.
    "MASK_FRAMES": False,
    # Masked learning, in the loader: [time, height, width] of the mask. Its time is that of the tokens; height and
    # width are enlarged to theirs. MASK_TUBE also takes [height, width].
    "MASK_WINDOW_SIZE": [8, 7, 7],
    # Masked learning: fraction of masked patches, over 0 and under 1.
    "MASK_RATIO": 0.0,
    # Masked learning of images: greatest number of patches of a masked block; None for no limit.
    "MAX_MASK_PATCHES_PER_BLOCK": None,
}

# Mixup and CutMix of training clips; both need MODEL.LOSS_FUNC soft_cross_entropy.
MIXUP = {
    # Mix pairs of training clips and their labels.
    "ENABLE": False,
    # Mixup alpha, of the Beta distribution of the mixing ratio; 0 for no mixup.
    "ALPHA": 0.8,
    # CutMix alpha, of the Beta distribution of the pasted area; 0 for no CutMix.
    "CUTMIX_ALPHA": 1.0,
    # Probability that a batch is mixed, 0 to 1.
    "PROB": 1.0,
    # Probability of CutMix instead of mixup in a mixed batch, 0 to 1.
    "SWITCH_PROB": 0.5,
    # Label smoothing, mixed or not, 0 to 1.
    "LABEL_SMOOTH_VALUE": 0.1,
}

# AVA: boxes and labels at key frames.
AVA = {
    # Frames of a clip from its key frame on, the key frame included; -1 for half of the clip, as published.
    "FRAMES_AFTER_KEY": -1,
    # Frames of a clip, from 0, whose boxes are loaded too, the key frame last; [] for the key frame alone.
    "BOX_FRAMES": [],
    # Folder of the extracted frames, or of the videos.
    "FRAME_DIR": "",
    # Folder of the lists of frames; "" if FRAME_DIR holds a video file or a folder of frames for each video.
    "FRAME_LIST_DIR": "",
    # Folder of the annotations.
    "ANNOTATION_DIR": "",
    # Lists of the training frames.
    "TRAIN_LISTS": ["train.csv"],
    # Lists of the test frames.
    "TEST_LISTS": ["val.csv"],
    # Ground-truth boxes for training.
    "TRAIN_GT_BOX_LISTS": ["ava_train_v2.2.csv"],
    # Predicted boxes added to them.
    "TRAIN_PREDICT_BOX_LISTS": [],
    # Predicted boxes for testing.
    "TEST_PREDICT_BOX_LISTS": ["ava_val_predicted_boxes.csv"],
    # Least confidence of a predicted box, 0 to 1.
    "DETECTION_SCORE_THRESH": 0.9,
    # Use the channel order BGR.
    "BGR": False,
    # Augment the colors in training.
    "TRAIN_USE_COLOR_AUGMENTATION": False,
    # Augment the colors by lighting noise only.
    "TRAIN_PCA_JITTER_ONLY": True,
    # Score the ground-truth boxes of GROUNDTRUTH_FILE in validation and testing instead of TEST_PREDICT_BOX_LISTS. The
    # result is an upper bound: no detector is that good.
    "TEST_ON_GROUND_TRUTH": False,
    # Frames per second of the lists of frames.
    "FPS": 30.0,
    # Second of the first frame of a video.
    "FIRST_SECOND": 900,
    # [first, last] second that can be a key frame; [] for all with a frame.
    "KEY_SECONDS": [902, 1798],
    # Videos named ID_000084_000094, as Kinetics' clips are, show seconds 84 to 94 of video ID. FIRST_SECOND and
    # KEY_SECONDS do not apply to them. Rows of boxes name them ID (AVA-Kinetics) or by the whole name.
    "KINETICS_CLIPS": False,
    # Flip every test clip horizontally.
    "TEST_FORCE_FLIP": False,
    # Validate on all key frames instead of on every fourth second.
    "FULL_TEST_ON_VAL": False,
    # Names and ids of the classes that are scored; "" for all ids from 1 to MODEL.NUM_CLASSES.
    "LABEL_MAP_FILE": "ava_action_list_v2.2_for_activitynet_2019.pbtxt",
    # Key frames excluded from scoring; "" for none.
    "EXCLUSION_FILE": "ava_val_excluded_timestamps_v2.2.csv",
    # Ground-truth boxes and labels for scoring; "" tests the boxes of TEST_PREDICT_BOX_LISTS without scoring them.
    "GROUNDTRUTH_FILE": "ava_val_v2.2.csv",
    # Evaluation: pyslowfast, the copy that PySlowFast ships, by which its numbers are published; or activitynet, the
    # current official one. That counts the 50 best rows of a key frame, and none where no ground truth names it.
    "EVALUATION": "pyslowfast",
    # Library that resizes frames.
    "IMG_PROC_BACKEND": "cv2",
    # Older name of DATA.TRAIN_PCA_EIGVAL, which wins if both are set.
    "TRAIN_PCA_EIGVAL": [0.225, 0.224, 0.229],
    # Older name of DATA.TRAIN_PCA_EIGVEC, which wins if both are set.
    "TRAIN_PCA_EIGVEC": [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.814], [-0.5836, -0.6948, 0.4203]],
}

# Multigrid training: clips of varying frames and crops, with batches of about the same cost.
MULTIGRID = {
    # Factor of the number of epochs, as smaller clips cost less.
    "EPOCH_FACTOR": 1.5,
    # Vary the crop from batch to batch.
    "SHORT_CYCLE": False,
    # Short cycle: factors of TRAIN_CROP_SIZE.
    "SHORT_CYCLE_FACTORS": [0.5, 0.7071067811865476],
    # Vary frames and crop from stage to stage.
    "LONG_CYCLE": False,
    # Long cycle: factors [frames, crop] of each stage, at most 1.
    "LONG_CYCLE_FACTORS": [[0.25, 0.7071067811865476], [0.5, 0.7071067811865476], [0.5, 1.0], [1.0, 1.0]],
    # Long cycle: clips over which a batch norm takes its statistics, whatever the batch.
    "BN_BASE_SIZE": 8,
    # Long cycle: validations of each stage, in place of TRAIN.EVAL_PERIOD.
    "EVAL_FREQ": 3,
    # Greatest sampling rate of the current stage; clips draw theirs from DATA.SAMPLING_RATE up to it. Set by the run; 0
    # before.
    "LONG_CYCLE_SAMPLING_RATE": 0,
    # TRAIN.BATCH_SIZE without a cycle. Set by the run.
    "DEFAULT_B": 0,
    # DATA.NUM_FRAMES without a cycle. Set by the run.
    "DEFAULT_T": 0,
    # DATA.TRAIN_CROP_SIZE without a cycle. Set by the run.
    "DEFAULT_S": 0,
}
