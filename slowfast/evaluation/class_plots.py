"""Pictures of how classes are confused: `TENSORBOARD.CONFUSION_MATRIX` and `TENSORBOARD.HISTOGRAM`, as PNG by tag."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slowfast.config.resolve import num_labels
from slowfast.evaluation.report import read_class_names
from slowfast.utils.errors import require_matplotlib, short
from slowfast.utils.fonts import add_fonts
from slowfast.utils.json_file import read_json, read_text
from slowfast.utils.text import one_line, plot_label

# Up to so many classes are named at the axes, and have their shares written into the matrix.
_NAMED, _WRITTEN = 60, 20
_BLUE, _ORANGE = "#2a6fbb", "#d9772b"
_LONGEST_NAME = 30  # characters


@dataclasses.dataclass(frozen=True)
class ClassPlots:
    """Say what is drawn of the confusion of classes, and draw it.

    Attributes:
        names: name of each class.
        matrix: draw the confusion matrix.
        matrix_size: [width, height], inches.
        matrix_subset: classes of a second matrix; None for none.
        groups: classes of further matrices, by the name of a group.
        histogram: draw, for each class, its most frequent predictions.
        histogram_subset: classes to draw; None for all.
        most: number of predictions in a histogram.
        histogram_size: [width, height], inches.
    """

    names: Sequence[str]
    matrix: bool = False
    matrix_size: Sequence[float] = (8.0, 8.0)
    matrix_subset: Sequence[int] | None = None
    groups: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    histogram: bool = False
    histogram_subset: Sequence[int] | None = None
    most: int = 10
    histogram_size: Sequence[float] = (8.0, 8.0)

    @classmethod
    def from_config(cls, cfg: Any, names: Mapping[int, str] | None) -> ClassPlots | None:
        """Read the section TENSORBOARD and the files that it names; None if no such picture is wanted.

        Args:
            names: class names by number, where `TENSORBOARD.CLASS_NAMES_PATH` is not set.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file does not fit; the model has no single label a video; or matplotlib is missing.
        """
        board = cfg.TENSORBOARD
        if not board.ENABLE or not (board.CONFUSION_MATRIX.ENABLE or board.HISTOGRAM.ENABLE):
            return None
        if cfg.DETECTION.ENABLE or cfg.DATA.MULTI_LABEL:
            key = "DETECTION.ENABLE" if cfg.DETECTION.ENABLE else "DATA.MULTI_LABEL"
            raise ValueError(
                "TENSORBOARD.CONFUSION_MATRIX and HISTOGRAM compare one label a video with the best class, and "
                f"{key} is True: set their ENABLE to False"
            )
        require_matplotlib()
        for name in ("CONFUSION_MATRIX", "HISTOGRAM"):
            if len(board[name].FIGSIZE) != 2 or min(board[name].FIGSIZE) < 1:
                raise ValueError(
                    f"TENSORBOARD.{name}.FIGSIZE is {board[name].FIGSIZE}; it is [width, height], inches, at least 1"
                )
        found = class_names(cfg, names)
        paths = (board.CONFUSION_MATRIX.SUBSET_PATH, board.HISTOGRAM.SUBSET_PATH)
        matrix_subset, histogram_subset = (read_subset(path, found) if path else None for path in paths)
        path = board.CATEGORIES_PATH
        groups = {name: _numbers(members, found, path) for name, members in (read_groups(path) if path else {}).items()}
        return cls(
            found,
            board.CONFUSION_MATRIX.ENABLE,
            board.CONFUSION_MATRIX.FIGSIZE,
            matrix_subset,
            groups,
            board.HISTOGRAM.ENABLE,
            histogram_subset,
            board.HISTOGRAM.TOPK,
            board.HISTOGRAM.FIGSIZE,
        )

    def draw(self, confusion: np.ndarray) -> dict[str, bytes]:
        """Draw the pictures of a confusion matrix (classes, classes) of counts, rows by label; return PNG by tag.

        Tags are PySlowFast's.
        """
        pictures = {}
        if self.matrix:
            pictures["Confusion Matrix"] = self._draw_matrix(confusion, range(len(self.names)))
            if self.matrix_subset is not None:
                pictures["Confusion Matrix Subset"] = self._draw_matrix(confusion, self.matrix_subset)
            for group, classes in self.groups.items():
                tag = f"Confusion Matrices Grouped by Parent Classes/{one_line(group)}"
                pictures[tag] = self._draw_matrix(confusion, classes, f"{group}: ")
        if self.histogram:
            for label in range(len(self.names)) if self.histogram_subset is None else self.histogram_subset:
                tag = f"Top {self.most} predictions by classes/{one_line(self.names[label])}"
                pictures[tag] = self._draw_histogram(confusion, label)
        return pictures

    def _draw_matrix(self, confusion: np.ndarray, classes: Sequence[int], title: str = "") -> bytes:
        """Draw percentages of each label's videos, of all its predictions; a label without videos stays blank."""
        counts = confusion.sum(axis=1, keepdims=True)
        shares = np.where(counts > 0, 100.0 * confusion / np.maximum(counts, 1), np.nan)[np.ix_(classes, classes)]
        figure, panel = _new_figure(self.matrix_size)
        image = panel.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="equal")
        panel.figure.colorbar(image, ax=panel, shrink=0.7, label="percent of the label's videos")
        panel.set_xlabel("predicted class")
        panel.set_ylabel("label")
        panel.set_title(plot_label(f"{title}{int(counts[list(classes)].sum())} videos"))
        size = max(4.0, min(10.0, 200 / max(len(classes), 1)))
        if len(classes) <= _NAMED:
            names = [_brief(self.names[number]) for number in classes]
            panel.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
            panel.set_yticks(range(len(names)), names, fontsize=size)
        if len(classes) <= _WRITTEN:
            for (row, column), share in np.ndenumerate(shares):
                if not np.isnan(share):
                    color = "white" if share > 60 else "black"
                    panel.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=size, color=color)
        return _png(figure)

    def _draw_histogram(self, confusion: np.ndarray, label: int) -> bytes:
        """Draw the most frequent predictions of a label's videos, the right one in another color."""
        counts = confusion[label]
        best = np.argsort(-counts, kind="stable")[: self.most]
        shares = 100.0 * counts[best] / max(counts.sum(), 1)
        figure, panel = _new_figure(self.histogram_size)
        colors = [_BLUE if number == label else _ORANGE for number in best]
        bars = panel.barh(range(len(best)), shares, color=colors)
        panel.bar_label(bars, [f"{count}" for count in counts[best]], padding=3)
        panel.set_yticks(range(len(best)), [_brief(self.names[number]) for number in best])
        panel.set_ylim(max(len(best), 5) - 0.5, -0.5)
        panel.set_xlim(0, 108)
        panel.set_xlabel("percent of the label's videos (numbers: videos)")
        panel.set_ylabel("predicted class")
        panel.set_title(f"label {_brief(self.names[label])}: {int(counts.sum())} videos")
        return _png(figure)


