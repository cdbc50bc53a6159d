"""What comes of a pass over a split: scores of all views, or of all boxes, gathered and joined."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from slowfast.evaluation.classification import ViewEnsemble
from slowfast.evaluation.ensembles import BoxResults
from slowfast.evaluation.predictions import BoxPredictions, ClassificationPredictions

if TYPE_CHECKING:  # data sets supply evaluators, and so import this module
    from slowfast.datasets.ava.dataset import AVA
    from slowfast.datasets.base import ClipDataset
    from slowfast.datasets.loading.batch import Batch, Boxes

STEPS = "steps"  # name of the steps' scores among the others that views have


@dataclass
class Prediction:
    """What a model says of a batch.

    Attributes:
        scores: (B, classes) of the clips; of a model that scores boxes (M, classes), one row for each of `boxes`.
        boxes: whose scores these are; None where they are the clips'.
        steps: (B, S, classes) of the clips, where they are read in S steps and each gives scores.
        variants: scores (B, classes) of the clips joined from those of steps in other ways, by their names.
    """

    scores: Tensor
    boxes: Boxes | None = None
    steps: Tensor | None = None
    variants: dict[str, Tensor] = field(default_factory=dict)

    def on_cpu(self) -> Prediction:
        """The same on the CPU, scores in float32."""
        return Prediction(
            self.scores.float().cpu(),
            None if self.boxes is None else self.boxes.map(Tensor.cpu),
            None if self.steps is None else self.steps.float().cpu(),
            {name: scores.float().cpu() for name, scores in self.variants.items()},
        )


class Results(abc.ABC):
    """Gathers what is predicted in one process; `join` makes of all processes' parts one.

    Attributes:
        part: what was gathered, without the data set, which every process has itself.
        num_videos: videos, or key frames, of the split.
    """

    part: ViewEnsemble | BoxResults
    num_videos: int

    @abc.abstractmethod
    def add(self, batch: Batch, prediction: Prediction) -> None:
        """Take in a batch."""

    @abc.abstractmethod
    def predictions(self, meta: dict[str, Any]) -> ClassificationPredictions | BoxPredictions:
        """Everything joined. ValueError if something is missing, came twice, or nothing is there."""

    def skip(self, video: int) -> None:
        """Leave out a video, or key frame, that cannot be read."""
        self.part.skip(video)

    def join(self, parts: Sequence[ViewEnsemble | BoxResults]) -> None:
        """Put what all processes gathered, their own included, in place of this one's part."""
        self.part, *others = parts
        for other in others:
            self.part.merge(other)

    @property
    def num_skipped(self) -> int:
        """Videos, or key frames, left out."""
        return len(self.part.skipped)

    @property
    def num_counted(self) -> int:
        """Videos, or key frames, that count."""
        return self.num_videos - self.num_skipped


class ViewScores(Results):
    """Scores of whole clips: a video's views are joined by `method`."""

    def __init__(self, dataset: ClipDataset, method: str):
        self._names = list(dataset.names)
        self._class_names = None if dataset.info.class_names is None else list(dataset.info.class_names.values())
        self.num_videos = dataset.num_videos
        self.part = ViewEnsemble(dataset.num_videos, dataset.num_views, method, self._names)

    def add(self, batch: Batch, prediction: Prediction) -> None:
        others = dict(prediction.variants)
        if prediction.steps is not None:
            others[STEPS] = prediction.steps
        self.part.add(prediction.scores, batch.labels, batch.video, batch.view, others)

    def predictions(self, meta: dict[str, Any]) -> ClassificationPredictions:
        scores, labels, videos = self.part.result()
        others = {name: values.numpy() for name, values in self.part.result_others().items()}
        return ClassificationPredictions(
            scores.numpy(),
            labels.numpy(),
            [self._names[video] for video in videos],
            steps=others.pop(STEPS, None),
            variants=others,
            class_names=self._class_names,
            meta=meta,
        )


class BoxScores(Results):
    """Scores of boxes at key frames; those of one box in several clips are joined by `method`."""

    def __init__(self, dataset: AVA, method: str):
        self._dataset = dataset
        self.num_videos = dataset.num_videos
        self.part = BoxResults(dataset.key_frames, dataset.box_counts, method)

    def add(self, batch: Batch, prediction: Prediction) -> None:
        boxes = prediction.boxes
        self.part.add(boxes.key_frame, boxes.number, prediction.scores)

    def predictions(self, meta: dict[str, Any]) -> BoxPredictions:
        scores, key_frame, number = (values.numpy() for values in self.part.result())
        dataset, class_ids = self._dataset, np.asarray(self._dataset.class_ids)
        first = np.concatenate([[0], np.cumsum(dataset.box_counts)])
        boxes = np.concatenate([dataset.boxes_of(i) for i in range(dataset.num_videos)])
        return BoxPredictions(
            list(dataset.key_frames),
            key_frame,
            boxes[first[key_frame] + number],
            scores[:, class_ids - 1],
            class_ids,
            dataset.ground_truth,
            # What cannot be read counts neither way, as with whole videos.
            excluded=[*dataset.excluded, *(dataset.key_frames[number] for number in sorted(self.part.skipped))],
            class_names=[dataset.info.class_names[class_id - 1] for class_id in dataset.class_ids],
            meta=meta,
        )
