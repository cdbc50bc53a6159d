"""From a video to the input of a model: decode, sample, transform, pack into pathways.

The pixels of a training clip, with everything that is random about them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Generator, Tensor

from slowfast.datasets.clips import temporal_sampling as sampling
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import Times
from slowfast.datasets.clips.test_views import VideoViews, View
from slowfast.datasets.loading.batch_shapes import ClipShape
from slowfast.datasets.transforms import boxes as transforms_boxes
from slowfast.datasets.transforms import pixels as transforms
from slowfast.datasets.transforms.crops import (
    CENTER,
    Crop,
    moving_crops,
    random_area_crop,
    random_crop,
    random_flip,
    random_short_side,
    size_by_short_side,
    uniform_crop,
)
from slowfast.datasets.video.reader import VideoReader


@dataclass
class Clip:
    """Pixels of a clip.

    Attributes:
        inputs: (3, T, H, W) float32, one a pathway.
        frames: number in the video of every frame of the clip (of its fast pathway).
        num_frames, fps: of the video.
        boxes: those that were passed, as (n, 4) float32 in pixels of the clip and cut to it, row for row; one that the
            clip does not show has no area.
    """

    inputs: list[Tensor]
    frames: list[int]
    num_frames: int
    fps: float
    boxes: list[np.ndarray] = field(default_factory=list)


class ClipMaker:
    """Cuts clips of one split.

    Args:
        settings: sizes and rates.
        open_video: path -> `VideoReader`; its VideoError passes through.
        times: which frames of a video make a clip.
    """

    def __init__(self, settings: ClipSettings, open_video: Callable[[str], VideoReader], times: Times) -> None:
        self.settings, self.times = settings, times
        self._open = open_video
        self._views = VideoViews(settings, open_video, times)
        # The view whose frames were scaled last: its crops are asked for one after the other.
        self._scaled: tuple[View | None, np.ndarray | None] = (None, None)

    def training_clips(self, path: str, generator: Generator, shape: ClipShape | None = None) -> list[Clip]:
        """Clips of the same frames at a random time, as many as the augmentation makes, each with random draws of its
        own from `generator`; of the settings' frames and crop, or of `shape`'s.
        """
        s = self.settings.shaped(shape)
        with self._open(path) as video:
            numbers = self.times.training(video.num_frames, video.fps, s, generator)
            frames = video.frames(numbers)
        clips = [training_pixels(frames, s, generator, copy=copy)[0] for copy in range(s.augmentation.copies)]
        return [Clip(self._pathways(clip), numbers, video.num_frames, video.fps) for clip in clips]

    def training_clip_of(
        self,
        path: str,
        numbers: Sequence[int],
        boxes: Sequence[np.ndarray],
        generator: Generator,
        shape: ClipShape | None = None,
    ) -> Clip:
        """A training clip of given frames, with boxes.

        Args:
            numbers: of the frames, in the video.
            boxes: arrays (n, 4) of x1, y1, x2, y2 in shares of the frame, (0, 0) to (1, 1).
        """
        with self._open(path) as video:
            frames = video.frames(numbers)
        clip, found = training_pixels(frames, self.settings.shaped(shape), generator, boxes)
        return Clip(self._pathways(clip), list(numbers), video.num_frames, video.fps, found)

    def evaluation_clip_of(self, path: str, numbers: Sequence[int], boxes: Sequence[np.ndarray]) -> Clip:
        """A clip of given frames for validation (cropped at the center) or testing (whole frames), with boxes; see
        `training_clip_of`.
        """
        with self._open(path) as video:
            frames = video.frames(numbers)
        full, (size, crop) = frames.shape[1:3], self._place(frames, CENTER)
        clip = self._cut(transforms.scale_exactly(frames, *size), crop)
        found = [transforms_boxes.follow(own, full, size, crop, self.settings.flip) for own in boxes]
        return Clip(self._pathways(clip), list(numbers), video.num_frames, video.fps, found)

    def center_clip(self, path: str) -> Clip:
        """The one clip of validation: the middle of the video, cropped at the center."""
        with self._open(path) as video:
            numbers = self.times.center(video.num_frames, video.fps, self.settings)
            frames = video.frames(numbers)
        size, crop = self._place(frames, CENTER)
        clip = self._cut(transforms.scale_exactly(frames, *size), crop)
        return Clip(self._pathways(clip), numbers, video.num_frames, video.fps)

    def view_clip(self, path: str, view: int) -> Clip:
        """A test view. Views of a video share its decoding, and crops of a temporal view its scaling, when asked for
        one after the other.
        """
        temporal, spatial = divmod(view, self.settings.spatial_views)
        found = self._views.view(path, temporal)
        size, crop = self._place(found.pixels, spatial if self.settings.spatial_views > 1 else CENTER)
        if self._scaled[0] is not found:
            self._scaled = found, transforms.scale_exactly(found.pixels, *size)
        return Clip(self._pathways(self._cut(self._scaled[1], crop)), found.frames, found.num_frames, found.fps)

    def window_crops(self, video: VideoReader, window: Sequence[Sequence[int]]) -> list[list[Tensor]]:
        """The spatial views of the frames with these numbers, one list a pathway; each view is a clip."""
        numbers = sorted(set().union(*window))
        places = {number: i for i, number in enumerate(numbers)}
        frames, views = video.frames(numbers), self.settings.spatial_views
        wanted = [self._place(frames, position) for position in (range(views) if views > 1 else [CENTER])]
        scaled = transforms.scale_exactly(frames, *wanted[0][0])
        clips = [self._cut(scaled, crop) for _, crop in wanted]
        return [[clip[:, [places[number] for number in pathway]] for pathway in window] for clip in clips]

    def _place(self, frames: np.ndarray, position: int) -> tuple[tuple[int, int], Crop]:
        """(height, width) to which frames (T, H, W, 3) of validation or testing are scaled, and what is cut from it."""
        size = size_by_short_side(*frames.shape[1:3], self.settings.short_sides[0])
        crop = self.settings.crop
        return size, uniform_crop(*size, crop, position) if crop else Crop(0, 0, *size)

    def _cut(self, scaled: np.ndarray, crop: Crop) -> Tensor:
        s = self.settings
        colors = transforms.normalization(s.mean, s.std, s.reverse_channels)
        return transforms.to_clip(crop.of(scaled), colors, s.flip)

    def _pathways(self, clip: Tensor) -> list[Tensor]:
        s = self.settings
        if not s.alpha:
            return [clip]
        return [clip[:, sampling.slow_indices(clip.shape[1], s.alpha, s.slow_indices)], clip]


def training_pixels(
    frames: np.ndarray, settings: ClipSettings, generator: Generator, boxes: Sequence[np.ndarray] = (), copy: int = 0
) -> tuple[Tensor, list[np.ndarray]]:
    """A clip of decoded frames: operations, place, scale, side, colors and rectangles as `generator` draws them.

    Pixels stay uint8 until the one pass that mirrors, colors and lays them out.

    Args:
        frames: (T, H, W, 3) uint8.
        boxes: arrays (n, 4) in shares of the frame.
        copy: number of the clip among those of the same frames.

    Returns:
        (3, T, H, W) float32, and the boxes in its pixels, cut to it; one out of sight has no area.
    """
    s, a = settings, settings.augmentation
    if a.operations is not None:
        frames = a.operations(frames, generator)
    full = frames.shape[1:3]
    if a.areas:
        picture, size, crop = _crop_by_area(frames, s, generator), full, Crop(0, 0, *full)
    else:
        size = size_by_short_side(*full, random_short_side(*s.short_sides, s.inverse_uniform, generator))
        crop = random_crop(*size, s.crop, generator)
        picture = crop.of(transforms.scale(frames, *size))
    flip = s.flip and random_flip(generator)
    colors = transforms.normalization(s.mean, s.std, s.reverse_channels)
    clip = transforms.to_clip(picture, transforms.after(a.color.draw(picture, generator), colors), flip)
    if a.erasing is not None and (not a.erase_later or copy >= a.copies // 2):
        a.erasing(clip, generator)
    return clip, [transforms_boxes.follow(own, full, size, crop, flip) for own in boxes]


def _crop_by_area(frames: np.ndarray, settings: ClipSettings, generator: Generator) -> np.ndarray:
    """A part of the frames, a wandering one if so set, scaled to the size of the crop."""
    a, (height, width) = settings.augmentation, frames.shape[1:3]
    crops = [random_area_crop(height, width, a.areas, a.aspects, generator) for _ in range(2 if a.moving else 1)]
    parts = crops[0].of(frames)
    if a.moving:
        parts = [crop.of(frame) for crop, frame in zip(moving_crops(*crops, len(frames)), frames, strict=True)]
    return transforms.scale(parts, settings.crop, settings.crop)
