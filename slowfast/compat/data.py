"""PySlowFast's functions of data, in its form and over our own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import Dataset, DistributedSampler

from slowfast.datasets.base import ClipDataset
from slowfast.datasets.build import build_loader
from slowfast.datasets.clips.temporal_sampling import slow_indices
from slowfast.datasets.loading.batch import Batch
from slowfast.datasets.transforms.crops import Crop, random_short_side, size_by_short_side
from slowfast.datasets.tuples import TupleDataset
from slowfast.runtime.distributed import all_gather_object, get_world_size, is_distributed

_Tuple = tuple[list[Tensor], Tensor, Tensor, Tensor, dict[str, Tensor]]


class _AllViews:
    """A data set of ours, of which `num_videos` counts each view of a video, as in PySlowFast."""

    def __init__(self, dataset: ClipDataset) -> None:
        self._data, self.num_videos = dataset, len(dataset)

    def __len__(self) -> int:
        return len(self._data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)


class _TupleLoader:
    """Loader whose batches are PySlowFast's tuples (inputs, labels, index, time, meta).

    With DETECTION.ENABLE labels are (M, classes) of the M boxes of the batch, and `meta` has `boxes` (M, 5), for the
    model, `metadata` (M, 2), number of the video in `dataset.videos`
    and second, and in val and test `ori_boxes` (M,
    5), relative to the frame. The first column of boxes is the number of the clip in the batch.

    Several processes get equally many batches: one that has none left in val or test repeats its last one, as there.

    Attributes:
        loader: the loader of `Batch`es.
        dataset: the data set that the user registered; of ours one whose `num_videos` counts all views.
        batch_sampler: of `loader`.
    """

    def __init__(self, cfg: Any, split: str) -> None:
        self.loader = build_loader(cfg, split)
        self._data, self.batch_sampler = self.loader.dataset, self.loader.batch_sampler
        self.dataset = self._data.items if isinstance(self._data, TupleDataset) else _AllViews(self._data)
        videos = self._data.videos if cfg.DETECTION.ENABLE else []
        self._video_numbers = {name: number for number, name in enumerate(videos)}

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[_Tuple]:
        tuples = (self._tuple(batch.to("cpu")) for batch in self.loader if batch.size)
        if self._data.split == "train" or not is_distributed():
            yield from tuples
            return
        last = None
        while True:
            found = next(tuples, None)
            if not any(all_gather_object(found is not None)):
                return
            last = found or last
            if last is None:
                raise ValueError(f"there are too few items of {self._data.split} for {get_world_size()} processes")
            yield last

    def _tuple(self, batch: Batch) -> _Tuple:
        # In training a view is one of several clips that an item gave.
        train = self._data.split == "train"
        index = batch.video if train else batch.video * self._data.num_views + batch.view
        time = torch.zeros(batch.size, 1)
        if batch.key_frames:
            return batch.inputs, batch.key_frames[-1].labels, index, time, self._boxes(batch)
        return batch.inputs, batch.labels, index, time, {}

    def _boxes(self, batch: Batch) -> dict[str, Tensor]:
        found = batch.key_frames[-1]
        places = [self._data.key_frames[number] for number in batch.video[found.boxes[:, 0].long()].tolist()]
        # Whole seconds make a tensor of whole numbers, as there.
        rows = [(self._video_numbers[name], int(at) if float(at).is_integer() else at) for name, at in places]
        meta = {"boxes": found.boxes, "metadata": torch.tensor(rows)}
        if self._data.split != "train":  # there boxes outside the crop are left out
            boxes = [torch.from_numpy(self._data.boxes_of(number)).float() for number in batch.video.tolist()]
            meta["ori_boxes"] = torch.cat([found.boxes[:, :1], torch.cat(boxes)], dim=1)
        return meta


def construct_loader(cfg: Any, split: str, is_precise_bn: bool = False) -> _TupleLoader:
    """Build the loader of a split; videos that cannot be read are left out of val and test.

    Raises:
        ValueError: see `build_loader`.
    """
    return _TupleLoader(cfg, split)


def shuffle_dataset(loader: Any, cur_epoch: int) -> None:
    """Choose the epoch, from 0, that the next pass reads."""
    loader.batch_sampler.set_epoch(cur_epoch, 0)


def create_sampler(dataset: Dataset, shuffle: bool, cfg: Any) -> DistributedSampler | None:
    """Return the sampler of each process's share of a data set; None in a single process."""
    return DistributedSampler(dataset, shuffle=shuffle) if is_distributed() else None


def pack_pathway_output(cfg: Any, frames: Tensor) -> list[Tensor]:
    """Return the clip of each pathway of a clip (C, T, H, W), by MODEL.ARCH.

    Raises:
        ValueError: MODEL.ARCH is of no known number of pathways.
    """
    if cfg.DATA.REVERSE_INPUT_CHANNEL:
        frames = frames[[2, 1, 0]]
    if cfg.MODEL.ARCH in cfg.MODEL.MULTI_PATHWAY_ARCH:
        return [frames[:, slow_indices(frames.shape[1], cfg.SLOWFAST.ALPHA, cfg.SLOWFAST.SLOW_INDICES)], frames]
    if cfg.MODEL.ARCH in cfg.MODEL.SINGLE_PATHWAY_ARCH:
        return [frames]
    known = sorted([*cfg.MODEL.SINGLE_PATHWAY_ARCH, *cfg.MODEL.MULTI_PATHWAY_ARCH])
    raise ValueError(f"MODEL.ARCH is {cfg.MODEL.ARCH!r}; pathways are known of {', '.join(known)}")


