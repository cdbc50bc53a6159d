"""Make clips: decode a video, sample frames, transform them and pack them into pathways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Generator, Tensor

from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import TemporalSampling, slow_indices
from slowfast.datasets.loading.sampler import ClipShape
from slowfast.datasets.transforms import pixels as transforms
from slowfast.datasets.transforms.crops import (
    CENTER,
    Crop,
    random_short_side,
    size_by_short_side,
    transform_boxes,
)
from slowfast.datasets.video.reader import VideoReader
from slowfast.datasets.video.timing import Timeline
from slowfast.runtime.seed import bernoulli

# Memory for the decoded frames of one video, in bytes; of larger videos fewer views are decoded at a time.
MAX_VIEW_BYTES = 2**28


@dataclass
class Clip:
    """Inputs of a model, and which frames they show.

    Attributes:
        inputs: (3, T, H, W) float32, one per pathway.
        frames: index in the video of every frame of the clip (of its fast pathway).
        num_frames, fps: of the video.
        times: (num_frames,) seconds of the video's frames.
        boxes: the boxes that were passed, (n, 4) float32 in pixels of the clip and clipped to it, in the same rows; a
            box outside the clip has no area.
    """

    inputs: list[Tensor]
    frames: list[int]
    num_frames: int
    fps: float
    times: np.ndarray
    boxes: list[np.ndarray] = field(default_factory=list)


class ClipMaker:
    """Make the clips of one split.

    Args:
        settings: sizes and rates.
        open_video: path -> `VideoReader`; its VideoError is passed on.
        sampling: which frames of a video make a clip.
    """

    def __init__(
        self, settings: ClipSettings, open_video: Callable[[str], VideoReader], sampling: TemporalSampling
    ) -> None:
        self.settings, self.sampling = settings, sampling
        self._open = open_video
        self._decoder = _ViewDecoder(settings, open_video, sampling)
        # The temporal view that was resized last: its spatial crops are asked for one after the other.
        self._resized: tuple[_TemporalView | None, np.ndarray | None] = (None, None)

    def training_clips(self, path: str, generator: Generator, shape: ClipShape | None = None) -> list[Clip]:
        """Make `augmentation.copies` training clips of the same frames, each augmented independently.

        Args:
            generator: source of all randomness.
            shape: frames and crop, in place of those of the settings.
        """
        s = self.settings.shaped(shape)
        with self._open(path) as video:
            timeline = Timeline.of(video)
            grid = timeline.grid(self.sampling.grid_fps(s))
            indices = grid.frames(self.sampling.training(grid.num_frames, grid.fps, s, generator))
            frames = video.frames(indices)
        clips = [_training_pixels(frames, s, generator, copy=copy)[0] for copy in range(s.augmentation.copies)]
        return [Clip(self._pathways(clip), indices, video.num_frames, video.fps, timeline.times) for clip in clips]

    def training_clip_with_boxes(
        self,
        path: str,
        indices: Sequence[int],
        boxes: Sequence[np.ndarray],
        generator: Generator,
        shape: ClipShape | None = None,
    ) -> Clip:
        """Make a training clip of given frames, with boxes.

        Args:
            indices: of the frames, in the video.
            boxes: arrays (n, 4) of x1, y1, x2, y2 relative to the frame, 0 to 1.
            generator, shape: see `training_clips`.
        """
        with self._open(path) as video:
            frames = video.frames(indices)
        clip, moved = _training_pixels(frames, self.settings.shaped(shape), generator, boxes)
        return Clip(self._pathways(clip), list(indices), video.num_frames, video.fps, video.times, moved)

    def evaluation_clip_with_boxes(self, path: str, indices: Sequence[int], boxes: Sequence[np.ndarray]) -> Clip:
        """Make a clip of given frames for val (center crop) or test (whole frames), with boxes."""
        with self._open(path) as video:
            frames = video.frames(indices)
        full, (size, crop) = frames.shape[1:3], self._size_and_crop(frames, CENTER)
        clip = self._cut(transforms.resize_exactly(frames, *size), crop)
        moved = [transform_boxes(each, full, size, crop, self.settings.flip) for each in boxes]
        return Clip(self._pathways(clip), list(indices), video.num_frames, video.fps, video.times, moved)

    def center_clip(self, path: str) -> Clip:
        """Make the validation clip: the middle of the video, cropped at the center."""
        with self._open(path) as video:
            timeline = Timeline.of(video)
            grid = timeline.grid(self.sampling.grid_fps(self.settings))
            indices = grid.frames(self.sampling.center(grid.num_frames, grid.fps, self.settings))
            frames = video.frames(indices)
        size, crop = self._size_and_crop(frames, CENTER)
        clip = self._cut(transforms.resize_exactly(frames, *size), crop)
        return Clip(self._pathways(clip), indices, video.num_frames, video.fps, timeline.times)

    def view_clip(self, path: str, view: int) -> Clip:
        """Make a test view, view = temporal * `spatial_views` + spatial.

        Views that are asked for one after the other share work: those of a video its decoding, the spatial crops of a
        temporal view its resizing.
        """
        temporal, spatial = divmod(view, self.settings.spatial_views)
        decoded = self._decoder.view(path, temporal)
        size, crop = self._size_and_crop(decoded.pixels, spatial if self.settings.spatial_views > 1 else CENTER)
        if self._resized[0] is not decoded:
            self._resized = decoded, transforms.resize_exactly(decoded.pixels, *size)
        inputs = self._pathways(self._cut(self._resized[1], crop))
        return Clip(inputs, decoded.frames, decoded.num_frames, decoded.fps, decoded.times)

    def window_crops(self, video: VideoReader, window: Sequence[Sequence[int]]) -> list[list[Tensor]]:
        """Make the spatial views of a streaming window.

        Args:
            window: frame indices of each pathway.

        Returns:
            For each spatial view the clips of the pathways.
        """
        indices = sorted(set().union(*window))
        rows = {index: row for row, index in enumerate(indices)}
        frames, views = video.frames(indices), self.settings.spatial_views
        places = [self._size_and_crop(frames, position) for position in (range(views) if views > 1 else [CENTER])]
        resized = transforms.resize_exactly(frames, *places[0][0])
        clips = [self._cut(resized, crop) for _, crop in places]
        return [[clip[:, [rows[index] for index in pathway]] for pathway in window] for clip in clips]

    def _size_and_crop(self, frames: np.ndarray, position: int) -> tuple[tuple[int, int], Crop]:
        """Return (height, width) to resize val or test frames (T, H, W, 3) to, and the crop at `position`."""
        size = size_by_short_side(*frames.shape[1:3], self.settings.short_sides[0])
        crop = self.settings.crop
        return size, Crop.square_at(*size, crop, position) if crop else Crop(0, 0, *size)

    def _cut(self, resized: np.ndarray, crop: Crop) -> Tensor:
        s = self.settings
        colors = transforms.normalization(s.mean, s.std, s.reverse_channels)
        return transforms.to_clip(crop.of(resized), colors, s.flip)

    def _pathways(self, clip: Tensor) -> list[Tensor]:
        s = self.settings
        if not s.alpha:
            return [clip]
        return [clip[:, slow_indices(clip.shape[1], s.alpha, s.slow_indices)], clip]


def _training_pixels(
    frames: np.ndarray, settings: ClipSettings, generator: Generator, boxes: Sequence[np.ndarray] = (), copy: int = 0
) -> tuple[Tensor, list[np.ndarray]]:
    """Augment decoded frames into a training clip: RandAugment, resize, crop, flip, color jitter, random erasing.

    Pixels stay uint8 until the one pass that flips, colors and transposes them.

    Args:
        frames: (T, H, W, 3) uint8.
        settings: sizes and augmentation.
        generator: source of all randomness.
        boxes: arrays (n, 4) relative to the frame.
        copy: number of the clip among the copies of the same frames.

    Returns:
        (3, T, H, W) float32, and the boxes in its pixels, clipped to it; a box outside has no area.
    """
    s, a = settings, settings.augmentation
    if a.rand_augment is not None:
        frames = a.rand_augment(frames, generator)
    full = frames.shape[1:3]
    if a.areas:
        picture, size, crop = _resized_crop(frames, s, generator), full, Crop(0, 0, *full)
    else:
        size = size_by_short_side(*full, random_short_side(*s.short_sides, s.inverse_uniform, generator))
        crop = Crop.random_square(*size, s.crop, generator)
        picture = crop.of(transforms.resize(frames, *size))
    flip = s.flip and bernoulli(generator, 0.5)
    normalize = transforms.normalization(s.mean, s.std, s.reverse_channels)
    colors = transforms.compose(a.color_jitter.sample(picture, generator), normalize)
    clip = transforms.to_clip(picture, colors, flip)
    if a.erasing is not None and (not a.erase_second_half or copy >= a.copies // 2):
        a.erasing(clip, generator)
    return clip, [transform_boxes(each, full, size, crop, flip) for each in boxes]


def _resized_crop(frames: np.ndarray, settings: ClipSettings, generator: Generator) -> np.ndarray:
    """Crop a random area (one that moves, if set so) and resize it to the crop size."""
    a, (height, width) = settings.augmentation, frames.shape[1:3]
    crops = [Crop.random_resized(height, width, a.areas, a.aspects, generator) for _ in range(2 if a.moving else 1)]
    parts = crops[0].of(frames)
    if a.moving:
        parts = [crop.of(frame) for crop, frame in zip(crops[0].moving_to(crops[1], len(frames)), frames, strict=True)]
    return transforms.resize(parts, settings.crop, settings.crop)


@dataclass(frozen=True, eq=False)
class _TemporalView:
    """A decoded temporal view: `pixels` (T, H, W, 3) uint8 of the frames at indices `frames` of the video."""

    pixels: np.ndarray
    frames: list[int]
    num_frames: int
    fps: float
    times: np.ndarray


class _ViewDecoder:
    """Decoder of temporal views that keeps the last video.

    The first request of a video decodes as many of its views as `MAX_VIEW_BYTES` allows, in one call.

    Args: as `ClipMaker`.
    """

    def __init__(
        self, settings: ClipSettings, open_video: Callable[[str], VideoReader], sampling: TemporalSampling
    ) -> None:
        self._settings, self._open, self._sampling = settings, open_video, sampling
        self._path: str | None = None
        self._decoded: _Decoded | None = None
        self._last: tuple[int, _TemporalView] | None = None

    def view(self, path: str, temporal: int) -> _TemporalView:
        """Return a temporal view; the very same object if it is the last one; VideoError if it is unreadable."""
        if path != self._path or temporal not in self._decoded.indices:
            # Free the frames of the last video before decoding others.
            self._path = self._decoded = self._last = None
            self._decoded, self._path = self._decode(path, temporal), path
        if self._last is None or self._last[0] != temporal:
            self._last = temporal, self._decoded.view(temporal)
        return self._last[1]

    def _decode(self, path: str, first: int) -> _Decoded:
        """Decode view `first` and the views after it that fit."""
        s = self._settings
        with self._open(path) as video:
            stop = first + (self._views_at_once(video) if s.temporal_views > 1 else 1)
            timeline = Timeline.of(video)
            grid = timeline.grid(self._sampling.grid_fps(s))
            indices = {
                view: grid.frames(self._sampling.view(grid.num_frames, grid.fps, s, view))
                for view in range(first, min(stop, s.temporal_views))
            }
            union = sorted(set().union(*indices.values()))
            return _Decoded(indices, union, video.frames(union), video.num_frames, video.fps, timeline.times)

    def _views_at_once(self, video: VideoReader) -> int:
        # The first frame is a key frame, so decoding it is cheap.
        (picture,) = video.frames([0])
        return max(1, MAX_VIEW_BYTES // (picture.nbytes * self._settings.num_frames))


@dataclass(frozen=True)
class _Decoded:
    """Frame indices of each decoded view, their sorted union, and the frames of the union."""

    indices: dict[int, list[int]]
    union: list[int]
    frames: np.ndarray
    num_frames: int
    fps: float
    times: np.ndarray

    def view(self, temporal: int) -> _TemporalView:
        """Gather the frames of a view; without a copy if it is the only one."""
        indices = self.indices[temporal]
        pixels = self.frames if indices == self.union else self.frames[np.searchsorted(self.union, indices)]
        return _TemporalView(pixels, indices, self.num_frames, self.fps, self.times)
