"""SlowFast: two pathways with lateral connections. Shapes: a clip is (B, C, T, H, W)."""

from collections.abc import Sequence

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.conv import Conv3d
from slowfast.models.blocks import Norm, ResStage
from slowfast.models.build import MODEL_REGISTRY, init_weights, model_norm
from slowfast.models.heads import Classifier
from slowfast.models.resnet import PathwayStems, ResNet, archs_of, resnet_parts


class FuseFastToSlow(nn.Module):
    """Lateral connection: a k x 1 x 1 convolution of stride alpha in time, from the fast to the slow pathway.

    Args:
        dim_fast: channels of the fast pathway.
        ratio: output channels per fast channel.
        kernel: frames k, odd.
        alpha: fast frames per slow frame.
        norm: constructor `norm(channels)`, or None for no norm.
        relu: add a ReLU.
    """

    def __init__(
        self,
        dim_fast: int,
        ratio: int,
        kernel: int,
        alpha: int,
        norm: Norm | None,
        relu: bool = True,
        inplace: bool = True,
    ):
        super().__init__()
        dim_out = dim_fast * ratio
        self.conv_f2s = Conv3d(dim_fast, dim_out, (kernel, 1, 1), (alpha, 1, 1), (kernel // 2, 0, 0), bias=False)
        self.bn = nn.Identity() if norm is None else norm(dim_out)
        self.relu = nn.ReLU(inplace) if relu else nn.Identity()

    def lateral(self, fast: torch.Tensor) -> torch.Tensor:
        """Compute fast features at the slow frame rate, (B, C, T / alpha, H, W)."""
        return self.relu(self.bn(self.conv_f2s(fast)))

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        slow, fast = x
        lateral = self.lateral(fast)
        if lateral.shape[2] != slow.shape[2]:
            alpha = self.conv_f2s.stride[0]
            raise ValueError(
                f"the slow pathway has {slow.shape[2]} frames and the fast one {fast.shape[2]}; give {alpha} "
                "fast frames for each slow one"
            )
        return [torch.cat([slow, lateral], dim=1), fast]


class SlowFast(ResNet):
    """SlowFast network: a slow pathway with many channels and a fast one with many frames.

    Source: "SlowFast Networks for Video Recognition" (arXiv 1812.03982), section 3.

    Args:
        stem, stages, head, pool: see `ResNet`, for two pathways: slow, fast.
        fusions: four lateral connections, after the stem and the first three stages.
    """

    def __init__(
        self,
        stem: PathwayStems,
        stages: Sequence[ResStage],
        head: Classifier,
        pool: Sequence[Sequence[int]],
        fusions: Sequence[nn.Module],
    ):
        super().__init__(stem, stages, head, pool)
        self.s1_fuse, self.s2_fuse, self.s3_fuse, self.s4_fuse = fusions

    def depth_groups(self) -> list[list[nn.Module]]:
        """Return the layers by depth, as in `ResNet`; a lateral connection is in the group of the block before it."""
        groups, last = super().depth_groups(), 0
        groups[last].append(self.s1_fuse)
        for stage, fusion in ((self.s2, self.s2_fuse), (self.s3, self.s3_fuse), (self.s4, self.s4_fuse)):
            last += len(stage.depth_groups())
            groups[last].append(fusion)
        return groups

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the features (B, C, T', H', W') of both pathways in front of the head."""
        x = self.s1_fuse(self.s1(inputs))
        x = self._pool(self.s2_fuse(self.s2(x)))
        x = self.s3_fuse(self.s3(x))
        x = self.s4_fuse(self.s4(x))
        return self.s5(x)


@MODEL_REGISTRY.register("SlowFast", num_pathways=2, archs=archs_of(2))
def build_slowfast(cfg: CfgNode) -> SlowFast:
    """Build SlowFast from SLOWFAST.*, RESNET.* and NONLOCAL.*."""
    options = cfg.SLOWFAST
    widths = [cfg.RESNET.WIDTH_PER_GROUP, cfg.RESNET.WIDTH_PER_GROUP // options.BETA_INV]
    ratio = options.FUSION_CONV_CHANNEL_RATIO
    norm = model_norm(cfg) if options.FUSION_BN else None
    fusions = [
        FuseFastToSlow(
            widths[1] * scale,
            ratio,
            options.FUSION_KERNEL_SZ,
            options.ALPHA,
            norm,
            options.FUSION_RELU,
            cfg.RESNET.INPLACE_RELU,
        )
        for scale in (1, 4, 8, 16)
    ]
    model = SlowFast(*resnet_parts(cfg, widths, fused_channels=widths[1] * ratio), fusions)
    return init_weights(model, cfg.MODEL.FC_INIT_STD)
