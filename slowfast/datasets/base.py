"""Base classes of data sets: samples by key, substitutes for unreadable videos, and what a run asks of a data set."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from slowfast.datasets.loading.batch import MissingSample, Sample
from slowfast.datasets.loading.sampler import ClipShape, SampleKey
from slowfast.datasets.loading.unreadable import UnreadableError, UnreadableFiles
from slowfast.datasets.video.find import ListedFrames
from slowfast.datasets.video.reader import VideoError, VideoReader
from slowfast.evaluation.classification import NO_LABEL
from slowfast.evaluation.evaluators import Evaluator, VideoEvaluator
from slowfast.runtime.seed import SPLITS, seeded_generator

# Videos tried in place of an unreadable one before giving up.
_MAX_SUBSTITUTES = 10

Made = TypeVar("Made")

LabelKind = Literal["single", "multi", "boxes"]


@dataclass(frozen=True)
class DatasetInfo:
    """Description of one split of a data set.

    Attributes:
        label_kind: "single" (a class per video), "multi" (any number of classes per video) or "boxes" (any number of
            classes per box).
        class_names: name by output of the model, from 0, of the classes that are scored; None if all are scored and
            none has a name.
        source: files that the split was read from, for the log.
        unit: what one entry is, for the log.
    """

    label_kind: LabelKind = "single"
    class_names: Mapping[int, str] | None = None
    source: str = ""
    unit: Literal["videos", "images", "key frames"] = "videos"


class ClipDataset(Dataset[Sample | MissingSample], abc.ABC):
    """Base class of all data sets of clips.

    A subclass reads its lists, calls `__init__`, and defines `training_sample` and `evaluation_sample`.
    `VideoDataset` does so for clips of whole videos.

    A training video that cannot be decoded is replaced by another one, drawn from seed, epoch and index alone. In val
    and test its views are left out, so that no video gets the scores of another. Batches carry path and cause.

    Args:
        cfg: the configuration.
        split: train, val or test.
        names: name of each video (or key frame), for messages and results.
        open_video: name in `videos` -> `VideoReader`; None if clips do not come from videos.
        num_views: samples per video.
        class_names, source: see `DatasetInfo`.

    Attributes:
        label_kind: see `DatasetInfo`; of the class, since it is checked before a data set is read.
        folder_key: the configuration key of the folder that holds the videos, for messages.
        info: the split's description.
        names: see above.
        num_videos, num_views: the data set has their product as samples; index = video * num_views + view.
        unreadable: files that could not be read so far, as far as this process knows.
        batch_groups: group of each sample; a batch of val or test holds samples of one group. None for no such rule.
        labels: label of each video, () if it is not known without decoding. Where no video of a test has a label, each
            is `NO_LABEL`, or for several labels all 0.
        annotated_seconds: annotated length of each video in seconds; None if not annotated.

    Raises:
        ValueError: `split` does not exist.
    """

    label_kind: ClassVar[LabelKind] = "single"
    unit: ClassVar[Literal["videos", "images", "key frames"]] = "videos"
    folder_key: ClassVar[str] = "DATA.PATH_PREFIX"
    batch_groups: Sequence[int] | None = None
    labels: Sequence[int] | Sequence[Tensor] | Tensor = ()
    annotated_seconds: Sequence[float] | None = None

    def __init__(
        self,
        cfg: Any,
        split: str,
        names: Sequence[str],
        open_video: Callable[[str], VideoReader] | None = None,
        *,
        num_views: int = 1,
        class_names: Mapping[int, str] | None = None,
        source: str = "",
    ) -> None:
        self.split, self.seed = check_split(split), cfg.RNG_SEED
        # The samples that DATA.DUMMY_LOAD repeats, by the shape of their batch; None without it, and where boxes are
        # scored, which each key frame has of its own.
        dummy = cfg.DATA.DUMMY_LOAD and (split == "train" or self.label_kind != "boxes")
        self._repeated: dict[ClipShape | None, Any] | None = {} if dummy else None
        self.info = DatasetInfo(self.label_kind, class_names, source, self.unit)
        self.names, self.open_video = names, open_video
        self.num_videos, self.num_views = len(names), num_views
        answer = "replaced by another file" if split == "train" else "left out"
        kind = "image" if self.unit == "images" else "video"
        most = cfg.DATA.MAX_UNREADABLE_FRACTION
        self.unreadable = UnreadableFiles(self.num_videos, most, answer, self.folder_key, kind)

    @abc.abstractmethod
    def training_sample(self, video: int, generator: Generator, shape: ClipShape | None) -> Sample | list[Sample]:
        """Make a training clip, or several of the same frames.

        Args:
            video: number of the video.
            generator: source of all randomness.
            shape: frames and crop of the batch, if these change from batch to batch.

        Raises:
            VideoError: the video cannot be read.
        """

    @abc.abstractmethod
    def evaluation_sample(self, video: int, view: int) -> Sample:
        """Make a view of a video of val or test; VideoError if it cannot be read."""

    def __len__(self) -> int:
        return self.num_videos * self.num_views

    def __getitem__(self, key: SampleKey | tuple[int, int] | int) -> Sample | MissingSample | list[Sample]:
        """Return the sample of a sampler's key, of (index, epoch), or of an index in epoch 0.

        Raises:
            UnreadableError: neither a training video nor the ones drawn in its place can be read.
        """
        index, epoch, shape = SampleKey(*key) if isinstance(key, tuple) else SampleKey(key)
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        if self._repeated is None:
            return self._sample_at(index, epoch, shape)
        if shape not in self._repeated:
            self._repeated[shape] = self._sample_at(0, 0, shape)
        video, view = divmod(index, self.num_views)
        found = self._repeated[shape]
        # Several clips of a training video have views of their own.
        samples = found if isinstance(found, list) else [found]
        copies = [replace(sample, video=video, view=view or sample.view) for sample in samples]
        return copies if isinstance(found, list) else copies[0]

    def _sample_at(self, index: int, epoch: int, shape: ClipShape | None) -> Sample | MissingSample | list[Sample]:
        if self.split == "train":
            generator = seeded_generator(self.seed, self.split, epoch, index)
            found, replaced = self.first_readable(
                index, generator, lambda video: self.training_sample(video, generator, shape)
            )
            (found[0] if isinstance(found, list) else found).replaced = replaced
            return found
        video, view = divmod(index, self.num_views)
        try:
            return self.evaluation_sample(video, view)
        except VideoError as error:
            return MissingSample(video, view, error.path, error.cause)

    @property
    def videos(self) -> Sequence[str]:
        """Videos that are read, as `open_video` takes them."""
        return self.names

    def images(self, video: str) -> Sequence[str]:
        """Return the image files of a video that a list of frames names; () for other videos."""
        return self.open_video.paths[video] if isinstance(self.open_video, ListedFrames) else ()

    @property
    def view_plan(self) -> str:
        """Description of the views of a video, for the log."""
        return f"{self.num_views} views"

    @property
    def classes_seen(self) -> set[int] | None:
        """Classes that occur in `labels`, from 0; None if there are no labels."""
        if len(self.labels) == 0:
            return None
        if isinstance(self.labels[0], Tensor) and self.labels[0].dim():
            multi_hot = self.labels if isinstance(self.labels, Tensor) else torch.stack(list(self.labels))
            return set(multi_hot.any(dim=0).nonzero().flatten().tolist()) or None
        return {int(label) for label in self.labels} - {NO_LABEL} or None

    def reshaped(self, cfg: Any) -> ClipDataset:
        """Return the same split under settings that make clips of another length, rate or size.

        By default the split is read again. Override it to share what was read, and `unreadable`.
        """
        return type(self)(cfg, self.split)

    def make_evaluator(self, cfg: Any) -> Evaluator:
        """Make the object that gathers predictions on this split and measures them."""
        method, info = cfg.DATA.ENSEMBLE_METHOD, self.info
        return VideoEvaluator(self.names, self.num_views, method, info.class_names, info.unit)

    def summary(self, num_classes: int | None = None) -> str:
        """Describe the split in one line for the log: its size, views and classes.

        Args:
            num_classes: outputs of the model, if known.
        """
        return ", ".join([f"{self.num_videos} {self.info.unit}", self.view_plan, *self._classes_line(num_classes)])

    def _classes_line(self, num_classes: int | None) -> list[str]:
        seen = self.classes_seen
        if seen is None:
            return []
        return [f"{len(seen)} classes occur" + (f" of {num_classes}" if num_classes else "")]

    def first_readable(
        self, video: int, generator: Generator, make: Callable[[int], Made]
    ) -> tuple[Made, list[tuple[str, str]]]:
        """Return what `make` makes of a training video, or of the first one that can be read of those in its place.

        Returns:
            That, and (path, cause) of the files that it replaces.

        Raises:
            UnreadableError: none of them can be read.
        """
        replaced: list[tuple[str, str]] = []
        for _ in range(1 + _MAX_SUBSTITUTES):
            try:
                return make(video), replaced
            except VideoError as error:
                replaced.append((error.path, error.cause))
                video = int(torch.randint(self.num_videos, (), generator=generator))
        lines = "\n".join(f"  {path}: {cause}" for path, cause in dict(replaced).items())
        raise UnreadableError(
            f"{len(replaced)} training videos drawn one after the other cannot be read. "
            f"If they do not exist, check {self.folder_key}.\n{lines}"
        )


def check_split(split: str) -> str:
    """Return `split`; ValueError if it does not exist."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    return split
