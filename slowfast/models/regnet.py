"""RegNet3D: RegNetX with convolutions along time. Shapes: a clip is (B, C, T, H, W)."""

from dataclasses import dataclass

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.activation_checkpoint import CheckpointedBlock
from slowfast.layers.conv import Conv3d
from slowfast.layers.norm import BatchNorm3d
from slowfast.layers.pool import SpaceTimePool
from slowfast.models.base import VideoModel
from slowfast.models.build import MODEL_REGISTRY, init_weights


@dataclass(frozen=True)
class _RegNetSize:
    """Sizes of a network.

    Attributes:
        stem: channels of the stem.
        depths: blocks of layer1 to layer4.
        widths: channels of layer1 to layer4.
        groups: groups of the 1 x 3 x 3 convolutions of layer1 to layer4.
    """

    stem: int
    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    groups: tuple[int, int, int, int]


# 400M is the network published with PGT: 16 groups everywhere. (In RegNetX-400MF 16 is the width of a group, so weights
# of that network do not fit.) The published 4G cannot be built, because its 24 groups do not divide 80 channels. Ours
# has groups of 40 channels, as RegNetX-4.0GF has ("Designing Network Design Spaces", arXiv 2003.13678).
SIZES = {
    "400M": _RegNetSize(24, (1, 2, 7, 12), (32, 64, 160, 384), (16, 16, 16, 16)),
    "4G": _RegNetSize(48, (2, 5, 14, 2), (80, 240, 560, 1360), (2, 6, 14, 34)),
}
# Values of REGNET.DEPTH -> size; the paper of RegNet writes 400MF and 4.0GF.
_DEPTHS = {"400M": "400M", "400MF": "400M", "4G": "4G", "4.0G": "4G", "4.0GF": "4G"}

# Temporal kernels of layer1 to layer4, of the first convolution of each block.
_TEMPORAL_KERNELS = (1, 1, 3, 3)


class _Bottleneck(CheckpointedBlock):
    """Residual block of k x 1 x 1, grouped 1 x 3 x 3 and 1 x 1 x 1 convolutions, all of `dim_out` channels.

    Args:
        dim_in, dim_out: channels.
        temporal_kernel: frames k of the first convolution, odd.
        stride: spatial stride, at the 3 x 3 convolution.
        groups: of the 3 x 3 convolution.
        projected: the shortcut is a convolution and a norm, otherwise the identity.
    """

    def __init__(self, dim_in: int, dim_out: int, temporal_kernel: int, stride: int, groups: int, projected: bool):
        super().__init__()
        k, strides = temporal_kernel, (1, stride, stride)
        self.conv1 = Conv3d(dim_in, dim_out, (k, 1, 1), padding=(k // 2, 0, 0), bias=False)
        self.bn1 = BatchNorm3d(dim_out)
        self.conv2 = Conv3d(dim_out, dim_out, (1, 3, 3), strides, (0, 1, 1), groups=groups, bias=False)
        self.bn2 = BatchNorm3d(dim_out)
        self.conv3 = Conv3d(dim_out, dim_out, 1, bias=False)
        self.bn3 = BatchNorm3d(dim_out)
        self.bn3.zero_init = True
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Identity()
        if projected:
            conv = Conv3d(dim_in, dim_out, 1, strides, bias=False)
            self.downsample = nn.Sequential(conv, BatchNorm3d(dim_out))

    def forward_block(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the block's output."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.downsample(x) + self.bn3(self.conv3(y)))


class RegNet(VideoModel):
    """RegNet3D: stem, four stages that each halve height and width, mean over space and time, linear map.

    Source: the code published with "PGT" (arXiv 2103.11313), whose state-dict keys these are. Norms are plain batch
    norms. Train mode returns logits; eval mode applies softmax at every position that the pooling leaves, and averages.

    Args:
        dim_in: channels of a clip.
        num_classes: outputs.
        size: channels, blocks and groups.
        dropout: rate before the linear map.
        init_std: standard deviation of the initial weights of the linear map.
    """

    def __init__(self, dim_in: int, num_classes: int, size: _RegNetSize, dropout: float = 0.0, init_std: float = 0.01):
        super().__init__()
        self.in_channels, self.num_features, self.init_std = [dim_in], size.widths[-1], init_std
        self.conv1 = Conv3d(dim_in, size.stem, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.bn1 = BatchNorm3d(size.stem)
        self.relu = nn.ReLU(inplace=True)
        width_in, stages = size.stem, zip(size.widths, size.depths, size.groups, _TEMPORAL_KERNELS, strict=True)
        for number, (width, depth, groups, kernel) in enumerate(stages, start=1):
            blocks = [_Bottleneck(width_in, width, kernel, 2, groups, projected=True)]
            blocks += [_Bottleneck(width, width, kernel, 1, groups, projected=False) for _ in range(depth - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            width_in = width
        self.avgpool = SpaceTimePool()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.num_features, num_classes)

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the features [(B, C, T, H / 32, W / 32)] in front of the pooling."""
        x = self.relu(self.bn1(self.conv1(inputs[0])))
        return [self.layer4(self.layer3(self.layer2(self.layer1(x))))]

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Compute scores (B, classes) of a list with one clip (B, C, T, H, W)."""
        (features,) = self.forward_features(inputs)
        scores = self.fc(self.dropout(self.avgpool(features).permute(0, 2, 3, 4, 1)))
        return (scores if self.training else scores.softmax(dim=-1)).mean(dim=(1, 2, 3))

    def depth_groups(self) -> list[list[nn.Module]]:
        """Return the layers by depth: stem, residual blocks, linear map."""
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return [[self.conv1, self.bn1], *([block] for stage in stages for block in stage), [self.fc]]

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the linear map by a fresh one with `num_classes` outputs."""
        fc = nn.Linear(self.fc.in_features, num_classes).to(self.fc.weight.device, self.fc.weight.dtype)
        self.fc = init_weights(fc, self.init_std)


@MODEL_REGISTRY.register("RegNet")
def build_regnet(cfg: CfgNode) -> RegNet:
    """Build RegNet3D from REGNET.DEPTH. As published, it reads neither RESNET.* nor NONLOCAL.* nor BN.*.

    Raises:
        ValueError: DETECTION.ENABLE, for which it has no head.
    """
    model = cfg.MODEL
    if cfg.DETECTION.ENABLE:
        raise ValueError("DETECTION.ENABLE True: RegNet scores clips only; set it False, or use ResNet or X3D")
    size = SIZES[_DEPTHS[cfg.REGNET.DEPTH]]
    regnet = RegNet(cfg.DATA.INPUT_CHANNEL_NUM[0], model.NUM_CLASSES, size, model.DROPOUT_RATE, model.FC_INIT_STD)
    return init_weights(regnet, model.FC_INIT_STD)
