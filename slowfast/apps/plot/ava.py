"""Precision-recall curves of detections in AVA's format, as the published evaluations rank and match them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from slowfast.apps.plot.style import Line, add_legend, draw_lines, new_figure, set_title, styled
from slowfast.evaluation.ava import DEFAULT_EVALUATION, BoxRows, precision_recall
from slowfast.evaluation.ava_files import read_detections, read_excluded, read_groundtruth
from slowfast.evaluation.predictions import BoxPredictions, load
from slowfast.utils.errors import check_choice
from slowfast.utils.label_map import read_label_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Places of recall of the mean over classes.
RECALLS = np.linspace(0.0, 1.0, 1001)


@dataclasses.dataclass
class Detections:
    """Detections and what they are measured against.

    Attributes:
        names: names by id of the measured classes.
    """

    groundtruth: BoxRows
    detections: BoxRows
    excluded: Sequence[tuple[str, float]]
    names: dict[int, str]
    evaluation: str

    @classmethod
    def read(
        cls, path: str, groundtruth: str = "", excluded: str = "", label_map: str = "", evaluation: str = ""
    ) -> Detections:
        """Read a test's predictions (.npz, .parquet), which hold the rest, or a CSV file in AVA's format.

        Args:
            groundtruth: CSV file of the ground truth, for a CSV file of detections.
            excluded: CSV file of key frames to leave out.
            label_map: classes to measure; "" for all.
            evaluation: published evaluation to follow; "" for that of the test, or the default.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file is damaged, holds no boxes, or the ground truth is missing.
        """
        if path.endswith((".npz", ".parquet")):
            found = load(path)
            if not isinstance(found, BoxPredictions):
                raise ValueError(f"{path} has scores of whole videos; precision and recall here are of boxes")
            ids = found.class_ids.tolist()
            names = dict(zip(ids, found.class_names or map(str, ids), strict=True))
            rows, truth = found.detections(), found.groundtruth
            return cls(truth, rows, found.excluded, names, evaluation or found.evaluation)
        if not groundtruth:
            raise ValueError(f"{path} holds detections alone; name the ground truth with --groundtruth FILE")
        truth, rows = read_groundtruth(groundtruth), read_detections(path)
        ids = np.union1d(truth.classes, rows.classes).tolist()
        names = read_label_map(label_map) if label_map else {number: str(number) for number in ids}
        left_out = read_excluded(excluded) if excluded else []
        return cls(truth, rows, left_out, names, evaluation or DEFAULT_EVALUATION)

    def curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return recall and precision of each class with ground truth, by name; ValueError if there is none."""
        found = precision_recall(self.groundtruth, self.detections, self.excluded, self.names, self.evaluation)
        if not found:
            raise ValueError("no class has a ground truth box on a key frame that counts: no precision and recall")
        return {self.names[class_id]: curve for class_id, curve in found.items()}


def area(curve: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the average precision of a curve."""
    recall, precision = curve
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def precision_at(curve: tuple[np.ndarray, np.ndarray], recalls: np.ndarray) -> np.ndarray:
    """Return the interpolated precision at each of `recalls`; 0 at those that are not reached."""
    recall, precision = curve
    # Recalls are quotients, so one may be below its place by an ulp.
    return np.append(precision, 0.0)[np.searchsorted(recall, recalls - 1e-12)]


def curve_lines(runs: Sequence[tuple[str, Detections]], classes: Sequence[str] = ()) -> list[Line]:
    """Return precision over recall, `RECALLS`: the mean over classes of each run, or a line for each of `classes`.

    Raises:
        ValueError: a class has no ground truth.
    """
    lines = []
    for name, detections in runs:
        curves = detections.curves()
        if not classes:
            mean = np.mean([precision_at(curve, RECALLS) for curve in curves.values()], axis=0)
            score = np.mean([area(curve) for curve in curves.values()])
            lines.append(Line(f"{name} (mAP {score:.3f})", RECALLS, mean))
        for label in classes:
            check_choice("--class", label, list(curves))
            curve, named = curves[label], label if len(runs) == 1 else f"{name}, {label}"
            lines.append(Line(f"{named} (AP {area(curve):.3f})", RECALLS, precision_at(curve, RECALLS)))
    return lines


@styled
def draw_precision_recall(lines: Sequence[Line], width: float, title: str | None = None) -> Figure:
    """Draw precision over recall.

    Args:
        width: inches.
        title: None for one that says what is drawn.
    """
    figure, panels = new_figure(width, 0.62 * width + 0.5)
    axes = panels[0, 0]
    draw_lines(axes, lines)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    add_legend(axes)
    set_title(figure, "Precision and recall at IoU 0.5" if title is None else title)
    return figure
