"""Picture of answers over time: a band for each of the best classes, as dark as its score."""

from __future__ import annotations

import numpy as np

from slowfast.apps.predict.predictor import Answer
from slowfast.evaluation.report import pyplot
from slowfast.utils.files import atomic_write_local
from slowfast.utils.text import plot_label

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
        plt = pyplot()
        columns = self._columns + ([_mean(self._pending)] if self._pending else [])
        starts, ends, scores = (np.array(values) for values in zip(*columns, strict=True))
        best = np.argsort(-scores.max(axis=0), kind="stable")[:_BANDS]
        best = sorted(best.tolist(), key=lambda number: int(scores[:, number].argmax()))
        figure, axis = plt.subplots(figsize=(10, 1.4 + 0.32 * len(best)), layout="constrained")
        for row, number in enumerate(best):
            edges = np.append(starts, ends[-1])
            axis.pcolormesh(edges, [row - 0.42, row + 0.42], scores[None, :, number], cmap="Blues", vmin=0, vmax=1)
        axis.set_yticks(range(len(best)), [plot_label(class_names[number]) for number in best])
        axis.invert_yaxis()
        axis.set_xlabel("seconds")
        axis.set_title(plot_label(title), fontsize="medium")
        figure.colorbar(axis.collections[0], label="score", pad=0.01)
        atomic_write_local(path, lambda stream: figure.savefig(stream, format="png", dpi=100))
        plt.close(figure)


def _mean(columns: list[tuple[float, float, np.ndarray]]) -> tuple[float, float, np.ndarray]:
    starts, ends, scores = zip(*columns, strict=True)
    return starts[0], ends[-1], np.mean(scores, axis=0)
