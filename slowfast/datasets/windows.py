"""Which frames of a whole video a model reads at a time; pure arithmetic.

A *window* is what one forward reads: for every pathway the numbers of its frames in the video, the first is 0. Clips
stand on their own; the steps of a model that goes through a video from its start follow each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slowfast.datasets import sampling
from slowfast.datasets.clip_settings import ClipSettings

Window = list[list[int]]

# num_frames -> for every step, for every pathway, positions in a video of so many sampled frames; they may go past its
# end.
Steps = Callable[[int], Sequence[Sequence[Sequence[int]]]]

_ROUNDING = 1e-6  # keeps what is a whole number but for rounding from being cut to the one below


def tiles(video_frames: int, span: float) -> list[sampling.Window]:
    """Spans of `span` frames one after the other from the first frame on, until all of the video is covered.

    The last one is moved back to end with the video. A video shorter than a span has one, which reaches past its end.
    """
    count = max(1, math.ceil(video_frames / span - _ROUNDING))
    last = max(video_frames - span, 0)
    starts = [min(i * span, last) for i in range(count)]
    return [(start, start + span - 1) for start in starts]


@dataclass(frozen=True)
class ClipWindows:
    """Clips of a video: `settings.temporal_views` evenly spread ones as in testing, or, with `tile`, all of it."""

    settings: ClipSettings
    tile: bool = True

    def __call__(self, video_frames: int, fps: float) -> list[Window]:
        """The windows of a video of so many frames at that frame rate, at least one."""
        s = self.settings
        span = sampling.clip_span(s.num_frames, s.sampling_rate, fps, s.target_fps)
        if self.tile:
            spans = tiles(video_frames, span)
        else:
            views = s.temporal_views
            spans = [sampling.view_window(video_frames, span, view, views, s.use_offset) for view in range(views)]
        return [self._pathways(sampling.window_indices(window, s.num_frames, video_frames)) for window in spans]

    def _pathways(self, frames: list[int]) -> Window:
        s = self.settings
        if not s.alpha:
            return [frames]
        return [[frames[i] for i in sampling.slow_indices(len(frames), s.alpha, s.slow_indices)], frames]


@dataclass(frozen=True)
class StepWindows:
    """Steps through a whole video, whose frames lie as far apart as those of a clip.

    Where the last step reaches past the end of the video, its last frame repeats.
    """

    settings: ClipSettings
    steps: Steps

    def __call__(self, video_frames: int, fps: float) -> list[Window]:
        """The windows of a video of so many frames at that frame rate, at least one."""
        spacing = self._spacing(fps)
        sampled = int((video_frames - 1) / spacing + _ROUNDING) + 1
        last = video_frames - 1

        def frame(position: int) -> int:
            return min(int(position * spacing + _ROUNDING), last)

        return [[[frame(p) for p in pathway] for pathway in step] for step in self.steps(sampled)]

    def _spacing(self, fps: float) -> float:
        """Frames of the video from one frame of a clip to the next, as `sampling.window_indices` spreads them."""
        s = self.settings
        span = sampling.clip_span(s.num_frames, s.sampling_rate, fps, s.target_fps)
        return (span - 1) / (s.num_frames - 1) if s.num_frames > 1 else span
