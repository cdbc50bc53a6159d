"""Style of all pictures: sizes, fonts, colors, lines and files.

Every picture is a matplotlib `Figure` of the stated size in inches. Fonts are embedded: Type 42 in PDF, outlines in
SVG. Colors are those of Okabe and Ito (Color Universal Design, 2008) with a contrast of 3 to 1 against white. Lines
also differ in dashes and markers, and a later line is thinner than those below it, so lines in one place show both.
matplotlib is an extra and is imported where it is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from slowfast.utils.errors import require_matplotlib
from slowfast.utils.files import atomic_write_local
from slowfast.utils.fonts import add_fonts
from slowfast.utils.text import plot_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

# Widths in inches, of a column and of the text of a page with two columns (CVPR).
WIDTHS = {"column": 3.25, "text": 6.875}
FORMATS = ("png", "svg", "pdf")
BLUE, VERMILLION, GREEN, PURPLE, BLACK = COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
# For areas that have an edge; too pale for lines.
SKY, ORANGE, GRAY = "#56B4E9", "#E69F00", "#BBBBBB"
SMALL = 6.0  # points; the smallest text but for names of many classes
TINY = 5.0  # points; names of many classes
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.4)), (0, (1, 1)), (0, (6, 1.4, 1, 1.4)))
_MARKERS = "osD^vXP"
_FEW_POINTS = 15  # up to so many each have a marker
_PADS = {"w_pad": 0.02, "h_pad": 0.02, "hspace": 0.04, "wspace": 0.04}  # inches, and shares of a plot
_TITLE_HEIGHT = 0.2  # inches
_DODGE = 1.6  # points between lines with error bars at the same place

_SETTINGS = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 7,
    "figure.titlesize": 8,
    "font.family": ["DejaVu Sans"],
    "font.size": 7,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.4,
    "hatch.linewidth": 0.5,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 3.0,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "svg.fonttype": "path",
    "svg.hashsalt": "slowfast",  # the same picture has the same bytes
    "xtick.labelsize": SMALL,
    "xtick.major.width": 0.6,
    "ytick.labelsize": SMALL,
    "ytick.major.width": 0.6,
}
_P = ParamSpec("_P")


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """Set matplotlib to this style, whatever the user's own settings, and set it back."""
    matplotlib = require_matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def styled(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Make a function draw in this style; the function raises ValueError if matplotlib is missing."""

    @functools.wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with _style():
            return draw(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Figure, np.ndarray]:
    """Return a figure of a size in inches, and its axes (rows, columns); inside `styled` functions.

    Args:
        grid: options of `Figure.subplots`.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps figures and looks for a display

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(**_PADS)
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


@dataclasses.dataclass
class Part:
    """A plot of a picture that has several: its height in inches, its title, and what draws it."""

    height: float
    title: str
    draw: Callable[[Axes], None]


def join_parts(rows: Sequence[Sequence[Part]], width: float) -> Figure:
    """Return a figure of several plots: rows below each other, and plots of equal widths in each row."""
    from matplotlib.figure import Figure

    heights = [max(part.height + (_TITLE_HEIGHT if part.title else 0.0) for part in row) for row in rows]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    figure.get_layout_engine().set(**_PADS)
    for strip, row in zip(figure.subfigures(len(rows), squeeze=False, height_ratios=heights)[:, 0], rows, strict=True):
        for panel, part in zip(strip.subfigures(1, len(row), squeeze=False)[0], row, strict=True):
            part.draw(panel.subplots())
            set_title(panel, part.title)
    return figure


def set_title(figure: FigureBase, title: str) -> None:
    """Write a title over a figure, in as many lines as its width takes; "" writes none."""
    if title:
        letters = max(20, int(_inches(figure) * 72 / (8 * 0.56)))
        figure.suptitle("\n".join(textwrap.wrap(plot_label(title), letters)))


def _inches(figure: FigureBase) -> float:
    """Return the width of a figure, or of a part of one."""
    return figure.bbox.width / figure.dpi


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure atomically, in the format that the ending of `path` names; the folder is made.

    Raises:
        ValueError: another ending than those of `FORMATS`.
        OSError: the file cannot be written.
    """
    form = check_ending(path)
    # Without dates, so that the same results give the same bytes.
    metadata = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with _style():
        add_fonts(figure)
        atomic_write_local(path, lambda stream: figure.savefig(stream, format=form, metadata=metadata))


def check_ending(path: str | os.PathLike) -> str:
    """Return the format that the ending of a path names; ValueError for an ending that is not in `FORMATS`."""
    form = os.path.splitext(path)[1].removeprefix(".")
    if form not in FORMATS:
        *others, last = (f".{name}" for name in FORMATS)
        raise ValueError(f"{path}: pictures are written to files that end in {', '.join(others)} or {last}")
    return form


def width_of(text: str) -> float:
    """Parse a width: a name of `WIDTHS`, or inches from 2 to 20; ValueError for another."""
    if text in WIDTHS:
        return WIDTHS[text]
    with contextlib.suppress(ValueError):
        if 2 <= float(text) <= 20:
            return float(text)
    raise ValueError(f"a width of {text!r}; it can be {', '.join(WIDTHS)}, or a number of inches from 2 to 20")


def shortened(name: str, letters: int) -> str:
    """Return a name for a picture, of at most `letters` letters: of a longer one the beginning and the end."""
    tail = letters // 2 - 1
    return plot_label(name if len(name) <= letters else f"{name[: letters - tail - 1]}…{name[len(name) - tail :]}")


def sentence(text: str) -> str:
    """Return a text with a capital letter in front, but mAP as it is."""
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


@dataclasses.dataclass
class Line:
    """A line of a plot.

    Attributes:
        name: name in the legend.
        x: (N,) places.
        mean: (N,) values, or their means.
        deviation: (N,) standard deviations; None for none.
        raw: (N,) values to draw faintly behind it, before smoothing; None for none.
        seeds: number of seeds that the mean is of.
    """

    name: str
    x: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray | None = None
    raw: np.ndarray | None = None
    seeds: int = 1

    @classmethod
    def of_seeds(cls, name: str, x: np.ndarray, values: np.ndarray, raw: np.ndarray | None = None) -> Line:
        """Return the mean over seeds, with their standard deviation (of a sample); values are (S, N)."""
        deviation = values.std(axis=0, ddof=1) if len(values) > 1 else None
        return cls(name, x, values.mean(axis=0), deviation, raw, len(values))


def line_style(number: int, count: int, points: int) -> dict[str, Any]:
    """Return the look of line `number` of `count`, which has `points` points, as options of `Axes.plot`."""
    thick = 2.0 - 1.0 * number / max(1, count - 1) if count > 1 else 1.2
    stride = max(1, points // 6)
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": _DASHES[number % len(_DASHES)],
        "linewidth": thick,
        "marker": _MARKERS[number % len(_MARKERS)],
        "markersize": 2.5 + thick,
        "markeredgewidth": 0.8,
        # Rings show what lies below them.
        **({"markerfacecolor": "white"} if number % 2 else {}),
        "markevery": 1 if points <= _FEW_POINTS else (number * stride // max(1, count) % stride, stride),
        "zorder": 2 + number / max(1, count),
    }


def draw_lines(axes: Axes, lines: Sequence[Line], bars: bool = False) -> None:
    """Draw lines: means over seeds, with their standard deviation as error bars (`bars`) or as a band.

    With error bars, lines are drawn a little beside each other. Their data stay in place.
    """
    from matplotlib.transforms import offset_copy

    letters = int(_inches(axes.figure) * 18) - 8  # of a name in the legend
    for number, line in enumerate(lines):
        look, label = line_style(number, len(lines), len(line.x)), shortened(line.name, letters)
        deviation = line.deviation
        low, high = (line.mean,) * 2 if deviation is None else (line.mean - deviation, line.mean + deviation)
        if line.raw is not None:
            axes.plot(line.x, line.raw, color=look["color"], linewidth=0.5, alpha=0.35, label="_raw")
        if bars:
            aside = _DODGE * (number - (len(lines) - 1) / 2)
            look["transform"] = offset_copy(axes.transData, axes.figure, x=aside, y=0, units="points")
            # matplotlib takes no limits from data that are drawn aside.
            axes.update_datalim(np.column_stack([np.tile(line.x, 2), np.concatenate([low, high])]))
        if bars and deviation is not None:
            axes.errorbar(line.x, line.mean, deviation, label=label, capsize=2, elinewidth=0.8, **look)
            continue
        axes.plot(line.x, line.mean, label=label, **look)
        if deviation is not None:
            axes.fill_between(line.x, low, high, color=look["color"], alpha=0.18, linewidth=0, label="_band")
    if bars:
        axes.margins(x=0.08)
    axes.autoscale_view()


def add_legend(axes: Axes) -> None:
    """Put a legend below the plots of a figure, where it hides nothing; lines without names have none.

    A figure that is no part of another one grows by the rows of the legend but the first.
    """
    from matplotlib.figure import Figure

    handles, labels = axes.get_legend_handles_labels()
    if not any(labels):
        return
    figure: FigureBase = axes.figure
    letters = _inches(figure) * 72 / (SMALL * 0.6)
    one_row = sum(len(label) + 8 for label in labels) <= letters
    columns = len(labels) if one_row else max(1, int(letters / (max(map(len, labels)) + 8)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    if isinstance(figure, Figure):
        more_rows = -(-len(labels) // columns) - 1
        figure.set_figheight(figure.get_figheight() + 1.6 * SMALL / 72 * more_rows)


def integer_ticks(axes: Axes) -> None:
    """Have ticks of whole numbers on the horizontal axis."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def over_seeds(lines: Sequence[Line]) -> str:
    """Return words for a title on what the error bars of lines are; "" without seeds."""
    counts = sorted({line.seeds for line in lines} - {1})
    return f", mean ± std of {' or '.join(map(str, counts))} seeds" if counts else ""
