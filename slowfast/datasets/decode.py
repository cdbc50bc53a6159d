"""Video decoding behind one small interface: `open(path)` gives a `VideoReader`.

A reader counts frames in presentation order, as a decode of the whole file would yield them; frame 0 is the
first frame shown. `DECODING_BACKENDS` holds the ways to read a file; a new one is a function `(path, threads)
-> VideoReader` registered under the name that `DATA.DECODING_BACKEND` then takes.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np

from slowfast.utils.registry import Registry

DECODING_BACKENDS = Registry("DATA.DECODING_BACKEND")


class VideoError(Exception):
    """A file that cannot be read as video: `path` and the first `cause`, in words. Survives the way from a
    worker.
    """

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(path, cause)
        self.path = path
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.path}: {self.cause}"


class VideoReader(abc.ABC):
    """One open video. Use it as a context manager, or call `close`."""

    path: str

    @property
    @abc.abstractmethod
    def num_frames(self) -> int:
        """Frames that really decode, at least 1."""

    @property
    @abc.abstractmethod
    def fps(self) -> float:
        """Frames a second, on average over the file."""

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last one."""
        return self.num_frames / self.fps

    @abc.abstractmethod
    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """The frames at `indices`, in the order asked for; any order, repeats allowed.

        Args:
            indices: positions in presentation order, 0 <= index < `num_frames`.

        Returns:
            (T, H, W, 3) uint8, RGB, upright (a display rotation stored in the file is applied).

        Raises:
            IndexError: an index outside the video.
            VideoError: the frames cannot be decoded.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Free the file and the decoder; calling it twice is fine."""

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@DECODING_BACKENDS.register("pyav")
def _open_pyav(path: str, threads: int) -> VideoReader:
    from slowfast.datasets.decode_pyav import PyAVReader  # PyAV loads when the first video is opened

    return PyAVReader(path, threads)


def open(path: str, backend: str = "pyav", threads: int = 1) -> VideoReader:  # noqa: A001
    """Open a video file.

    Args:
        path: the file.
        backend: a name in `DECODING_BACKENDS`.
        threads: decoder threads; loader workers use 1, 0 lets the decoder choose.

    Raises:
        VideoError: the file is missing, is no video, or holds no frame that decodes.
        ValueError: no backend of that name.
    """
    return DECODING_BACKENDS.get(backend)(path, threads)
