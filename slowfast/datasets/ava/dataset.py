"""AVA: boxes of people with their actions, at one second after the other of long videos."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator

from slowfast.datasets.annotations.ava import VAL_EVERY, Annotations, GroundTruth, class_names
from slowfast.datasets.ava.footage import Footage
from slowfast.datasets.ava.key_frames import Clock, KeyFrameBoxes, KeySeconds, clip_frames, moments_of
from slowfast.datasets.clips.clip_maker import Clip
from slowfast.datasets.clips.temporal_sampling import WindowTimes, drawn_rate
from slowfast.datasets.loading.batch import KeyFrame, Sample
from slowfast.datasets.loading.batch_shapes import ClipShape
from slowfast.datasets.transforms.boxes import has_area
from slowfast.datasets.video.cache import VideoCache
from slowfast.datasets.video.reader import VideoError, VideoReader
from slowfast.datasets.video_dataset import VideoDataset, check_split


class AVA(VideoDataset):
    """Clips around key frames: seconds with at least one box. A sample is a key frame, `video` its number.

    train: boxes of `AVA.TRAIN_GT_BOX_LISTS` and `TRAIN_PREDICT_BOX_LISTS`; the target of a box without label is no
    class, and boxes that the crop leaves outside are left out. val and test: boxes of `TEST_PREDICT_BOX_LISTS`, to be
    scored against `GROUNDTRUTH_FILE`; annotated boxes only with a warning, each time. val takes every fourth second,
    unless `FULL_TEST_ON_VAL`. Test clips show the whole frame.

    Attributes:
        key_frames: (video, second) of each sample; `paths` are their names.
        videos: all that are there, as `open_video` takes them.
        class_ids, class_names: ids of the classes that are scored, and id -> name; output c of a model is id c + 1.
        ground_truth, excluded: val and test: the rows to score against, and the (video, second) to leave out.
        batch_groups: number of each sample's group; a batch of one group alone has clips of one size. None where all
            have.
        num_classes: outputs of the model.
        box_counts: boxes of each key frame.
        num_labels: of all boxes.

    Raises:
        FileNotFoundError: a list, an annotation file or a label map is missing.
        ValueError: a wrong line of one of them, with file, line number and line; class ids beyond MODEL.NUM_CLASSES; no
            predicted boxes for val and test; no key frame or nothing to score against left; DETECTION.ENABLE False.
    """

    has_boxes = True
    folder_key = "AVA.FRAME_DIR"

    def __init__(self, cfg: Any, split: str) -> None:
        ava, self.num_classes = cfg.AVA, cfg.MODEL.NUM_CLASSES
        if not cfg.DETECTION.ENABLE:
            raise ValueError("the data set ava is one of boxes; set DETECTION.ENABLE True, or choose another data set")
        self.class_names = class_names(cfg)
        self.class_ids = list(self.class_names)
        annotations = Annotations.read(cfg, check_split(split))
        footage = Footage.from_config(cfg, split, annotations.videos)
        self._clock = Clock(ava.FPS, ava.FIRST_SECOND)
        seconds = KeySeconds(self._clock, footage.lengths, tuple(ava.KEY_SECONDS))
        self.videos, self._lengths = list(footage.lengths), list(footage.lengths.values())
        tables = [seconds.of(table) for table in annotations.tables]
        self._boxes = KeyFrameBoxes(tables, self.videos, self.num_classes)
        if not len(self._boxes):
            raise ValueError(_no_key_frame(cfg, split, annotations))
        if annotations.truth is not None:
            annotations.check_truth(seconds)
            self.ground_truth, self.excluded = GroundTruth.of(annotations.truth), annotations.excluded
        self._after, self._positions = ava.FRAMES_AFTER_KEY, list(ava.BOX_FRAMES)
        names = [f"{video},{second:04d}" for video, second in self.key_frames]
        super().__init__(cfg, split, names, [], footage.open_video, WindowTimes())
        if annotations.truth is not None:
            self._check_countable(annotations)
        self.batch_groups = self._boxes.video.tolist() if split == "test" else None
        self.num_labels, self.box_counts = self._boxes.num_labels, self._boxes.counts.tolist()
        self.source = ", ".join(table.path for table in tables)

    def cached(self, open_video: Callable[[str], VideoReader]) -> Callable[[str], VideoReader]:
        """Opens films that are all decoded now; one that cannot be is counted when its key frames are asked for."""
        return VideoCache(self.videos, open_video).open

    @functools.cached_property
    def key_frames(self) -> list[tuple[str, int]]:
        """Video and second of each sample."""
        pairs = zip(self._boxes.video.tolist(), self._boxes.second.tolist(), strict=True)
        return [(self.videos[video], second) for video, second in pairs]

    @functools.cached_property
    def classes_seen(self) -> set[int]:
        """Outputs of the model that have a box, in training, or one to be scored against."""
        if self.split == "train":
            return self._boxes.classes
        return {int(number) - 1 for number in np.unique(self.ground_truth.classes)}

    def boxes_of(self, key_frame: int) -> np.ndarray:
        """(n, 4) float64 boxes of a key frame, relative, as they stand in the file; row i is number i in a batch."""
        return self._boxes.boxes_of(key_frame)

    def training_sample(self, video: int, generator: Generator, shape: ClipShape | None) -> Sample:
        """See `VideoDataset`."""
        settings = self.clips.settings.shaped(shape)
        numbers = self._frames(video, settings.num_frames, drawn_rate(settings, generator))
        annotated = self._annotated(video, numbers)
        boxes = [moment.boxes for moment in annotated]
        with _as_key_frame(self.paths[video]):
            clip = self.clips.training_clip_of(self._film_of(video), numbers, boxes, generator, shape)
        return self._sample(video, clip, annotated)

    def evaluation_sample(self, video: int, view: int) -> Sample:
        """See `VideoDataset`."""
        settings = self.clips.settings
        annotated = self._annotated(video, numbers := self._frames(video, settings.num_frames, settings.sampling_rate))
        with _as_key_frame(self.paths[video]):
            clip = self.clips.evaluation_clip_of(self._film_of(video), numbers, [moment.boxes for moment in annotated])
        return self._sample(video, clip, annotated)

    def _check_countable(self, annotations: Annotations) -> None:
        """ValueError if nothing is left to score against, which would otherwise show after an epoch."""
        truth, excluded = self.ground_truth, set(self.excluded)
        moments = zip(truth.videos, truth.seconds.tolist(), strict=True)
        counts = np.array([moment not in excluded for moment in moments], dtype=bool)
        if not (counts & np.isin(truth.classes, self.class_ids)).any():
            raise ValueError(
                f"{annotations.truth.path} (AVA.GROUNDTRUTH_FILE) leaves {self.split} no box to score against: of a "
                f"second that counts, {len(counts)} boxes are annotated, {int(counts.sum())} of them not excluded by "
                "AVA.EXCLUSION_FILE, none of these of a class of AVA.LABEL_MAP_FILE"
            )

    def _film_of(self, key_frame: int) -> str:
        return self.videos[self._boxes.video[key_frame]]

    def _frames(self, key_frame: int, num_frames: int, rate: int) -> list[int]:
        key = self._clock.frame_of(int(self._boxes.second[key_frame]))
        # The film that cannot be read has no length; it fails when it is opened.
        length = self._lengths[self._boxes.video[key_frame]] or key + 1
        return clip_frames(key, num_frames, rate, length, self._after)

    def _annotated(self, key_frame: int, frames: Sequence[int]) -> list[_Annotated]:
        """Boxes and labels of the clip's moments; those of its own key frame for a moment that has none."""
        found = []
        own = int(self._boxes.second[key_frame])
        for second in moments_of(frames, self._positions, own, self._clock, self._after):
            number = self._boxes.find(int(self._boxes.video[key_frame]), second)
            found.append(_Annotated(*self._boxes.of(number if number >= 0 else key_frame), number))
        return found

    def _sample(self, key_frame: int, clip: Clip, annotated: Sequence[_Annotated]) -> Sample:
        label = torch.from_numpy(annotated[-1].labels.max(axis=0))
        moments = []
        for boxes, moment in zip(clip.boxes, annotated, strict=True):
            # A box that a training crop left outside would teach its labels to nothing; one box at least has to be.
            seen = has_area(boxes)
            if self.split != "train" or not seen.any():
                seen[:] = True
            labels = torch.from_numpy(moment.labels[seen])
            moments.append(KeyFrame(torch.from_numpy(boxes[seen]), labels, moment.key_frame))
        return Sample(clip.inputs, label, key_frame, 0, key_frames=moments)


class _Annotated(NamedTuple):
    """(n, 4) relative boxes, (n, classes) labels, and number of the key frame, -1 where another one's stand in."""

    boxes: np.ndarray
    labels: np.ndarray
    key_frame: int


@contextlib.contextmanager
def _as_key_frame(name: str) -> Iterator[None]:
    """What cannot be read is a key frame, whatever of its film can."""
    try:
        yield
    except VideoError as error:
        raise VideoError(name, error.cause) from error


def _no_key_frame(cfg: Any, split: str, annotations: Annotations) -> str:
    part = f" that {VAL_EVERY} divides (AVA.FULL_TEST_ON_VAL True takes all)"
    return (
        f"{split} has no key frame: no box of {', '.join(table.path for table in annotations.tables)} is of a video "
        f"with frames, at a second of AVA.KEY_SECONDS {cfg.AVA.KEY_SECONDS}"
        f"{part if split == 'val' and not cfg.AVA.FULL_TEST_ON_VAL else ''}, and, if predicted, of a score from "
        f"AVA.DETECTION_SCORE_THRESH {cfg.AVA.DETECTION_SCORE_THRESH:g} on. For data of your own set KEY_SECONDS to "
        "their first and last second, or to [] for all that have a frame"
    )
