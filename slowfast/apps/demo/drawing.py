"""Labels and boxes, drawn into frames (H, W, 3) uint8, RGB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

# Not `slowfast.apps.predict.painter`: it takes matplotlib for its font, and the demo draws with the core dependencies.
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_HEIGHT_OF_FONT = 22  # pixels of a capital at scale 1
_TEXT, _BACK, _BACK_COVERS = (255, 255, 255), np.array((0, 0, 0)), 0.55
_FOUND, _TRUTH = (255, 140, 0), (60, 200, 60)


@dataclass(frozen=True)
class Mark:
    """Hold what is drawn at one place of a frame.

    Attributes:
        labels: lines of text.
        box: (4,) x1, y1, x2, y2 as shares of width and height; None for labels about the whole frame.
        is_truth: of the ground truth, in another color.
    """

    labels: Sequence[str] = field(default_factory=list)
    box: np.ndarray | None = None
    is_truth: bool = False


Layer = Callable[[int], list[Mark] | None]
"""Number of a frame in the source -> what is drawn into it; None for a frame that is far from any answer."""


def around(key: int, marks: list[Mark], size: int) -> Layer:
    """Return a layer that has `marks` in frame `key`, in `size` frames before it and in as many behind it."""
    return lambda number: marks if abs(number - key) <= size else None


def draw_marks(frame: np.ndarray, marks: Sequence[Mark]) -> np.ndarray:
    """Return a copy of a frame with marks: labels about it at its upper left, those of a box over the box."""
    drawn = np.ascontiguousarray(frame).copy()
    # At least 10 pixels; about 1/28 of the short side.
    text = max(10, round(min(frame.shape[:2]) / 28))
    thickness = max(1, text // 9)
    for mark in marks:
        if mark.box is None:
            _write(drawn, mark.labels, text // 2, text // 2, text, _BACK)
            continue
        color = _TRUTH if mark.is_truth else _FOUND
        height, width = frame.shape[:2]
        left, top, right, bottom = np.rint(mark.box * (width, height, width, height)).astype(int).tolist()
        cv2.rectangle(drawn, (left, top), (right, bottom), color, 2 * thickness)
        rows = len(mark.labels) * _row(text)
        # Below the upper edge if there is no room above it.
        _write(drawn, mark.labels, left, top - rows if top >= rows else top, text, np.array(color))
    return drawn


def _row(text: int) -> int:
    return round(1.6 * text)


def _write(drawn: np.ndarray, lines: Sequence[str], left: int, top: int, text: int, back: np.ndarray) -> None:
    """Write lines of text, each on a bar; what lies outside the frame is cut off."""
    scale, thickness, row = text / _HEIGHT_OF_FONT, max(1, text // 9), _row(text)
    left = max(left, 0)
    for number, line in enumerate(lines):
        line = line.encode("ascii", "replace").decode()  # the font has no other signs
        (width, _), _ = cv2.getTextSize(line, _FONT, scale, thickness)
        start = top + number * row
        bar = drawn[max(start, 0) : max(start + row, 0), left : left + width + text]
        bar[...] = np.rint(bar + _BACK_COVERS * (back - bar.astype(np.float32)))
        place = (left + text // 2, start + (row + text) // 2)
        cv2.putText(drawn, line, place, _FONT, scale, _TEXT, thickness, cv2.LINE_AA)
