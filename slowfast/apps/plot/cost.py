"""Memory and time by length: from `tools/benchmark.py`, and from the demo's results."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slowfast.apps.plot.runs import Runs, file_in, line_of, name_of, number
from slowfast.apps.plot.style import Line, add_legend, draw_lines, new_figure, set_title, styled
from slowfast.utils.errors import short
from slowfast.utils.json_file import read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEMORY, SECONDS = "peak memory, MiB", "seconds of an iteration"
_LENGTH = "DATA.NUM_FRAMES"
_FORM = (
    "results of tools/benchmark.py with --point or --measure steps, or of the demo: "
    '[{"point": ..., "peak_mib": ...}], {"memory_by_steps": [...]} or {"memory": [...]}'
)
# (name of the series, frames, MiB, seconds); None where it was not measured.
_Point = tuple[str, float, float | None, float | None]


def read_cost(runs: Runs) -> dict[str, list[Line]]:
    """Read memory and time by frames of a clip.

    Files are of `tools/benchmark.py`: with `--point "DATA.NUM_FRAMES N ..."` for each length (memory and time), or with
    `--measure steps` (memory, a line for each variant). Or they are `results.json` of the demo (memory).

    Returns:
        Lines by `MEMORY` and `SECONDS`; what was not measured is left out.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or of another kind, or a point does not set DATA.NUM_FRAMES.
    """
    points = [
        (f"{name}, {own}" if own and len(runs) > 1 else own or name, frames, mib, seconds)
        for name, paths in runs
        for path in paths
        for own, frames, mib, seconds in _points(path)
    ]
    found = {}
    for measure, column in ((MEMORY, 2), (SECONDS, 3)):
        series: dict[str, dict[float, list[float]]] = {}
        for point in points:
            if point[column] is not None:
                series.setdefault(point[0], {}).setdefault(point[1], []).append(point[column])
        lines = [line_of(name, values) for name, values in series.items()]
        if lines:
            found[measure] = lines
    return found


def _points(path: str) -> list[_Point]:
    """Read the points of a file."""
    path = file_in(path, "results.json")
    content = read_json(path, (dict, list), _FORM)
    readers: list[tuple[Any, Callable[[Any, str], list[_Point]]]] = (
        [(content, _of_points)]
        if isinstance(content, list)
        else [(content.get("memory_by_steps"), _of_steps), (content.get("memory"), _of_demo)]
    )
    for rows, read in readers:
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            points = list(itertools.chain.from_iterable(read(row, path) for row in rows))
            if points:
                return points
    raise ValueError(f"{path} holds no {_FORM}")


def _of_points(row: dict[str, Any], path: str) -> list[_Point]:
    """Return the point of a row of `--point`."""
    try:
        words = shlex.split(str(row.get("point")))
    except ValueError:
        words = []
    settings = dict(zip(words[::2], words[1::2], strict=False))
    length, mib = settings.get(_LENGTH, ""), number(row.get("peak_mib"))
    if not (length.isascii() and length.isdigit() and len(length) < 10) or mib is None:
        told = short(row.get("point"))
        raise ValueError(f"{path}: point {told!r} does not set {_LENGTH}, which is the length, or has no peak_mib")
    return [("", int(length), mib, number(row.get("seconds")))]


def _of_steps(row: dict[str, Any], path: str) -> list[_Point]:
    """Return the points of a row of `memory_by_steps`, one a variant; a variant that ran out of memory has none."""
    frames, peaks = number(row.get("frames")), row.get("peak_mib")
    if frames is None or not isinstance(peaks, dict):
        raise ValueError(f"{path}: a point of memory_by_steps has no frames or peak_mib: {short(row)}")
    named = {"baseline": "baseline, end to end"}
    return [
        (named.get(name, name), frames, mib, None)
        for name, mib in ((name, number(value)) for name, value in peaks.items())
        if mib is not None
    ]


def _of_demo(row: dict[str, Any], path: str) -> list[_Point]:
    """Return the point of a row of the demo's memory."""
    frames, mib = number(row.get("frames")), number(row.get("peak_mib"))
    if frames is None or mib is None:
        raise ValueError(f"{path}: a point of memory has no frames or peak_mib: {short(row)}")
    return [(str(row.get("method", name_of(path))), frames, mib, None)]


def _apart(places: set[float]) -> list[float]:
    """Return those of `places` whose numbers have room beside each other on an axis."""
    room, chosen = 0.07 * (max(places) - min(places)), []
    for place in sorted(places):
        if not chosen or place - chosen[-1] >= room:
            chosen.append(place)
    return chosen


@styled
def draw_cost(measured: dict[str, list[Line]], width: float, title: str | None = None) -> Figure:
    """Draw memory, and below it time, by frames of a clip, from zero.

    Args:
        measured: of `read_cost`.
        width: inches.
        title: None for one that says what is drawn.
    """
    figure, panels = new_figure(width, len(measured) * 0.5 * width + 0.7, len(measured), sharex=True)
    for axes, (measure, lines) in zip(panels[:, 0], measured.items(), strict=True):
        draw_lines(axes, lines, bars=True)
        axes.set(ylabel=measure, ylim=(0, 1.06 * max(line.mean.max() for line in lines) or 1.0))
        axes.set_xticks(_apart({place for line in lines for place in line.x.tolist()}))
    panels[-1, 0].set_xlabel("frames of a clip")
    add_legend(panels[0, 0])
    what = " and ".join({MEMORY: "memory", SECONDS: "time"}[measure] for measure in measured)
    set_title(figure, f"{what.capitalize()} of training by length" if title is None else title)
    return figure
