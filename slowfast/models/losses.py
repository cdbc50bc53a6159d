"""Losses. Shapes: scores are (B, K) for K classes; targets are class indices (B,) or (B, K)."""

from collections.abc import Sequence

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.utils.registry import Registry

# Loss by name: a class or function without arguments that returns a module, (scores, targets) -> mean over the batch.
# `multi_label` says that it takes logits of clips with any number of labels each, `soft_targets` that it takes class
# probabilities (mixup), `labels` that it compares scores with labels at all.
LOSS_REGISTRY = Registry("MODEL.LOSS_FUNC", facts={"multi_label": False, "soft_targets": False, "labels": True})


@LOSS_REGISTRY.register("cross_entropy")
class CrossEntropy(nn.Module):
    """Cross entropy of logits (B, K) against class indices (B,) or class probabilities (B, K), in float32 at least.

    On GPUs autocast leaves it in half precision, which rounds the log-probabilities.
    """

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(_float32(logits), targets)


@LOSS_REGISTRY.register("soft_cross_entropy", soft_targets=True)
class SoftTargetCrossEntropy(nn.Module):
    """Cross entropy of logits (B, K) against class probabilities (B, K).

    `nn.CrossEntropyLoss` takes such targets too, but would read targets of shape (B,) as class indices.
    """

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        _check_shapes(logits, targets)
        return -(targets * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


@LOSS_REGISTRY.register("contrastive_loss", labels=False)
class ContrastiveLoss(nn.Module):
    """Cross entropy of logits (B, K) whose first entry is the positive one; targets are not read."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        return nn.functional.cross_entropy(_float32(logits), logits.new_zeros(len(logits), dtype=torch.int64))


class _MultiLabelLoss(nn.Module):
    """Binary cross entropy, mean over batch and classes; 0 for an empty batch. Targets (B, K) have any dtype.

    Args:
        from_logits: scores are logits rather than probabilities.
    """

    def __init__(self, from_logits: bool):
        super().__init__()
        self.loss = nn.BCEWithLogitsLoss() if from_logits else nn.BCELoss()

    def forward(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        _check_shapes(scores, targets)
        if scores.numel() == 0:
            return scores.sum()
        # BCELoss is unsafe in half precision and rejected by autocast, so compute it in float32.
        with torch.autocast(scores.device.type, enabled=False):
            scores = _float32(scores)
            return self.loss(scores, targets.to(scores.dtype))


@LOSS_REGISTRY.register("bce")
def _bce() -> _MultiLabelLoss:
    return _MultiLabelLoss(from_logits=False)


@LOSS_REGISTRY.register("bce_logit", multi_label=True)
def _bce_logit() -> _MultiLabelLoss:
    return _MultiLabelLoss(from_logits=True)


@LOSS_REGISTRY.register("multi_mse")
class MultiMSELoss(nn.Module):
    """Weighted sum of the mean square errors of several predictions; see `slowfast.models.masked`."""

    def forward(
        self, predictions: Sequence[torch.Tensor], targets: Sequence[tuple[torch.Tensor, float]]
    ) -> torch.Tensor:
        errors = [
            weight * nn.functional.mse_loss(prediction.float(), target)
            for prediction, (target, weight) in zip(predictions, targets, strict=True)
        ]
        return torch.stack(errors).sum()


def _float32(scores: torch.Tensor) -> torch.Tensor:
    """Return scores in float32 at least."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _check_shapes(scores: torch.Tensor, targets: torch.Tensor) -> None:
    """Raise ValueError unless there is a target for every class of every sample."""
    if scores.shape != targets.shape:
        raise ValueError(
            f"the loss takes labels of the scores' shape {tuple(scores.shape)} (batch, classes), but the data set "
            f"gives {tuple(targets.shape)}; for one class number per video take cross_entropy"
        )


def build_loss(cfg: CfgNode) -> nn.Module:
    """Build the loss named by MODEL.LOSS_FUNC: (scores, targets) -> mean over the batch.

    Raises:
        ValueError: the name is not registered, or does not fit the activation of a head for boxes.
    """
    name, activation = cfg.MODEL.LOSS_FUNC, cfg.MODEL.HEAD_ACT
    loss = LOSS_REGISTRY.get(name)
    if cfg.DETECTION.ENABLE and (name == "bce") != (activation == "sigmoid"):
        raise ValueError(
            f"MODEL.LOSS_FUNC {name} with MODEL.HEAD_ACT {activation}: with DETECTION.ENABLE True the head applies "
            "HEAD_ACT in training too, so the loss gets class scores. Set LOSS_FUNC bce with HEAD_ACT sigmoid, or "
            "another loss with HEAD_ACT none"
        )
    return loss()
