"""Rows of a video's features while the video is read, in a temporary file once they are many."""

from __future__ import annotations

import contextlib
import tempfile
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np

from slowfast.apps.features.files import VideoFeatures
from slowfast.datasets.clips.streaming import Chunk
from slowfast.utils.archives import Blocks, block_bytes
from slowfast.utils.files import no_room_explained

_IN_MEMORY = 2**22  # bytes of a video's features; a longer video has a temporary file


class VideoRows:
    """Rows of a video so far: the features in a temporary file, 32 bytes of the rest for each window in memory.

    The file has no name, so that nothing of it stays on the disk, however the process ends.

    Args:
        folder: where the temporary file is made.

    Attributes:
        memory: of the model, for the next chunk.
        is_finite: False if a feature is NaN or infinite.
    """

    def __init__(self, folder: str) -> None:
        self.memory: Any = None
        self.is_finite = True
        self._folder = folder
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=folder)  # noqa: SIM115 (see close)
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.float32)
        self._count = 0
        self._frames, self._times = array("q"), array("d")

    def add(self, chunk: Chunk, rows: np.ndarray) -> None:
        """Append the features of a chunk, (windows x crops, C, ...).

        Raises:
            OSError: the temporary file cannot be written.
        """
        self.is_finite = self.is_finite and bool(np.isfinite(rows).all())
        self._shape, self._dtype = rows.shape[1:], rows.dtype
        self._count += len(rows)
        for frames, times in zip(chunk.frames, chunk.times, strict=True):
            self._frames.extend(frames)
            self._times.extend(times)
        with no_room_explained(self._folder):
            self._file.write(np.ascontiguousarray(rows))

    def record(self, path: str, label: int, last: Chunk) -> VideoFeatures:
        """Return the features of the complete video, `Blocks` of which can be read until `close`.

        Args:
            last: the last chunk.
        """
        windows = len(self._frames) // 2
        crops = self._count // windows
        return VideoFeatures(
            path=path,
            label=label,
            fps=last.fps,
            num_frames=last.num_frames,
            features=Blocks((self._count, *self._shape), self._dtype, self._read),
            window=np.arange(windows).repeat(crops),
            crop=np.tile(np.arange(crops), windows),
            frames=np.array(self._frames).reshape(-1, 2).repeat(crops, axis=0),
            times=np.array(self._times).reshape(-1, 2).repeat(crops, axis=0),
        )

    def close(self) -> None:
        """Drop the rows."""
        with contextlib.suppress(OSError):  # of a full disk; the content is dropped anyway
            self._file.close()

    def _read(self) -> Iterator[np.ndarray]:
        self._file.seek(0)
        while data := self._file.read(block_bytes((self._count, *self._shape), self._dtype)):
            yield np.frombuffer(data, self._dtype).reshape(-1, *self._shape)
