"""Write configurations, as YAML with comments, that are sized by the videos of a data set."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from slowfast.apps.prepare.probe import Facts

# X3D-S as published: frames of a clip, its length in seconds, and pixels of its pictures.
_FRAMES, _SECONDS, _CROP, _SHORT_SIDE, _LARGEST_SHORT_SIDE = 13, 2.6, 160, 182, 228
_STRIDE = 32  # pixels that become one position
# PGT as published for Kinetics: frames of a step and of those that the step before has read too.
_STEP, _OVERLAP = 8, 1
_FEWEST_STEPS, _MOST_STEPS = 5, 10
_SECONDS_APART = 0.5  # most between two frames of PGT
_CLIPS_TO_SEE = 20_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 30, 200
_MOST_VIEWS = 10
_BATCH, _REFERENCE_BATCH = 8, 16

# Numbers that the comments of clip.yaml name.
_CONSTANTS = {
    "frames": _FRAMES,
    "seconds": _SECONDS,
    "full_crop": _CROP,
    "stride": _STRIDE,
    "most_batch": _BATCH,
    "reference_batch": _REFERENCE_BATCH,
    "clips_to_see": _CLIPS_TO_SEE,
    "fewest_epochs": _FEWEST_EPOCHS,
    "most_epochs": _MOST_EPOCHS,
    "most_views": _MOST_VIEWS,
}
_CLIP = """\
# X3D-S, clips of {frames} x {rate} frames. Written by tools/prepare_folder.py.
# For {size} in {classes} classes.
# Medians: {found}.
# The numbers below follow from these, and are yours to change.
NUM_GPUS: {gpus}
RNG_SEED: 0
TRAIN:
  ENABLE: True
  DATASET: kinetics
  # The largest power of two that the training videos fill, at most {most_batch}. Larger is faster on a GPU with room.
  BATCH_SIZE: {batch}
  # Ten validations and checkpoints in all.
  EVAL_PERIOD: {period}
  CHECKPOINT_PERIOD: {period}
  AUTO_RESUME: True
  # Far fewer videos are needed if you start from weights of Kinetics: name the file of X3D-S here (MODEL_ZOO.md).
  CHECKPOINT_FILE_PATH: ''
  # The classifier of other classes is left out of that file.
  CHECKPOINT_DROP_MISMATCH: True
DATA:
  PATH_TO_DATA_DIR: {lists}
  # The videos' own rate, rounded; frames are counted at it in a video of any rate.
  TARGET_FPS: {fps}
  # The published number of frames, {rate} apart: {span:.3g} s, at most the published {seconds} s and the median length
  # (a video under {frames} frames repeats its last).
  NUM_FRAMES: {frames}
  SAMPLING_RATE: {rate}
  # The published {full_crop} pixels, or the multiple of {stride} that does not enlarge videos of the median size.
  TRAIN_CROP_SIZE: {crop}
  # Short sides to scale to, in the published ratio to the crop.
  TRAIN_JITTER_SCALES: [{smallest}, {largest}]
  TEST_CROP_SIZE: {smallest}
  INPUT_CHANNEL_NUM: [3]
  # False if a mirrored video is of another class (left and right, text).
  RANDOM_FLIP: True
MODEL:
  ARCH: x3d
  MODEL_NAME: X3D
  # The names are in classes.txt.
  NUM_CLASSES: {classes}
  LOSS_FUNC: cross_entropy
  DROPOUT_RATE: 0.5
X3D:
  WIDTH_FACTOR: 2.0
  DEPTH_FACTOR: 2.2
  BOTTLENECK_FACTOR: 2.25
  DIM_C5: 2048
  DIM_C1: 12
RESNET:
  ZERO_INIT_FINAL_BN: True
  TRANS_FUNC: x3d_transform
  STRIDE_1X1: False
BN:
  WEIGHT_DECAY: 0.0
SOLVER:
  OPTIMIZING_METHOD: adamw
  # For a batch of {reference_batch}; scaled to the real one.
  BASE_LR: 0.001
  LR_REFERENCE_BATCH: {reference_batch}
  LR_POLICY: cosine
  COSINE_END_LR: 0.0
  # Enough to see about {clips_to_see} clips, but {fewest_epochs} to {most_epochs} times each video.
  MAX_EPOCH: {epochs}
  WARMUP_EPOCHS: {warmup:.1f}
  WARMUP_START_LR: 0.00001
  WEIGHT_DECAY: 0.05
  ZERO_WD_1D_PARAM: True
TEST:
  ENABLE: True
  DATASET: kinetics
  BATCH_SIZE: {most_batch}
  # As many clips as cover a video of the median length, 1 to {most_views}.
  NUM_ENSEMBLE_VIEWS: {views}
  NUM_SPATIAL_CROPS: 1
DATA_LOADER:
  NUM_WORKERS: {workers}
