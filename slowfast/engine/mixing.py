"""Blends of pairs of training clips and of their labels: mixup and cutmix.

Sources: Zhang et al., mixup: Beyond empirical risk minimization; Yun et al., CutMix: Regularization strategy to train
strong classifiers with localizable features. Numbers and order of the draws as in timm, which published code follows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slowfast.datasets.loading.batch import Batch
from slowfast.runtime.distributed import get_rank
from slowfast.utils.rng import seeded_generator

# Sets the stream of blends apart from those of samples and of shapes.
_STREAM = 2


@dataclass(frozen=True)
class Mixing:
    """Each clip of a batch is blended with the one as far from the end as it is from the start.

    Attributes:
        classes: of the labels.
        seed: of all draws.
        alpha: shape of the Beta distribution of the share in an overlay of two clips; 0 for no overlays.
        cut_alpha: the same where a rectangle of one clip is pasted into the other; 0 for no pasting.
        probability: that a batch is blended.
        cut_probability: that it is blended by pasting, where both ways are open.
        smoothing: share of each label spread over all classes, in every batch.
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
        """What MIXUP asks for, None where it is off."""
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
        """A batch with blended inputs, the same in all pathways, and `mixed_labels`; `labels` stay as they were.

        What is drawn depends on seed, epoch, iteration and rank alone.

        Raises:
            ValueError: the clips have several labels each.
        """
        if batch.labels.dim() != 1:
            raise ValueError(
                "MIXUP.ENABLE True blends clips of one label each, but those of this data set have several; set it to "
                "False"
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
        """The share that a clip keeps of itself, and whether the rest is pasted."""
        if random.random() >= self.probability or not (self.alpha or self.cut_alpha):
            return 1.0, False
        cuts = random.random() < self.cut_probability if self.alpha and self.cut_alpha else not self.alpha
        alpha = self.cut_alpha if cuts else self.alpha
        return float(random.beta(alpha, alpha)), cuts


def _rectangle(height: int, width: int, share: float, random: np.random.Generator) -> tuple[tuple[slice, slice], float]:
    """Rows and columns of about (1 - `share`) of a frame around any pixel of it, and the share that is left once what
    lies outside of the frame is cut off.
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
    """(B, classes) float32 that sum to one: `smoothing` of each label is spread evenly over all classes."""
    even = torch.full((len(labels), classes), smoothing / classes, device=labels.device)
    return even.scatter_(1, labels[:, None], 1 - smoothing + smoothing / classes)
