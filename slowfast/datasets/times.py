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


def _span(settings: ClipSettings, fps: float) -> float:
    return sampling.clip_span(settings.num_frames, settings.sampling_rate, fps, settings.target_fps)


def _indices(window: sampling.Window, settings: ClipSettings, num_frames: int) -> list[int]:
    return sampling.window_indices(window, settings.num_frames, num_frames)