OUTPUT_DIR: {output}
"""


@dataclass(frozen=True)
class Measured:
    """Medians over the videos of a data set.

    Attributes:
        fps: frames a second.
        seconds: length.
        short_side: shorter side of the pictures, in pixels.
    """

    fps: float
    seconds: float
    short_side: float

    @staticmethod
    def of(facts: Sequence[Facts]) -> Measured:
        """Return the medians of readable videos, of which there is one at least."""
        return Measured(
            median(video.fps for video in facts),
            median(video.frames / video.fps for video in facts),
            median(min(video.height, video.width) for video in facts),
        )


def config_texts(
    measured: Measured, classes: int, videos: Mapping[str, int], lists: str, gpus: int, workers: int
) -> dict[str, str]:
    """Return the text of `clip.yaml` and `pgt.yaml` by name.

    Args:
        measured: of the videos.
        classes: number of classes.
        videos: number of videos of each split.
        lists: folder of the lists and class names, in which the runs get folders too.
        gpus, workers: values of NUM_GPUS and DATA_LOADER.NUM_WORKERS.
    """
    fps = max(1, round(measured.fps))
    frames = measured.seconds * fps
    rate = max(1, int(min(_SECONDS * fps, frames) / _FRAMES))
    span = _FRAMES * rate / fps
    crop = max(_STRIDE, min(_CROP, int(measured.short_side * _CROP / _SHORT_SIDE) // _STRIDE * _STRIDE))
    smallest, largest = (round(crop * side / _CROP) for side in (_SHORT_SIDE, _LARGEST_SHORT_SIDE))
    epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, math.ceil(_CLIPS_TO_SEE / videos["train"])))
    batch = 1 << (min(_BATCH, videos["train"]).bit_length() - 1)
    size = f"{videos['train']} training, {videos['val']} validation and {videos['test']} test videos"
    found = f"{measured.seconds:.3g} s, {measured.fps:.4g} frames a second, short side {measured.short_side:g} pixels"
    clip = _CLIP.format(
        size=size,
        found=found,
        classes=classes,
        gpus=gpus,
        workers=workers,
        batch=batch,
        fps=fps,
        rate=rate,
        span=span,
        crop=crop,
        smallest=smallest,
        largest=largest,
        epochs=epochs,
        period=max(1, epochs // 10),
        warmup=epochs / 10,
        views=_views(measured.seconds, span),
        lists=_quoted(lists),
        output=_quoted(f"{lists}/clip"),
        **_CONSTANTS,
    )
    return {"clip.yaml": clip, "pgt.yaml": _pgt(frames, fps, rate, measured.seconds, lists)}


def _pgt(frames: float, fps: int, clip_rate: int, seconds: float, lists: str) -> str:
    """Return `pgt.yaml`, for videos of `frames` frames and a clip model whose frames are `clip_rate` apart."""
    new = _STEP - _OVERLAP
    fewest, most = (_OVERLAP + steps * new for steps in (_FEWEST_STEPS, _MOST_STEPS))
    rate = min(max(clip_rate, int(frames / most)), int(frames / fewest), int(_SECONDS_APART * fps))
    rate = max(1, rate)
    steps = min(_MOST_STEPS, max(_FEWEST_STEPS, int((frames / rate - _OVERLAP) / new)))
    length = _OVERLAP + steps * new
    views = _views(seconds, length * rate / fps)
    return f"""\
# The model of clip.yaml with PGT: {steps} steps, {length} x {rate} frames ({length * rate / fps:.3g} s).
_BASE_: clip.yaml
PROJECTS: [pgt]
DATA:
  # {_FEWEST_STEPS} to {_MOST_STEPS} steps over a video of the median length, with frames as far apart as in clip.yaml
  # where that fits, and at most {_SECONDS_APART} s apart. Training takes parts of longer videos; streaming reads all.
  NUM_FRAMES: {length}
  SAMPLING_RATE: {rate}
PGT:
  ENABLE: True
  # As published for Kinetics.
  STEP_LEN: [{_STEP}]
  STEPS: {steps}
  OVERLAP: [{_OVERLAP}]
  CACHE: last
  CACHE_MOMENTUM: 0.25
  TRAIN_TOGETHER: True
  # Validate and test in steps, as videos are streamed.
  PG_EVAL: True
TEST:
  # As many clips as cover a video of the median length, 1 to {_MOST_VIEWS}.
  NUM_ENSEMBLE_VIEWS: {views}
OUTPUT_DIR: {_quoted(f"{lists}/pgt")}
"""


def _views(seconds: float, span: float) -> int:
    """Return how many clips of `span` seconds cover a video."""
    return min(_MOST_VIEWS, max(1, round(seconds / span)))


def _quoted(path: str) -> str:
    """Return a path as a string of YAML."""
    return json.dumps(path, ensure_ascii=False)
