"""Kinetics, and any data set of trimmed videos listed in CSV files `path label`."""

from __future__ import annotations

import copy
import functools
import os
from typing import Any

import torch
from torch.utils.data import Dataset

from slowfast.datasets.batch import MissingSample, Sample
from slowfast.datasets.batch_shapes import ClipShape
from slowfast.datasets.cache import VideoCache
from slowfast.datasets.clips import ClipMaker, ClipSettings
from slowfast.datasets.decode import DECODING_BACKENDS, VideoError
from slowfast.datasets.random_streams import SPLITS, generator_of
from slowfast.datasets.sampler import SampleKey
from slowfast.datasets.unreadable import UnreadableError, UnreadableFiles
from slowfast.datasets.video_list import read_video_list
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

# Files tried in place of an unreadable one before giving up.
MAX_SUBSTITUTES = 10


class Kinetics(Dataset[Sample | MissingSample]):
    """Clips of the videos in `DATA.PATH_TO_DATA_DIR`/{train,val,test}.csv.

    train: a clip at a random time and place. val: one clip, the middle of the video cropped at the centre (the
    published code draws a random one). test: `num_views` = NUM_ENSEMBLE_VIEWS x NUM_SPATIAL_CROPS clips a video.

    A training file that cannot be decoded is replaced by another one, drawn from seed, epoch and index alone;
    in val and test its views are left out, so that no video gets the scores of another. Either way batches
    carry path and cause.

    Attributes:
        num_videos, num_views: the data set has their product as samples; sample = video * num_views + view.
        paths, labels: of each video.
        unreadable: the files that could not be read so far, as far as this process was told.

    Raises:
        FileNotFoundError, ValueError: see `read_video_list`; ValueError also for an unknown `DATA.DECODING_BACKEND`.
        UnreadableError: `DATA.CACHE_VIDEOS` found more unreadable files than `DATA.MAX_UNREADABLE_FRACTION`
            allows.
    """

    def __init__(self, cfg: Any, split: str) -> None:
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
        data = cfg.DATA
        csv_path = os.path.join(data.PATH_TO_DATA_DIR, f"{split}.csv")
        self.paths, self.labels = read_video_list(
            csv_path, cfg.MODEL.NUM_CLASSES, data.PATH_LABEL_SEPARATOR, data.PATH_PREFIX, data.SKIP_ROWS
        )
        self.split, self.seed = split, cfg.RNG_SEED
        settings = ClipSettings.from_config(cfg, split)
        self.num_videos, self.num_views = len(self.paths), settings.num_views
        answer = "replaced by another file" if split == "train" else "left out"
        self.unreadable = UnreadableFiles(self.num_videos, data.MAX_UNREADABLE_FRACTION, answer)
        threads = 0 if cfg.DATA_LOADER.ENABLE_MULTI_THREAD_DECODE else 1
        open_video = functools.partial(DECODING_BACKENDS.get(data.DECODING_BACKEND), threads=threads)
        if data.CACHE_VIDEOS:
            cache = VideoCache(self.paths, open_video)
            self.unreadable.update_from(cache.unreadable.items())
            self.unreadable.check()
            open_video = cache.open
        self._open_video = open_video
        self._clips = ClipMaker(settings, open_video)
        views = f"{settings.temporal_views} temporal x {settings.spatial_views} spatial views"
        logger.info("%s: %d videos, %s (%s)", split, self.num_videos, views, csv_path)

    def __len__(self) -> int:
        return self.num_videos * self.num_views

    def reshaped(self, cfg: Any) -> Kinetics:
        """The same videos, and the same account of unreadable ones, as clips of another shape."""
        other = copy.copy(self)
        other._clips = ClipMaker(ClipSettings.from_config(cfg, self.split), self._open_video)
        return other

    def __getitem__(self, key: SampleKey | tuple[int, int] | int) -> Sample | MissingSample:
        """The sample of a key of the sampler, or of an (index, epoch); a bare index means epoch 0.

        Raises:
            UnreadableError: neither a training video nor the ones drawn in its place can be read.
        """
        index, epoch, shape = SampleKey(*key) if isinstance(key, tuple) else SampleKey(key)
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        if self.split == "train":
            return self._training_sample(index, epoch, shape)
        video, view = divmod(index, self.num_views)
        path = self.paths[video]
        try:
            inputs = self._clips.view_clip(path, view) if self.split == "test" else self._clips.centre_clip(path)
        except VideoError as error:
            return MissingSample(video, view, error.path, error.cause)
        return Sample(inputs, self.labels[video], video, view)

    def _training_sample(self, index: int, epoch: int, shape: ClipShape | None) -> Sample:
        generator = generator_of(self.seed, self.split, epoch, index)
        replaced: list[tuple[str, str]] = []
        video = index
        for _ in range(1 + MAX_SUBSTITUTES):
            try:
                inputs = self._clips.training_clip(self.paths[video], generator, shape)
                return Sample(inputs, self.labels[video], video, 0, replaced)
            except VideoError as error:
                replaced.append((error.path, error.cause))
                video = int(torch.randint(self.num_videos, (), generator=generator))
        lines = "\n".join(f"  {path}: {cause}" for path, cause in dict(replaced).items())
        raise UnreadableError(
            f"{len(replaced)} training videos drawn one after the other cannot be read. "
            f"If they do not exist, check DATA.PATH_PREFIX.\n{lines}"
        )
