"""AVA: persons and their actions, annotated once per second in long videos."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator

from slowfast.datasets.ava.annotations import VAL_EVERY, Annotations, class_names
from slowfast.datasets.ava.footage import Footage
from slowfast.datasets.ava.key_frames import Clock, KeyFrameBoxes, KeyFrameFilter, clip_frames, seconds_of_clip
from slowfast.datasets.base import ClipDataset, check_split
from slowfast.datasets.clips.clip_maker import Clip, ClipMaker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import SpanSampling, random_sampling_rate
from slowfast.datasets.loading.batch import KeyFrame, Sample
from slowfast.datasets.loading.sampler import ClipShape
from slowfast.datasets.transforms.crops import has_area
from slowfast.datasets.video.cache import VideoCache
from slowfast.datasets.video.reader import VideoError
from slowfast.evaluation.ava import BoxRows
from slowfast.evaluation.ava_files import second_text
from slowfast.evaluation.evaluators import BoxEvaluator


class AVA(ClipDataset):
    """Clips around key frames: annotated seconds with at least one box. A sample is a key frame.

    train: boxes of `AVA.TRAIN_GT_BOX_LISTS` and `TRAIN_PREDICT_BOX_LISTS`. A box without label is a negative for all
    classes. Boxes outside the crop are dropped. val and test: boxes of `TEST_PREDICT_BOX_LISTS`, scored against
    `GROUNDTRUTH_FILE` (a test without one is not measured); annotated boxes only with a warning. val takes every fourth
    second, unless `FULL_TEST_ON_VAL`. Test clips show the whole frame.

    Attributes:
        names: "video,second" of each sample.
        key_frames: (video, second) of each sample.
        class_ids: ids of the scored classes; output c of a model is id c + 1.
        ground_truth, excluded: val and test: annotated boxes to score against, and (video, second) left out of scoring.
        batch_groups: number of each sample's video in test, where clips of other videos may have another size.
        annotated_seconds: with `AVA.KINETICS_CLIPS` the length of each video by its name; nan where it does not say.
        box_counts: boxes per key frame.
        num_labels: labels of all boxes.
        clips: maker of the clips.

    Raises:
        FileNotFoundError: a list, an annotation file or a label map is missing.
        ValueError: a wrong line of one of them (with file, line number and line); class ids beyond MODEL.NUM_CLASSES;
            no predicted boxes for val and test; no key frame or no ground truth left; DETECTION.ENABLE False.
    """

    label_kind = "boxes"
    unit = "key frames"
    folder_key = "AVA.FRAME_DIR"

    def __init__(self, cfg: Any, split: str) -> None:
        ava = cfg.AVA
        if not cfg.DETECTION.ENABLE:
            raise ValueError("the data set ava is one of boxes; set DETECTION.ENABLE True, or choose another data set")
        names_by_id = class_names(cfg)
        self.class_ids = list(names_by_id)
        annotations = Annotations.read(cfg, check_split(split))
        footage = Footage.from_config(cfg, split, annotations.videos)
        self._clock = Clock(ava.FPS, ava.FIRST_SECOND, {name: first for name, (first, _) in footage.clips.items()})
        key_frame_filter = KeyFrameFilter(self._clock, footage.lengths, tuple(ava.KEY_SECONDS))
        self._all_videos, self._lengths = list(footage.lengths), list(footage.lengths.values())
        tables = [key_frame_filter.select(table) for table in annotations.tables]
        self._boxes = KeyFrameBoxes(tables, self._all_videos, cfg.MODEL.NUM_CLASSES)
        if not len(self._boxes):
            raise ValueError(_no_key_frame(cfg, split, annotations))
        if split != "train":
            annotations.check_truth(key_frame_filter)
            truth = BoxRows([], [], [], []) if annotations.truth is None else annotations.truth.box_rows()
            self.ground_truth, self.excluded = truth, annotations.excluded
        self._after, self._positions = ava.FRAMES_AFTER_KEY, list(ava.BOX_FRAMES)
        super().__init__(
            cfg,
            split,
            [f"{video},{second_text(second)}" for video, second in self.key_frames],
            # Videos that cannot be decoded are counted when one of their key frames is asked for.
            VideoCache(self._all_videos, footage.open_video).open if cfg.DATA.CACHE_VIDEOS else footage.open_video,
            class_names={number - 1: name for number, name in names_by_id.items()},
            source=", ".join(table.path for table in tables),
        )
        settings = ClipSettings.from_config(cfg, split).for_loader(cfg)
        self.clips = ClipMaker(settings, self.open_video, SpanSampling())
        if annotations.truth is not None:
            self._check_ground_truth(annotations)
        self.batch_groups = self._boxes.video.tolist() if split == "test" else None
        if footage.clips:
            spans = (footage.clips.get(video, (math.nan, math.nan)) for video in self.videos)
            self.annotated_seconds = [last - first for first, last in spans]
        self.num_labels, self.box_counts = self._boxes.num_labels, self._boxes.counts.tolist()

    @functools.cached_property
    def key_frames(self) -> list[tuple[str, float]]:
        """Video and second of each sample."""
        pairs = zip(self._boxes.video.tolist(), self._boxes.second.tolist(), strict=True)
        return [(self._all_videos[video], second) for video, second in pairs]

    @property
    def videos(self) -> list[str]:
        """Names of the videos that have key frames."""
        return list(dict.fromkeys(video for video, _ in self.key_frames))

    @functools.cached_property
    def classes_seen(self) -> set[int] | None:
        """Outputs of the model that have a box (train), or an annotated one to be scored against (val, test).

        None if a test has no annotated boxes.
        """
        if self.split == "train":
            return self._boxes.classes
        if not len(self.ground_truth):
            return None
        return {int(number) - 1 for number in np.unique(self.ground_truth.classes)}

    def boxes_of(self, key_frame: int) -> np.ndarray:
        """Return the boxes of a key frame, (n, 4) float64 relative to the frame, as in the file.

        Row i is box number i in a batch.
        """
        return self._boxes.boxes_of(key_frame)

    def reshaped(self, cfg: Any) -> AVA:
        """Return the same key frames, and the same count of unreadable ones, as clips of another shape."""
        other = copy.copy(self)
        settings = ClipSettings.from_config(cfg, self.split).for_loader(cfg)
        other.clips = ClipMaker(settings, self.open_video, SpanSampling())
        return other

    def make_evaluator(self, cfg: Any) -> BoxEvaluator:
        """Make the object that gathers the scores of boxes and computes the frame mAP."""
        return BoxEvaluator(
            self.key_frames,
            [self.boxes_of(key_frame) for key_frame in range(self.num_videos)],
            {output + 1: name for output, name in self.info.class_names.items()},
            self.ground_truth,
            self.excluded,
            cfg.DATA.ENSEMBLE_METHOD,
            cfg.AVA.EVALUATION,
        )

    def summary(self, num_classes: int | None = None) -> str:
        """Describe the split in one line for the log."""
        parts = [
            f"{self.num_videos} key frames of {len(self.videos)} videos",
            f"{sum(self.box_counts)} boxes with {self.num_labels} labels",
        ]
        return ", ".join([*parts, *self._classes_line(num_classes)])

    def training_sample(self, video: int, generator: Generator, shape: ClipShape | None) -> Sample:
        """Make a training clip of key frame `video`."""
        settings = self.clips.settings.shaped(shape)
        indices = self._frames(video, settings.num_frames, random_sampling_rate(settings, generator))
        annotated = self._annotated(video, indices)
        boxes = [each.boxes for each in annotated]
        with _errors_named_after(self.names[video]):
            clip = self.clips.training_clip_with_boxes(self._video_of(video), indices, boxes, generator, shape)
        return self._annotated_sample(video, clip, annotated)

    def evaluation_sample(self, video: int, view: int) -> Sample:
        """Make the clip of key frame `video` for val or test."""
        settings = self.clips.settings
        indices = self._frames(video, settings.num_frames, settings.sampling_rate)
        annotated = self._annotated(video, indices)
        boxes = [each.boxes for each in annotated]
        with _errors_named_after(self.names[video]):
            clip = self.clips.evaluation_clip_with_boxes(self._video_of(video), indices, boxes)
        return self._annotated_sample(video, clip, annotated)

    def _check_ground_truth(self, annotations: Annotations) -> None:
        """Raise ValueError now if no annotated box is left to score against, rather than after an epoch."""
        truth, excluded = self.ground_truth, set(self.excluded)
        scored = np.array([key_frame not in excluded for key_frame in truth.key_frames], dtype=bool)
        counts = scored[truth.key_frame]
        if not (counts & np.isin(truth.classes, self.class_ids)).any():
            raise ValueError(
                f"{annotations.truth.path} (AVA.GROUNDTRUTH_FILE) leaves {self.split} no box to score against: of a "
                f"second that counts, {len(counts)} boxes are annotated, {int(counts.sum())} of them not excluded by "
                "AVA.EXCLUSION_FILE, none of these of a class of AVA.LABEL_MAP_FILE"
            )

    def _video_of(self, key_frame: int) -> str:
        return self._all_videos[self._boxes.video[key_frame]]

    def _frames(self, key_frame: int, num_frames: int, rate: int) -> list[int]:
        key = self._clock.of(self._video_of(key_frame)).frame_of(self._boxes.second[key_frame].item())
        # A video that cannot be read has no length; opening it will raise.
        length = self._lengths[self._boxes.video[key_frame]] or key + 1
        return clip_frames(key, num_frames, rate, length, self._after)

    def _annotated(self, key_frame: int, frames: Sequence[int]) -> list[_Annotated]:
        """Look up boxes and labels of a clip's annotated seconds.

        A second without boxes gets those of the clip's own key frame.
        """
        found, clock = [], self._clock.of(self._video_of(key_frame))
        own = self._boxes.second[key_frame].item()
        for second in seconds_of_clip(frames, self._positions, own, clock, self._after):
            number = self._boxes.find(int(self._boxes.video[key_frame]), second)
            found.append(_Annotated(*self._boxes.of(number if number >= 0 else key_frame), number))
        return found

    def _annotated_sample(self, key_frame: int, clip: Clip, annotated: Sequence[_Annotated]) -> Sample:
        label = torch.from_numpy(annotated[-1].labels.max(axis=0))
        key_frames = []
        for boxes, annotation in zip(clip.boxes, annotated, strict=True):
            # Drop boxes that fall entirely outside the training crop, but keep the sample non-empty.
            seen = has_area(boxes)
            if self.split != "train" or not seen.any():
                seen[:] = True
            labels = torch.from_numpy(annotation.labels[seen])
            key_frames.append(KeyFrame(torch.from_numpy(boxes[seen]), labels, annotation.key_frame))
        normalization = self.clips.settings.normalization
        return Sample(clip.inputs, label, key_frame, 0, key_frames=key_frames, normalization=normalization)


class _Annotated(NamedTuple):
    """Annotation of one second.

    `boxes` (n, 4) are relative, `labels` (n, classes), `key_frame` is its number, or -1 where the boxes of another
    key frame stand in.
    """

    boxes: np.ndarray
    labels: np.ndarray
    key_frame: int


@contextlib.contextmanager
def _errors_named_after(key_frame: str) -> Iterator[None]:
    """Re-raise decode errors under the key frame's name."""
    try:
        yield
    except VideoError as error:
        raise VideoError(key_frame, error.cause) from error


def _no_key_frame(cfg: Any, split: str, annotations: Annotations) -> str:
    part = f" that {VAL_EVERY} divides (AVA.FULL_TEST_ON_VAL True takes all)"
    return (
        f"{split} has no key frame: no box of {', '.join(table.path for table in annotations.tables)} is of a video "
        f"with frames, at a second of AVA.KEY_SECONDS {cfg.AVA.KEY_SECONDS}"
        f"{part if split == 'val' and not cfg.AVA.FULL_TEST_ON_VAL else ''}, and, if predicted, of a score from "
        f"AVA.DETECTION_SCORE_THRESH {cfg.AVA.DETECTION_SCORE_THRESH:g} on. For data of your own set KEY_SECONDS to "
        "their first and last second, or to [] for all that have a frame"
    )
