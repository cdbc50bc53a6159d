"""Evaluators: gather what a model predicts on a split, over views and processes, and measure it.

A data set supplies its evaluator by `make_evaluator(cfg)`. Whole videos and boxes at key frames are built in.

Shapes: scores are (B, classes), or (M, classes) for M boxes.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slowfast.evaluation.ava import DEFAULT_EVALUATION, BoxRows
from slowfast.evaluation.ava_files import write_detections, write_groundtruth
from slowfast.evaluation.joined_scores import JoinedScores
from slowfast.evaluation.prediction import Batch, Prediction
from slowfast.evaluation.predictions import BoxPredictions, ClassificationPredictions
from slowfast.evaluation.results_pickle import write_pickle
from slowfast.runtime.distributed import all_gather_object

_DETECTIONS_NAME, _GROUNDTRUTH_NAME = "detections.csv", "groundtruth.csv"

# Names of joined scores: those of the whole clip, and those of its steps.
_MAIN, _STEPS = "", "steps"
# Number of videos or key frames that a message names.
_NAMED = 5


class Evaluator(abc.ABC):
    """Base class of evaluators. A subclass defines `process`, `gather` and `evaluate`.

    Every process calls `process` and `skip` for its share of the split, then all of them `gather`, then `evaluate`.

    Args:
        num_videos: number of videos, or key frames, in the split.

    Attributes:
        skipped: numbers of the videos, or key frames, that cannot be read and are left out.
        labeled: False if the split has no labels: a test then saves predictions, and measures nothing.
    """

    labeled = True

    def __init__(self, num_videos: int) -> None:
        self.num_videos = num_videos
        self.skipped: set[int] = set()

    @abc.abstractmethod
    def process(self, batch: Batch, prediction: Prediction) -> None:
        """Take in a batch and the model's prediction, both on the CPU."""

    def skip(self, video: int) -> None:
        """Leave out a video, or key frame, that cannot be read."""
        self.skipped.add(video)

    @abc.abstractmethod
    def gather(self) -> None:
        """Exchange what the processes hold, so that each holds all of it.

        Every process calls it. A subclass calls `super().gather()`, which joins `skipped`, and joins its own data by
        `slowfast.runtime.distributed.all_gather_object`.
        """
        self.skipped = set().union(*all_gather_object(self.skipped))

    @abc.abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Return the metrics by name.

        Those whose name holds a "/" (of single steps, or of other ensembles) are reported by a test only.

        Raises:
            ValueError: predictions are missing, there are none, or they are NaN or infinite.
        """

    def counts(self) -> dict[str, int]:
        """Return how much was measured, for logs and results."""
        return {"videos": self.num_videos - len(self.skipped)}

    def protocol(self) -> dict[str, str]:
        """Return how it was measured, where several ways are in use, for logs and results; by default nothing."""
        return {}

    def save(self, path: str, folder: str, meta: dict[str, Any]) -> list[str]:
        """Write the predictions, so that they can be measured again, and return the paths; by default none.

        Args:
            path: the file to write, .npz or .parquet.
            folder: the run's output folder, for further files.
            meta: JSON values to keep in the file: checkpoint, number of videos, ...

        Raises:
            ValueError: as `evaluate`.
            OSError: a file cannot be written.
        """
        return []

    def save_pickle(self, path: str) -> bool:
        """Write the scores as PySlowFast does (`TEST.SAVE_RESULTS_PATH x.pkl`); return False if it has no such file."""
        return False


class VideoEvaluator(Evaluator):
    """Classification of whole videos, with one or several labels each; scores of a video's views are joined.

    Args:
        names: name of each video.
        num_views: views of a video.
        method: "sum" or "max": how scores of views are joined.
        class_names: class number, from 0, -> name; a class without a name is named by its number.
        unit: name of the count, "videos" or "images".

    Raises:
        ValueError: another method.
    """

    def __init__(
        self,
        names: Sequence[str],
        num_views: int,
        method: str = "sum",
        class_names: Mapping[int, str] | None = None,
        unit: str = "videos",
    ) -> None:
        super().__init__(len(names))
        self.unit = unit
        self.names, self.class_names = list(names), class_names
        self._joined = JoinedScores(len(names), method)
        self._seen = torch.zeros(len(names), num_views, dtype=torch.int32)
        self._labels: Tensor | None = None

    def process(self, batch: Batch, prediction: Prediction) -> None:
        scores = {_MAIN: prediction.scores, **prediction.variants}
        if prediction.steps is not None:
            scores[_STEPS] = prediction.steps
        self._joined.add(batch.video, scores)
        self._label(batch.video, batch.labels)
        self._seen.index_put_((batch.video, batch.view), torch.ones_like(batch.view, dtype=torch.int32), True)

    def gather(self) -> None:
        super().gather()
        (self._joined, self._seen, self._labels), *others = all_gather_object((self._joined, self._seen, self._labels))
        for joined, seen, labels in others:
            self._joined.merge(joined)
            if labels is not None:
                came = seen.any(dim=1)
                self._label(came, labels[came])
            self._seen = self._seen + seen

    def counts(self) -> dict[str, int]:
        return {self.unit: self.num_videos - len(self.skipped)}

    @property
    def labeled(self) -> bool:
        return self.predictions().labeled

    def evaluate(self) -> dict[str, float]:
        return self.predictions().metrics()

    def predictions(self, meta: dict[str, Any] | None = None) -> ClassificationPredictions:
        """Return the joined scores of the videos that were not skipped.

        Raises:
            ValueError: a view is missing or came twice, with the videos named; or no video is left.
        """
        kept = torch.tensor([video not in self.skipped for video in range(self.num_videos)], dtype=torch.bool)
        if self._labels is None or not kept.any():
            raise ValueError(f"there are no scores for any of the {self.num_videos} videos")
        for what, wrong in (("missing", self._seen == 0), ("seen more than once", self._seen > 1)):
            wrong &= kept.view(-1, 1)
            if wrong.any():
                raise ValueError(f"views {what}: {self._describe(wrong)}")
        scores = {name: values[kept].numpy() for name, values in self._joined.values.items()}
        classes, names = scores[_MAIN].shape[1], self.class_names
        return ClassificationPredictions(
            scores.pop(_MAIN),
            self._labels[kept].numpy(),
            [self.names[video] for video in kept.nonzero().flatten().tolist()],
            steps=scores.pop(_STEPS, None),
            variants=scores,
            class_names=None if names is None else [names.get(number, str(number)) for number in range(classes)],
            meta=meta or {},
        )

    def save(self, path: str, folder: str, meta: dict[str, Any]) -> list[str]:
        """Write the predictions, and beside them a CSV file for people, with the same name but for its ending."""
        paths = [path, f"{os.path.splitext(path)[0]}.csv"]
        predictions = self.predictions(meta)
        predictions.save(paths[0])
        predictions.save_table(paths[1])
        return paths

    def save_pickle(self, path: str) -> bool:
        """Write all videos in the order of the list; those that cannot be read have scores and labels of 0, as there.

        Raises:
            ValueError: as `predictions`.
            OSError: the file cannot be written.
        """
        self.predictions()
        scores, labels = self._joined.values[_MAIN].clone(), self._labels.clone()
        skipped = sorted(self.skipped)
        scores[skipped], labels[skipped] = 0, 0
        write_pickle(path, scores, labels)
        return True

    def _label(self, video: Tensor, labels: Tensor) -> None:
        if self._labels is None:
            self._labels = torch.zeros((self.num_videos, *labels.shape[1:]), dtype=labels.dtype)
        self._labels[video] = labels

    def _describe(self, wrong: Tensor) -> str:
        videos = wrong.any(dim=1).nonzero().flatten().tolist()
        named = [f"{self.names[v]} (views {wrong[v].nonzero().flatten().tolist()})" for v in videos[:_NAMED]]
        more = f" and {len(videos) - _NAMED} more videos" if len(videos) > _NAMED else ""
        return ", ".join(named) + more


class BoxEvaluator(Evaluator):
    """Frame mAP of boxes at key frames (AVA); scores of a box from several clips or steps are joined.

    A box may come a different number of times than others, so "sum" is the mean over those times.

    Args:
        key_frames: (video, second) of each key frame.
        boxes: (n, 4) boxes of each key frame, x1, y1, x2, y2 as shares of the frame's width and height.
        class_names: class id, counted from 1, -> name; output c of the model is id c + 1. Others are not scored.
        groundtruth: the annotated boxes.
        excluded: (video, second) of the key frames that do not count.
        method: "sum" or "max".
        evaluation: name of the evaluation, see `slowfast.evaluation.ava`.

    Raises:
        ValueError: another method, or not one array of boxes for every key frame.
    """

    def __init__(
        self,
        key_frames: Sequence[tuple[str, float]],
        boxes: Sequence[np.ndarray],
        class_names: Mapping[int, str],
        groundtruth: BoxRows,
        excluded: Sequence[tuple[str, float]] = (),
        method: str = "sum",
        evaluation: str = DEFAULT_EVALUATION,
    ) -> None:
        super().__init__(len(key_frames))
        if len(key_frames) != len(boxes):
            raise ValueError(f"{len(key_frames)} key frames have {len(boxes)} arrays of boxes")
        self.key_frames, self.class_names = list(key_frames), dict(class_names)
        self.groundtruth, self.excluded, self.evaluation = groundtruth, list(excluded), evaluation
        self._boxes = np.concatenate([np.zeros((0, 4)), *boxes])
        self._sizes = torch.tensor([len(part) for part in boxes], dtype=torch.int64)
        self._first = self._sizes.cumsum(0) - self._sizes
        self._joined = JoinedScores(len(self._boxes), method)
        self._times = torch.zeros(len(self._boxes), dtype=torch.int64)

    def process(self, batch: Batch, prediction: Prediction) -> None:
        """Take in a batch; boxes of key frame -1, which are not of the split, are passed over.

        Raises:
            ValueError: a key frame does not have the box.
        """
        own = prediction.boxes.key_frame >= 0
        key_frame, number = prediction.boxes.key_frame[own], prediction.boxes.number[own]
        wrong = (number < 0) | (number >= self._sizes[key_frame])
        if wrong.any():
            k, n = int(key_frame[wrong][0]), int(number[wrong][0])
            raise ValueError(f"there is no box {n} in key frame {self.key_frames[k]}, which has {int(self._sizes[k])}")
        row = self._first[key_frame] + number
        scores = {_MAIN: prediction.scores, **prediction.variants}
        self._joined.add(row, {name: values[own] for name, values in scores.items()})
        self._times.index_add_(0, row, torch.ones_like(row))

    def gather(self) -> None:
        super().gather()
        (self._joined, self._times), *others = all_gather_object((self._joined, self._times))
        for joined, times in others:
            self._joined.merge(joined)
            self._times = self._times + times

    @property
    def labeled(self) -> bool:
        return len(self.groundtruth) > 0

    def evaluate(self) -> dict[str, float]:
        return self.predictions().metrics()

    def predictions(self, meta: dict[str, Any] | None = None) -> BoxPredictions:
        """Return the joined scores of the boxes of key frames that were not skipped.

        Raises:
            ValueError: a box never came, with key frames named; or no box is left.
        """
        key_frame = torch.repeat_interleave(torch.arange(self.num_videos), self._sizes)
        kept = torch.tensor([number not in self.skipped for number in range(self.num_videos)], dtype=torch.bool)
        kept = kept[key_frame]
        missing = kept & (self._times == 0)
        if missing.any():
            raise ValueError(f"boxes without scores: {self._describe(key_frame[missing])}")
        if not kept.any():
            raise ValueError(f"there are no scores of boxes in any of the {self.num_videos} key frames")
        class_ids = np.array(list(self.class_names), dtype=np.int64)
        times = self._times.clamp(min=1).view(-1, 1) if self._joined.method == "sum" else 1
        scores = {name: (v / times)[kept].numpy()[:, class_ids - 1] for name, v in self._joined.values.items()}
        return BoxPredictions(
            self.key_frames,
            key_frame[kept].numpy(),
            self._boxes[kept.numpy()],
            scores.pop(_MAIN),
            class_ids,
            self.groundtruth,
            # Unreadable key frames do not count, as unreadable videos do not.
            excluded=[*self.excluded, *(self.key_frames[number] for number in sorted(self.skipped))],
            variants=scores,
            class_names=list(self.class_names.values()),
            meta=meta or {},
            evaluation=self.evaluation,
        )

    def protocol(self) -> dict[str, str]:
        return {"ava_evaluation": self.evaluation}

    def counts(self) -> dict[str, int]:
        counted = [video for number, (video, _) in enumerate(self.key_frames) if number not in self.skipped]
        return {"key_frames": len(counted), "videos": len(set(counted))}

    def save(self, path: str, folder: str, meta: dict[str, Any]) -> list[str]:
        """Write the predictions; in AVA's format the rows that count: `detections.csv`, if any `groundtruth.csv`."""
        paths = [path, os.path.join(folder, _DETECTIONS_NAME), os.path.join(folder, _GROUNDTRUTH_NAME)]
        predictions = self.predictions(meta)
        predictions.save(paths[0])
        write_detections(paths[1], predictions.counted(predictions.detections()))
        if not self.labeled:
            return paths[:2]
        write_groundtruth(paths[2], predictions.counted(predictions.groundtruth))
        return paths

    def _describe(self, missing: Tensor) -> str:
        frames, counts = missing.unique(return_counts=True)
        named = [
            f"{self.key_frames[frame][0]}, second {self.key_frames[frame][1]} ({count} of {self._sizes[frame]})"
            for frame, count in list(zip(frames.tolist(), counts.tolist(), strict=True))[:_NAMED]
        ]
        more = f" and {len(frames) - _NAMED} more key frames" if len(frames) > _NAMED else ""
        return "; ".join(named) + more
