"""Read videos stored as image files, one per frame."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from slowfast.datasets.video.reader import VideoError, VideoReader
from slowfast.runtime.device import available_cores
from slowfast.runtime.distributed import get_local_world_size

MAX_THREADS = 4
# Start and end of a JPEG file; some versions of OpenCV fill up a truncated file with gray.
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


class FrameFolder(VideoReader):
    """`VideoReader` of image files (JPEG or any format of OpenCV), in order.

    A file is opened when its frame is asked for. Pictures are as `cv2.imread` returns them (8 bits, rotated by EXIF),
    but RGB, which the decoder writes directly.

    Args:
        paths: image paths in presentation order; a path may repeat.
        fps: frame rate.
        threads: threads that decode the images of one call; see `image_threads`.
        name: name of the video for messages; "" for the folder of the first image.

    Raises:
        VideoError: no images.
        ValueError: `fps` or `threads` is not positive.
    """

    def __init__(
        self, paths: Sequence[str | bytes | os.PathLike], fps: float, threads: int = 1, name: str = ""
    ) -> None:
        if fps <= 0 or threads < 1:
            raise ValueError(f"{fps} frames a second and {threads} threads: both must be positive")
        self.path = name or (os.path.dirname(_printable(paths[0])) if paths else "")
        if not paths:
            raise VideoError(self.path, "no images")
        self._paths, self._fps, self._threads = paths, float(fps), threads

    @property
    def paths(self) -> Sequence[str | bytes | os.PathLike]:
        """Image paths, in order."""
        return self._paths

    @property
    def num_frames(self) -> int:
        return len(self._paths)

    @property
    def fps(self) -> float:
        return self._fps

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """See `VideoReader.frames`; the cause in a `VideoError` names the first image that fails."""
        wanted = [int(i) for i in indices]
        outside = [i for i in wanted if not 0 <= i < self.num_frames]
        if outside or not wanted:
            raise IndexError(f"{self.path}: frames {outside or wanted} asked of a video of {self.num_frames}")
        pictures = self._read([self._paths[i] for i in dict.fromkeys(wanted)])
        place = {index: i for i, index in enumerate(dict.fromkeys(wanted))}
        return np.stack([pictures[place[i]] for i in wanted])

    def close(self) -> None:
        pass

    def _read(self, paths: list[str | bytes | os.PathLike]) -> list[np.ndarray]:
        if self._threads == 1 or len(paths) == 1:
            pictures = [self._picture(path) for path in paths]
        else:
            # The pool ends with the call: threads of a lasting pool would be missing in a forked loader worker.
            with ThreadPoolExecutor(min(self._threads, len(paths))) as pool:
                pictures = list(pool.map(self._picture, paths))
        size = pictures[0].shape
        for path, picture in zip(paths, pictures, strict=True):
            if picture.shape != size:
                sizes = [f"{height}x{width}" for height, width, _ in (picture.shape, size)]
                first = os.path.basename(_printable(paths[0]))
                raise self._error(path, f"{sizes[0]} pixels (height x width) where {first} has {sizes[1]}")
        return pictures

    def _picture(self, path: str | bytes | os.PathLike) -> np.ndarray:
        # OpenCV itself reads only UTF-8 paths and gives no cause of a failure.
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise self._error(path, "no such file" if error.errno == errno.ENOENT else str(error.strerror)) from error
        if data.startswith(JPEG_START) and JPEG_END not in data:
            raise self._error(path, f"a JPEG file cut off after {len(data)} bytes")
        try:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
        except cv2.error as error:
            raise self._error(path, f"no image that OpenCV can decode ({error.err})") from error
        if picture is None:
            raise self._error(path, f"no image that OpenCV can decode ({len(data)} bytes)")
        return picture

    def _error(self, path: str | bytes | os.PathLike, cause: str) -> VideoError:
        return VideoError(self.path, f"{_printable(path)}: {cause}")


def image_threads(cfg: Any) -> int:
    """Return the number of threads that decode the images of a clip in one process, 1 to 4.

    `DATA_LOADER.ENABLE_MULTI_THREAD_DECODE` gives 4, which hides the latency of a slow file system. Otherwise the
    loader processes share the cores, since more threads than cores are slower.
    """
    if cfg.DATA_LOADER.ENABLE_MULTI_THREAD_DECODE:
        return MAX_THREADS
    processes = max(cfg.DATA_LOADER.NUM_WORKERS, 1) * get_local_world_size()
    return max(1, min(MAX_THREADS, available_cores() // processes))


def _printable(path: str | bytes | os.PathLike) -> str:
    """Return a path as text, with undecodable bytes escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
