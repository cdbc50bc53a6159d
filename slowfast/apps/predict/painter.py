"""Answers drawn into pictures: the time, the best classes with bars, and boxes with labels.

A picture is RGB, or planes Y, U, V of which the last two have half the sides. Drawing blends into its arrays, so pixels
elsewhere keep their values.
"""

from __future__ import annotations

import bisect
import colorsys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slowfast.utils.fonts import fonts_beside, own_font_file
from slowfast.utils.text import one_line

Color = tuple[int, int, int]  # red, green, blue

_BACK, _BAR = (0, 0, 0), (42, 111, 187)
_LIGHT, _DARK = (255, 255, 255), (0, 0, 0)
# How much of the picture they cover.
_BACK_COVERS, _BAR_COVERS, _LABEL_COVERS = 0.55, 0.8, 0.8
# ITU-R BT.709 in the limited range: Y, U, V = _YUV @ (red, green, blue) / 255 + _YUV_ZERO
_YUV = np.array([[46.559, 156.629, 15.812], [-25.664, -86.336, 112.0], [112.0, -101.730, -10.270]], np.float32)
_YUV_ZERO = np.array([16, 128, 128], np.float32)
_GOLDEN = 0.618034  # of a turn: hues of neighboring numbers are far apart, and none comes twice


