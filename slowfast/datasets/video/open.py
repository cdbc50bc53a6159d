"""Open video files with a decoding backend: `open(path)` returns a `VideoReader`.

Readers number frames in presentation order, as decoding the whole file would yield them. A new backend is a function
`(path, threads) -> VideoReader`, registered in `DECODING_BACKENDS` under a name for `DATA.DECODING_BACKEND`. It takes
`stream` by name too if it can choose between the video streams of a file, `limits` if it keeps those of the settings,
and `index_cache` if it keeps indices. Files come from anywhere, so it must not open what a file names.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from slowfast.datasets.video.index_cache import IndexCache
from slowfast.datasets.video.limits import USUAL_LIMITS, MediaLimits
from slowfast.datasets.video.reader import VideoError, VideoReader
from slowfast.utils.registry import Registry

__all__ = ["DECODING_BACKENDS", "VideoError", "VideoReader", "open", "video_opener"]

DECODING_BACKENDS = Registry("DATA.DECODING_BACKEND")


class _Backend:
    """A `VideoReader` class whose module is imported when the first video is opened, or by `load`."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def load(self) -> Callable[..., VideoReader]:
        """Return the class; raise ImportError with what is missing."""
        reader = getattr(importlib.import_module(self.module), self.name)
        reader.require()
        return reader

    def __call__(
        self,
        path: str,
        threads: int,
        stream: int | None = None,
        limits: MediaLimits = USUAL_LIMITS,
        index_cache: IndexCache | None = None,
    ) -> VideoReader:
        return self.load()(path, threads, stream, limits, index_cache=index_cache)


DECODING_BACKENDS.register("pyav")(_Backend("slowfast.datasets.video.pyav", "PyAVReader"))
DECODING_BACKENDS.register("torchcodec")(_Backend("slowfast.datasets.video.torchcodec", "TorchCodecReader"))


def open(path: str, backend: str = "pyav", threads: int = 1, stream: int | None = None) -> VideoReader:  # noqa: A001
    """Open a video file.

    Args:
        path: the file.
        backend: a name in `DECODING_BACKENDS`.
        threads: decoder threads; loader workers use 1, 0 lets the decoder choose.
        stream: which of the video streams of the file, from 0, without attached pictures such as covers; None for the
            one that FFmpeg takes for the best. `VideoReader.notes` says when there are several.

    Raises:
        VideoError: the file is missing, is no video, has no such stream, or holds no frame that decodes.
        ValueError: no backend of that name.
        ImportError: one that is not installed, or lacks a library; the message says which.
    """
    choice = {} if stream is None else {"stream": stream}
    return DECODING_BACKENDS.get(backend)(path, threads, **choice)


def video_opener(cfg: Any) -> Callable[[str], VideoReader]:
    """Build the picklable opener of a configuration, path -> `VideoReader`.

    Raises:
        ValueError: `DATA.DECODING_BACKEND` is not known, not installed, or lacks a library; or FFmpeg knows none of
            `DATA.MEDIA_FORMATS_EXTRA`; or the folder `DATA.INDEX_CACHE` cannot be made. The message says which.
    """
    limits, cache = MediaLimits.from_config(cfg), IndexCache.from_config(cfg)
    backend = DECODING_BACKENDS.get(cfg.DATA.DECODING_BACKEND)
    if isinstance(backend, _Backend):
        try:
            backend.load()  # raise here what is missing, rather than in a worker
        except ImportError as error:
            raise ValueError(str(error)) from error
    threads = 0 if cfg.DATA_LOADER.ENABLE_MULTI_THREAD_DECODE else 1
    # A backend of another project need not take what nobody set.
    chosen = {} if limits == USUAL_LIMITS else {"limits": limits}
    chosen |= {} if cache is None else {"index_cache": cache}
    return functools.partial(backend, threads=threads, **chosen)
