"""ResNet over clips: C2D, I3D, Slow, with or without non-local blocks. Shapes: a clip is (B, 3, T, H, W)."""

from collections.abc import Sequence

import torch
from torch import nn

from slowfast.models.heads import apply_head


class ResNet(nn.Module):
    """Stem, four residual stages and a head over a list of pathways, one for C2D, I3D and Slow.

    ("Non-local Neural Networks", table 1; "SlowFast Networks", table 1.)

    Args:
        stem: list of clips -> list of features.
        stages: four modules, list of features -> list of features (`s2` to `s5`).
        head: list of features -> scores (B, classes); for boxes see `slowfast.models.roi_head`.
        pool: (T, H, W) max pooling after the first stage, a pathway; all ones is none.
    """

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], head: nn.Module, pool: Sequence[Sequence[int]]):
        super().__init__()
        self.s1 = stem
        self.s2, self.s3, self.s4, self.s5 = stages
        for i, size in enumerate(pool):
            size = tuple(size)
            layer = nn.Identity() if size == (1, 1, 1) else nn.MaxPool3d(size, stride=size)
            self.add_module(f"pathway{i}_pool", layer)
        self.head = head

    @property
    def num_features(self) -> int:
        """Channels in front of the classifier, over all pathways."""
        return self.head.num_features

    def depth_groups(self) -> list[list[nn.Module]]:
        """The layers by depth: stem, residual blocks, head; what follows a block is of the block's depth."""
        groups = [[self.s1]]
        for stage in (self.s2, self.s3, self.s4, self.s5):
            groups += stage.depth_groups()
        return [*groups, [self.head]]

    def _pool(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        return [getattr(self, f"pathway{i}_pool")(features) for i, features in enumerate(x)]

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Features (B, C, T', H', W') of every pathway in front of the head."""
        x = self.s2(self.s1(inputs))
        return self.s5(self.s4(self.s3(self._pool(x))))

    def forward(self, inputs: list[torch.Tensor], boxes: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (B, classes): logits in train mode, activated and averaged over positions in eval mode. Of boxes (N,
        classes), activated in both.

        Args:
            inputs: one clip (B, 3, T, H, W) a pathway.
            boxes: for a head that scores boxes, (N, 5): index in the batch, x1, y1, x2, y2 in pixels of the clip.

        Raises:
            ValueError: boxes without such a head, or such a head without.
        """
        return apply_head(self.head, self.forward_features(inputs), boxes)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a fresh classifier with `num_classes` outputs in place of the old one."""
        self.head.reset_classifier(num_classes)
