"""Whole videos, window by window, as a model without labels reads them.

Which frames of a whole video a model reads at a time; pure arithmetic.

A *window* is what one forward reads: for every pathway the numbers of its frames in the video, the first is 0. Clips
stand on their own; the steps of a model that goes through a video from its start follow each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from slowfast.datasets.clips import temporal_sampling as sampling
from slowfast.datasets.clips.clip_maker import ClipMaker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.video.open import VideoError, VideoReader


@dataclass
class Chunk:
    """Some windows of one video, in order.

    Attributes:
        video: its number in the list.
        first: number of the first window here.
        windows: how many the whole video has; 0 if it cannot be read (any more), and `cause` says why.
        inputs: (windows here x crops, 3, T, H, W) float32, one a pathway; a window's crops are side by side.
        frames: first and last frame, of the video, of each window here.
        fps, num_frames: of the video.
    """

    video: int
    first: int = 0
    windows: int = 0
    inputs: list[Tensor] = field(default_factory=list)
    frames: list[tuple[int, int]] = field(default_factory=list)
    fps: float = 0.0
    num_frames: int = 0
    cause: str = ""

    @property
    def is_last(self) -> bool:
        """Whether nothing of the video comes after it."""
        return self.first + len(self.frames) >= self.windows


class WholeVideos(IterableDataset[Chunk]):
    """Chunks of all windows of some videos; each worker of a loader goes through videos of its own.

    Which windows come together depends on their video alone.

    Args:
        paths: all videos.
        numbers: which of them to read, as positions in `paths`.
        open_video: path -> `VideoReader`.
        windows: frames and frame rate of a video -> its windows.
        clips: makes the crops.
        at_once: windows a chunk.
    """

    def __init__(
        self,
        paths: Sequence[str],
        numbers: Sequence[int],
        open_video: Callable[[str], VideoReader],
        windows: Callable[[int, float], list[Window]],
        clips: ClipMaker,
        at_once: int,
    ) -> None:
        self.paths, self.numbers = paths, numbers
        self._open, self._windows, self._clips, self._at_once = open_video, windows, clips, at_once

    def __iter__(self) -> Iterator[Chunk]:
        worker = get_worker_info()
        share = self.numbers if worker is None else self.numbers[worker.id :: worker.num_workers]
        for video in share:
            try:
                yield from self._chunks(video)
            except VideoError as error:
                yield Chunk(video, cause=error.cause)

    def _chunks(self, video: int) -> Iterator[Chunk]:
        with self._open(self.paths[video]) as reader:
            windows = self._windows(reader.num_frames, reader.fps)
            for first in range(0, len(windows), self._at_once):
                part = windows[first : first + self._at_once]
                crops = [crop for window in part for crop in self._clips.window_crops(reader, window)]
                yield Chunk(
                    video,
                    first,
                    len(windows),
                    [torch.stack(pathway) for pathway in zip(*crops, strict=True)],
                    [(min(map(min, window)), max(map(max, window))) for window in part],
                    reader.fps,
                    reader.num_frames,
                )


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
