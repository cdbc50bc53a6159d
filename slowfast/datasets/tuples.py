"""Data sets as PySlowFast's users write them: `class(cfg, split)` with items (frames, label, index, time, {})."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from slowfast.datasets.base import ClipDataset
from slowfast.datasets.loading.batch import Sample
from slowfast.datasets.loading.sampler import ClipShape
from slowfast.datasets.video.reader import VideoError
from slowfast.runtime.seed import randint, rng_state, seed_all_but_gpus, set_rng_state


class TupleDataset(ClipDataset):
    """Data set that reads the items of another one, with one label a video.

    An item is (frames, label, index, ...). `frames` is a clip (C, T, H, W), a list of one clip for each pathway, or for
    repeated augmentation a list of such lists, with as many labels. In a test the item `video * views + view` is a view
    of a video. The global random generators are seeded for each item, from seed, epoch and index, and restored after
    it, so what is drawn from them can be resumed exactly.

    Args:
        cfg: the configuration.
        split: train, val or test.
        plain: class of the other data set, called with `cfg` and `split`.

    Raises:
        ValueError: there are no items, in a test not the same number of views for every video, or the size of clips
            changes from batch to batch.
    """

    def __init__(self, cfg: Any, split: str, plain: type[Dataset]) -> None:
        self.plain, self.items = plain, plain(cfg, split)
        views = cfg.TEST.NUM_ENSEMBLE_VIEWS * cfg.TEST.NUM_SPATIAL_CROPS if split == "test" else 1
        count = len(self.items)
        if count == 0 or count % views:
            raise ValueError(
                f"{plain.__name__} has {count} items of {split}, not a multiple of the {views} views of a video "
                "(TEST.NUM_ENSEMBLE_VIEWS x TEST.NUM_SPATIAL_CROPS in a test)"
            )
        if split == "train" and cfg.MULTIGRID.SHORT_CYCLE:
            raise ValueError(
                f"MULTIGRID.SHORT_CYCLE is True, and {plain.__name__} does not learn the crop of each batch; set it to "
                "False, or derive the data set from slowfast.datasets.VideoDataset"
            )
        names = [f"video {number}" for number in range(count // views)]
        super().__init__(cfg, split, names, num_views=views, source=f"{plain.__module__}.{plain.__name__}")

    def training_sample(self, video: int, generator: Generator, shape: ClipShape | None) -> Sample | list[Sample]:
        frames, labels, _ = self._item(video, randint(generator, 2**31))
        if isinstance(frames, Sequence) and isinstance(frames[0], Sequence):
            pairs = zip(frames, labels, strict=True)
            return [Sample(_clips(clips), _label(label), video, 0) for clips, label in pairs]
        return Sample(_clips(frames), _label(labels), video, 0)

    def evaluation_sample(self, video: int, view: int) -> Sample:
        """Make a view; VideoError if the data set returns another item, as PySlowFast's do for an unreadable file."""
        asked = video * self.num_views + view
        frames, label, index = self._item(asked, asked)
        if int(index) != asked:
            raise VideoError(self.names[video], f"the data set returned item {int(index)} in place of {asked}")
        return Sample(_clips(frames), _label(label), video, view)

    def reshaped(self, cfg: Any) -> ClipDataset:
        return type(self)(cfg, self.split, self.plain)

    def _item(self, index: int, seed: int) -> tuple[Any, Any, Any]:
        """Return frames, label and index of an item, drawn with this seed."""
        before = rng_state()
        seed_all_but_gpus(seed)
        try:
            item = self.items[index]
        finally:
            set_rng_state(before)
        if not isinstance(item, (tuple, list)) or len(item) < 3:
            size = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
            raise ValueError(
                f"item {index} of {self.plain.__name__} is a {type(item).__name__}{size}; return (frames, label, "
                "index, time, {}), or derive the data set from slowfast.datasets.VideoDataset"
            )
        return item[0], item[1], item[2]


class MultiLabelTupleDataset(TupleDataset):
    """`TupleDataset` with labels (classes,) of 0 and 1."""

    label_kind = "multi"


def _clips(frames: Any) -> list[Tensor]:
    return [frames] if isinstance(frames, Tensor) else list(frames)


def _label(label: Any) -> int | Tensor:
    array = np.asarray(label)
    return int(array) if array.ndim == 0 else torch.as_tensor(array, dtype=torch.float32)
