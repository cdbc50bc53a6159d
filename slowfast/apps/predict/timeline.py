"""Picture of answers over time: a band for each of the best classes, as dark as its score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from slowfast.apps.plot.style import SMALL, WIDTHS, new_figure, save, set_title, shortened, styled
from slowfast.apps.predict.scorer import Answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 1024  # at most; longer streams are averaged
_BANDS = 10


class Timeline:
    """Scores over time. Memory does not grow with the stream: neighbors are averaged when there are too many."""

    def __init__(self) -> None:
        self._columns: list[tuple[float, float, np.ndarray]] = []  # start, end, scores
        self._pending: list[tuple[float, float, np.ndarray]] = []  # the next column's answers
        self._each = 1  # answers of a column

    def add(self, answer: Answer) -> None:
        """Take in the next answer."""
        self._pending.append((answer.start_s, answer.end_s, answer.all_scores))
        if len(self._pending) == self._each:
            self._columns.append(_mean(self._pending))
            self._pending = []
        if len(self._columns) == _COLUMNS:
            self._columns = [_mean(self._columns[i : i + 2]) for i in range(0, _COLUMNS, 2)]
            self._each *= 2

    def draw(self, path: str, title: str, class_names: list[str]) -> None:
        """Draw a PNG.

        Raises:
            ValueError: matplotlib is missing.
            OSError: the file cannot be written.
        """
        columns = self._columns + ([_mean(self._pending)] if self._pending else [])
        save(_draw_bands(columns, title, class_names), path)


@styled
def _draw_bands(columns: list[tuple[float, float, np.ndarray]], title: str, class_names: list[str]) -> Figure:
    """Draw start, end and scores of each column as bands of the best classes, in the order of their best moments."""
    starts, ends, scores = (np.array(values) for values in zip(*columns, strict=True))
    best = np.argsort(-scores.max(axis=0), kind="stable")[:_BANDS]
    best = sorted(best.tolist(), key=lambda number: int(scores[:, number].argmax()))
    figure, panels = new_figure(WIDTHS["text"], 0.85 + 0.2 * len(best))
    axes, edges = panels[0, 0], np.append(starts, ends[-1])
    for row, number in enumerate(best):
        axes.pcolormesh(edges, [row - 0.42, row + 0.42], scores[None, :, number], cmap="Blues", vmin=0, vmax=1)
    axes.set_yticks(range(len(best)), [shortened(class_names[number], 40) for number in best], fontsize=SMALL)
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xlabel("seconds")
    figure.colorbar(axes.collections[0], label="score", pad=0.01)
    set_title(figure, title)
    return figure


def _mean(columns: list[tuple[float, float, np.ndarray]]) -> tuple[float, float, np.ndarray]:
    starts, ends, scores = zip(*columns, strict=True)
    return starts[0], ends[-1], np.mean(scores, axis=0)
