"""The loss of a validation, from the class scores that its metrics are computed from."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from slowfast.datasets.loading.batch import Batch
from slowfast.evaluation.prediction import Prediction
from slowfast.models.losses import LOSS_REGISTRY, build_loss
from slowfast.runtime.distributed import all_gather_object

# Probabilities are taken as at least this, and for a sigmoid as at most 1 less it: the logit of 1 is infinite.
_LEAST = {"softmax": torch.finfo(torch.float32).tiny, "sigmoid": torch.finfo(torch.float32).eps}

_ROUNDING = 1e-3


class ValidationLoss:
    """Mean of a loss over clips, whatever process and batch they came in.

    In eval mode a model gives class scores, and the loss takes logits. So the activation of the head is undone: the
    logits of a softmax are known but for a number that is the same for all classes, and changes no loss of a softmax.
    Scores of several positions or steps were averaged before; the loss is that of their mean.

    Args:
        loss: (logits, targets) -> mean over the batch.
        activation: of the head: softmax, sigmoid or none.
        of_probabilities: the loss takes targets (B, classes) for single labels too.
    """

    def __init__(self, loss: nn.Module, activation: str, of_probabilities: bool = False) -> None:
        self._loss, self._activation, self._of_probabilities = loss, activation, of_probabilities
        self._values: list[float] = []

    @classmethod
    def from_config(cls, cfg: Any) -> ValidationLoss | None:
        """Return the mean of `MODEL.LOSS_FUNC`; None where clips are not what is scored, or for another activation.

        Boxes of a validation come from a detector and have no labels, and self-supervised losses read none.
        """
        name, activation = cfg.MODEL.LOSS_FUNC, cfg.MODEL.HEAD_ACT
        if not LOSS_REGISTRY.fact(name, "labels") or cfg.DETECTION.ENABLE or activation not in (*_LEAST, "none"):
            return None
        return cls(build_loss(cfg), activation, LOSS_REGISTRY.fact(name, "soft_targets"))

    def add(self, batch: Batch, prediction: Prediction) -> None:
        """Take in a batch and the model's prediction (B, classes), both on the CPU."""
        scores, labels = prediction.scores / prediction.summed, batch.labels
        if self._of_probabilities and labels.dim() == 1:
            labels = nn.functional.one_hot(labels, scores.shape[1]).to(scores.dtype)
        logits = self._logits(scores)
        # One by one, and added up exactly: the mean does not depend on who shares a batch or process.
        self._values += [self._loss(logits[i : i + 1], labels[i : i + 1]).item() for i in range(len(logits))]

    def read(self) -> float | None:
        """Return the mean over all processes, each of which calls it; None if a clip has no loss, or there is none."""
        values = [value for part in all_gather_object(self._values) for value in part]
        return math.fsum(values) / len(values) if values and all(map(math.isfinite, values)) else None

    def _logits(self, scores: Tensor) -> Tensor:
        if self._activation == "none":
            return scores
        # Of a project's model that does not end in this activation, and so has no known logits.
        scores = scores.where((scores >= 0) & (scores <= 1 + _ROUNDING), torch.nan)
        if self._activation == "softmax":
            return scores.clamp(min=_LEAST["softmax"]).log()
        return torch.logit(scores, eps=_LEAST["sigmoid"])