def spatial_sampling(
    frames: Tensor,
    spatial_idx: int = -1,
    min_scale: int = 256,
    max_scale: int = 320,
    crop_size: int = 224,
    random_horizontal_flip: bool = True,
    inverse_uniform_sampling: bool = False,
    aspect_ratio: Sequence[float] | None = None,
    scale: Sequence[float] | None = None,
    motion_shift: bool = False,
) -> Tensor:
    """Resize frames (C, T, H, W), and crop a square of `crop_size`; random draws follow NumPy's generator.

    Args:
        spatial_idx: -1 for a random crop, else its place on the longer side: 0 start, 1 center, 2 end.
        min_scale, max_scale: range of the short side; with `spatial_idx` from 0 on it is `min_scale`.
        random_horizontal_flip: mirror a random crop with probability 0.5.
        inverse_uniform_sampling: draw 1 / side uniformly, not the side.
        aspect_ratio, scale: ranges of width over height and of the share of the area, in place of the short side.
        motion_shift: with these, move the crop from a random place to another one over the frames.

    Raises:
        ValueError: the frames are smaller than the crop, or there is no such place.
    """
    generator = Generator().manual_seed(int(np.random.randint(2**31)))
    if spatial_idx == -1 and (aspect_ratio is not None or scale is not None):
        draw = (*frames.shape[2:], scale or (0.08, 1.0), aspect_ratio or (3 / 4, 4 / 3), generator)
        crops = [Crop.random_resized(*draw)] * frames.shape[1]
        if motion_shift:
            crops = crops[0].moving_to(Crop.random_resized(*draw), len(crops))
        parts = [_cut(frames[:, [number]], crop) for number, crop in enumerate(crops)]
        frames = torch.cat([_resized(part, crop_size, crop_size) for part in parts], dim=1)
    else:
        lone = spatial_idx != -1
        short = min_scale if lone else random_short_side(min_scale, max_scale, inverse_uniform_sampling, generator)
        frames = _resized(frames, *size_by_short_side(*frames.shape[2:], short))
        size = (*frames.shape[2:], crop_size)
        frames = _cut(frames, Crop.square_at(*size, spatial_idx) if lone else Crop.random_square(*size, generator))
    flips = spatial_idx == -1 and random_horizontal_flip and torch.rand((), generator=generator).item() < 0.5
    return frames.flip(3) if flips else frames


def _cut(frames: Tensor, crop: Crop) -> Tensor:
    return frames[..., crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]


def _resized(frames: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(frames, size=(height, width), mode="bilinear", align_corners=False)


def get_sequence(center_idx: int, half_len: int, sample_rate: int, num_frames: int) -> list[int]:
    """Return the frames from `center_idx - half_len` to before `center_idx + half_len`, clamped to the video."""
    wanted = range(center_idx - half_len, center_idx + half_len, sample_rate)
    return [min(max(index, 0), num_frames - 1) for index in wanted]


def get_random_sampling_rate(long_cycle_sampling_rate: int, sampling_rate: int) -> int:
    """Return a rate from `sampling_rate` to that of multigrid's long cycle, which is 0 without one."""
    if long_cycle_sampling_rate <= 0:
        return sampling_rate
    return int(np.random.randint(sampling_rate, long_cycle_sampling_rate + 1))


def retry_load_images(
    image_paths: Sequence[str], retry: int = 10, backend: str = "pytorch"
) -> Tensor | list[np.ndarray]:
    """Read pictures as BGR bytes (T, H, W, 3), with another `backend` as a list of arrays; `retry` has no effect.

    Raises:
        FileNotFoundError: a picture cannot be read.
    """
    pictures = []
    for path in image_paths:
        pictures.append(cv2.imread(path))
        if pictures[-1] is None:
            raise FileNotFoundError(f"{path} cannot be read as a picture")
    return torch.from_numpy(np.stack(pictures)) if backend == "pytorch" else pictures


def tensor_normalize(
    tensor: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor, func: Any = None
) -> Tensor:
    """Return frames (..., C) with the mean taken off and divided by the standard deviation; bytes are 0 to 1 before."""
    tensor = tensor.float() / 255.0 if tensor.dtype == torch.uint8 else tensor
    tensor = tensor if func is None else func(tensor)
    return (tensor - torch.as_tensor(mean)) / torch.as_tensor(std)


def revert_tensor_normalize(tensor: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """Return normalized frames (..., C) as they were, from 0 to 1."""
    return tensor * torch.as_tensor(std) + torch.as_tensor(mean)


def as_binary_vector(labels: Iterable[int], num_classes: int) -> np.ndarray:
    """Return the vector (classes,) that is 1 at the labels and 0 elsewhere."""
    vector = np.zeros((num_classes,))
    vector[list(labels)] = 1.0
    return vector


def aggregate_labels(label_list: Iterable[Iterable[int]]) -> list[int]:
    """Return all labels of some lists, each once."""
    return sorted(set().union(*label_list))


def convert_to_video_level_labels(labels: list[list[list[int]]]) -> list[list[list[int]]]:
    """Give each frame of a video the labels of all of its frames, in place, and return them."""
    for frames in labels:
        frames[:] = [aggregate_labels(frames)] * len(frames)
    return labels
