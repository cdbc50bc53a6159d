"""A report as a picture: accuracy over the steps, confusion of classes, precision of classes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from slowfast.evaluation.report import Report
from slowfast.utils.files import atomic_write

# Up to so many classes have their names at the axes, of the matrix and beside bars.
_NAMED_CLASSES = 40
_NAMED_BARS = 80
# Up to so many have their shares written into the fields.
_WRITTEN_CLASSES = 12
_COLORS = ("#2a6fbb", "#d9772b", "#3a8f4d", "#8a4fa3", "#a8322d", "#5c5c5c")


def plot_report(report: Report, path: str) -> None:
    """Draw what there is of a report into a PNG: the curve of the steps, then the confusion matrix or the classes.

    Raises:
        ValueError: another suffix than .png, or matplotlib is missing.
        OSError: the file cannot be written.
    """
    if not path.endswith(".png"):
        raise ValueError(f"{path}: pictures are written to files that end in .png")
    plt = _pyplot()
    panels = [_plot_steps] if report.steps else []
    panels.append(_plot_classes if report.confusion is None else _plot_confusion)
    widths = [*([6.0] if report.steps else []), 8.0]
    named = len(report.rows) <= (_NAMED_BARS if report.confusion is None else _NAMED_CLASSES)
    height = max(5.0, 0.17 * len(report.rows)) if named else 7.0
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(sum(widths), height),
        width_ratios=widths,
        squeeze=False,
        layout="constrained",
    )
    for panel, draw in zip(axes[0], panels, strict=True):
        draw(panel, report)
    atomic_write(os.path.abspath(path), lambda stream: figure.savefig(stream, format="png", dpi=100))
    plt.close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ValueError(
            "pictures take matplotlib, not installed here: pip install matplotlib (the extra `plot`)"
        ) from error
    matplotlib.use("Agg")  # before pyplot: there may be no display
    import matplotlib.pyplot as plt

    return plt


def _plot_steps(panel: Any, report: Report) -> None:
    steps = np.arange(1, len(report.steps) + 1)
    panel.plot(steps, report.steps, "o-", color="black", label="after each step", markersize=4)
    for number, (name, value) in enumerate(report.whole.items()):
        color = _COLORS[number % len(_COLORS)]
        panel.axhline(value, color=color, linestyle="--", linewidth=1.0, label=f"{name}: {value:.4g}")
    panel.set_xlabel("step through the video")
    panel.set_ylabel(report.step_measure)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.legend(fontsize=8)
    panel.set_box_aspect(0.8)


def _plot_confusion(panel: Any, report: Report) -> None:
    """Shares of each label's videos; a label without videos is blank."""
    samples = report.confusion.sum(axis=1, keepdims=True)
    shares = np.where(samples > 0, 100.0 * report.confusion / np.maximum(samples, 1), np.nan)
    image = panel.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    panel.figure.colorbar(image, ax=panel, shrink=0.8, label="percent of the label's videos")
    panel.set_xlabel("best score")
    panel.set_ylabel("label")
    classes = len(report.rows)
    if classes <= _NAMED_CLASSES:
        names = [row.name for row in report.rows]
        panel.set_xticks(range(classes), names, rotation=90, fontsize=7)
        panel.set_yticks(range(classes), names, fontsize=7)
    if classes <= _WRITTEN_CLASSES:
        for (row, column), share in np.ndenumerate(shares):
            if not np.isnan(share):
                color = "white" if share > 60 else "black"
                panel.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7, color=color)


def _plot_classes(panel: Any, report: Report) -> None:
    """A bar for every class that has samples, the best on top."""
    rows = sorted((row for row in report.rows if row.samples), key=lambda row: row.value)
    named = len(rows) <= _NAMED_BARS
    panel.barh(range(len(rows)), [row.value for row in rows], height=0.8 if named else 1.0, color=_COLORS[0])
    panel.set_xlabel(report.measure)
    panel.set_xlim(left=0)
    panel.set_ylim(-0.6, len(rows) - 0.4)
    if named:
        panel.set_yticks(range(len(rows)), [f"{row.name} ({row.samples})" for row in rows], fontsize=7)
    else:
        panel.set_ylabel("classes, worst to best")
