"""Stream whole videos, window by window, to a model.

A window is what one forward reads. In mode "clips" windows are independent clips; in mode "steps" they are consecutive
steps through the video from its start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from slowfast.datasets.clips.clip_maker import ClipMaker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import TimeSpan, clip_span, slow_indices, span_indices, view_span
from slowfast.datasets.video.reader import VideoError, VideoReader
from slowfast.datasets.video.timing import Timeline

FrameIndices = list[list[int]]
"""A window: for every pathway the indices of its frames in the video."""

StepPositions = Callable[[int], Sequence[Sequence[Sequence[int]]]]
"""num_frames -> for every step and pathway, positions among `num_frames` sampled frames; they may exceed the last."""

_EPSILON = 1e-6  # keeps products that are whole numbers up to rounding from being rounded down to the number below


@dataclass
class Chunk:
    """Some consecutive windows of one video.

    Attributes:
        video: its number in the list.
        first: number of the first window here.
        windows: windows of the whole video; 0 if it cannot be read (any more), see `cause`.
        inputs: (windows here x crops, 3, T, H, W) float32, one per pathway; the crops of a window are adjacent.
        frames: first and last frame, in the video, of each window here.
        indices: all frames, in the video, of each window here.
        times: start of the first frame and end of the last, in seconds, of each window here.
        fps, num_frames: of the video.
        cause: why the video cannot be read; "" if it can.
    """

    video: int
    first: int = 0
    windows: int = 0
    inputs: list[Tensor] = field(default_factory=list)
    frames: list[tuple[int, int]] = field(default_factory=list)
    indices: list[FrameIndices] = field(default_factory=list)
    times: list[list[float]] = field(default_factory=list)
    fps: float = 0.0
    num_frames: int = 0
    cause: str = ""

    @property
    def is_last(self) -> bool:
        """True for the last chunk of its video."""
        return self.first + len(self.frames) >= self.windows


class StreamingDataset(IterableDataset[Chunk]):
    """Chunks of all windows of some videos; each loader worker reads whole videos.

    How windows are grouped into chunks depends on their video alone.

    Args:
        paths: all videos.
        numbers: which of them to read, as positions in `paths`.
        open_video: path -> `VideoReader`.
        windows: (number of frames, frame rate) of a video -> its windows. A video of a variable rate is shown to it
            as images, see `TemporalSampling`.
        clips: maker of the crops.
        windows_per_chunk: greatest number of windows in a chunk.
    """

    def __init__(
        self,
        paths: Sequence[str],
        numbers: Sequence[int],
        open_video: Callable[[str], VideoReader],
        windows: Callable[[int, float], list[FrameIndices]],
        clips: ClipMaker,
        windows_per_chunk: int,
    ) -> None:
        self.paths, self.numbers = paths, numbers
        self._open, self._windows, self._clips, self._windows_per_chunk = open_video, windows, clips, windows_per_chunk

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
            timeline = Timeline.of(reader)
            grid = timeline.grid(self._clips.sampling.grid_fps(self._clips.settings))
            windows = [
                [grid.frames(pathway) for pathway in window] for window in self._windows(grid.num_frames, grid.fps)
            ]
            for first in range(0, len(windows), self._windows_per_chunk):
                part = windows[first : first + self._windows_per_chunk]
                crops = [
                    crop for window in part for crops in self._clips.window_crops(reader, [window]) for crop in crops
                ]
                frames = [(min(map(min, window)), max(map(max, window))) for window in part]
                yield Chunk(
                    video,
                    first,
                    len(windows),
                    [torch.stack(pathway) for pathway in zip(*crops, strict=True)],
                    frames,
                    part,
                    timeline.spans(*np.array(frames).T).tolist(),
                    reader.fps,
                    reader.num_frames,
                )


def tiles(video_frames: int, span: float) -> list[TimeSpan]:
    """Tile a video with time spans of `span` frames, from the first frame on.

    The last tile is moved back to end with the video. A video shorter than `span` has one tile, which exceeds its end.
    """
    count = max(1, math.ceil(video_frames / span - _EPSILON))
    last = max(video_frames - span, 0)
    starts = [min(i * span, last) for i in range(count)]
    return [(start, start + span - 1) for start in starts]


@dataclass(frozen=True)
class ClipWindows:
    """Windows that are clips: with `tile` they cover the video, else they are the `temporal_views` of testing."""

    settings: ClipSettings
    tile: bool = True

    def __call__(self, video_frames: int, fps: float) -> list[FrameIndices]:
        """Return the windows of a video, at least one."""
        s = self.settings
        span = clip_span(s.num_frames, s.sampling_rate, fps, s.target_fps)
        if self.tile:
            spans = tiles(video_frames, span)
        else:
            views = s.temporal_views
            spans = [view_span(video_frames, span, view, views, s.use_offset) for view in range(views)]
        return [pathways_of(span_indices(each, s.num_frames, video_frames, s.cyclic), s) for each in spans]


def pathways_of(frames: list[int], settings: ClipSettings) -> FrameIndices:
    """Return the frames of each pathway of a clip, given those of the fast or only one."""
    if not settings.alpha:
        return [frames]
    return [[frames[i] for i in slow_indices(len(frames), settings.alpha, settings.slow_indices)], frames]


@dataclass(frozen=True)
class StepWindows:
    """Windows that are consecutive steps through a video, whose frames are as far apart as those of a clip.

    If the last step exceeds the end of the video, its last frame repeats.
    """

    settings: ClipSettings
    steps: StepPositions

    def __call__(self, video_frames: int, fps: float) -> list[FrameIndices]:
        """Return the windows of a video, at least one."""
        spacing, last = self.spacing(fps), video_frames - 1
        steps = (self.frames_at(step, spacing) for step in self.steps(self.num_positions(video_frames, spacing)))
        return [[[min(frame, last) for frame in pathway] for pathway in step] for step in steps]

    @staticmethod
    def num_positions(video_frames: int, spacing: float) -> int:
        """Return the number of frames that are sampled of a video."""
        return int((video_frames - 1) / spacing + _EPSILON) + 1

    @staticmethod
    def frames_at(step: Sequence[Sequence[int]], spacing: float) -> FrameIndices:
        """Return the frames of a step, given the positions of its frames among those that are sampled."""
        return [[int(position * spacing + _EPSILON) for position in pathway] for pathway in step]

    def spacing(self, fps: float) -> float:
        """Return the distance of a clip's frames in the video, as `span_indices` spreads them."""
        s = self.settings
        span = clip_span(s.num_frames, s.sampling_rate, fps, s.target_fps)
        return (span - 1) / (s.num_frames - 1) if s.num_frames > 1 else span
