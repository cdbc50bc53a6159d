"""The picture of `tools/evaluate.py`: the accuracy after each step of a model that reads in steps, and the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from slowfast.apps.plot.classes import MOST, chosen_classes, class_rows_height, class_title, plot_classes, values_of
from slowfast.apps.plot.confusion import confusion_parts
from slowfast.apps.plot.style import WIDTHS, Part, add_legend, integer_ticks, join_parts, line_style, styled
from slowfast.utils.text import plot_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from slowfast.evaluation.report import Report

_STEPS_HEIGHT = 2.3  # inches


@styled
def draw_report(report: Report) -> Figure:
    """Draw the accuracy after each step, if there are steps, and the confusion matrix or the classes.

    Raises:
        ValueError: matplotlib is missing, or no class has samples.
    """
    width, table = WIDTHS["text"], report.classes
    steps = [Part(_STEPS_HEIGHT, "After each step", lambda axes: _plot_steps(axes, report))] if report.steps else []
    if report.confusion is not None:
        names = list(table["class"])
        half = confusion_parts(names, report.confusion, width / 2)
        if len(half) == 1:  # the matrix has room for names
            return join_parts([[*steps, *half]], width if steps else width / 2)
        return join_parts([steps, half] if steps else [half], width)
    values = values_of("", zip(table["class"], table["samples"], table["value"], strict=True), report.measure, "this")
    shown = chosen_classes([values], MOST)
    bars = Part(
        class_rows_height(1, len(shown)),
        class_title([values], len(shown)),
        lambda axes: plot_classes(axes, [values], shown, int(8 * width)),
    )
    return join_parts([steps, [bars]] if steps else [[bars]], width)


def _plot_steps(axes: Axes, report: Report) -> None:
    """Draw the value after each step, and a level for each way of joining the steps."""
    steps, count = np.arange(1, len(report.steps) + 1), 1 + len(report.joined)
    axes.plot(steps, report.steps, label="after each step", **line_style(0, count, len(steps)))
    for number, (name, value) in enumerate(report.joined.items(), start=1):
        look = {**line_style(number, count, 2), "marker": None}
        axes.axhline(value, label=f"{plot_label(name)}: {value:.4g}", **look)
    axes.set(xlabel="step through the video", ylabel=report.step_measure)
    axes.set_ylim(0, 102 if "percent" in report.step_measure else 1.02)
    integer_ticks(axes)
    add_legend(axes)
