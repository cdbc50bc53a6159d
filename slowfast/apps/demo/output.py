"""Where the demo shows its frames: a video file, or a window."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Protocol

import av
import cv2
import numpy as np

from slowfast.apps.predict.drawn import ENCODER, ENCODER_SETTINGS, check_encoder
from slowfast.utils.files import no_room_explained, replacing

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi"}
_TITLE = "SlowFast"
_QUIT = ord("q")


class Output(Protocol):
    """Takes frames."""

    def show(self, frame: np.ndarray) -> bool:
        """Show a frame (H, W, 3) uint8, RGB; return False if the user wants to see no more."""


@contextlib.contextmanager
def open_output(cfg: Any, source_fps: float) -> Iterator[Output]:
    """Open the file `DEMO.OUTPUT_FILE`, or a window; its rate is `DEMO.OUTPUT_FPS`, or that of the source.

    Raises:
        ValueError: this machine can write no such file, or open no window.
        OSError: the file cannot be written.
    """
    path, fps = cfg.DEMO.OUTPUT_FILE, cfg.DEMO.OUTPUT_FPS if cfg.DEMO.OUTPUT_FPS > 0 else source_fps
    if not path:
        window = _Window(fps)
        try:
            yield window
        finally:
            cv2.destroyAllWindows()
        return
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with no_room_explained(path), replacing(path) as temporary, _VideoFile(temporary, format_of(path), fps) as file:
        yield file


def format_of(path: str) -> str:
    """Return FFmpeg's name of the format of `DEMO.OUTPUT_FILE`; ValueError for another suffix or no encoder."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _FORMATS:
        raise ValueError(f"DEMO.OUTPUT_FILE is {path}; its suffix must be one of {' '.join(_FORMATS)}")
    check_encoder("DEMO.OUTPUT_FILE is")
    return _FORMATS[suffix]


class _VideoFile:
    """Encodes frames as H.264. Odd sides get a row or column more, since H.264 with common colors has even ones."""

    def __init__(self, path: str, container_format: str, fps: float) -> None:
        self._container = av.open(f"file:{path}", "w", format=container_format)
        self._stream = self._container.add_stream(
            ENCODER, rate=Fraction(fps).limit_denominator(1001), options=ENCODER_SETTINGS
        )
        self._count = 0

    def __enter__(self) -> _VideoFile:
        return self

    def __exit__(self, kind: type | None, *exception: object) -> None:
        if self._count and kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
        if not self._count and kind is None:
            raise ValueError("the source has no frame, so DEMO.OUTPUT_FILE is not written")

    def show(self, frame: np.ndarray) -> bool:
        frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
        if not self._count:
            self._stream.height, self._stream.width, self._stream.pix_fmt = *frame.shape[:2], "yuv420p"
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        self._count += 1
        return True


class _Window:
    """A window of OpenCV that shows frames at a rate, until it is closed or the key q is pressed."""

    def __init__(self, fps: float) -> None:
        remedy = "set DEMO.OUTPUT_FILE to a file to write"
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ValueError(f"there is no display to open a window on (DISPLAY is not set); {remedy}")
        try:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise ValueError(
                "the OpenCV installed here opens no windows: pip uninstall opencv-python-headless, then pip install "
                f"opencv-python, or {remedy}"
            ) from None
        self._pause, self._due = 1 / fps, 0.0

    def show(self, frame: np.ndarray) -> bool:
        cv2.imshow(_TITLE, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        now = time.monotonic()
        self._due = max(self._due + self._pause, now)
        key = cv2.waitKey(max(1, round(1000 * (self._due - now))))
        return key & 0xFF != _QUIT and cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1
