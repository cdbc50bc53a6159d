"""Training curves: any number of `json_stats.jsonl` over epochs, of several runs and seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from slowfast.apps.plot.runs import MEASURES, Runs, check_key, join_seeds, number, read_stats
from slowfast.apps.plot.style import (
    Line,
    add_legend,
    draw_lines,
    new_figure,
    over_seeds,
    sentence,
    set_title,
    shortened,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Kinds of lines (`_type`) with an epoch, and words for the legend.
KINDS = {"train_epoch": "training", "val_epoch": "validation", "train_iter": "training, iterations"}


def read_curves(runs: Runs, key: str, kinds: Sequence[str] = (), smooth: int = 1) -> list[Line]:
    """Read the values of `key` by epoch.

    Args:
        kinds: of `KINDS`, a line each; () for the first that has the key.
        smooth: points of the moving mean, of which half lie on either side; fewer at the ends.

    Returns:
        A line for each run and kind. A value that was logged again, by a run that resumed, counts as it was last.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or has no number under the key.
    """
    lines = []
    for name, paths in runs:
        stats = [read_stats(path) for path in paths]
        shown = kinds or [next((kind for kind in KINDS if _points(stats[0], kind, key)), "train_epoch")]
        for kind in shown:
            points = [_points(seed, kind, key) for seed in stats]
            for seed, path, found in zip(stats, paths, points, strict=True):
                if not found:
                    known = {other for entry in seed for other in entry if _points([entry], kind, other)}
                    check_key(key, sorted(known), f"{path} ({kind})")
            x, values = join_seeds(points, name)
            label = f"{name}, {KINDS[kind]}" if len(shown) > 1 else name
            raw = values.mean(axis=0) if smooth > 1 else None
            lines.append(Line.of_seeds(label, x, np.array([moving_mean(row, smooth) for row in values]), raw))
    return lines


def _points(stats: Sequence[dict[str, Any]], kind: str, key: str) -> dict[float, float]:
    """Return the values of `key` in the lines of a kind, by epoch."""
    points = {}
    for entry in stats:
        value, epoch = number(entry.get(key)), _epoch(entry)
        if entry.get("_type") == kind and value is not None and epoch is not None:
            points[epoch] = value
    return points


def _epoch(entry: dict[str, Any]) -> float | None:
    """Return how many epochs were over at a line of statistics; None where it does not say."""
    epoch, place = (re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(entry.get(key))) for key in ("epoch", "iter"))
    if epoch is None:
        return None
    return int(epoch[1]) if place is None else int(epoch[1]) - 1 + int(place[1]) / max(1, int(place[2]))


def moving_mean(values: np.ndarray, points: int) -> np.ndarray:
    """Return the mean of `points` values around each one, (N,); near the ends of those that there are."""
    before, after = (points - 1) // 2, points // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(len(values)) - before, 0)
    last = np.minimum(np.arange(len(values)) + after + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


@styled
def draw_curves(lines: Sequence[Line], key: str, width: float, title: str | None = None, log: bool = False) -> Figure:
    """Draw training curves; the band is the standard deviation over seeds.

    Args:
        key: what the values are, for the axis.
        width: inches.
        title: None for one that says what is drawn.
        log: have a logarithmic axis of values.

    Raises:
        ValueError: a logarithmic axis has no value above 0 to show.
    """
    if log and not any((line.mean > 0).any() for line in lines):
        raise ValueError(f"no value of {key!r} is above 0, so a logarithmic axis shows none; leave --log out")
    figure, panels = new_figure(width, 0.55 * width + 0.5)
    axes, measure = panels[0, 0], MEASURES.get(key, key)
    draw_lines(axes, lines)
    axes.set(xlabel="epoch", ylabel=shortened(measure, int(8 * width)))
    if log:
        axes.set_yscale("log")
    add_legend(axes)
    set_title(figure, f"{sentence(measure)} by epoch{over_seeds(lines)}" if title is None else title)
    return figure
