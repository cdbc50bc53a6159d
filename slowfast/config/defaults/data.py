"""Default settings of the data: DATA, DATA_LOADER, PREFETCH, AUG, MIXUP, AVA, MULTIGRID."""

DATA = {
    # Folder of the lists of videos: train.csv, val.csv, test.csv.
    "PATH_TO_DATA_DIR": "",
    # Between the path and the label on a line of a list.
    "PATH_LABEL_SEPARATOR": " ",
    # Put before every path of a list.
    "PATH_PREFIX": "",
    # Lines at the head of a list that hold no video.
    "SKIP_ROWS": 0,
    # Library that decodes videos: pyav (torchvision is read as pyav), or torchcodec, an extra, alike in frames.
    "DECODING_BACKEND": "pyav",
    # Short side, pixels, to which a decoder that can scale brings frames at once; 0 keeps them.
    "DECODING_SHORT_SIZE": 256,
    # Frames of a clip; of its fast pathway where there are two.
    "NUM_FRAMES": 8,
    # Frames of training clips, drawn for each batch from these numbers, every one as often as the others; [] for
    # NUM_FRAMES, which validation and testing take anyway.
    "TRAIN_NUM_FRAMES": [],
    # Distance of neighboring frames of a clip, in frames at TARGET_FPS.
    "SAMPLING_RATE": 8,
    # Frames per second at which SAMPLING_RATE counts, whatever the video's own rate.
    "TARGET_FPS": 30,
    # Channels of the frames of each pathway.
    "INPUT_CHANNEL_NUM": [3, 3],
    # Mean of each channel, of values from 0 to 1; subtracted.
    "MEAN": [0.45, 0.45, 0.45],
    # Standard deviation of each channel, of values from 0 to 1; divided by.
    "STD": [0.225, 0.225, 0.225],
    # Reverse the channels. Without it they are red, green, blue; of charades and ssv2, whose published settings reverse
    # them, blue, green, red.
    "REVERSE_INPUT_CHANNEL": False,
    # Side of the square crop in training, pixels.
    "TRAIN_CROP_SIZE": 224,
    # Side of the square crop in testing, pixels; the short side of a frame is scaled to it.
    "TEST_CROP_SIZE": 256,
    # The short side of a training frame is scaled to a random number of pixels between these two.
    "TRAIN_JITTER_SCALES": [256, 320],
    # Instead of that: crop a random share of the frame's area between these two, and scale it. [] for off.
    "TRAIN_JITTER_SCALES_RELATIVE": [],
    # With it: width over height of the crop, between these two; [] for 3/4 to 4/3.
    "TRAIN_JITTER_ASPECT_RELATIVE": [],
    # With it: move the crop from one place to another in the course of the clip.
    "TRAIN_JITTER_MOTION_SHIFT": False,
    # Change of the target rate in training, frames per second, drawn up to this; 0 for none.
    "TRAIN_JITTER_FPS": 0.0,
    # Mirror half of the training clips.
    "RANDOM_FLIP": True,
    # Start test clips in whole-frame steps that reach to the end of the video (a single one in its middle), in place
    # of at the starts of equal parts of it.
    "USE_OFFSET_SAMPLING": False,
    # Draw the short side of training frames uniformly in 1 / side, in place of uniformly in pixels.
    "INV_UNIFORM_SAMPLE": False,
    # Clips cut out of a training video at once.
    "TRAIN_CROP_NUM_TEMPORAL": 1,
    # Crops of a training clip at once.
    "TRAIN_CROP_NUM_SPATIAL": 1,
    # A video has any number of labels.
    "MULTI_LABEL": False,
    # How the scores of a video's views become one: sum or max.
    "ENSEMBLE_METHOD": "sum",
    # Decode each video once and keep its frames (8 bits) in memory; for small sets.
    "CACHE_VIDEOS": False,
    # A split with a larger share of unreadable files stops the run, 0 to 1.
    "MAX_UNREADABLE_FRACTION": 0.05,
    # Give blank clips and read no file, for timing.
    "DUMMY_LOAD": False,
    # Lines of a list read at a time; 0 for the whole list.
    "LOADER_CHUNK_SIZE": 0,
    # Lines of the list in all, where it is read in parts.
    "LOADER_CHUNK_OVERALL_SIZE": 0,
    # Chance of a training clip without color, 0 to 1.
    "COLOR_RND_GRAYSCALE": 0.0,
    # Chance of a training clip of frame differences, 0 to 1.
    "TIME_DIFF_PROB": 0.0,
    # Lighting noise (AVA.TRAIN_USE_COLOR_AUGMENTATION): spread of the training set's colors in their main directions.
    "TRAIN_PCA_EIGVAL": [0.225, 0.224, 0.229],
    # Those directions, one a column; a row a channel, red first.
    "TRAIN_PCA_EIGVEC": [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.814], [-0.5836, -0.6948, 0.4203]],
    # Learning without labels: jitter the colors of each view.
    "SSL_COLOR_JITTER": False,
    # How far brightness, contrast and saturation go, as shares.
    "SSL_COLOR_BRI_CON_SAT": [0.4, 0.4, 0.4],
    # How far the hue goes, as a share of the circle.
    "SSL_COLOR_HUE": 0.1,
    # Use the augmentation of MoCo v2.
    "SSL_MOCOV2_AUG": False,
    # Least width of the blur, pixels, drawn between these two.
    "SSL_BLUR_SIGMA_MIN": [0.0, 0.1],
    # Greatest width of the blur, pixels, drawn between these two.
    "SSL_BLUR_SIGMA_MAX": [0.0, 2.0],
    # Images: file that keeps the list of a data set; "" for none.
    "PATH_TO_PRELOAD_IMDB": "",
    # Images: crop over short side in validation, 0 to 1.
    "IN_VAL_CROP_RATIO": 0.875,
    # Images: train on the set of 22 thousand classes.
    "IN22K_TRAINVAL": False,
    # Images: folder of the set of a thousand classes to validate on meanwhile.
    "IN22k_VAL_IN1K": "",
    # Side of the crop; older files carry it and nothing reads it (TRAIN_CROP_SIZE and TEST_CROP_SIZE count).
    "CROP_SIZE": 224,
    # Camera of a video, third or first person; older files carry it and nothing reads it.
    "VIEW": "3rd",
}