def class_names(cfg: Any, names: Mapping[int, str] | None) -> list[str]:
    """Return the name of each class: of `TENSORBOARD.CLASS_NAMES_PATH`, else of `names`, else its number.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file does not name each class.
    """
    path, (count, key) = cfg.TENSORBOARD.CLASS_NAMES_PATH, num_labels(cfg)
    if path:
        names = read_class_names(path)
        missing = sorted(set(range(count)) - names.keys())
        if missing or len(names) != count:
            raise ValueError(
                f"TENSORBOARD.CLASS_NAMES_PATH {path} names {len(names)} classes, and {key} is {count}"
                f"{f'; class {missing[0]} has no name' if missing else ''}. It takes one name for each number from 0"
            )
    return [(names or {}).get(number, str(number)) for number in range(count)]


def read_subset(path: str, names: Sequence[str]) -> list[int]:
    """Read classes from a text file with the name of one in each line; return their numbers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line is no class name, or there is none.
    """
    lines = [line.strip() for line in read_text(path).split("\n")]
    return _numbers([line for line in lines if line], names, path)


def read_groups(path: str) -> dict[str, list[str]]:
    """Read groups of classes from JSON `{"group": ["class", ...], ...}`, as in `TENSORBOARD.CATEGORIES_PATH`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file has another format.
    """
    form = '{"group": ["class", ...], ...}'
    groups = read_json(path, dict, form)
    for name, members in groups.items():
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            raise ValueError(f"{path} is not like {form}: group {short(name)!r} has {short(members)}")
    return groups


def _numbers(wanted: Sequence[str], names: Sequence[str], path: str) -> list[int]:
    number_of = {name: number for number, name in enumerate(names)}
    unknown = [name for name in wanted if name not in number_of]
    if unknown or not wanted:
        cause = f"names the class {unknown[0]!r:.60}, which is none of" if unknown else "names none of"
        raise ValueError(
            f"{path} {cause} the {len(names)} classes ({names[0]!r:.40}, ...); TENSORBOARD.CLASS_NAMES_PATH names them"
        )
    return [number_of[name] for name in dict.fromkeys(wanted)]


def _brief(name: str) -> str:
    return plot_label(name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…")


def _new_figure(size: Sequence[float]) -> tuple[Any, Any]:
    """Return a figure of [width, height], inches, and its axes."""
    from matplotlib.figure import Figure  # not pyplot, which keeps figures and looks for a display

    figure = Figure(figsize=tuple(size), layout="constrained")
    return figure, figure.subplots()


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    add_fonts(figure)
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()
