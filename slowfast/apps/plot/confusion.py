"""Confusion matrices: as a whole, of groups of classes, or the pairs of classes that are confused most."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from slowfast.apps.plot.runs import file_in
from slowfast.apps.plot.style import BLUE, TINY, Part, join_parts, shortened, styled
from slowfast.evaluation.predictions import ClassificationPredictions, load
from slowfast.utils.errors import short
from slowfast.utils.json_file import read_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LETTERS = 22  # of a name of a class at an axis
_ROW = 1.3 * TINY / 72  # inches of a row whose name is written
_WORST = 20  # pairs below a matrix without names
_WIDE = 5.0  # inches from which a matrix without names has the pairs beside it
_MATRIX_SHARE = 0.62  # of the width, what the matrix itself takes beside names and color bar


def read_confusion(path: str) -> tuple[list[str], np.ndarray]:
    """Read class names and counts (classes, classes), a row for each label.

    Args:
        path: predictions (.npz, .parquet), or `confusion.csv` of `tools/evaluate.py`, or a folder with that file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or its predictions have no single label.
    """
    if path.endswith((".npz", ".parquet")):
        predictions = load(path)
        if not isinstance(predictions, ClassificationPredictions) or predictions.labels.ndim != 1:
            raise ValueError(f"{path} has no single label for each video, so there is no confusion matrix")
        names = predictions.class_names or [str(n) for n in range(predictions.scores.shape[1])]
        return names, predictions.confusion()
    path = file_in(path, "confusion.csv")
    form = f"{path} is no confusion.csv of tools/evaluate.py"
    try:
        head, *lines = csv.reader(io.StringIO(read_text(path), newline=""))
        counts = np.array([[int(cell) for cell in line[1:]] for line in lines], dtype=np.int64)
    except (ValueError, OverflowError, csv.Error) as error:
        raise ValueError(f"{form}: {short(error)}") from None
    names = [name.removeprefix("'") for name in head[1:]]
    if not names or counts.shape != (len(names), len(names)) or counts.min() < 0:
        raise ValueError(f"{form}: it has counts {counts.shape} of {len(names)} classes")
    return names, counts


def join_groups(names: Sequence[str], counts: np.ndarray, groups: dict[str, list[str]]) -> tuple[list[str], np.ndarray]:
    """Return names and counts of groups in place of classes; ValueError unless each class is in exactly one group."""
    group_of: dict[str, int] = {}
    for place, (group, members) in enumerate(groups.items()):
        for member in members:
            if member in group_of:
                raise ValueError(f"class {short(member)!r} is in two groups, the second is {short(group)!r}")
            group_of[member] = place
    missing = [name for name in names if name not in group_of]
    if missing:
        raise ValueError(f"{len(missing)} of {len(names)} classes are in no group, the first is {short(missing[0])!r}")
    joins = np.zeros((len(groups), len(names)), dtype=np.int64)
    joins[[group_of[name] for name in names], range(len(names))] = 1
    used = joins.any(axis=1)
    joined = joins @ counts @ joins.T
    return [name for name, there in zip(groups, used, strict=True) if there], joined[np.ix_(used, used)]


def worst_pairs(counts: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Return (label, prediction) of the pairs of different classes with the most videos, at most `most` of them."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(counts)) for place in order]
    return [(row, column) for row, column in pairs if wrong[row, column]]


@styled
def draw_confusion(
    names: Sequence[str], counts: np.ndarray, width: float, title: str | None = None, pairs: int = 0
) -> Figure:
    """Draw counts of videos by true and predicted class.

    A matrix that has no room for the names is drawn without them, beside or over the pairs that are confused most.

    Args:
        counts: (classes, classes), a row for each true class.
        width: inches.
        title: None for one that says what is drawn.
        pairs: number of pairs to name; 0 for `_WORST` if the matrix has no room for names, else none.
    """
    parts = confusion_parts(names, counts, width / 2, title, pairs)
    if width >= _WIDE and len(parts) == 2 and not _has_room(names, width):
        return join_parts([parts], width)
    return join_parts([[part] for part in confusion_parts(names, counts, width, title, pairs)], width)


def confusion_parts(
    names: Sequence[str], counts: np.ndarray, width: float, title: str | None = None, pairs: int = 0
) -> list[Part]:
    """Return the parts of a figure that `draw_confusion` draws: a matrix, and a second one with the worst pairs."""
    if title is None:
        total, right = int(counts.sum()), int(np.trace(counts))
        accuracy = f", {100 * right / total:.1f} % right" if total else ""
        title = f"Confusion of {len(names)} classes: {total:,} videos{accuracy}"
    side, named = _MATRIX_SHARE * width, _has_room(names, width)
    names_below = 0.055 * min(_LETTERS, max(map(len, names))) if named else 0.2
    parts = [Part(side + names_below + 0.3, title, lambda axes: _plot_matrix(axes, names, counts, side, named))]
    worst = worst_pairs(counts, pairs or (0 if named else _WORST))
    if worst:
        heading = f"The worst {len(worst)} pairs: true class → predicted class"
        plot_pairs = functools.partial(_plot_pairs, names=names, counts=counts, pairs=worst, letters=int(width * 6))
        parts.append(Part(len(worst) * 1.6 * _ROW + 0.3, heading, plot_pairs))
    return parts


def _has_room(names: Sequence[str], width: float) -> bool:
    """Return True if a matrix has room for the names of its classes."""
    return len(names) * _ROW <= _MATRIX_SHARE * width


def _plot_matrix(axes: Axes, names: Sequence[str], counts: np.ndarray, side: float, named: bool) -> None:
    """Draw a matrix; colors are shares of each row, and cells with room hold counts.

    Args:
        side: inches of the matrix.
        named: write the names of classes at the axes.
    """
    samples = counts.sum(axis=1, keepdims=True)
    shares = np.where(samples > 0, 100.0 * counts / np.maximum(samples, 1), np.nan)
    # The root makes rare confusions of many classes visible.
    image = axes.imshow(shares, cmap="Blues", norm=None if named else _root_norm(), interpolation="nearest")
    if named:
        image.set_clim(0, 100)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, label="% of the true class")
    bar.outline.set_linewidth(0.4)
    axes.grid(False)
    axes.spines[:].set_visible(True)
    axes.set(xlabel="predicted class", ylabel="true class")
    if not named:
        return
    shown = [shortened(name, _LETTERS) for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=90, fontsize=TINY)
    axes.set_yticks(range(len(names)), shown, fontsize=TINY)
    axes.tick_params(length=1.5)
    # A cell has room for a count of so many digits.
    digits = len(str(int(counts.max(initial=0))))
    cell = side * 72 / len(names)
    size = min(6.0, cell / (0.75 * max(digits, 1.5)))
    if size < 4.5:
        return
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 55 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=max(size, TINY), color=color)


def _root_norm():
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0, vmax=100)


def _plot_pairs(
    axes: Axes, names: Sequence[str], counts: np.ndarray, pairs: Sequence[tuple[int, int]], letters: int
) -> None:
    """Draw a bar for each pair: videos of the first class that were taken for the second."""
    values = [int(counts[pair]) for pair in pairs]
    bars = axes.barh(range(len(pairs)), values, height=0.75, color=BLUE)
    labels = [f"{value} of {int(counts[row].sum())}" for value, (row, _) in zip(values, pairs, strict=True)]
    axes.bar_label(bars, labels, padding=1.5, fontsize=TINY)
    shown = [f"{shortened(names[row], letters)} → {shortened(names[column], letters)}" for row, column in pairs]
    axes.set_yticks(range(len(pairs)), shown, fontsize=TINY)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.margins(x=0.18, y=0.01)
    axes.set_xlabel("videos")
