"""Which frames of a video make a clip: pure index arithmetic, as published for PySlowFast.

A window is (start, end): positions of the clip's first and last frame, both counted, not always whole
numbers. It may reach past the end of a short video; its indices are clamped, so that the last frame repeats.


Which frames of a video make a clip, by the way a data set samples them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Generator

from slowfast.datasets.clips import temporal_sampling as sampling
from slowfast.datasets.clips.settings import ClipSettings

Window = tuple[float, float]


def clip_span(num_frames: int, sampling_rate: int, fps: float, target_fps: float) -> float:
    """Frames of the video that one clip covers: `num_frames` x `sampling_rate` frames at `target_fps`."""
    return num_frames * sampling_rate * fps / target_fps


def view_window(video_frames: int, span: float, view: int, num_views: int, use_offset: bool = False) -> Window:
    """Window of one of `num_views` evenly spread test views.

    Without `use_offset` the views divide the room into `num_views` parts and the last one ends before the
    video does; with it, whole-frame steps reach (nearly) the end, and a single view lies in the middle.

    Raises:
        ValueError: `view` is not one of `num_views`.
    """
    if not 0 <= view < num_views:
        raise ValueError(f"view {view} of {num_views} does not exist")
    room = max(video_frames - span, 0)
    if not use_offset:
        start = room * view / num_views
    elif num_views == 1:
        start = math.floor(room / 2)
    else:
        start = math.floor(room / (num_views - 1)) * view
    return start, start + span - 1


def random_window(video_frames: int, span: float, draw: float) -> Window:
    """Window of a training clip; `draw` in [0, 1) is the random number that places it."""
    start = draw * max(video_frames - span, 0)
    return start, start + span - 1


def center_window(video_frames: int, span: float) -> Window:
    """Window in the middle of the video."""
    return random_window(video_frames, span, 0.5)


def window_indices(window: Window, num_frames: int, video_frames: int) -> list[int]:
    """`num_frames` indices spread evenly over a window, cut down to whole frames and clamped to the video."""
    spread = torch.linspace(*window, num_frames)  # float32 as published: it decides what is cut to which frame
    return spread.clamp(0, video_frames - 1).long().tolist()


def strided_indices(start: int, stride: int, num_frames: int, video_frames: int) -> list[int]:
    """`num_frames` indices from `start` on, each `stride` after the one before, clamped to the video."""
    return [max(min(start + i * stride, video_frames - 1), 0) for i in range(num_frames)]


def segments(video_frames: int, num_frames: int) -> list[tuple[int, int]]:
    """First and last frame, both counted, of equal segments of a video, one for each frame of a clip.

    Neighbors share a frame, and in a video shorter than the clip a frame is in several.
    """
    edges = np.round((video_frames - 1) / num_frames * np.arange(num_frames + 1)).astype(int).tolist()
    return list(itertools.pairwise(edges))


def slow_indices(num_frames: int, alpha: int, chosen: Sequence[int] = ()) -> list[int]:
    """Frames of the fast clip that form the slow pathway of SlowFast.

    Args:
        num_frames: frames of the fast clip.
        alpha: frame-rate ratio of the pathways (`SLOWFAST.ALPHA`).
        chosen: the frames themselves (`SLOWFAST.SLOW_INDICES`), in place of evenly spread ones; where they are for
            longer clips too, the first `num_frames // alpha`.

    Raises:
        ValueError: no frame would be left, or a chosen one lies outside the clip.
    """
    if not 1 <= alpha <= num_frames:
        raise ValueError(
            f"SLOWFAST.ALPHA {alpha} leaves no slow frame of a clip of {num_frames}; use 1 to {num_frames}"
        )
    chosen = list(chosen[: num_frames // alpha])
    outside = [i for i in chosen if not 0 <= i < num_frames]
    if outside:
        raise ValueError(f"SLOWFAST.SLOW_INDICES {outside} lie outside a clip of {num_frames} frames")
    return chosen or torch.linspace(0, num_frames - 1, num_frames // alpha).long().tolist()


class Times(Protocol):
    """A way to place clips in a video of `num_frames` frames, `fps` of them a second.

    Each method gives the numbers of the clip's frames, `settings.num_frames` of them, within the video.
    """

    def training(self, num_frames: int, fps: float, settings: ClipSettings, generator: Generator) -> list[int]:
        """A clip of training; all that is random comes from `generator`."""

    def center(self, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
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

    def center(self, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        return _indices(sampling.center_window(num_frames, _span(settings, fps)), settings, num_frames)

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

    def center(self, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        room = max(self._counted(num_frames, fps) - self._span(settings), 0)
        return self._frames(room // 2, num_frames, fps, settings)

    def view(self, num_frames: int, fps: float, settings: ClipSettings, temporal: int) -> list[int]:
        views = settings.temporal_views
        if not 0 <= temporal < views:
            raise ValueError(f"view {temporal} of {views} does not exist")
        if views == 1:
            return self.center(num_frames, fps, settings)
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

    def center(self, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        return [(first + last) // 2 for first, last in sampling.segments(num_frames, settings.num_frames)]

    def view(self, num_frames: int, fps: float, settings: ClipSettings, temporal: int) -> list[int]:
        return self.center(num_frames, fps, settings)


def _span(settings: ClipSettings, fps: float) -> float:
    return sampling.clip_span(settings.num_frames, settings.sampling_rate, fps, settings.target_fps)


def _indices(window: sampling.Window, settings: ClipSettings, num_frames: int) -> list[int]:
    return sampling.window_indices(window, settings.num_frames, num_frames)
