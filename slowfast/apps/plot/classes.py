"""Bars of classes: accuracy or average precision of one method, or of two and their difference."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from slowfast.apps.plot.runs import file_in
from slowfast.apps.plot.style import BLUE, SKY, TINY, VERMILLION, add_legend, new_figure, set_title, shortened, styled
from slowfast.evaluation.predictions import ClassificationPredictions, load
from slowfast.utils.errors import short
from slowfast.utils.json_file import read_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 40  # classes of a picture, if the number is not chosen
_MEASURES = ("accuracy in percent", "AP")  # as `classes.csv` names them


@dataclasses.dataclass
class ClassValues:
    """A value for each class of a method.

    Attributes:
        name: of the method.
        values: value by class name, of the classes with samples.
        samples: samples by class name.
        measure: name of the values.
    """

    name: str
    values: dict[str, float]
    samples: dict[str, int]
    measure: str


def read_classes(name: str, path: str) -> ClassValues:
    """Read the values of classes.

    Args:
        name: of the method.
        path: predictions (.npz, .parquet), or `classes.csv` of `tools/evaluate.py`, or a folder with that file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or no class has samples.
    """
    if path.endswith((".npz", ".parquet")):
        predictions = load(path)
        table = predictions.class_table()
        rows = zip(table["class"], table["samples"], table["value"], strict=True)
        one = isinstance(predictions, ClassificationPredictions) and predictions.labels.ndim == 1
        return values_of(name, rows, _MEASURES[0 if one else 1], path)
    path = file_in(path, "classes.csv")
    try:
        lines = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
        measure = next(key for key in _MEASURES if lines and key in lines[0])
        rows = [(line["class"].removeprefix("'"), int(line["samples"]), float(line[measure])) for line in lines]
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration, OverflowError, csv.Error):
        wanted = " or ".join(map(repr, _MEASURES))
        message = f"{path} is no classes.csv of tools/evaluate.py: class, samples, and {wanted} in each line"
        raise ValueError(message) from None
    return values_of(name, rows, measure, path)


def values_of(name: str, rows: Any, measure: str, source: str) -> ClassValues:
    """Return the values of the classes that have samples; `rows` has class, samples and value of each."""
    there = [(str(label), int(samples), float(value)) for label, samples, value in rows if samples > 0]
    if not there:
        raise ValueError(f"{source} has no class with samples, so there is nothing to draw")
    if not all(np.isfinite(value) for _, _, value in there):
        raise ValueError(f"{source} has a class with samples whose value is no number")
    values = {label: value for label, _, value in there}
    if len(values) < len(there):
        twice = next(label for place, (label, _, _) in enumerate(there) if label in [row[0] for row in there[:place]])
        raise ValueError(f"{source} names two classes {short(twice)!r}; bars of classes need different names")
    return ClassValues(name, values, {label: samples for label, samples, _ in there}, measure)


def chosen_classes(methods: Sequence[ClassValues], most: int) -> list[str]:
    """Return the classes to draw, best first: by value, or of two methods by the second's lead over the first.

    Of more than `most` the first and the last are taken, half each.

    Raises:
        ValueError: the methods have different measures or no class in common.
    """
    measures = {method.measure for method in methods}
    if len(measures) > 1:
        raise ValueError(f"the methods have different values of classes: {' and '.join(sorted(measures))}")
    shared = [name for name in methods[0].values if all(name in method.values for method in methods)]
    if not shared:
        raise ValueError(f"{' and '.join(short(method.name) for method in methods)} have no class in common")

    def rank(name: str) -> float:
        first, *others = (method.values[name] for method in methods)
        return first - others[-1] if others else -first

    ordered = sorted(shared, key=rank)
    return ordered if len(ordered) <= most else [*ordered[: most - most // 2], *ordered[len(ordered) - most // 2 :]]


@styled
def draw_classes(methods: Sequence[ClassValues], width: float, title: str | None = None, most: int = MOST) -> Figure:
    """Draw a bar for each class; of two methods bars side by side, and their difference beside them.

    Args:
        methods: one or two.
        width: inches.
        title: None for one that says what is drawn.
        most: classes to draw; of more, those that gain most and least.

    Raises:
        ValueError: see `chosen_classes`.
    """
    shown = chosen_classes(methods, most)
    height, widths = class_rows_height(len(methods), len(shown)) + 0.4, [1.0, 0.8][: len(methods)]
    figure, panels = new_figure(width, height, 1, len(methods), sharey=True, width_ratios=widths)
    plot_classes(panels[0, 0], methods, shown, int(8 * width))
    if len(methods) == 2:
        _plot_difference(panels[0, 1], methods, shown)
        add_legend(panels[0, 0])
    set_title(figure, class_title(methods, len(shown)) if title is None else title)
    return figure


def class_title(methods: Sequence[ClassValues], shown: int) -> str:
    """Return a title that says what is drawn of how many classes."""
    total = sum(all(name in method.values for method in methods) for name in methods[0].values)
    count = f"{total} classes" if total == shown else f"the best and worst {shown} of {total} classes"
    return f"{methods[0].measure} of {count}".replace("accuracy in percent", "Accuracy")


def class_rows_height(methods: int, classes: int) -> float:
    """Return inches for the bars of so many classes."""
    return (0.13 if methods == 2 else 0.105) * classes + 0.55


def plot_classes(axes: Axes, methods: Sequence[ClassValues], shown: Sequence[str], letters: int) -> None:
    """Draw bars of the classes `shown`, the first on top, with names of at most `letters` letters."""
    height = 0.8 / len(methods)
    for number, (method, color) in enumerate(
        zip(methods, ((SKY, BLUE) if len(methods) == 2 else (BLUE,)), strict=True)
    ):
        places = np.arange(len(shown)) + (number - (len(methods) - 1) / 2) * height
        values = [method.values[name] for name in shown]
        axes.barh(places, values, height, color=color, label=shortened(method.name, 40), edgecolor=BLUE, linewidth=0.3)
    named = [f"{shortened(name, letters)} ({methods[0].samples[name]})" for name in shown]
    axes.set_yticks(range(len(shown)), named, fontsize=TINY)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 100 if methods[0].measure == _MEASURES[0] else 1)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlabel(methods[0].measure.replace("in percent", "(%)"))


def _plot_difference(axes: Axes, methods: Sequence[ClassValues], shown: Sequence[str]) -> None:
    """Draw how much the second method leads, in another color and hatched where it falls behind."""
    first, second = (np.array([method.values[name] for name in shown]) for method in methods)
    lead = second - first
    bars = axes.barh(range(len(shown)), lead, 0.8, color=[BLUE if value >= 0 else VERMILLION for value in lead])
    for bar, value in zip(bars, lead, strict=True):
        if value < 0:
            bar.set(hatch="/////", edgecolor="white", linewidth=0)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
    axes.set_xlabel(f"{shortened(methods[1].name, 14)} − {shortened(methods[0].name, 14)}")