DATA_LOADER = {
    # Processes that decode videos, for each training process; 0 decodes in the training process itself.
    "NUM_WORKERS": 8,
    # Batches a worker makes ahead.
    "PREFETCH_FACTOR": 2,
    # Put batches into page-locked memory, from which a GPU copies faster.
    "PIN_MEMORY": True,
    # Let the decoder use several threads a video.
    "ENABLE_MULTI_THREAD_DECODE": False,
}

PREFETCH = {
    # Loaders that fetch side by side; published files carry it and nothing reads it.
    "NUM_LOADERS": 1,
}

AUG = {
    # Stronger augmentation of training clips, as below.
    "ENABLE": False,
    # Clips of the same frames, each augmented on its own, for every one of BATCH_SIZE videos.
    "NUM_SAMPLE": 1,
    # Where AA_TYPE is "": brightness, contrast and saturation change by up to this share; None for off.
    "COLOR_JITTER": 0.4,
    # Recipe of random operations on whole frames: rand-mMAGNITUDE-nNUMBER-mstdSPREAD-incORDER; "" for none.
    "AA_TYPE": "rand-m9-mstd0.5-inc1",
    # Interpolation of those that move pixels: nearest, bilinear, bicubic, or random for one of the last two.
    "INTERPOLATION": "bicubic",
    # Chance that a rectangle is erased, 0 to 1.
    "RE_PROB": 0.25,
    # What it is filled with: pixel (noise), rand (one color) or const (black).
    "RE_MODE": "pixel",
    # Most rectangles of a clip.
    "RE_COUNT": 1,
    # Erase only in the second half of the NUM_SAMPLE clips of a video.
    "RE_SPLIT": False,
    # Make masks in the loader, for models that learn to fill them in.
    "GEN_MASK_LOADER": False,
    # Mask the same patches in all frames.
    "MASK_TUBE": False,
    # Mask whole frames.
    "MASK_FRAMES": False,
    # [time, height, width] of the mask, in patches.
    "MASK_WINDOW_SIZE": [8, 7, 7],
    # Share of the patches masked, 0 to 1.
    "MASK_RATIO": 0.0,
    # Most patches of one masked block; None for no limit.
    "MAX_MASK_PATCHES_PER_BLOCK": None,
}

MIXUP = {
    # Blend pairs of training clips and of their labels; needs MODEL.LOSS_FUNC soft_cross_entropy.
    "ENABLE": False,
    # Shape of the Beta distribution of the share in a blend; 0 for none of the kind.
    "ALPHA": 0.8,
    # The same for pasting a rectangle of one clip into the other.
    "CUTMIX_ALPHA": 1.0,
    # Chance that a batch is blended, 0 to 1.
    "PROB": 1.0,
    # Chance that a blended batch is blended by pasting, 0 to 1.
    "SWITCH_PROB": 0.5,
    # Share of a label spread over all classes, blended or not, 0 to 1.
    "LABEL_SMOOTH_VALUE": 0.1,
}

