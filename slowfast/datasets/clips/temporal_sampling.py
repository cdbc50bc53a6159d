"""Temporal sampling: which frames of a video make a clip.

First the index arithmetic, as published for PySlowFast, then the three ways in which data sets use it.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator

from slowfast.datasets.clips.settings import ClipSettings

_TRIES = 100  # of a training clip at a distance from others

TimeSpan = tuple[float, float]
"""Positions of a clip's first and last frame in the video, both included, not always whole numbers.

A span may reach past the end of a short video. There the last frame repeats, or the video starts again (`cyclic`).
"""


def clip_span(num_frames: int, sampling_rate: int, fps: float, target_fps: float) -> float:
    """Return how many frames of the video a clip of `num_frames` x `sampling_rate` at `target_fps` covers."""
    return num_frames * sampling_rate * fps / target_fps


def view_span(video_frames: int, span: float, view: int, num_views: int, use_offset: bool = False) -> TimeSpan:
    """Return the time span of one of `num_views` evenly spread test views.

    Without `use_offset` the starts are `num_views` equal steps apart, and the last view ends before the video. With it,
    whole-frame steps reach (nearly) the end, and a single view lies in the middle.

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


def random_span(video_frames: int, span: float, draw: float) -> TimeSpan:
    """Return the time span of a training clip; `draw` in [0, 1) is the random number that places it."""
    start = draw * max(video_frames - span, 0)
    return start, start + span - 1


def center_span(video_frames: int, span: float) -> TimeSpan:
    """Return the time span in the middle of the video."""
    return random_span(video_frames, span, 0.5)


def span_indices(span: TimeSpan, num_frames: int, video_frames: int, cyclic: bool = False) -> list[int]:
    """Spread `num_frames` indices evenly over a time span, rounded down.

    Indices past the end are clamped to the video; or taken modulo its length (`cyclic`), so that it loops.
    """
    spread = torch.linspace(*span, num_frames)  # float32 as published, which decides the rounding
    if cyclic:
        return (spread.long() % video_frames).tolist()
    return spread.clamp(0, video_frames - 1).long().tolist()


def _strided_indices(start: int, stride: int, num_frames: int, video_frames: int, cyclic: bool) -> list[int]:
    """Return `num_frames` indices from `start` on, `stride` apart; see `span_indices`."""
    indices = [start + i * stride for i in range(num_frames)]
    return [index % video_frames if cyclic else max(min(index, video_frames - 1), 0) for index in indices]


def segments(video_frames: int, num_frames: int) -> list[tuple[int, int]]:
    """Divide a video into `num_frames` equal segments, as (first, last) frame, both included.

    Neighbors share a frame. In a video shorter than the clip, segments share all their frames.
    """
    edges = np.round((video_frames - 1) / num_frames * np.arange(num_frames + 1)).astype(int).tolist()
    return list(itertools.pairwise(edges))


