"""SlowFast: two pathways with lateral connections. Shapes: a clip is (B, 3, T, H, W)."""

from collections.abc import Callable, Sequence

import torch
from fvcore.common.config import CfgNode
from torch import nn

from slowfast.layers.conv import Conv3d
from slowfast.models.parts import initialized, model_norm
from slowfast.models.registry import MODEL_REGISTRY
from slowfast.models.resnet import ResNet, archs_of, resnet_parts


class FuseFastToSlow(nn.Module):
    """Lateral connection: a k x 1 x 1 convolution of stride alpha in time on the fast pathway, joined to the slow one.

    Args:
        dim_fast: channels of the fast pathway.
        ratio: output channels per fast channel.
        kernel: frames k, odd.
        alpha: fast frames per slow frame.
        norm: constructor `norm(channels)`, or None for no norm.
        relu: whether a ReLU follows.
    """

    def __init__(
        self,
        dim_fast: int,
        ratio: int,
        kernel: int,
        alpha: int,
        norm: Callable[[int], nn.Module] | None,
        relu: bool = True,
        inplace: bool = True,
    ):
        super().__init__()
        dim_out = dim_fast * ratio
        self.conv_f2s = Conv3d(dim_fast, dim_out, (kernel, 1, 1), (alpha, 1, 1), (kernel // 2, 0, 0), bias=False)
        self.bn = nn.Identity() if norm is None else norm(dim_out)
        self.relu = nn.ReLU(inplace) if relu else nn.Identity()

    def lateral(self, fast: torch.Tensor) -> torch.Tensor:
        """Fast features at the slow frame rate, (B, C, T / alpha, H, W)."""
        return self.relu(self.bn(self.conv_f2s(fast)))

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        slow, fast = x
        lateral = self.lateral(fast)
        if lateral.shape[2] != slow.shape[2]:
            alpha = self.conv_f2s.stride[0]
            raise ValueError(
                f"the slow pathway has {slow.shape[2]} frames and the fast one {fast.shape[2]}; give {alpha} "
                "fast frames (SLOWFAST.ALPHA) for each slow one"
            )
        return [torch.cat([slow, lateral], dim=1), fast]


class SlowFast(ResNet):
    """A slow pathway with many channels and a fast one with many frames. ("SlowFast Networks", section 3.)

    Args:
        stem, stages, head, pool: as of `ResNet`, for two pathways: slow, fast.
        fusions: four lateral connections, behind the stem and the first three stages.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        head: nn.Module,
        pool: Sequence[Sequence[int]],
        fusions: Sequence[nn.Module],
    ):
        super().__init__(stem, stages, head, pool)
        self.s1_fuse, self.s2_fuse, self.s3_fuse, self.s4_fuse = fusions

    def depth_groups(self) -> list[list[nn.Module]]:
        """As of `ResNet`; a lateral connection is of the depth of the last block that it follows."""
        groups, last = super().depth_groups(), 0
        groups[last].append(self.s1_fuse)
        for stage, fusion in ((self.s2, self.s2_fuse), (self.s3, self.s3_fuse), (self.s4, self.s4_fuse)):
            last += len(stage.depth_groups())
            groups[last].append(fusion)
        return groups

    def forward_features(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Features (B, C, T', H', W') of both pathways in front of the head."""
        x = self.s1_fuse(self.s1(inputs))
        x = self._pool(self.s2_fuse(self.s2(x)))
        x = self.s3_fuse(self.s3(x))
        x = self.s4_fuse(self.s4(x))
        return self.s5(x)


@MODEL_REGISTRY.register("SlowFast", num_pathways=2, archs=archs_of(2))
def build_slowfast(cfg: CfgNode) -> SlowFast:
    """SlowFast by SLOWFAST.*, RESNET.* and NONLOCAL.*."""
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
    return initialized(SlowFast(*resnet_parts(cfg, widths, fused_channels=widths[1] * ratio), fusions), cfg)
