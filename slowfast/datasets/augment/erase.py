"""Random erasing: rectangles of a clip in place of which it shows noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from slowfast.datasets.draws import chance, uniform, whole

# Of all rectangles of a clip together, as a share of the frame; and of each, height over width.
ERASED_AREAS = (0.02, 1 / 3)
ERASED_ASPECTS = (0.3, 1 / 0.3)
TRIES = 10


@dataclass(frozen=True)
class RandomErasing:
    """Rectangles at the same place of all frames of a clip.

    Attributes:
        probability: that anything is erased.
        mode: what comes there: "pixel" normal noise, "rand" one colour a frame, of the same noise, "const" the mean
            colour.
        most: rectangles; their number is drawn from 1 to this, and they share the area.

    Source: Zhong et al., Random erasing data augmentation; modes and numbers as in timm.
    """

    probability: float
    mode: str
    most: int

    def __call__(self, clip: Tensor, generator: Generator) -> None:
        """Erases in a normalised clip (3, T, H, W), in place."""
        if not chance(generator, self.probability):
            return
        height, width = clip.shape[-2:]
        count = 1 + whole(generator, self.most)
        for _ in range(count):
            for _ in range(TRIES):
                area = uniform(generator, *ERASED_AREAS) * height * width / count
                aspect = math.exp(uniform(generator, *map(math.log, ERASED_ASPECTS)))
                high, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
                if high < height and wide < width:
                    top, left = whole(generator, height - high + 1), whole(generator, width - wide + 1)
                    self._fill(clip[..., top : top + high, left : left + wide], generator)
                    break

    def _fill(self, part: Tensor, generator: Generator) -> None:
        if self.mode == "pixel":
            part.copy_(torch.randn(part.shape, generator=generator))
        elif self.mode == "rand":
            part.copy_(torch.randn(*part.shape[:2], 1, 1, generator=generator))
        else:
            part.zero_()
