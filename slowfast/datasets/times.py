"""Which frames of a video make a clip, by the way a data set samples them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Generator

from slowfast.datasets import sampling
from slowfast.datasets.clip_settings import ClipSettings


class Times(Protocol):
    """A way to place clips in a video of `num_frames` frames, `fps` of them a second.

    Each method gives the numbers of the clip's frames, `settings.num_frames` of them, within the video.
    """

    def training(self, num_frames: int, fps: float, settings: ClipSettings, generator: Generator) -> list[int]:
        """A clip of training; all that is random comes from `generator`."""

    def centre(self, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        """The clip of validation."""

    def view(self, num_frames: int, fps: float, settings: ClipSettings, temporal: int) -> list[int]:
        """A temporal view of testing, one of `settings.temporal_views`."""


def drawn_rate(settings: ClipSettings, generator: Generator) -> int:
    """The sampling rate of a training clip, drawn only where multigrid's long cycle gives a range."""
    if settings.greatest_rate <= settings.sampling_rate:
        return settings.sampling_rate
    return int(torch.randint(settings.sampling_rate, settings.greatest_rate + 1, (), generator=generator))


@dataclass(frozen=True)
class WindowTimes:
    """Frames spread evenly over a span of time, whatever the video's frame rate: the way of Kinetics."""

    def training(self, num_frames: int, fps: float, settings: ClipSettings, generator: Generator) -> list[int]:
        when, rate = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        target_fps = settings.target_fps + rate * settings.fps_jitter
        settings = replace(settings, sampling_rate=drawn_rate(settings, generator), target_fps=target_fps)
        span = _span(settings, fps)
        return _indices(sampling.random_window(num_frames, span, when), settings, num_frames)

    def centre(self, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        return _indices(sampling.centre_window(num_frames, _span(settings, fps)), settings, num_frames)

    def view(self, num_frames: int, fps: float, settings: ClipSettings, temporal: int) -> list[int]:
        span = _span(settings, fps)
        window = sampling.view_window(num_frames, span, temporal, settings.temporal_views, settings.use_offset)
        return _indices(window, settings, num_frames)


@dataclass(frozen=True)
class FrameTimes:
    """Every r-th frame, r the sampling rate, whatever `DATA.TARGET_FPS`: the way of Charades.

    Args:
        fps: frames are counted at this rate, as if the video had been cut into pictures at it.
    """

    fps: float

    def training(self, num_frames: int, fps: float, settings: ClipSettings, generator: Generator) -> list[int]:
        settings = replace(settings, sampling_rate=drawn_rate(settings, generator))
        # Of a video shorter than the clip some start before its first frame, which then repeats.
        room = self._counted(num_frames, fps) - self._span(settings)
        start = int(torch.randint(min(room, 0), max(room, 0) + 1, (), generator=generator))
        return self._frames(start, num_frames, fps, settings)

    def centre(self, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        room = max(self._counted(num_frames, fps) - self._span(settings), 0)
        return self._frames(room // 2, num_frames, fps, settings)

    def view(self, num_frames: int, fps: float, settings: ClipSettings, temporal: int) -> list[int]:
        views = settings.temporal_views
        if not 0 <= temporal < views:
            raise ValueError(f"view {temporal} of {views} does not exist")
        if views == 1:
            return self.centre(num_frames, fps, settings)
        room = max(self._counted(num_frames, fps) - self._span(settings), 0)
        return self._frames(round(room / (views - 1) * temporal), num_frames, fps, settings)

    def _span(self, settings: ClipSettings) -> int:
        return (settings.num_frames - 1) * settings.sampling_rate + 1

    def _counted(self, num_frames: int, fps: float) -> int:
        return max(1, round(num_frames * self.fps / fps))

    def _frames(self, start: int, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        rate, length = settings.sampling_rate, self._counted(num_frames, fps)
        counted = sampling.strided_indices(start, rate, settings.num_frames, length)
        return [min(round(number * fps / self.fps), num_frames - 1) for number in counted]


@dataclass(frozen=True)
class SegmentTimes:
    """A frame of each of as many equal segments of the video as the clip has frames: the way of Something-Something.

    In training a random one, else the middle; so all temporal views of a video are the same frames.
    """

    def training(self, num_frames: int, fps: float, settings: ClipSettings, generator: Generator) -> list[int]:
        segments = sampling.segments(num_frames, settings.num_frames)
        return [int(torch.randint(first, last + 1, (), generator=generator)) for first, last in segments]

    def centre(self, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        return [(first + last) // 2 for first, last in sampling.segments(num_frames, settings.num_frames)]

    def view(self, num_frames: int, fps: float, settings: ClipSettings, temporal: int) -> list[int]:
        return self.centre(num_frames, fps, settings)


def _span(settings: ClipSettings, fps: float) -> float:
    return sampling.clip_span(settings.num_frames, settings.sampling_rate, fps, settings.target_fps)


def _indices(window: sampling.Window, settings: ClipSettings, num_frames: int) -> list[int]:
    return sampling.window_indices(window, settings.num_frames, num_frames)
