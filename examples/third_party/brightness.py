"""Third-party project: a backbone, a data set, a loss, a metric and a rule of memory, plugged in from outside.

The task is a toy one: tell how bright a video is, dark (class 0) or bright (class 1). A clip is (B, 3, T, H, W).
"""

import torch
from fvcore.common.config import CfgNode
from torch import nn

from pgt.memory import CACHE_POLICIES, PooledFrames
from slowfast.datasets import DATASET_REGISTRY, VideoDataset
from slowfast.datasets.video_dataset import read_video_list
from slowfast.evaluation.evaluators import VideoEvaluator
from slowfast.layers.conv import Conv3d
from slowfast.layers.pool import SpaceTimePool
from slowfast.models import MODEL_REGISTRY, VideoModel
from slowfast.models.losses import LOSS_REGISTRY


class TinyNet(VideoModel):
    """Two convolutions, a pooling and a linear layer, over one pathway."""

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.num_features = 2 * width
        self.stem = Conv3d(3, width, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.body = Conv3d(width, 2 * width, (3, 3, 3), stride=(1, 2, 2), padding=(1, 1, 1))
        self.pool = SpaceTimePool()
        self.classifier = nn.Linear(2 * width, num_classes)

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the features (B, C, T, H', W') in front of the pooling."""
        return [self.body(self.stem(inputs[0]).relu()).relu()]

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Return logits (B, classes) in train mode, probabilities in eval mode."""
        scores = self.classifier(self.pool(self.forward_features(inputs)[0]).flatten(1))
        return scores if self.training else scores.softmax(dim=1)


@MODEL_REGISTRY.register("TinyNet")
def build_tiny_net(cfg: CfgNode) -> TinyNet:
    """Build the network by BRIGHTNESS.WIDTH and MODEL.NUM_CLASSES."""
    return TinyNet(cfg.BRIGHTNESS.WIDTH, cfg.MODEL.NUM_CLASSES)


@LOSS_REGISTRY.register("smooth_cross_entropy")
class SmoothCrossEntropy(nn.CrossEntropyLoss):
    """Cross-entropy with label smoothing of 0.1."""

    def __init__(self) -> None:
        super().__init__(label_smoothing=0.1)


class BalancedEvaluator(VideoEvaluator):
    """The built-in metrics, and the balanced accuracy: the mean over classes of the share found, 0 to 1."""

    def evaluate(self) -> dict[str, float]:
        """Return the metrics by name."""
        found = self.predictions()
        right = found.scores.argmax(axis=1) == found.labels
        shares = [right[found.labels == label].mean() for label in set(found.labels.tolist())]
        return {**super().evaluate(), "balanced_acc": float(sum(shares) / len(shares))}


@DATASET_REGISTRY.register("brightness")
class Brightness(VideoDataset):
    """Videos listed in `bright_{train,val,test}.txt` of DATA.PATH_TO_DATA_DIR, lines `path label`."""

    def __init__(self, cfg: CfgNode, split: str):
        path = f"{cfg.DATA.PATH_TO_DATA_DIR}/bright_{split}.txt"
        paths, labels = read_video_list(path, cfg.MODEL.NUM_CLASSES, prefix=cfg.DATA.PATH_PREFIX)
        super().__init__(cfg, split, paths, labels, class_names={0: "dark", 1: "bright"}, source=path)

    def make_evaluator(self, cfg: CfgNode) -> BalancedEvaluator:
        """Make the evaluator of this split."""
        return BalancedEvaluator(self.names, self.num_views, cfg.DATA.ENSEMBLE_METHOD, self.info.class_names)


@CACHE_POLICIES.register("first")
class FirstFrames(PooledFrames):
    """Memory of the first frames of [memory; step]: what a video began with is never forgotten."""

    def pool(self, z: torch.Tensor) -> torch.Tensor:
        """Return a copy of the first O frames."""
        return z[:, :, : self.frames].clone()


def setup(cfg: CfgNode) -> None:
    """Add the section BRIGHTNESS to the config."""
    # Width of the network: channels of its first convolution.
    cfg.BRIGHTNESS = CfgNode({"WIDTH": 8})
