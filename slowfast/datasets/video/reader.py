"""Interface of all video readers."""

from __future__ import annotations

import abc
import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


class VideoError(Exception):
    """A file that cannot be read as video, with the first cause in words. Can be pickled, to cross processes."""

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(path, cause)
        self.path = path
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.path}: {self.cause}"


def cause_of(error: OSError) -> str:
    """Return why a file cannot be opened.

    Raises:
        OSError: the error is none of the file: this process, or the machine, has no more descriptors or memory.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        raise error
    return "no such file" if error.errno == errno.ENOENT else str(error.strerror)


@dataclass(frozen=True)
class Rhythm:
    """Facts of a video that `slowfast.datasets.video.timing.Timeline` finds in the times of all its frames.

    Attributes:
        is_even: the frame rate is constant.
        rate: frame i is at i / `rate` seconds; 0 if times are those of the stamps.
    """

    is_even: bool
    rate: float


Fit = Callable[[np.ndarray], np.ndarray]
"""What is done to each frame once it is decoded: (1, H, W, 3) uint8 -> (1, height, width, 3), such as resizing."""


class Pictures:
    """The frames of one call of a `VideoReader`, each written into its rows of one array as soon as it is decoded.

    Args:
        indices: positions as asked for; any order, with repeats.
        fit: called with each picture; None keeps pictures as they are.

    Attributes:
        wanted: these positions, sorted and without repeats.
        shape: (H, W, 3) of the pictures; None before the first one.
        array: (T, height, width, 3), the fitted pictures; None before the first one.
    """

    def __init__(self, indices: Sequence[int], fit: Fit | None) -> None:
        self._rows: dict[int, list[int]] = {}
        for row, index in enumerate(indices):
            self._rows.setdefault(index, []).append(row)
        self.wanted = sorted(self._rows)
        self.shape: tuple[int, ...] | None = None
        self.array: np.ndarray | None = None
        self._count, self._fit = len(indices), fit

    def put(self, index: int, picture: np.ndarray) -> None:
        """Fit a picture (H, W, 3) and write it; it has the size of the first one."""
        self.shape = picture.shape
        if self._fit is not None:
            picture = self._fit(np.ascontiguousarray(picture)[None])[0]
        if self.array is None:
            self.array = np.empty((self._count, *picture.shape), picture.dtype)
        for row in self._rows[index]:
            self.array[row] = picture


class VideoReader(abc.ABC):
    """One open video. Use it as a context manager, or call `close`."""

    path: str

    @classmethod
    def require(cls) -> None:
        """Check that what the reader needs is installed; a reader of an extra has its own.

        Raises:
            ImportError: something is missing; the message says what, and what to do.
        """
        return

    @property
    @abc.abstractmethod
    def num_frames(self) -> int:
        """Number of frames, at least 1; it stays while the video is open.

        A frame that does not decode, as is found out when it is read, is shown as the last one before it.
        """

    @property
    @abc.abstractmethod
    def fps(self) -> float:
        """Mean frame rate of the file: `num_frames` / `duration`."""

    @property
    def times(self) -> np.ndarray:
        """Time of every frame in seconds: (num_frames,) float64, increasing, 0 for the first frame.

        Second 0 is the first frame of the video stream, even if the sound starts earlier. Times come from the time
        stamps of the file. Where joined files make stamps jump, the gap or step back is closed. Frames without stamps
        follow at the file's rate. Folders of images have no stamps, so frame n is at n / `fps`.
        """
        return np.arange(self.num_frames) / self.fps

    @property
    def rhythm(self) -> Rhythm | None:
        """Return what is known of `times` without reading them all; None if nothing is."""
        return None

    @property
    def notes(self) -> Sequence[str]:
        """Remarks for the user on how the file is read, one sentence each; empty for most files."""
        return ()

    @property
    def unreadable(self) -> Sequence[tuple[float, float]]:
        """Spans (start, end) in seconds that the file promises and does not hold, as far as it was read."""
        return ()

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last one."""
        return self.num_frames / self.fps

    @abc.abstractmethod
    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Decode the frames at `indices`, in that order; any order, repeats allowed.

        Args:
            indices: positions in presentation order, 0 <= index < `num_frames`.

        Returns:
            (T, H, W, 3) uint8, RGB, upright (a display rotation stored in the file is applied).

        Raises:
            IndexError: an index outside the video.
            VideoError: the frames cannot be decoded.
        """

    def fitted(self, indices: Sequence[int], fit: Fit) -> np.ndarray:
        """Decode the frames at `indices` and fit each; a reader of large frames overrides it, to hold few unfitted.

        Args:
            indices: as of `frames`.
            fit: called once for each frame, in any order; all frames have one size. If decoding has to begin anew, a
                frame comes again.

        Returns:
            (T, height, width, 3), in the order of `indices`.

        Raises:
            IndexError, VideoError: as `frames`; errors of `fit` are passed on.
        """
        pictures = Pictures(indices, fit)
        for index, picture in zip(pictures.wanted, self.frames(pictures.wanted), strict=True):
            pictures.put(index, picture)
        return pictures.array

    @abc.abstractmethod
    def close(self) -> None:
        """Close the file and the decoder; may be called twice."""

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
