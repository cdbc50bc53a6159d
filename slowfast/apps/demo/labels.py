"""Which classes the demo writes into a frame, and under which names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slowfast.evaluation.report import read_class_names
from slowfast.utils.text import one_line

_FROM_ONE = (".pbtxt", ".prototxt")  # label maps count classes from 1


@dataclass(frozen=True)
class LabelRule:
    """Choose the classes to show and write them as "[0.93] name", best first.

    Args:
        names: of the classes.
        scored: numbers of the classes among which are chosen.
        best: number of best classes to show; None for those whose score reaches their threshold.
        common: names of the common classes; empty if all are.
        common_threshold, threshold: of common classes, and of the others.
    """

    names: Sequence[str]
    scored: Collection[int]
    best: int | None
    common: Collection[str]
    common_threshold: float
    threshold: float

    @staticmethod
    def from_config(cfg: Any, names: Sequence[str], scored: Collection[int]) -> LabelRule:
        """Read VIS_MODE, COMMON_CLASS_* and UNCOMMON_CLASS_THRES, and for top-k TENSORBOARD.MODEL_VIS.TOPK_PREDS."""
        demo = cfg.DEMO
        best = cfg.TENSORBOARD.MODEL_VIS.TOPK_PREDS if demo.VIS_MODE == "top-k" else None
        common = frozenset(demo.COMMON_CLASS_NAMES)
        return LabelRule(names, scored, best, common, demo.COMMON_CLASS_THRES, demo.UNCOMMON_CLASS_THRES)

    def __call__(self, scores: np.ndarray) -> list[str]:
        """Return the labels for scores (classes,)."""
        order = [number for number in np.argsort(-scores, kind="stable").tolist() if number in self.scored]
        if self.best is not None:
            shown = order[: self.best]
        else:
            shown = [number for number in order if scores[number] >= self._threshold_of(self.names[number])]
        return [f"[{scores[number]:.2f}] {one_line(self.names[number])}" for number in shown]

    def _threshold_of(self, name: str) -> float:
        return self.common_threshold if not self.common or name in self.common else self.threshold


def read_names(path: str, num_classes: int) -> list[str]:
    """Read the names of a model's classes from `DEMO.LABEL_FILE_PATH`, see `read_class_names`.

    A class that the file does not name is named by its number. Quotes around a name, as in the published file of
    Kinetics, are left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, or a number that the model has no class for.
    """
    offset = 1 if path.endswith(_FROM_ONE) else 0
    found = {number - offset: name for number, name in read_class_names(path).items()}
    if max(found, default=-1) >= num_classes:
        raise ValueError(
            f"DEMO.LABEL_FILE_PATH {path} names class {max(found)}, counted from 0, and the model has "
            f"MODEL.NUM_CLASSES {num_classes}; take the file of the data set that the model was trained on"
        )
    return [found.get(number, str(number)).strip('"') for number in range(num_classes)]