@dataclass(frozen=True)
class Box:
    """A box with a label, such as a person and what it does.

    Attributes:
        x1, y1, x2, y2: left, top, right and bottom, as shares of the picture's width and height, 0 to 1.
        lines: lines of the label, such as "walk 0.93".
        color_number: whose box it is; a number has the same color everywhere.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    lines: Sequence[str] = ()
    color_number: int = 0


@dataclass(frozen=True)
class Caption:
    """Hold what is drawn from a second of the video on.

    Attributes:
        start_s: the second.
        names, scores: classes, best first, and their scores, 0 to 1.
        boxes: boxes, later ones over earlier ones.
    """

    start_s: float
    names: Sequence[str] = ()
    scores: Sequence[float] = ()
    boxes: Sequence[Box] = ()


_NOTHING = Caption(0.0)


class Painter:
    """Draws captions into pictures of one size; needs matplotlib, for its font.

    The text of a caption is made once: pass the same object as long as it is shown.
    """

    def __init__(self, height: int, width: int) -> None:
        short = min(height, width)
        self._height, self._width = height, width
        self._size = max(12, round(short / 30))  # of the font, in pixels
        self._gap = self._size // 3
        self._row = 2 * round(0.7 * self._size)
        # Even, as the planes of color ask for.
        self._margin = 2 * max(1, short // 80)
        self._edge = 2 * max(1, round(short / 500))
        self._panel_width = 2 * (min(width - 2 * self._margin, 20 * self._size) // 2)
        self._rows = max(0, (height - 2 * self._margin) // self._row - 1)  # of classes; the time takes one
        self._font = _Font(self._size)
        self._caption, self._classes, self._labels = _NOTHING, self._panel(_NOTHING), []

    def draw(self, picture: np.ndarray, caption: Caption | None, seconds: float | None = None) -> None:
        """Draw into a picture (H, W, 3) uint8, RGB. None leaves out the classes and boxes, or the time."""
        self.draw_planes(list(np.moveaxis(picture, -1, 0)), caption, seconds)

    def draw_planes(self, planes: list[np.ndarray], caption: Caption | None, seconds: float | None = None) -> None:
        """Draw into planes Y (H, W), U and V (H/2, W/2) of even sides, limited range; or into R, G and B, (H, W)."""
        caption = caption or _NOTHING
        if caption is not self._caption:
            self._caption, self._classes = caption, self._panel(caption)
            self._labels = [self._label(box) for box in caption.boxes]
        self._classes.blend(planes, self._margin, self._margin)
        for box, label in zip(caption.boxes, self._labels, strict=True):
            self._draw_box(planes, box, label)
        if seconds is not None:
            # At the bottom, since labels stand at the top of their boxes.
            clock = self._lines([_clock(seconds)], _BACK, _BACK_COVERS)
            clock.blend(planes, max(0, 2 * ((self._height - self._margin - self._row) // 2)), self._margin)

    def _panel(self, caption: Caption) -> _Patch:
        """Return the rows of the classes: the bar of a class is as long as its score."""
        shown = list(zip(caption.names, caption.scores, strict=True))[: self._rows]
        patch = _Patch(self._row * len(shown), self._panel_width)
        for number, (name, score) in enumerate(shown):
            top = number * self._row
            patch.fill(top + 1, top + self._row - 1, round(min(max(score, 0.0), 1.0) * self._panel_width))
            value = f"{score:.2f}"
            left = self._panel_width - self._gap - self._font.width(value)
            self._font.write(patch, value, left, top, self._row)
            self._font.write(patch, self._font.cut(one_line(name), left - 2 * self._gap), self._gap, top, self._row)
        return patch

    def _label(self, box: Box) -> _Patch:
        """Return the lines of a box, on its color."""
        lines = box.lines[: self._height // self._row]
        return self._lines([one_line(line) for line in lines], _color_of(box.color_number), _LABEL_COVERS)

    def _lines(self, lines: list[str], color: Color, covers: float) -> _Patch:
        """Return lines on a color, in a patch as wide as the longest, but not wider than the picture."""
        lines = [self._font.cut(line, self._width - 2 * self._gap) for line in lines]
        wanted = max((2 * self._gap + self._font.width(line) for line in lines), default=0)
        patch = _Patch(self._row * len(lines), 2 * min(-(-wanted // 2), self._width // 2), color, covers)
        text = _DARK if _to_yuv(color)[0] > 140 else _LIGHT
        for number, line in enumerate(lines):
            self._font.write(patch, line, self._gap, number * self._row, self._row, text)
        return patch

    def _draw_box(self, planes: list[np.ndarray], box: Box, label: _Patch) -> None:
        """Draw the edges inside a box, and its label above it, or inside where there is no room above."""
        left, right = (2 * round(min(max(x, 0.0), 1.0) * (self._width // 2)) for x in (box.x1, box.x2))
        top, bottom = (2 * round(min(max(y, 0.0), 1.0) * (self._height // 2)) for y in (box.y1, box.y2))
        color, edge = _color_of(box.color_number), self._edge
        for plane, half, value in _layers(planes, color):
            inside = plane[top // half : bottom // half, left // half : right // half]
            thick = edge // half
            for strip in (inside[:thick], inside[-thick:], inside[:, :thick], inside[:, -thick:]):
                strip[...] = np.rint(value)
        height, width = label.shape
        label.blend(planes, top - height if top >= height else top, min(left, 2 * ((self._width - width) // 2)))


class _Patch:
    """A rectangle of RGB colors, each pixel covering what is under it to a degree; even height and width."""

    def __init__(self, height: int, width: int, color: Color = _BACK, covers: float = _BACK_COVERS) -> None:
        self.shape = height, width
        self._colors = np.tile(np.array(color, np.float32), (height, width, 1))
        self._covers = np.full((height, width), covers, np.float32)
        self._mixed: list[tuple[int, np.ndarray, np.ndarray]] = []  # for each plane, made when it is first blended

    def fill(self, top: int, bottom: int, width: int) -> None:
        """Fill rows from the left: a bar."""
        self._colors[top:bottom, :width] = _BAR
        self._covers[top:bottom, :width] = _BAR_COVERS

    def ink(self, mask: np.ndarray, top: int, left: int, color: Color) -> None:
        """Put text over it, of a mask (h, w) uint8; what lies outside is cut off."""
        mask = mask[max(-top, 0) :, max(-left, 0) :]
        top, left = max(top, 0), max(left, 0)
        part = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
        ink = mask[: self._covers[part].shape[0], : self._covers[part].shape[1]].astype(np.float32) / 255
        self._covers[part] += ink * (1 - self._covers[part])
        self._colors[part] += ink[..., None] * (np.array(color, np.float32) - self._colors[part])

    def blend(self, planes: list[np.ndarray], top: int, left: int) -> None:
        """Blend it into a picture at an even place; what lies outside is cut off. Later inks have no effect."""
        if not self._mixed:
            for _, half, color in _layers(planes, self._colors):
                covers = _mean(self._covers, half)
                self._mixed.append((half, 1 - covers, covers * _mean(color, half)))
        for plane, (half, keeps, adds) in zip(planes, self._mixed, strict=True):
            part = plane[top // half :, left // half :][: keeps.shape[0], : keeps.shape[1]]
            height, width = part.shape
            part[...] = np.rint(part * keeps[:height, :width] + adds[:height, :width])


def _layers(planes: list[np.ndarray], colors: Color | np.ndarray) -> list[tuple[np.ndarray, int, np.ndarray]]:
    """Return each plane with how many pixels of the picture a side of its pixels spans, and the colors' part in it."""
    halves = [planes[0].shape[1] // plane.shape[1] for plane in planes]
    values = np.asarray(colors) if max(halves) == 1 else _to_yuv(colors)
    return list(zip(planes, halves, np.moveaxis(values, -1, 0), strict=True))


def _to_yuv(colors: Color | np.ndarray) -> np.ndarray:
    """Convert colors (..., 3), 0 to 255."""
    return np.asarray(colors, np.float32) @ (_YUV.T / 255) + _YUV_ZERO


def _mean(values: np.ndarray, side: int) -> np.ndarray:
    """Return the means of squares of `side` pixels, 1 or 2."""
    if side == 1:
        return values
    return (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) / 4


def _color_of(number: int) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(_GOLDEN * number % 1, 0.75, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


class _Font:
    """matplotlib's own font, and others for what it lacks, at a size in pixels."""

    def __init__(self, size: int) -> None:
        self._size = size

    def width(self, text: str) -> int:
        """Return the pixels that a text takes."""
        self._set(text)
        return -(-self._font.get_width_height()[0] // 64)

    def cut(self, text: str, width: int) -> str:
        """Return the text, shortened to a width if it is longer."""
        if self.width(text) <= width:
            return text
        longest = bisect.bisect_right(range(len(text)), width, key=lambda count: self.width(f"{text[:count]}…"))
        return f"{text[: max(longest - 1, 0)]}…"

    def write(self, patch: _Patch, text: str, left: int, top: int, height: int, color: Color = _LIGHT) -> None:
        """Write a line, centered in `height`."""
        self._set(text)
        self._font.draw_glyphs_to_bitmap(antialiased=True)
        mask = np.array(self._font.get_image())
        below = self._font.get_descent() // 64
        baseline = top + (height + round(0.72 * self._size)) // 2  # 0.72: a capital's height
        patch.ink(mask, baseline + below - mask.shape[0], left, color)

    def _set(self, text: str) -> None:
        from matplotlib.font_manager import get_font

        self._font = get_font([own_font_file(), *(font.fname for font in fonts_beside(text))])
        self._font.set_size(self._size, 72)  # at 72 dots an inch, a point is a pixel
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of signs that no font has; there is a box for them
            self._font.set_text(text, 0.0)


def _clock(seconds: float) -> str:
    """Return a time as 1:02:03.45, or 2:03.45."""
    minutes, hundredths = divmod(round(100 * seconds), 6000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{hundredths // 100:02d}.{hundredths % 100:02d}"
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"
