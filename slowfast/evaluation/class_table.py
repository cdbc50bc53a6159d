"""Results by class: confusion matrix, table of classes, mean class accuracy.

Shapes: scores are (N, classes); labels are (N,) class numbers, or (N, classes) of 0 and 1 for several labels a video.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from slowfast.evaluation.classification import average_precision


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """One class's line.

    Attributes:
        number: of the class: column of the scores, or the id where the data set has ids.
        name: of the class, its number where it has no name.
        samples: how many have this label.
        value: accuracy in percent; for several labels a sample, or boxes, average precision between 0 and 1. nan
            without samples.
    """

    number: int
    name: str
    samples: int
    value: float


def confusion_matrix(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many samples of the label in the row got their best score for the class in the column: (classes, classes).

    Raises:
        ValueError: several labels a sample, or a label outside the classes.
    """
    if labels.dim() != 1:
        raise ValueError(f"a confusion matrix needs one label a sample; labels are {tuple(labels.shape)}")
    classes = scores.shape[1]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels from {int(labels.min())} to {int(labels.max())} do not fit {classes} classes")
    predicted = scores.argmax(dim=1).cpu()
    return torch.bincount(labels.cpu().long() * classes + predicted, minlength=classes**2).view(classes, classes)


def class_table(scores: torch.Tensor, labels: torch.Tensor, names: Sequence[str] | None = None) -> list[ClassRow]:
    """A line for every class: samples and accuracy, or average precision where samples have several labels.

    Raises:
        ValueError: not one name a class; otherwise as `confusion_matrix`.
    """
    classes = scores.shape[1]
    names = [str(number) for number in range(classes)] if names is None else names
    if len(names) != classes:
        raise ValueError(f"there are {len(names)} names for {classes} classes")
    if labels.dim() == 2:
        samples, values = _precisions(scores, labels)
    else:
        matrix = confusion_matrix(scores, labels)
        samples = matrix.sum(dim=1).tolist()
        values = (100.0 * matrix.diag().double() / matrix.sum(dim=1)).tolist()
    rows = zip(names, samples, values, strict=True)
    return [ClassRow(number, name, int(n), value) for number, (name, n, value) in enumerate(rows)]


def macro_accuracy(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean over the classes that have samples of their top-1 accuracy, in percent.

    Raises:
        ValueError: no samples; otherwise as `confusion_matrix`.
    """
    values = [row.value for row in class_table(scores, labels) if row.samples]
    if not values:
        raise ValueError("no samples to measure accuracy on")
    return sum(values) / len(values)


def _precisions(scores: torch.Tensor, labels: torch.Tensor) -> tuple[list[int], list[float]]:
    """Positive samples and average precision of each class."""
    positive = labels.cpu().numpy() > 0.5
    columns = scores.double().cpu().numpy()
    samples = positive.sum(axis=0).tolist()
    values = [
        average_precision(columns[:, c], positive[:, c]) if count else float("nan") for c, count in enumerate(samples)
    ]
    return samples, values
