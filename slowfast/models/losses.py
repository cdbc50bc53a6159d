"""Losses by name."""

from collections.abc import Callable

import torch
from fvcore.common.config import CfgNode
from torch import nn


def _check_shapes(scores: torch.Tensor, targets: torch.Tensor) -> None:
    """Raise ValueError unless there is a target for every class of every sample."""
    if scores.shape != targets.shape:
        raise ValueError(
            f"MODEL.LOSS_FUNC takes labels of the scores' shape {tuple(scores.shape)} (batch, classes), but the data "
            f"set gives {tuple(targets.shape)}; for one class number a video set MODEL.LOSS_FUNC cross_entropy"
        )


class SoftTargetCrossEntropy(nn.Module):
    """Cross entropy against class probabilities: logits (B, K), targets (B, K) that sum to one."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        _check_shapes(logits, targets)
        return -(targets * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


class MultiLabelLoss(nn.Module):
    """Binary cross entropy over classes, mean over batch and classes; the targets may be of any number type.

    Without anything to score, as in a batch without boxes, it is 0.
    """

    def __init__(self, from_logits: bool):
        super().__init__()
        self.loss = nn.BCEWithLogitsLoss() if from_logits else nn.BCELoss()

    def forward(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        _check_shapes(scores, targets)
        if scores.numel() == 0:
            return scores.sum()
        # Logarithms of probabilities take 32 bits, and autocast refuses them.
        with torch.autocast(scores.device.type, enabled=False):
            scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
            return self.loss(scores, targets.to(scores.dtype))


_LOSSES: dict[str, Callable[[], nn.Module]] = {
    "cross_entropy": nn.CrossEntropyLoss,
    "bce": lambda: MultiLabelLoss(from_logits=False),
    "bce_logit": lambda: MultiLabelLoss(from_logits=True),
    "soft_cross_entropy": SoftTargetCrossEntropy,
}


def build_loss(cfg: CfgNode) -> nn.Module:
    """The loss named by MODEL.LOSS_FUNC: (scores (B, K), labels (B,) or (B, K)) -> mean over the batch.

    Raises:
        ValueError: unknown name, or one that does not fit what a head for boxes gives in training.
    """
    name, activation = cfg.MODEL.LOSS_FUNC, cfg.MODEL.HEAD_ACT
    if name not in _LOSSES:
        raise ValueError(f"MODEL.LOSS_FUNC is {name!r}; it must be one of {', '.join(_LOSSES)}")
    if cfg.DETECTION.ENABLE and (name == "bce") != (activation == "sigmoid"):
        raise ValueError(
            f"MODEL.LOSS_FUNC {name} with MODEL.HEAD_ACT {activation}: a head that scores boxes (DETECTION.ENABLE "
            "True) applies HEAD_ACT in training too, so the loss gets its results. Set LOSS_FUNC bce with HEAD_ACT "
            "sigmoid, or another loss with HEAD_ACT none"
        )
    return _LOSSES[name]()
