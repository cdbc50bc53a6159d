"""Pictures upright: frames as cameras that are turned or mirrored took them, by the display matrix of the file."""

from __future__ import annotations

import threading

import av
import numpy as np
from av.video.reformatter import VideoReformatter

# From 17 on, PyAV starts conversion threads unless told not to; a forked loader worker would lack them.
ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


class _Local(threading.local):
    """Converters for each thread, one for each kind of result; creating one costs several times as much as using it."""

    def __init__(self) -> None:
        self.reformatter, self.shrinker = VideoReformatter(), VideoReformatter()


_local = _Local()


def upright_picture(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """Convert to (H, W, 3) uint8, RGB, upright.

    Args:
        size: (width, height) before turning; a frame of another size is scaled.
    """
    return upright(_local.reformatter.reformat(frame, *size, format="rgb24", **ONE_THREAD).to_ndarray(), frame)


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return a, b, c, d of the display matrix: x' = a x + c y, y' = b x + d y; y points down."""
    # PyAV's frames and their side data refer to each other, so that only a full collection of garbage frees the pixels.
    # A copy has the same side data and few pixels.
    small = _local.shrinker.reformat(frame, 2, 2, "gray", interpolation="POINT", **ONE_THREAD)
    matrix = small.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    return a, b, c, d


def upright(pixels: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Apply the display matrix: quarter turns and mirror images."""
    a, b, c, d = display_matrix(frame)
    if abs(a) < abs(b):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
