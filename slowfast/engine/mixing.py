"""Mixup and CutMix: blend pairs of training clips and their labels.

Sources: Zhang et al., mixup: Beyond Empirical Risk Minimization; Yun et al., CutMix: Regularization Strategy to Train
Strong Classifiers with Localizable Features. Random numbers are drawn as in timm, which the published code uses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slowfast.datasets.loading.batch import Batch
from slowfast.runtime.distributed import get_rank
from slowfast.runtime.seed import seeded_generator

# Separates these random numbers from those of samples and of batch shapes.
_STREAM = 2


@dataclass(frozen=True)
class Mixing:
    """Mixup and CutMix of a batch with its reverse: clip i is blended with clip B - 1 - i.

    Attributes:
        classes: number of classes.
        seed: seed of all random numbers.
        alpha: parameter of the Beta distribution of mixup's lambda; 0 turns mixup off.
        cut_alpha: the same of CutMix; 0 turns CutMix off.
        probability: probability that a batch is blended.
        cut_probability: probability of CutMix in place of mixup, if both are on.
        smoothing: label smoothing, applied to every batch.
    """

    classes: int
    seed: int
    alpha: float
    cut_alpha: float
    probability: float
    cut_probability: float
    smoothing: float

    @staticmethod
    def from_config(cfg: Any) -> Mixing | None:
        """Build it from the section MIXUP; None if that is off."""
        mixup = cfg.MIXUP
        if not mixup.ENABLE:
            return None
        return Mixing(
            classes=cfg.MODEL.NUM_CLASSES,
            seed=cfg.RNG_SEED,
            alpha=mixup.ALPHA,
            cut_alpha=mixup.CUTMIX_ALPHA,
            probability=mixup.PROB,
            cut_probability=mixup.SWITCH_PROB,
            smoothing=mixup.LABEL_SMOOTH_VALUE,
        )

    def __call__(self, batch: Batch, epoch: int, iteration: int) -> Batch:
        """Return the batch with blended inputs, alike in all pathways, and `mixed_labels`; `labels` are unchanged.

        Random numbers depend only on seed, epoch, iteration and rank.

        Raises:
            ValueError: clips have several labels, or labels that change within them.
        """
        if batch.labels.dim() != 1:
            raise ValueError(
                "MIXUP.ENABLE True needs one label per clip, and this data set has several; set it to False"
            )
        if batch.frame_labels is not None:
            raise ValueError(
                "MIXUP.ENABLE True needs one label for a whole clip, and those of this data set change within it; set "
                "it to False"
            )
        stream = seeded_generator(self.seed, "train", epoch, iteration, get_rank(), _STREAM)
        random = np.random.default_rng(stream.initial_seed())
        share, cuts = self._draw(random)
        inputs = batch.inputs
        if cuts:
            box, share = _rectangle(*inputs[0].shape[-2:], share, random)
            inputs = [_paste(clips, box) for clips in inputs]
        elif share < 1:
            inputs = [torch.lerp(clips.flip(0), clips, share) for clips in inputs]
        labels = _smooth(batch.labels, self.classes, self.smoothing)
        return replace(batch, inputs=inputs, mixed_labels=share * labels + (1 - share) * labels.flip(0))

    def _draw(self, random: np.random.Generator) -> tuple[float, bool]:
        """Draw lambda, and True for CutMix."""
        if random.random() >= self.probability or not (self.alpha or self.cut_alpha):
            return 1.0, False
        cuts = random.random() < self.cut_probability if self.alpha and self.cut_alpha else not self.alpha
        alpha = self.cut_alpha if cuts else self.alpha
        return float(random.beta(alpha, alpha)), cuts


def _rectangle(height: int, width: int, share: float, random: np.random.Generator) -> tuple[tuple[slice, slice], float]:
    """Draw a rectangle with the area share 1 - `share` around a random pixel, clipped to the frame.

    Returns:
        Rows and columns, and the area share outside the clipped rectangle.
    """
    side = np.sqrt(1 - share)
    high, wide = int(height * side), int(width * side)
    row, column = int(random.integers(height)), int(random.integers(width))
    rows = slice(max(row - high // 2, 0), min(row + high // 2, height))
    columns = slice(max(column - wide // 2, 0), min(column + wide // 2, width))
    return (rows, columns), 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)


def _paste(clips: Tensor, box: tuple[slice, slice]) -> Tensor:
    pasted = clips.clone()
    pasted[..., box[0], box[1]] = clips.flip(0)[..., box[0], box[1]]
    return pasted


def _smooth(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Return (B, classes) float32 probabilities with label smoothing."""
    even = torch.full((len(labels), classes), smoothing / classes, device=labels.device)
    return even.scatter_(1, labels[:, None], 1 - smoothing + smoothing / classes)
