"""X3D: one pathway of depthwise 3-D convolutions. Shapes: a clip is (B, C, T, H, W)."""

import math

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.conv import Conv3d
from slowfast.models.blocks import Norm, ResStage, round_channels
from slowfast.models.build import MODEL_REGISTRY, build_pathway, head_pool, init_weights, model_norm
from slowfast.models.heads import Classifier, activated_in_float32, build_activation
from slowfast.models.resnet import PathwayStems, ResNet


class _X3DStem(nn.Module):
    """Stem: 1 x 3 x 3 convolution of stride 1 x 2 x 2, depthwise k x 1 x 1 convolution, norm, ReLU.

    Args:
        dim_in, dim_out: channels.
        temporal_kernel: frames k, odd.
        norm: constructor `norm(channels)`.
    """

    def __init__(self, dim_in: int, dim_out: int, temporal_kernel: int, norm: Norm, inplace: bool = True):
        super().__init__()
        k = temporal_kernel
        self.in_channels = dim_in
        self.conv_xy = Conv3d(dim_in, dim_out, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.conv = Conv3d(dim_out, dim_out, (k, 1, 1), padding=(k // 2, 0, 0), groups=dim_out, bias=False)
        self.bn = norm(dim_out)
        self.relu = nn.ReLU(inplace)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.bn(self.conv(self.conv_xy(x))))


class _X3DHead(Classifier):
    """Head: 1 x 1 x 1 convolution, norm and ReLU, pooling, a wide 1 x 1 x 1 convolution and ReLU, and a linear map.

    The layers after the pooling run at every position that it leaves. Train mode returns logits, averaged over
    positions; eval mode applies the activation at every position before averaging.

    Args:
        dims: channels of the features, and in and out of the wide convolution.
        num_classes: outputs.
        pool: (B, dim_inner, T, H, W) -> (B, dim_inner, T', H', W').
        norm: constructor `norm(channels)`.
        norm_out: add a norm after the wide convolution.
        dropout: rate before the linear map.
        activation: see `build_activation`.

    Raises:
        ValueError: unknown activation.
    """

    def __init__(
        self,
        dims: tuple[int, int, int],
        num_classes: int,
        pool: nn.Module,
        norm: Norm,
        norm_out: bool = False,
        dropout: float = 0.0,
        activation: str = "softmax",
        init_std: float = 0.01,
        inplace: bool = True,
    ):
        super().__init__()
        dim_in, dim_inner, dim_out = dims
        self.num_features = dim_in
        self.init_std = init_std
        self.conv_5 = Conv3d(dim_in, dim_inner, 1, bias=False)
        self.conv_5_bn = norm(dim_inner)
        self.conv_5_relu = nn.ReLU(inplace)
        self.pool = pool
        self.lin_5 = Conv3d(dim_inner, dim_out, 1, bias=False)
        self.lin_5_bn = norm(dim_out) if norm_out else nn.Identity()
        self.lin_5_relu = nn.ReLU(inplace)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(dim_out, num_classes)
        self.act = build_activation(activation)

    def forward(self, x: list[torch.Tensor]) -> torch.Tensor:
        """Compute scores (B, num_classes) of a list with the features of the one pathway."""
        scores = self.projection(self.dropout(self.pre_logits(x).permute(0, 2, 3, 4, 1)))
        if not self.training:
            scores = self.act(scores)
        return scores.mean(dim=(1, 2, 3))

    def pooled_channels(self) -> list[int]:
        """Return the channels behind the first convolution."""
        return [self.conv_5.out_channels]

    def pre_logits(self, x: list[torch.Tensor], *boxes: torch.Tensor) -> torch.Tensor:
        """Compute the inputs of the classifier (B, dim_out, T', H', W'); `boxes` are arguments of the pooling."""
        (features,) = x
        pooled = self.pool(self.conv_5_relu(self.conv_5_bn(self.conv_5(features))), *boxes)
        return self.lin_5_relu(self.lin_5_bn(self.lin_5(pooled)))


class _X3DRoIHead(_X3DHead):
    """Head for boxes: an `_X3DHead` whose pooling is a `RoIPool`. No such head is published.

    The first convolution sees whole frames and the wide one boxes, so all weights of a clip model but the classifier's
    fit.
    """

    takes_boxes = True

    def forward(self, x: list[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
        """Compute scores (N, num_classes), see `RoIHead`."""
        return activated_in_float32(self.projection(self.dropout(self.pre_logits(x, boxes).flatten(1))), self.act)


class X3D(ResNet):
    """X3D: stem, four stages of `X3DTransform` blocks and `_X3DHead`.

    Source: "X3D: Expanding Architectures for Efficient Video Recognition" (arXiv 2004.04730), table 1.
    """


# Blocks of stages 2 to 5 at DEPTH_FACTOR 1; temporal kernels (frames) of the stem and of blocks.
_BLOCKS = (1, 2, 5, 3)
_STEM_KERNEL, _BLOCK_KERNEL = 5, 3


@MODEL_REGISTRY.register("X3D")
def build_x3d(cfg: CfgNode) -> X3D:
    """Build X3D from X3D.*, RESNET.* and NONLOCAL.*."""
    options, norm, inplace = cfg.X3D, model_norm(cfg), cfg.RESNET.INPLACE_RELU
    dim_stem = round_channels(options.DIM_C1 * options.WIDTH_FACTOR)
    stem = _X3DStem(cfg.DATA.INPUT_CHANNEL_NUM[0], dim_stem, _STEM_KERNEL, norm, inplace)
    stages, dim_in = [], dim_stem
    for stage, dim_out in enumerate(_stage_widths(cfg)):
        dim_inner = int(options.BOTTLENECK_FACTOR * dim_out)
        stages.append(_stage(cfg, stage, dim_in, dim_out, dim_inner))
        dim_in = dim_out
    head = (_X3DRoIHead if cfg.DETECTION.ENABLE else _X3DHead)(
        (dim_in, dim_inner, options.DIM_C5),
        cfg.MODEL.NUM_CLASSES,
        head_pool(cfg, cfg.DATA.NUM_FRAMES, math.ceil(cfg.DATA.TRAIN_CROP_SIZE / 32)),
        norm,
        options.BN_LIN5,
        cfg.MODEL.DROPOUT_RATE,
        cfg.MODEL.HEAD_ACT,
        cfg.MODEL.FC_INIT_STD,
        inplace,
    )
    return init_weights(X3D(PathwayStems([stem]), stages, head, [(1, 1, 1)]), cfg.MODEL.FC_INIT_STD)


def _stage_widths(cfg: CfgNode) -> list[int]:
    """Return the channels of stages 2 to 5: doubled and rounded from stage to stage, times WIDTH_FACTOR, rounded."""
    options = cfg.X3D
    widths = [round_channels(2 * options.DIM_C1) if options.SCALE_RES2 else options.DIM_C1]
    for _ in range(3):
        widths.append(round_channels(2 * widths[-1]))
    return [round_channels(width * options.WIDTH_FACTOR) for width in widths]


def _stage(cfg: CfgNode, stage: int, dim_in: int, dim_out: int, dim_inner: int) -> ResStage:
    """Build a stage (0 is s2), which halves height and width."""
    if dim_inner < 1:
        raise ValueError(
            f"X3D.BOTTLENECK_FACTOR {cfg.X3D.BOTTLENECK_FACTOR} leaves no channel inside the blocks of stage "
            f"{stage + 2}, of {dim_out} channels; raise it"
        )
    groups = dim_inner if cfg.X3D.CHANNELWISE_3x3x3 else cfg.RESNET.NUM_GROUPS
    if dim_inner % groups:
        raise ValueError(
            f"RESNET.NUM_GROUPS {groups} does not divide the {dim_inner} channels inside the blocks of stage "
            f"{stage + 2} (X3D.CHANNELWISE_3x3x3 False); set a divisor, or CHANNELWISE_3x3x3 True"
        )
    pathway = build_pathway(
        cfg,
        stage,
        groups,
        dim_in=dim_in,
        dim_out=dim_out,
        dim_inner=dim_inner,
        temporal_kernels=[_BLOCK_KERNEL] * math.ceil(_BLOCKS[stage] * cfg.X3D.DEPTH_FACTOR),
        stride=2,
        norm_resized=cfg.X3D.SHORTCUT_BN,
    )
    return ResStage([pathway])
