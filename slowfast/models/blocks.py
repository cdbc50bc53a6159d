"""Residual branches, blocks and stages. Shapes: x is (B, C, T, H, W)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from slowfast.layers.activation_checkpoint import CheckpointedBlock
from slowfast.layers.conv import Conv3d
from slowfast.layers.mlp import DropPath
from slowfast.utils.registry import Registry

Norm = Callable[[int], nn.Module]

# Residual branches, by name: classes with the arguments of `BottleneckTransform`.
TRANSFORMS = Registry("RESNET.TRANS_FUNC")


@dataclass(frozen=True)
class BranchOptions:
    """Settings shared by the residual branches of a stage.

    Attributes:
        norm: constructor `norm(channels)`.
        groups, dilation: of the convolution in the middle.
        stride_1x1: put the spatial stride at the first convolution rather than in the middle.
        zero_init_norm, zero_init_conv: initialize the last norm, or the last convolution, to zero.
        inplace: compute ReLU in place.
    """

    norm: Norm
    groups: int = 1
    dilation: int = 1
    stride_1x1: bool = False
    zero_init_norm: bool = False
    zero_init_conv: bool = False
    inplace: bool = True


@TRANSFORMS.register("basic_transform")
class BasicTransform(nn.Module):
    """Residual branch of a k x 3 x 3 and a 1 x 3 x 3 convolution.

    Args:
        dim_in, dim_out: channels.
        dim_inner: ignored, as are `options.groups`, `dilation`, `stride_1x1` and `index`; as in the other branches.
        temporal_kernel: frames k of the first convolution, odd.
        stride, temporal_stride: at the first convolution.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        dim_inner: int,
        temporal_kernel: int,
        stride: int,
        options: BranchOptions,
        index: int = 0,
        temporal_stride: int = 1,
    ):
        super().__init__()
        k = temporal_kernel
        self.a = Conv3d(dim_in, dim_out, (k, 3, 3), (temporal_stride, stride, stride), (k // 2, 1, 1), bias=False)
        self.a_bn = options.norm(dim_out)
        self.a_relu = nn.ReLU(options.inplace)
        self.b = Conv3d(dim_out, dim_out, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.b_bn = options.norm(dim_out)
        self.b.zero_init, self.b_bn.zero_init = options.zero_init_conv, options.zero_init_norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a_relu(self.a_bn(self.a(x)))
        return self.b_bn(self.b(x))


@TRANSFORMS.register("bottleneck_transform")
class BottleneckTransform(nn.Module):
    """Residual branch of k x 1 x 1, 1 x 3 x 3 and 1 x 1 x 1 convolutions.

    Args:
        dim_in, dim_out, dim_inner: channels in, out and of the middle convolution.
        temporal_kernel: frames k of the first convolution, odd.
        stride: spatial stride, at the 3 x 3 convolution unless `options.stride_1x1`.
        index: ignored.
        temporal_stride: at the first convolution.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        dim_inner: int,
        temporal_kernel: int,
        stride: int,
        options: BranchOptions,
        index: int = 0,
        temporal_stride: int = 1,
    ):
        super().__init__()
        k, d, norm = temporal_kernel, options.dilation, options.norm
        first, middle = (stride, 1) if options.stride_1x1 else (1, stride)
        self.a = Conv3d(dim_in, dim_inner, (k, 1, 1), (temporal_stride, first, first), (k // 2, 0, 0), bias=False)
        self.a_bn = norm(dim_inner)
        self.a_relu = nn.ReLU(options.inplace)
        self.b = Conv3d(
            dim_inner, dim_inner, (1, 3, 3), (1, middle, middle), (0, d, d), (1, d, d), options.groups, bias=False
        )
        self.b_bn = norm(dim_inner)
        self.b_relu = nn.ReLU(options.inplace)
        self.c = Conv3d(dim_inner, dim_out, 1, bias=False)
        self.c_bn = norm(dim_out)
        self.c.zero_init, self.c_bn.zero_init = options.zero_init_conv, options.zero_init_norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a_relu(self.a_bn(self.a(x)))
        x = self.b_relu(self.b_bn(self.b(x)))
        return self.c_bn(self.c(x))


@TRANSFORMS.register("csn_transform")
class CSNTransform(BottleneckTransform):
    """Residual branch of 1 x 1 x 1, depthwise k x 3 x 3 and 1 x 1 x 1 convolutions.

    Source: "Video Classification with Channel-Separated Convolutional Networks" (arXiv 1904.02811), ir-CSN.

    Args:
        dim_in, dim_out, dim_inner, stride, index: as in the bottleneck.
        temporal_kernel: frames k of the middle convolution, odd.
        options: `groups` is ignored.
        temporal_stride: at the middle convolution.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        dim_inner: int,
        temporal_kernel: int,
        stride: int,
        options: BranchOptions,
        index: int = 0,
        temporal_stride: int = 1,
    ):
        super().__init__(dim_in, dim_out, dim_inner, 1, stride, options)
        k, d, middle = temporal_kernel, options.dilation, self.b.stride[1]
        self.b = Conv3d(
            dim_inner,
            dim_inner,
            (k, 3, 3),
            (temporal_stride, middle, middle),
            (k // 2, d, d),
            (1, d, d),
            dim_inner,
            bias=False,
        )


@TRANSFORMS.register("r2plus1d_transform")
class R2Plus1DTransform(BottleneckTransform):
    """Residual branch of 1 x 1 x 1, k x 1 x 1, 1 x 3 x 3 and 1 x 1 x 1 convolutions.

    Source: "A Closer Look at Spatiotemporal Convolutions for Action Recognition" (arXiv 1711.11248); here time comes
    before space, with equal widths, as in PyTorchVideo's models.

    Args:
        dim_in, dim_out, dim_inner, stride, options, index: as in the bottleneck.
        temporal_kernel: frames k of the convolution over time, odd.
        temporal_stride: at that convolution.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        dim_inner: int,
        temporal_kernel: int,
        stride: int,
        options: BranchOptions,
        index: int = 0,
        temporal_stride: int = 1,
    ):
        super().__init__(dim_in, dim_out, dim_inner, 1, stride, options)
        k = temporal_kernel
        self.t = Conv3d(dim_inner, dim_inner, (k, 1, 1), (temporal_stride, 1, 1), (k // 2, 0, 0), bias=False)
        self.t_bn = options.norm(dim_inner)
        self.t_relu = nn.ReLU(options.inplace)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a_relu(self.a_bn(self.a(x)))
        x = self.t_relu(self.t_bn(self.t(x)))
        x = self.b_relu(self.b_bn(self.b(x)))
        return self.c_bn(self.c(x))


@TRANSFORMS.register("x3d_transform")
class X3DTransform(nn.Module):
    """Residual branch of 1 x 1 x 1, k x 3 x 3 and 1 x 1 x 1 convolutions, with squeeze-excitation and swish.

    Source: "X3D: Expanding Architectures for Efficient Video Recognition" (arXiv 2004.04730), section 3.1.

    Args:
        dim_in, dim_out, dim_inner: channels in, out and of the middle convolution.
        temporal_kernel: frames k of the middle convolution, odd.
        stride: spatial stride, at the middle convolution unless `options.stride_1x1`.
        options: X3D has `dim_inner` groups, so that the middle convolution is depthwise.
        index: of the block in its stage; even ones have squeeze-excitation.
        temporal_stride: at the middle convolution.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        dim_inner: int,
        temporal_kernel: int,
        stride: int,
        options: BranchOptions,
        index: int = 0,
        temporal_stride: int = 1,
    ):
        super().__init__()
        k, d, norm = temporal_kernel, options.dilation, options.norm
        first, middle = (stride, 1) if options.stride_1x1 else (1, stride)
        self.a = Conv3d(dim_in, dim_inner, 1, (1, first, first), bias=False)
        self.a_bn = norm(dim_inner)
        self.a_relu = nn.ReLU(options.inplace)
        self.b = Conv3d(
            dim_inner,
            dim_inner,
            (k, 3, 3),
            (temporal_stride, middle, middle),
            (k // 2, d, d),
            (1, d, d),
            options.groups,
            bias=False,
        )
        self.b_bn = norm(dim_inner)
        self.se = SqueezeExcitation(dim_inner) if index % 2 == 0 else nn.Identity()
        self.b_swish = nn.SiLU()
        self.c = Conv3d(dim_inner, dim_out, 1, bias=False)
        self.c_bn = norm(dim_out)
        self.c.zero_init, self.c_bn.zero_init = options.zero_init_conv, options.zero_init_norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a_relu(self.a_bn(self.a(x)))
        x = self.b_swish(self.se(self.b_bn(self.b(x))))
        return self.c_bn(self.c(x))


class SqueezeExcitation(nn.Module):
    """Channel gates in (0, 1), made from the channels' means over a clip by two 1 x 1 x 1 convolutions.

    Source: "Squeeze-and-Excitation Networks" (arXiv 1709.01507), section 3.

    Args:
        dim: channels C in and out.
        ratio: channels in between over C; rounded by `round_channels`.
    """

    def __init__(self, dim: int, ratio: float = 1 / 16):
        super().__init__()
        dim_inner = round_channels(dim * ratio)
        self.fc1 = Conv3d(dim, dim_inner, 1)
        self.fc2 = Conv3d(dim_inner, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.mean(dim=(2, 3, 4), keepdim=True)
        return x * self.fc2(self.fc1(means).relu()).sigmoid()


def round_channels(channels: float, divisor: int = 8, minimum: int | None = None) -> int:
    """Round to the nearest multiple of `divisor`, not under 0.9 of `channels` nor under `minimum` (None: `divisor`)."""
    rounded = max(divisor if minimum is None else minimum, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class ResBlock(CheckpointedBlock):
    """Residual block: relu(shortcut(x) + branch(x)).

    The shortcut is a 1 x 1 x 1 convolution and a norm if width or stride changes, the identity otherwise.

    Args:
        branch: residual branch, (B, dim_in, T, H, W) -> (B, dim_out, T / temporal_stride, H / stride, W / stride).
        drop_rate: stochastic depth rate of the branch, 0 <= rate < 1.
        norm_resized: add the norm also where the width stays.
    """

    def __init__(
        self,
        branch: nn.Module,
        dim_in: int,
        dim_out: int,
        stride: int,
        norm: Norm,
        inplace: bool = True,
        drop_rate: float = 0.0,
        temporal_stride: int = 1,
        norm_resized: bool = True,
    ):
        super().__init__()
        self.has_projection = dim_in != dim_out or stride != 1 or temporal_stride != 1
        if self.has_projection:
            self.branch1 = Conv3d(dim_in, dim_out, 1, (temporal_stride, stride, stride), bias=False)
            self.branch1_bn = norm(dim_out) if norm_resized or dim_in != dim_out else nn.Identity()
        self.branch2 = branch
        self.drop = DropPath(drop_rate) if drop_rate else nn.Identity()
        self.relu = nn.ReLU(inplace)

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        """Project x to the shape of the branch's output."""
        return self.branch1_bn(self.branch1(x)) if self.has_projection else x

    def forward_block(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the block's output."""
        return self.relu(self.shortcut(x) + self.drop(self.branch2(x)))


class ResStage(nn.Module):
    """Stage of a network: the modules of each pathway in order, named `pathway{i}_{name}`.

    Args:
        pathways: for each pathway a dict name -> module, (B, C, T, H, W) in and out.
    """

    def __init__(self, pathways: Sequence[dict[str, nn.Module]]):
        super().__init__()
        self.names = [[f"pathway{i}_{name}" for name in modules] for i, modules in enumerate(pathways)]
        for i, modules in enumerate(pathways):
            for name, module in modules.items():
                self.add_module(f"pathway{i}_{name}", module)

    def pathways(self) -> list[list[nn.Module]]:
        """Return the modules of each pathway, in order."""
        return [[self.get_submodule(name) for name in names] for names in self.names]

    def depth_groups(self) -> list[list[nn.Module]]:
        """Return the modules by depth: a residual block of each pathway, with what follows it in the pathway."""
        groups: list[list[nn.Module]] = []
        for modules in self.pathways():
            depth = -1
            for module in modules:
                depth += isinstance(module, ResBlock)
                if depth == len(groups):
                    groups.append([])
                groups[depth].append(module)
        return groups

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor]:
        outputs = []
        for features, modules in zip(x, self.pathways(), strict=True):
            for module in modules:
                features = module(features)
            outputs.append(features)
        return outputs


def residual_pathway(
    transform: type[nn.Module],
    dim_in: int,
    dim_out: int,
    dim_inner: int,
    temporal_kernels: Sequence[int],
    stride: int,
    options: BranchOptions,
    drop_rate: float = 0.0,
    nonlocal_after: Mapping[int, Callable[[int], nn.Module]] | None = None,
    temporal_stride: int = 1,
    norm_resized: bool = True,
) -> dict[str, nn.Module]:
    """Build the residual blocks (`res{i}`) of one pathway in one stage, some followed by non-local blocks.

    Args:
        transform: class of the residual branches.
        temporal_kernels: one for each block.
        stride, temporal_stride: of the first block.
        drop_rate: stochastic depth rate of every block.
        nonlocal_after: index of a block -> constructor `make(dim_out)` of the non-local block (`nonlocal{i}`) after it.
        norm_resized: see `ResBlock`.

    Raises:
        ValueError: a non-local block after a block that does not exist.
    """
    nonlocal_after = nonlocal_after or {}
    wrong = [i for i in nonlocal_after if not 0 <= i < len(temporal_kernels)]
    if wrong:
        raise ValueError(f"non-local blocks follow block(s) {wrong} of a stage with {len(temporal_kernels)} blocks")
    modules: dict[str, nn.Module] = {}
    for i, kernel in enumerate(temporal_kernels):
        block_in, block_stride, time = (dim_in, stride, temporal_stride) if i == 0 else (dim_out, 1, 1)
        # A project's branch need not know strides in time.
        extra = {"temporal_stride": time} if time != 1 else {}
        branch = transform(block_in, dim_out, dim_inner, kernel, block_stride, options, index=i, **extra)
        modules[f"res{i}"] = ResBlock(
            branch, block_in, dim_out, block_stride, options.norm, options.inplace, drop_rate, time, norm_resized
        )
        if i in nonlocal_after:
            modules[f"nonlocal{i}"] = nonlocal_after[i](dim_out)
    return modules
