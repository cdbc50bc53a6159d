"""Metrics of classification, over all classes and by class.

Shapes: scores are (N, classes); labels are (N,) class numbers, or (N, classes) of 0 and 1 for several labels a video.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from slowfast.evaluation.finite import check_finite

# With 5 classes or fewer every label is among the 5 best scores.
TOP5_CLASSES = 6
# Class number of a video that has no label.
NO_LABEL = -1


def topk_hits(scores: Tensor, labels: Tensor, ks: Sequence[int] = (1, 5)) -> Tensor:
    """Return (len(ks), N) booleans: True if the label is among the k best scores; k is clamped to the class count.

    Scores are not checked, because training calls it for every batch, and checks the loss.
    """
    classes = scores.shape[1]
    best = scores.topk(min(max(ks), classes), dim=1).indices
    hits = best == labels.view(-1, 1)
    return torch.stack([hits[:, : min(k, classes)].any(dim=1) for k in ks])


def classification_metrics(scores: Tensor, labels: Tensor, names: Sequence[str] | None = None) -> dict[str, float]:
    """Return `map` (0 to 1) for (N, classes) labels; else, in percent, the metrics of single labels.

    These are `top1_err`, `top1_acc`, `macro_acc` (mean accuracy of the classes that have samples), and with more than 5
    classes `top5_err` and `top5_acc`.

    Args:
        names: of the samples, for messages; None names them by their number.

    Raises:
        ValueError: no samples, no class with a positive sample, labels outside the classes, or scores that are NaN or
            infinite.
    """
    if labels.dim() == 2:
        return {"map": _multilabel_map(scores, labels, names)}
    if len(scores) == 0:
        raise ValueError("there are no samples to measure accuracy on")
    ks = (1, 5) if scores.shape[1] >= TOP5_CLASSES else (1,)
    values = {}
    for k, hits in zip(ks, topk_hits(scores, labels, ks), strict=True):
        error = 100.0 * (1.0 - hits.double().mean().item())
        values |= {f"top{k}_err": error, f"top{k}_acc": 100.0 - error}
    samples, accuracies = class_values(scores, labels, names)
    present = accuracies[samples > 0].tolist()
    return {**values, "macro_acc": sum(present) / len(present)}


def _check_finite(scores: Tensor, names: Sequence[str] | None) -> None:
    numbers = scores.detach().double().cpu().numpy()
    check_finite(numbers, "samples" if names is None else "videos", str if names is None else names.__getitem__)


def _multilabel_map(scores: Tensor, labels: Tensor, names: Sequence[str] | None) -> float:
    """Return the mean average precision (0 to 1) of the classes that have a positive sample.

    Raises:
        ValueError: no class has a positive sample.
    """
    samples, values = class_values(scores, labels, names)
    if not samples.any():
        raise ValueError("no class has a positive sample, so there is no mean average precision")
    return float(np.mean(values[samples > 0]))


def _average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under one class's precision-recall steps; samples of equal score enter together.

    Args:
        scores: (N,).
        positive: (N,) booleans, at least one True.
    """
    order = np.argsort(-scores, kind="stable")
    ranked_scores, ranked = scores[order], positive[order]
    last_of_tie = np.append(np.diff(ranked_scores) != 0, True)
    hits = np.cumsum(ranked)[last_of_tie]
    found = np.flatnonzero(last_of_tie) + 1
    recall_gain = np.diff(hits, prepend=0) / hits[-1]
    return float(np.sum(recall_gain * hits / found))


def class_values(scores: Tensor, labels: Tensor, names: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples and the measure of each class, (classes,): nan without samples.

    The measure is accuracy in percent, or average precision (0 to 1) for several labels a sample.

    Args:
        names: see `classification_metrics`.

    Raises:
        ValueError: a label outside the classes, or scores that are NaN or infinite.
    """
    if labels.dim() == 1:
        matrix = confusion_matrix(scores, labels, names)
        samples = matrix.sum(dim=1)
        return samples.numpy(), (100.0 * matrix.diag().double() / samples).numpy()
    _check_finite(scores, names)
    positive = labels.cpu().numpy() > 0.5
    columns = scores.float().cpu().numpy().astype(np.float64)
    samples = positive.sum(axis=0)
    values = [_average_precision(columns[:, c], positive[:, c]) if n else np.nan for c, n in enumerate(samples)]
    return samples, np.array(values)


def confusion_matrix(scores: Tensor, labels: Tensor, names: Sequence[str] | None = None) -> Tensor:
    """Return (classes, classes) counts: samples of the row's label whose best score is the column's class.

    Args:
        names: see `classification_metrics`.

    Raises:
        ValueError: several labels a sample, a label outside the classes, or scores that are NaN or infinite.
    """
    _check_finite(scores, names)
    if labels.dim() != 1:
        raise ValueError(f"a confusion matrix needs one label a sample; labels are {tuple(labels.shape)}")
    classes = scores.shape[1]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels from {int(labels.min())} to {int(labels.max())} do not fit {classes} classes")
    predicted = scores.argmax(dim=1).cpu()
    return torch.bincount(labels.cpu().long() * classes + predicted, minlength=classes**2).view(classes, classes)
