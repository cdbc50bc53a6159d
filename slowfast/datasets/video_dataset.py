"""What all data sets of videos share: their samples, views, random draws, and what becomes of unreadable files."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from slowfast.datasets.clips.clip_maker import Clip, ClipMaker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import Times
from slowfast.datasets.loading.batch import MissingSample, Sample
from slowfast.datasets.loading.batch_shapes import ClipShape
from slowfast.datasets.loading.sampler import SampleKey
from slowfast.datasets.loading.unreadable import UnreadableError, UnreadableFiles
from slowfast.datasets.video.cache import VideoCache
from slowfast.datasets.video.open import VideoError, VideoReader
from slowfast.runtime.logging import get_logger
from slowfast.utils.rng import SPLITS, seeded_generator

logger = get_logger(__name__)

# Videos tried in place of an unreadable one before giving up.
MAX_SUBSTITUTES = 10


def check_split(split: str) -> str:
    """The split itself; ValueError if there is none of that name."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    return split


class VideoDataset(Dataset[Sample | MissingSample]):
    """Clips of a list of videos.

    train: a clip at a random time and place. val: one clip, the middle of the video cropped at the center (published
    code draws a random one). test: `num_views` = NUM_ENSEMBLE_VIEWS x NUM_SPATIAL_CROPS clips a video.

    A training video that cannot be decoded is replaced by another one, drawn from seed, epoch and index alone; in val
    and test its views are left out, so that no video gets the scores of another. Either way batches carry path and
    cause.

    A data set of its own kind reads its lists, and overrides `sample_of` where labels depend on the clip's frames, or
    `training_sample` and `evaluation_sample` where a sample is no clip of a whole video.

    Args:
        cfg: the configuration.
        split: train, val or test.
        paths: of each video, as `open_video` takes them; also their names in messages and results.
        labels: of each video, a class number or a tensor (classes,).
        open_video: path -> `VideoReader`.
        times: which frames make a clip.

    Attributes:
        num_videos, num_views: the data set has their product as samples; sample = video * num_views + view.
        paths, labels: of each video.
        open_video: path -> `VideoReader`.
        unreadable: the files that could not be read so far, as far as this process was told.
        source: where the lists came from, for the log.

    Raises:
        ValueError: no such split.
        UnreadableError: `DATA.CACHE_VIDEOS` found more unreadable files than `DATA.MAX_UNREADABLE_FRACTION`
            allows.
    """

    has_boxes = False
    source = ""
    folder_key = "DATA.PATH_PREFIX"  # says where the files lie

    def __init__(
        self,
        cfg: Any,
        split: str,
        paths: Sequence[str],
        labels: Sequence[int | Tensor],
        open_video: Callable[[str], VideoReader],
        times: Times,
    ) -> None:
        self.split, self.seed = check_split(split), cfg.RNG_SEED
        self.paths, self.labels = paths, labels
        settings = ClipSettings.from_config(cfg, split)
        self.num_videos, self.num_views = len(paths), settings.num_views
        answer = "replaced by another file" if split == "train" else "left out"
        self.unreadable = UnreadableFiles(self.num_videos, cfg.DATA.MAX_UNREADABLE_FRACTION, answer, self.folder_key)
        if cfg.DATA.CACHE_VIDEOS:
            open_video = self.cached(open_video)
        self.open_video = open_video
        self.clips = ClipMaker(settings, open_video, times)

    def __len__(self) -> int:
        return self.num_videos * self.num_views

    def reshaped(self, cfg: Any) -> VideoDataset:
        """The same videos, and the same account of unreadable ones, as clips of another shape."""
        other = copy.copy(self)
        other.clips = ClipMaker(ClipSettings.from_config(cfg, self.split), self.open_video, self.clips.times)
        return other

    def __getitem__(self, key: SampleKey | tuple[int, int] | int) -> Sample | MissingSample | list[Sample]:
        """The sample, or in training samples, of a key of the sampler, or of an (index, epoch); a bare index means
        epoch 0.

        Raises:
            UnreadableError: neither a training video nor the ones drawn in its place can be read.
        """
        index, epoch, shape = SampleKey(*key) if isinstance(key, tuple) else SampleKey(key)
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        if self.split == "train":
            return self._first_readable(index, seeded_generator(self.seed, self.split, epoch, index), shape)
        video, view = divmod(index, self.num_views)
        try:
            return self.evaluation_sample(video, view)
        except VideoError as error:
            return MissingSample(video, view, error.path, error.cause)

    def cached(self, open_video: Callable[[str], VideoReader]) -> Callable[[str], VideoReader]:
        """Opens videos that are all decoded now; UnreadableError as the class says."""
        cache = VideoCache(self.paths, open_video)
        self.unreadable.update_from(cache.unreadable.items())
        self.unreadable.check()
        return cache.open

    @property
    def view_plan(self) -> str:
        """The views of a video, in words."""
        s = self.clips.settings
        return f"{s.temporal_views} temporal x {s.spatial_views} spatial views"

    def sample_of(self, video: int, view: int, clip: Clip) -> Sample:
        """The clip with what there is to say about it."""
        return Sample(clip.inputs, self.labels[video], video, view)

    def training_sample(self, video: int, generator: Generator, shape: ClipShape | None) -> Sample | list[Sample]:
        """A training clip of a video, or with `AUG.NUM_SAMPLE` several of the same frames, drawn from `generator`
        alone; VideoError where it is unreadable.
        """
        clips = self.clips.training_clips(self.paths[video], generator, shape)
        samples = [self.sample_of(video, 0, clip) for clip in clips]
        return samples if len(samples) > 1 else samples[0]

    def evaluation_sample(self, video: int, view: int) -> Sample:
        """A view of a video of val or test. VideoError where it is unreadable."""
        path = self.paths[video]
        clip = self.clips.view_clip(path, view) if self.split == "test" else self.clips.center_clip(path)
        return self.sample_of(video, view, clip)

    def _first_readable(self, video: int, generator: Generator, shape: ClipShape | None) -> Sample | list[Sample]:
        replaced: list[tuple[str, str]] = []
        for _ in range(1 + MAX_SUBSTITUTES):
            try:
                found = self.training_sample(video, generator, shape)
                (found[0] if isinstance(found, list) else found).replaced = replaced
                return found
            except VideoError as error:
                replaced.append((error.path, error.cause))
                video = int(torch.randint(self.num_videos, (), generator=generator))
        lines = "\n".join(f"  {path}: {cause}" for path, cause in dict(replaced).items())
        raise UnreadableError(
            f"{len(replaced)} training videos drawn one after the other cannot be read. "
            f"If they do not exist, check {self.folder_key}.\n{lines}"
        )


def list_path(cfg: Any, name: str) -> str:
    """Where a list of `DATA.PATH_TO_DATA_DIR` lies."""
    return os.path.join(cfg.DATA.PATH_TO_DATA_DIR, name)
