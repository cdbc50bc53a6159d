"""Classification by the nearest training videos. Shapes: features are (B, D), of L2 norm 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

_NEIGHBORS = 200


class MemoryBank(nn.Module):
    """Bank of one feature and label for each training video, the last one seen.

    Source: "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (arXiv 1805.01978), section 3.4.

    Args:
        dim: D.
        temperature: of the votes.

    Attributes:
        memory: (N, 1, D) features.
        labels: (N,) class numbers, -1 of videos that were not seen yet.
    """

    def __init__(self, dim: int, temperature: float):
        super().__init__()
        self.temperature = temperature
        self.register_buffer("memory", torch.zeros(0, 1, dim))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))

    def reserve(self, videos: int) -> None:
        """Make room for this number of videos; a bank of another number is of other videos, and starts anew."""
        if len(self.labels) == videos:
            return
        if len(self.labels):
            logger.warning(
                "the bank of features is of %d training videos, and there are %d: it starts anew",
                *(len(self.labels), videos),
            )
        self.memory = self.memory.new_zeros(videos, *self.memory.shape[1:])
        self.labels = self.labels.new_full((videos,), -1)

    @torch.no_grad()
    def put(self, videos: Tensor, labels: Tensor, features: Tensor) -> None:
        """Replace the features of videos, given by their numbers (B,)."""
        self.memory[videos, 0] = features.to(self.memory.dtype)
        self.labels[videos] = labels

    @torch.no_grad()
    def votes(self, features: Tensor, classes: int) -> Tensor:
        """Return class scores (B, classes): votes of the 200 nearest videos, weighted by exp(similarity / temperature).

        Scores of a row sum to 1.

        Raises:
            ValueError: no training video was seen yet, or one has a label beyond the classes.
        """
        seen = self.labels >= 0
        labels = self.labels[seen]
        if not len(labels):
            raise ValueError(
                "the bank of features of training videos (CONTRASTIVE.KNN_ON) is empty, so nearest neighbors tell no "
                "class: train first, or test a checkpoint of a run that had it on"
            )
        if int(labels.max()) >= classes:
            raise ValueError(
                f"a training video has label {int(labels.max())}, and CONTRASTIVE.NUM_CLASSES_DOWNSTREAM is {classes}; "
                "set it to the number of classes"
            )
        with torch.autocast(features.device.type, enabled=False):  # half precision would tie near neighbors
            similarity = features @ self.memory[seen, 0].to(features.dtype).t()
        nearest, index = similarity.topk(min(_NEIGHBORS, len(labels)), dim=1)
        weights = (nearest.float() / self.temperature).softmax(dim=1)
        return weights.new_zeros(len(features), classes).scatter_add_(1, labels[index], weights)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load a bank of any number of videos."""
        for name in ("memory", "labels"):
            value = state_dict.get(prefix + name)
            if value is not None and value.shape[1:] == self.get_buffer(name).shape[1:]:
                setattr(
                    self, name, torch.empty_like(value, dtype=self.get_buffer(name).dtype, device=self.labels.device)
                )
        super()._load_from_state_dict(state_dict, prefix, *args)