def slow_indices(num_frames: int, alpha: int, chosen: Sequence[int] = ()) -> list[int]:
    """Return the frames of the fast clip that form SlowFast's slow pathway.

    Args:
        num_frames: frames of the fast clip.
        alpha: frame-rate ratio of the pathways.
        chosen: the frames themselves, in place of evenly spread ones. Those behind the clip,
            which longer clips have, are left out.

    Raises:
        ValueError: no frame would be left.
    """
    if not 1 <= alpha <= num_frames:
        raise ValueError(f"alpha {alpha} leaves no slow frame of a clip of {num_frames}; use 1 to {num_frames}")
    if not chosen:
        return torch.linspace(0, num_frames - 1, num_frames // alpha).long().tolist()
    within = [i for i in chosen if i < num_frames]
    if not within:
        raise ValueError(f"the slow frames {list(chosen)} all lie behind a clip of {num_frames}")
    return within


def random_sampling_rate(settings: ClipSettings, generator: Generator) -> int:
    """Return the sampling rate of a training clip, random only where multigrid's long cycle gives a range."""
    if settings.max_sampling_rate <= settings.sampling_rate:
        return settings.sampling_rate
    return int(torch.randint(settings.sampling_rate, settings.max_sampling_rate + 1, (), generator=generator))


def _missed_gaps(clips: Sequence[Sequence[int]], least: float, greatest: float) -> float:
    """Return by how many frames the gaps between clips, in order of time, are too small or too large, in total."""
    gaps = [later[0] - earlier[-1] for earlier, later in itertools.pairwise(clips)]
    return sum(max(least - gap, 0) + max(gap - greatest, 0) for gap in gaps)


class TemporalSampling(abc.ABC):
    """A way to choose the frames of clips in a video of `num_frames` frames at `fps`.

    Every method returns `settings.num_frames` frame indices. A video of a variable frame rate is shown to them as the
    images that would be extracted from it at `grid_fps`.
    """

    def grid_fps(self, settings: ClipSettings) -> float:
        """Return the rate, in images a second, at which a video of a variable frame rate is sampled."""
        return settings.target_fps

    @abc.abstractmethod
    def training(self, num_frames: int, fps: float, settings: ClipSettings, generator: Generator) -> list[int]:
        """Sample the frames of a training clip; all randomness comes from `generator`."""

    def training_clips(
        self, num_frames: int, fps: float, settings: ClipSettings, generator: Generator
    ) -> list[list[int]]:
        """Sample the frames of `settings.temporal_clips` training clips, in order of time.

        Each is drawn until it lies `settings.clip_gaps` apart from those before and after it, at most 100 times. Of
        clips that all lie elsewhere, as in a short video, the one that misses the gaps by the least is taken.
        """
        clips: list[list[int]] = []
        for _ in range(settings.temporal_clips):
            tries: list[tuple[float, list[list[int]]]] = []
            while len(tries) < _TRIES and not (tries and tries[-1][0] == 0):
                found = sorted([*clips, self.training(num_frames, fps, settings, generator)])
                tries.append((_missed_gaps(found, *settings.clip_gaps), found))
            clips = min(tries, key=lambda each: each[0])[1]
        return clips

    @abc.abstractmethod
    def center(self, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        """Return the frames of the validation clip."""

    @abc.abstractmethod
    def view(self, num_frames: int, fps: float, settings: ClipSettings, temporal: int) -> list[int]:
        """Return the frames of temporal test view number `temporal`, of `settings.temporal_views`."""


@dataclass(frozen=True)
class SpanSampling(TemporalSampling):
    """Frames spread evenly over a time span, whatever the frame rate of the video, as published for Kinetics."""

    def training(self, num_frames: int, fps: float, settings: ClipSettings, generator: Generator) -> list[int]:
        start, jitter = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        target_fps = settings.target_fps + jitter * settings.fps_jitter
        settings = replace(settings, sampling_rate=random_sampling_rate(settings, generator), target_fps=target_fps)
        span = random_span(num_frames, self._span(settings, fps), start)
        return span_indices(span, settings.num_frames, num_frames)

    def center(self, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        return span_indices(center_span(num_frames, self._span(settings, fps)), settings.num_frames, num_frames)

    def view(self, num_frames: int, fps: float, settings: ClipSettings, temporal: int) -> list[int]:
        s = settings
        span = view_span(num_frames, self._span(s, fps), temporal, s.temporal_views, s.use_offset)
        return span_indices(span, s.num_frames, num_frames, s.cyclic)

    def _span(self, settings: ClipSettings, fps: float) -> float:
        return clip_span(settings.num_frames, settings.sampling_rate, fps, settings.target_fps)


@dataclass(frozen=True)
class StrideSampling(TemporalSampling):
    """Every r-th frame, r = sampling rate, whatever `DATA.TARGET_FPS`, as published for Charades.

    Args:
        fps: frames are counted at this rate, as if the video had been extracted to pictures at it.
    """

    fps: float

    def grid_fps(self, settings: ClipSettings) -> float:
        return self.fps

    def training(self, num_frames: int, fps: float, settings: ClipSettings, generator: Generator) -> list[int]:
        settings = replace(settings, sampling_rate=random_sampling_rate(settings, generator))
        # In a video shorter than the clip, a clip may start before the first frame, which then repeats.
        room = self._extracted(num_frames, fps) - self._span(settings)
        start = int(torch.randint(min(room, 0), max(room, 0) + 1, (), generator=generator))
        return self._indices(start, num_frames, fps, settings)

    def center(self, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        room = max(self._extracted(num_frames, fps) - self._span(settings), 0)
        return self._indices(room // 2, num_frames, fps, settings)

    def view(self, num_frames: int, fps: float, settings: ClipSettings, temporal: int) -> list[int]:
        views = settings.temporal_views
        if not 0 <= temporal < views:
            raise ValueError(f"view {temporal} of {views} does not exist")
        room = max(self._extracted(num_frames, fps) - self._span(settings), 0)
        # A single view starts with the video, as published with PGT; PySlowFast's rule needs two.
        start = round(room / (views - 1) * temporal) if views > 1 else 0
        return self._indices(start, num_frames, fps, settings)

    def _span(self, settings: ClipSettings) -> int:
        return (settings.num_frames - 1) * settings.sampling_rate + 1

    def _extracted(self, num_frames: int, fps: float) -> int:
        """Return the number of pictures that the video would be extracted to."""
        return max(1, round(num_frames * self.fps / fps))

    def _indices(self, start: int, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        length = self._extracted(num_frames, fps)
        extracted = _strided_indices(start, settings.sampling_rate, settings.num_frames, length, settings.cyclic)
        return [min(round(index * fps / self.fps), num_frames - 1) for index in extracted]


@dataclass(frozen=True)
class SegmentSampling(TemporalSampling):
    """One frame of each of `num_frames` equal segments of the video, as published for Something-Something.

    Training samples it at random, val and test take the middle one. So all temporal views are the same frames.
    """

    def training(self, num_frames: int, fps: float, settings: ClipSettings, generator: Generator) -> list[int]:
        parts = segments(num_frames, settings.num_frames)
        return [int(torch.randint(first, last + 1, (), generator=generator)) for first, last in parts]

    def center(self, num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
        return [(first + last) // 2 for first, last in segments(num_frames, settings.num_frames)]

    def view(self, num_frames: int, fps: float, settings: ClipSettings, temporal: int) -> list[int]:
        return self.center(num_frames, fps, settings)
