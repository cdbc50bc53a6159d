"""From a video file to the input of a model: decode, sample, transform, pack into pathways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from slowfast.config.resolve import num_pathways
from slowfast.datasets import sampling, transforms
from slowfast.datasets.batch_shapes import ClipShape
from slowfast.datasets.decode import VideoReader


@dataclass(frozen=True)
class ClipSettings:
    """How clips of one split are cut from videos; lengths in frames, sizes in pixels."""

    num_frames: int
    sampling_rate: int
    greatest_rate: int  # train: the sampling rate is drawn from `sampling_rate` to this
    target_fps: float
    fps_jitter: float  # train: target_fps rises by a random amount up to this
    use_offset: bool
    short_sides: tuple[int, int]  # of `full_crop`: drawn from this range in train, the first one elsewhere
    inverse_uniform: bool
    crop: int
    full_crop: int  # train: the crop that `short_sides` are for; of a smaller one the first is that much smaller
    flip: bool
    temporal_views: int
    spatial_views: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reverse_channels: bool
    alpha: int  # frames of the clip for each that a slow pathway sees; 0 without one
    slow_indices: tuple[int, ...]  # these frames make the slow pathway, () for evenly spread ones

    @staticmethod
    def from_config(cfg: Any, split: str) -> ClipSettings:
        """The settings of `split`, from a validated configuration."""
        data = cfg.DATA
        testing = split == "test"
        spatial = cfg.TEST.NUM_SPATIAL_CROPS if testing else 1
        crop = data.TEST_CROP_SIZE if testing else data.TRAIN_CROP_SIZE
        # Several crops cover frames whose short side is the crop; one is cut from the smallest training size.
        short_sides = (crop, crop) if spatial > 1 else tuple(data.TRAIN_JITTER_SCALES)
        return ClipSettings(
            num_frames=data.NUM_FRAMES,
            sampling_rate=data.SAMPLING_RATE,
            greatest_rate=max(data.SAMPLING_RATE, cfg.MULTIGRID.LONG_CYCLE_SAMPLING_RATE),
            target_fps=data.TARGET_FPS,
            fps_jitter=data.TRAIN_JITTER_FPS,
            use_offset=data.USE_OFFSET_SAMPLING,
            short_sides=(max(short_sides[0], crop), short_sides[1]) if testing else short_sides,
            inverse_uniform=data.INV_UNIFORM_SAMPLE,
            crop=crop,
            full_crop=cfg.MULTIGRID.DEFAULT_S or crop,
            flip=data.RANDOM_FLIP,
            temporal_views=cfg.TEST.NUM_ENSEMBLE_VIEWS if testing else 1,
            spatial_views=spatial,
            mean=tuple(data.MEAN),
            std=tuple(data.STD),
            reverse_channels=data.REVERSE_INPUT_CHANNEL,
            alpha=cfg.SLOWFAST.ALPHA if num_pathways(cfg) == 2 else 0,
            slow_indices=tuple(cfg.SLOWFAST.SLOW_INDICES),
        )

    def shaped(self, shape: ClipShape | None) -> ClipSettings:
        """These settings for the training clips of a batch of that shape."""
        frames, crop = shape or ClipShape()
        crop = crop or self.crop
        # As published for multigrid: a smaller crop comes from frames that may be scaled down as much, but need not be.
        least = int(round(self.short_sides[0] * crop / self.full_crop))
        return replace(
            self,
            num_frames=frames or self.num_frames,
            crop=crop,
            full_crop=crop,
            short_sides=(least, self.short_sides[1]),
        )

    @property
    def num_views(self) -> int:
        """Views of one video; view = temporal * `spatial_views` + spatial."""
        return self.temporal_views * self.spatial_views


class ClipMaker:
    """Cuts clips of one split. Clips are lists of (3, T, H, W) float32 tensors, one a pathway.

    Args:
        settings: sizes and rates.
        open_video: path -> `VideoReader`; its VideoError passes through.
    """

    def __init__(self, settings: ClipSettings, open_video: Callable[[str], VideoReader]) -> None:
        self.settings = settings
        self._open = open_video
        self._last: tuple[tuple[str, int] | None, np.ndarray | None] = (None, None)

    def training_clip(self, path: str, generator: Generator, shape: ClipShape | None = None) -> list[Tensor]:
        """A clip at a random time, of random scale, place and side, all drawn from `generator`; of the settings' frames
        and crop, or of `shape`'s.
        """
        s = self.settings.shaped(shape)
        when, rate = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        target_fps = s.target_fps + rate * s.fps_jitter
        if s.greatest_rate > s.sampling_rate:
            drawn = torch.randint(s.sampling_rate, s.greatest_rate + 1, (), generator=generator)
            s = replace(s, sampling_rate=int(drawn))
        frames = self._read(path, target_fps, lambda length, span: sampling.random_window(length, span, when), s)
        side = transforms.random_short_side(*s.short_sides, s.inverse_uniform, generator)
        clip = transforms.resize_short_side(transforms.to_float(frames), side)
        clip = transforms.random_crop(clip, s.crop, generator)
        return self._pack(transforms.random_flip(clip, generator) if s.flip else clip)

    def centre_clip(self, path: str) -> list[Tensor]:
        """The one clip of validation: the middle of the video, cropped at the centre."""
        frames = self._read(path, self.settings.target_fps, sampling.centre_window)
        return self._cropped(frames, transforms.CENTRE)

    def view_clip(self, path: str, view: int) -> list[Tensor]:
        """A test view. Crops of one temporal view share its decoding when asked for one after the other."""
        s = self.settings
        temporal, spatial = divmod(view, s.spatial_views)
        if self._last[0] != (path, temporal):

            def window(length: int, span: float) -> sampling.Window:
                return sampling.view_window(length, span, temporal, s.temporal_views, s.use_offset)

            self._last = (path, temporal), self._read(path, s.target_fps, window)
        return self._cropped(self._last[1], spatial if s.spatial_views > 1 else transforms.CENTRE)

    def window_crops(self, video: VideoReader, window: Sequence[Sequence[int]]) -> list[list[Tensor]]:
        """The spatial views of the frames with these numbers, one list a pathway; each view is a clip."""
        s = self.settings
        numbers = sorted(set().union(*window))
        place = {number: i for i, number in enumerate(numbers)}
        frames = transforms.resize_short_side(transforms.to_float(video.frames(numbers)), s.short_sides[0])
        positions = range(s.spatial_views) if s.spatial_views > 1 else [transforms.CENTRE]
        crops = [self._coloured(transforms.uniform_crop(frames, s.crop, position)) for position in positions]
        return [[crop[:, [place[number] for number in pathway]] for pathway in window] for crop in crops]

    def _read(
        self,
        path: str,
        fps: float,
        place: Callable[[int, float], sampling.Window],
        settings: ClipSettings | None = None,
    ) -> np.ndarray:
        s = settings or self.settings
        with self._open(path) as video:
            span = sampling.clip_span(s.num_frames, s.sampling_rate, video.fps, fps)
            window = place(video.num_frames, span)
            return video.frames(sampling.window_indices(window, s.num_frames, video.num_frames))

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
