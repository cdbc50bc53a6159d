"""From a video to the input of a model: decode, sample, transform, pack into pathways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Generator, Tensor

from slowfast.datasets import sampling, transforms
from slowfast.datasets.batch_shapes import ClipShape
from slowfast.datasets.clip_settings import ClipSettings
from slowfast.datasets.times import Times
from slowfast.datasets.video_reader import VideoReader


@dataclass
class Clip:
    """Pixels of a clip.

    Attributes:
        inputs: (3, T, H, W) float32, one a pathway.
        frames: number in the video of every frame of the clip (of its fast pathway).
        num_frames, fps: of the video.
    """

    inputs: list[Tensor]
    frames: list[int]
    num_frames: int
    fps: float


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
        self._last: tuple[tuple[str, int] | None, tuple[np.ndarray, list[int], int, float] | None] = (None, None)

    def training_clip(self, path: str, generator: Generator, shape: ClipShape | None = None) -> Clip:
        """A clip at a random time, of random scale, place and side, all drawn from `generator`; of the settings' frames
        and crop, or of `shape`'s.
        """
        s = self.settings.shaped(shape)
        with self._open(path) as video:
            numbers = self.times.training(video.num_frames, video.fps, s, generator)
            frames = video.frames(numbers)
        side = transforms.random_short_side(*s.short_sides, s.inverse_uniform, generator)
        clip = transforms.resize_short_side(transforms.to_float(frames), side)
        clip = transforms.random_crop(clip, s.crop, generator)
        inputs = self._pack(transforms.random_flip(clip, generator) if s.flip else clip)
        return Clip(inputs, numbers, video.num_frames, video.fps)

    def centre_clip(self, path: str) -> Clip:
        """The one clip of validation: the middle of the video, cropped at the centre."""
        with self._open(path) as video:
            numbers = self.times.centre(video.num_frames, video.fps, self.settings)
            inputs = self._cropped(video.frames(numbers), transforms.CENTRE)
            return Clip(inputs, numbers, video.num_frames, video.fps)

    def view_clip(self, path: str, view: int) -> Clip:
        """A test view. Crops of one temporal view share its decoding when asked for one after the other."""
        s = self.settings
        temporal, spatial = divmod(view, s.spatial_views)
        if self._last[0] != (path, temporal):
            with self._open(path) as video:
                numbers = self.times.view(video.num_frames, video.fps, s, temporal)
                self._last = (path, temporal), (video.frames(numbers), numbers, video.num_frames, video.fps)
        frames, *about = self._last[1]
        return Clip(self._cropped(frames, spatial if s.spatial_views > 1 else transforms.CENTRE), *about)

    def window_crops(self, video: VideoReader, window: Sequence[Sequence[int]]) -> list[list[Tensor]]:
        """The spatial views of the frames with these numbers, one list a pathway; each view is a clip."""
        s = self.settings
        numbers = sorted(set().union(*window))
        place = {number: i for i, number in enumerate(numbers)}
        frames = transforms.resize_short_side(transforms.to_float(video.frames(numbers)), s.short_sides[0])
        positions = range(s.spatial_views) if s.spatial_views > 1 else [transforms.CENTRE]
        crops = [self._coloured(transforms.uniform_crop(frames, s.crop, position)) for position in positions]
        return [[crop[:, [place[number] for number in pathway]] for pathway in window] for crop in crops]

    def _cropped(self, frames: np.ndarray, position: int) -> list[Tensor]:
        clip = transforms.resize_short_side(transforms.to_float(frames), self.settings.short_sides[0])
        return self._pack(transforms.uniform_crop(clip, self.settings.crop, position))

    def _pack(self, clip: Tensor) -> list[Tensor]:
        s = self.settings
        clip = self._coloured(clip).contiguous()
        if not s.alpha:
            return [clip]
        return [clip[:, sampling.slow_indices(clip.shape[1], s.alpha, s.slow_indices)], clip]

    def _coloured(self, clip: Tensor) -> Tensor:
        s = self.settings
        clip = transforms.normalise(clip, s.mean, s.std)
        return clip.flip(0) if s.reverse_channels else clip
