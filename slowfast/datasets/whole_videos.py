"""Whole videos, window by window, as a model without labels reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from slowfast.datasets.clips import ClipMaker
from slowfast.datasets.decode import VideoError, VideoReader
from slowfast.datasets.windows import Window


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
