"""Accuracy over the steps of a video, and over the length of videos, with error bars over seeds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from slowfast.apps.plot.runs import (
    MAIN_METRICS,
    MEASURES,
    Runs,
    check_key,
    join_seeds,
    line_of,
    number,
    read_results,
)
from slowfast.apps.plot.style import (
    Line,
    add_legend,
    draw_lines,
    integer_ticks,
    new_figure,
    over_seeds,
    sentence,
    set_title,
    shortened,
    styled,
)
from slowfast.utils.errors import short
from slowfast.utils.json_file import read_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEP, FRAMES, VIEWS = "step through the video", "frames of a clip", "clips of a video"


def read_steps(runs: Runs, metric: str = "") -> tuple[list[Line], str]:
    """Read a metric after each step, from `test_results.json` or the demo's `results.json`.

    Args:
        metric: name of the metric, of which the results hold `step1/NAME`, ...; "" for the first of `MAIN_METRICS`.

    Returns:
        A line for each run, and the name of the metric. The demo's file holds methods and seeds: a line for a method.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or has no steps.
    """
    lines, metrics = [], set()
    for name, paths in runs:
        seeds: dict[str, list[dict[float, float]]] = {}
        for path in paths:
            results = read_results(path)
            if "runs" in results:
                found = _demo_steps(results, path)
                metrics.add("top1_acc")
            else:
                chosen = metric or next((m for m in MAIN_METRICS if f"step1/{m}" in results), MAIN_METRICS[0])
                metrics.add(chosen)
                found = [("", _numbered(results, rf"step(\d+)/{re.escape(chosen)}"))]
                check_key(f"step1/{chosen}", [f"step{n:g}/{chosen}" for n in found[0][1]], path)
            for method, points in found:
                seeds.setdefault(method, []).append(points)
        for method, points in seeds.items():
            label = f"{name}, {method}" if method and len(runs) > 1 else method or name
            lines.append(Line.of_seeds(label, *join_seeds(points, label)))
    return lines, _only(metrics)


def _demo_steps(results: dict[str, Any], path: str) -> list[tuple[str, dict[float, float]]]:
    """Return title and accuracy after each step of the runs of a demo that read in steps."""
    found = []
    for run in results["runs"] if isinstance(results["runs"], list) else []:
        run = run if isinstance(run, dict) else {}
        accuracy = run.get("accuracy")
        steps = accuracy.get("steps") if isinstance(accuracy, dict) else None
        values = [number(value) for value in steps] if isinstance(steps, list) else []
        if values and None not in values:
            found.append((str(run.get("title", run.get("name", ""))), dict(enumerate(values, start=1))))
    if not found:
        raise ValueError(f"{path} has no run with the accuracy after each step")
    return found


def _numbered(results: dict[str, Any], pattern: str) -> dict[float, float]:
    """Return the numbers of results whose whole name matches, by the number in the name."""
    points = {}
    for name, value in results.items():
        match = re.fullmatch(pattern, name)
        if match and len(match[1]) < 10 and number(value) is not None:
            points[int(match[1])] = number(value)
    return points


def read_lengths(runs: Runs, metric: str = "") -> tuple[list[Line], str, str]:
    """Read a metric by the length of what was read, from folders of tests.

    `test_results.json` of a test with TEST.NUM_TEMPORAL_CLIPS holds several lengths: clips of a video. Else the length
    of a test is DATA.NUM_FRAMES of the `config.yaml` beside it. Results of one run at the same length are its seeds.

    Returns:
        A line for each run, the name of the metric, and what the lengths are.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or does not say the length or the metric.
    """
    lines, metrics, kinds = [], set(), set()
    for name, paths in runs:
        values: dict[float, list[float]] = {}
        for path in paths:
            results = read_results(path)
            by_clips = results.get("by_temporal_clips")
            kinds.add(FRAMES if by_clips is None else VIEWS)
            parts = [(_frames(path), results)] if by_clips is None else _by_clips(by_clips, path)
            for length, part in parts:
                chosen = metric or next((m for m in MAIN_METRICS if m in part), MAIN_METRICS[0])
                check_key(chosen, [key for key in part if number(part[key]) is not None], path)
                metrics.add(chosen)
                values.setdefault(length, []).append(number(part[chosen]))
        lines.append(line_of(name, values))
    if len(kinds) > 1:
        raise ValueError(f"some lengths are {FRAMES} and others {VIEWS} (by_temporal_clips); draw them apart")
    return lines, _only(metrics), kinds.pop()


def _frames(path: str) -> float:
    """Return DATA.NUM_FRAMES of the config beside a test's results."""
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    file = os.path.join(folder, "config.yaml")
    if not os.path.isfile(file):
        raise FileNotFoundError(f"{path} does not tell a length, and there is no {file} with the frames of a clip")
    try:
        # The base loader makes texts of all values, and no objects.
        value = yaml.load(read_text(file), Loader=yaml.BaseLoader)["DATA"]["NUM_FRAMES"]
        return int(value)
    except (yaml.YAMLError, RecursionError, LookupError, TypeError, ValueError):
        raise ValueError(f"{file} does not say DATA.NUM_FRAMES, the length of the clips that were tested") from None


def _by_clips(by_clips: Any, path: str) -> list[tuple[float, dict[str, Any]]]:
    """Return the results of a test by its number of clips."""
    parts = by_clips.items() if isinstance(by_clips, dict) else []
    found = [(int(n), part) for n, part in parts if re.fullmatch(r"\d{1,9}", n) and isinstance(part, dict)]
    if not found:
        raise ValueError(f"{path}: by_temporal_clips is {short(by_clips)}, not results by number of clips")
    return found


def _only(metrics: Iterable[str]) -> str:
    """Return the one metric of all runs; ValueError if they differ."""
    names = sorted(metrics)
    if len(names) > 1:
        raise ValueError(f"the runs have different metrics, {' and '.join(names)}; choose one with --metric")
    return names[0]


@styled
def draw_steps(lines: Sequence[Line], metric: str, width: float, title: str | None = None, along: str = STEP) -> Figure:
    """Draw a metric over the steps of a video, or over what `along` says, with error bars over seeds.

    Args:
        metric: name of the metric, for the axis.
        width: inches.
        title: None for one that says what is drawn.
    """
    figure, panels = new_figure(width, 0.55 * width + 0.5)
    axes, measure = panels[0, 0], MEASURES.get(metric, metric)
    draw_lines(axes, lines, bars=True)
    axes.set(xlabel=along, ylabel=shortened(measure, int(8 * width)))
    axes.set_ylim(bottom=0)
    integer_ticks(axes)
    add_legend(axes)
    over = "steps" if along == STEP else "length"
    set_title(figure, f"{sentence(measure.split(',')[0])} over {over}{over_seeds(lines)}" if title is None else title)
    return figure