AVA = {
    # Frames of a clip from its key frame on, that one counted; -1 for half of the clip, as published.
    "FRAMES_AFTER_KEY": -1,
    # Frames of a clip, the first is 0, whose boxes are wanted too, the key frame last; [] for the key frame alone.
    "BOX_FRAMES": [],
    # Folder of the extracted frames.
    "FRAME_DIR": "",
    # Folder of the lists of frames; "" where FRAME_DIR holds a video file or a folder of frames for each video.
    "FRAME_LIST_DIR": "",
    # Folder of the annotations.
    "ANNOTATION_DIR": "",
    # Lists of the frames of training.
    "TRAIN_LISTS": ["train.csv"],
    # Lists of the frames of testing.
    "TEST_LISTS": ["val.csv"],
    # Annotated boxes of training.
    "TRAIN_GT_BOX_LISTS": ["ava_train_v2.2.csv"],
    # Predicted boxes added to them.
    "TRAIN_PREDICT_BOX_LISTS": [],
    # Predicted boxes for testing.
    "TEST_PREDICT_BOX_LISTS": ["ava_val_predicted_boxes.csv"],
    # Predicted boxes under this confidence are left out, 0 to 1.
    "DETECTION_SCORE_THRESH": 0.9,
    # Colors as blue, green, red.
    "BGR": False,
    # Augment the colors in training.
    "TRAIN_USE_COLOR_AUGMENTATION": False,
    # Of that, the lighting noise only.
    "TRAIN_PCA_JITTER_ONLY": True,
    # Score the annotated boxes of GROUNDTRUTH_FILE in validation and testing, in place of TEST_PREDICT_BOX_LISTS; what
    # comes out is better than any detector of persons allows.
    "TEST_ON_GROUND_TRUTH": False,
    # Frames a second of the lists of frames.
    "FPS": 30.0,
    # Second of the first frame of a video.
    "FIRST_SECOND": 900,
    # First and last second that can be key frames; [] for all that have a frame.
    "KEY_SECONDS": [902, 1798],
    # Mirror every test clip.
    "TEST_FORCE_FLIP": False,
    # Score the whole validation set after each epoch rather than every fourth second.
    "FULL_TEST_ON_VAL": False,
    # Names and numbers of the classes that are scored; "" for all numbers from 1 to MODEL.NUM_CLASSES.
    "LABEL_MAP_FILE": "ava_action_list_v2.2_for_activitynet_2019.pbtxt",
    # Moments left out of scoring; "" for none.
    "EXCLUSION_FILE": "ava_val_excluded_timestamps_v2.2.csv",
    # Boxes and labels to score against.
    "GROUNDTRUTH_FILE": "ava_val_v2.2.csv",
    # Library that scales frames.
    "IMG_PROC_BACKEND": "cv2",
    # Older name of DATA.TRAIN_PCA_EIGVAL, which counts where both are set.
    "TRAIN_PCA_EIGVAL": [0.225, 0.224, 0.229],
    # Older name of DATA.TRAIN_PCA_EIGVEC, which counts where both are set.
    "TRAIN_PCA_EIGVEC": [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.814], [-0.5836, -0.6948, 0.4203]],
}

MULTIGRID = {
    # Epochs are stretched by this, since coarser clips cost less.
    "EPOCH_FACTOR": 1.5,
    # Vary the crop from batch to batch.
    "SHORT_CYCLE": False,
    # By these factors of TRAIN_CROP_SIZE.
    "SHORT_CYCLE_FACTORS": [0.5, 0.7071067811865476],
    # Vary frames and crop from stage to stage.
    "LONG_CYCLE": False,
    # By these factors, [frames, crop] for each stage, all at most 1.
    "LONG_CYCLE_FACTORS": [[0.25, 0.7071067811865476], [0.5, 0.7071067811865476], [0.5, 1.0], [1.0, 1.0]],
    # Long cycle: clips over which a batch norm takes its statistics, whatever the batch.
    "BN_BASE_SIZE": 8,
    # Long cycle: evaluations a stage, in place of TRAIN.EVAL_PERIOD.
    "EVAL_FREQ": 3,
    # Greatest sampling rate of the current stage, whose clips draw theirs from DATA.SAMPLING_RATE to it; the run itself
    # sets it, 0 before.
    "LONG_CYCLE_SAMPLING_RATE": 0,
    # TRAIN.BATCH_SIZE without a cycle; the run itself sets it.
    "DEFAULT_B": 0,
    # DATA.NUM_FRAMES without a cycle; the run itself sets it.
    "DEFAULT_T": 0,
    # DATA.TRAIN_CROP_SIZE without a cycle; the run itself sets it.
    "DEFAULT_S": 0,
}
