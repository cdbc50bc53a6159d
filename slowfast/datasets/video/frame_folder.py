"""Read videos stored as image files, one per frame."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

import cv2
import numpy as np

from slowfast.datasets.video.limits import USUAL_LIMITS, MediaLimits
from slowfast.datasets.video.picture_size import picture_size
from slowfast.datasets.video.reader import Fit, Pictures, VideoError, VideoReader, cause_of
from slowfast.runtime.device import available_cores
from slowfast.runtime.distributed import get_local_world_size
from slowfast.utils.files import regular_file

MAX_THREADS = 4
# Most bytes of an uncompressed pixel (four channels of 16 bits), and of what else a file of a picture holds.
_PIXEL_BYTES, _HEADER_BYTES = 8, 2**24
_FORMATS = "JPEG, PNG, BMP, WebP, TIFF and PNM"
# Start and end of a JPEG file; some versions of OpenCV fill up a truncated file with gray.
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


class FrameFolder(VideoReader):
    """`VideoReader` of image files (JPEG, PNG, BMP, WebP, TIFF or PNM), in order.

    A file is opened when its frame is asked for. Pictures are as `cv2.imread` returns them (8 bits, rotated by EXIF),
    but RGB, which the decoder writes directly.

    Args:
        paths: image paths in presentation order; a path may repeat.
        fps: frame rate.
        threads: threads that decode the images of one call; see `image_threads`.
        name: name of the video for messages; "" for the folder of the first image.
        limits: on the size of an image.

    Raises:
        VideoError: no images.
        ValueError: `fps` or `threads` is not positive.
    """

    def __init__(
        self,
        paths: Sequence[str | bytes | os.PathLike],
        fps: float,
        threads: int = 1,
        name: str = "",
        limits: MediaLimits = USUAL_LIMITS,
    ) -> None:
        if fps <= 0 or threads < 1:
            raise ValueError(f"{fps} frames a second and {threads} threads: both must be positive")
        self.path = name or (os.path.dirname(_printable(paths[0])) if paths else "")
        if not paths:
            raise VideoError(self.path, "no images")
        self._paths, self._fps, self._threads, self._limits = paths, float(fps), threads, limits

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
        return self._put(indices, None)

    def fitted(self, indices: Sequence[int], fit: Fit) -> np.ndarray:
        """See `VideoReader.fitted`, and `frames` for errors."""
        return self._put(indices, fit)

    def _put(self, indices: Sequence[int], fit: Fit | None) -> np.ndarray:
        wanted = [int(i) for i in indices]
        outside = [i for i in wanted if not 0 <= i < self.num_frames]
        if outside or not wanted:
            raise IndexError(f"{self.path}: frames {outside or wanted} asked of a video of {self.num_frames}")
        pictures, indices = Pictures(wanted, fit), list(dict.fromkeys(wanted))
        paths = [self._paths[index] for index in indices]
        for index, path, picture in zip(indices, paths, self._decode(paths), strict=True):
            if pictures.shape not in (None, picture.shape):
                sizes = [f"{height}x{width}" for height, width, _ in (picture.shape, pictures.shape)]
                first = os.path.basename(_printable(paths[0]))
                raise self._error(path, f"{sizes[0]} pixels (height x width) where {first} has {sizes[1]}")
            pictures.put(index, picture)
        return pictures.array

    def close(self) -> None:
        pass

    def _decode(self, paths: list[str | bytes | os.PathLike]) -> Iterator[np.ndarray]:
        """Yield the pictures in order; with threads, few of them wait in memory."""
        if self._threads == 1 or len(paths) == 1:
            yield from map(self._picture, paths)
            return
        # The pool ends with the call: threads of a lasting pool would be missing in a forked loader worker.
        with ThreadPoolExecutor(min(self._threads, len(paths))) as pool:
            ahead: deque[Future[np.ndarray]] = deque()
            for path in paths:
                ahead.append(pool.submit(self._picture, path))
                if len(ahead) > 2 * self._threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _picture(self, path: str | bytes | os.PathLike) -> np.ndarray:
        # OpenCV itself reads only UTF-8 paths and gives no cause of a failure.
        try:
            with open(path, "rb", opener=regular_file) as file:
                data = self._bytes(path, file)
        except OSError as error:
            raise self._error(path, cause_of(error)) from error
        if data.startswith(JPEG_START) and JPEG_END not in data:
            raise self._error(path, f"a JPEG file cut off after {len(data)} bytes")
        # The size comes first: OpenCV makes room for the whole picture before it reads the pixels.
        size = picture_size(data)
        if size is not None and (oversized := self._limits.oversized(*size)):
            raise self._error(path, oversized)
        try:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if size else None
        except cv2.error as error:
            raise self._error(path, f"no image that OpenCV can decode ({error.err})") from error
        if picture is None:
            raise self._error(path, f"no image that OpenCV can decode ({len(data)} bytes; {_FORMATS} are read)")
        return picture

    def _bytes(self, path: str | bytes | os.PathLike, file: BinaryIO) -> bytes:
        """Read the file, unless it is larger than an uncompressed picture of the greatest size."""
        size = os.fstat(file.fileno()).st_size
        if self._limits.frame_pixels and size > _PIXEL_BYTES * self._limits.frame_pixels + _HEADER_BYTES:
            raise self._error(path, f"{size / 2**20:,.0f} MiB are too much for a picture; see DATA.MAX_FRAME_PIXELS")
        return file.read()

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
