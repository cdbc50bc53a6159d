"""Videos in memory: arrays as videos, the cache of small data sets (`DATA.CACHE_VIDEOS`), and an LRU cache of bounded
size.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import numpy as np

from slowfast.datasets.video.open import VideoError, VideoReader
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)


class ArrayVideo(VideoReader):
    """`VideoReader` of frames in memory; closing it keeps them.

    Args:
        pixels: (T, H, W, 3) uint8, RGB.
        fps: mean frame rate.
        times: (T,) seconds of the frames; None for a constant rate.
        path: name of the video, for messages.

    Raises:
        ValueError: an array of another shape or type, without frames, or a rate that is not over 0.
    """

    def __init__(self, pixels: np.ndarray, fps: float, times: np.ndarray | None = None, path: str = "array") -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not pixels.size:
            raise ValueError(
                f"an array {pixels.shape} of {pixels.dtype} is no video; give (frames, height, width, 3) uint8, RGB"
            )
        if not fps > 0:
            raise ValueError(f"a video of {fps} frames a second is impossible; give a rate over 0")
        self.path, self.pixels, self._fps = path, pixels, float(fps)
        self._times = np.arange(len(pixels)) / fps if times is None else times

    @property
    def num_frames(self) -> int:
        return len(self.pixels)

    @property
    def fps(self) -> float:
        return self._fps

    @property
    def times(self) -> np.ndarray:
        return self._times

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        outside = [i for i in indices if not 0 <= i < self.num_frames]
        if outside:
            raise IndexError(f"{self.path}: frames {outside} asked of a video of {self.num_frames}")
        return self.pixels[list(indices)]

    def close(self) -> None:
        pass


class VideoCache:
    """All frames of a list of videos, decoded in this process and shared with workers forked from it.

    Args:
        paths: the files; each is decoded once.
        open_video: path -> `VideoReader`.

    Attributes:
        unreadable: path -> cause of the files that could not be decoded.
    """

    def __init__(self, paths: Sequence[str], open_video: Callable[[str], VideoReader]) -> None:
        self.unreadable: dict[str, str] = {}
        self._videos: dict[str, ArrayVideo] = {}
        for path in dict.fromkeys(paths):
            try:
                with open_video(path) as video:
                    pixels = video.frames(range(video.num_frames))
                    self._videos[path] = ArrayVideo(pixels, video.fps, video.times, path)
            except VideoError as error:
                self.unreadable[path] = error.cause
        size = sum(video.pixels.nbytes for video in self._videos.values())
        logger.info("decoded %d videos into %.1f MiB of memory", len(self._videos), size / 2**20)

    def open(self, path: str) -> ArrayVideo:
        """Open a cached video; VideoError with the first cause if it could not be decoded."""
        if path in self.unreadable:
            raise VideoError(path, self.unreadable[path])
        return self._videos[path]


Value = TypeVar("Value")


class LRUCache(Generic[Value]):
    """Cache of values by key that drops the least recently used ones; threads may share it.

    Args:
        limit: greatest sum of the sizes of the values. A single larger value is kept, alone.

    Attributes:
        total: sum of the sizes.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.total = limit, 0
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """Return the value of `key`, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def keep(self, key: Hashable, value: Value, size: int = 1) -> None:
        """Store `value` of `size` under `key`."""
        with self._lock:
            self.total += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = value, size
            while self.total > self.limit and len(self._values) > 1:
                self.total -= self._values.popitem(last=False)[1][1]

    def __len__(self) -> int:
        return len(self._values)
