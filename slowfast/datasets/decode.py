"""Video decoding behind one small interface: `open(path)` gives a `VideoReader`.

A reader counts frames in presentation order, as a decode of the whole file would yield them; frame 0 is the
first frame shown. `DECODING_BACKENDS` holds the ways to read a file; a new one is a function `(path, threads)
-> VideoReader` registered under the name that `DATA.DECODING_BACKEND` then takes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from slowfast.datasets.video_reader import VideoError, VideoReader
from slowfast.utils.registry import Registry

__all__ = ["DECODING_BACKENDS", "VideoError", "VideoReader", "open", "video_opener"]

DECODING_BACKENDS = Registry("DATA.DECODING_BACKEND")


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


def video_opener(cfg: Any) -> Callable[[str], VideoReader]:
    """How a configuration has videos opened: path -> `VideoReader`; it can be sent to other processes.

    Raises:
        ValueError: `DATA.DECODING_BACKEND` is not known.
    """
    threads = 0 if cfg.DATA_LOADER.ENABLE_MULTI_THREAD_DECODE else 1
    return functools.partial(DECODING_BACKENDS.get(cfg.DATA.DECODING_BACKEND), threads=threads)
