"""Residual branches, blocks and stages. Shapes: x is (B, C, T, H, W)."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from slowfast.layers.activation_checkpoint import CheckpointedBlock
from slowfast.layers.conv import Conv3d
from slowfast.layers.mlp import DropPath
from slowfast.layers.squeeze_excitation import SqueezeExcitation

Norm = Callable[[int], nn.Module]


def _last(norm: nn.Module, zero_init: bool) -> nn.Module:
    """Marks a branch's last norm, which ZERO_INIT_FINAL_BN starts at zero scale."""
    norm.zero_init = zero_init
    return norm


class BasicTransform(nn.Module):
    """k x 3 x 3, then 1 x 3 x 3 convolution.

    Args:
        dim_in, dim_out: channels.
        dim_inner, groups, dilation, stride_1x1, index: of no use here, so that branches are interchangeable.
        temporal_kernel: frames k of the first convolution, odd.
        stride: spatial stride, at the first convolution.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        dim_inner: int,
        temporal_kernel: int,
        stride: int,
        norm: Norm,
        groups: int = 1,
        dilation: int = 1,
        stride_1x1: bool = False,
        zero_init_norm: bool = False,
        zero_init_conv: bool = False,
        inplace: bool = True,
        index: int = 0,
    ):
        super().__init__()
        k = temporal_kernel
        self.a = Conv3d(dim_in, dim_out, (k, 3, 3), (1, stride, stride), (k // 2, 1, 1), bias=False)
        self.a_bn = norm(dim_out)
        self.a_relu = nn.ReLU(inplace)
        self.b = Conv3d(dim_out, dim_out, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.b.zero_init = zero_init_conv
        self.b_bn = _last(norm(dim_out), zero_init_norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a_relu(self.a_bn(self.a(x)))
        return self.b_bn(self.b(x))


class BottleneckTransform(nn.Module):
    """k x 1 x 1, 1 x 3 x 3, 1 x 1 x 1 convolutions.

    Args:
        dim_in, dim_out, dim_inner: channels in, out and of the middle convolution.
        temporal_kernel: frames k of the first convolution, odd.
        stride: spatial stride, at the 3 x 3 convolution unless `stride_1x1`.
        groups, dilation: of the 3 x 3 convolution.
        index: of no use here, as in `BasicTransform`.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        dim_inner: int,
        temporal_kernel: int,
        stride: int,
        norm: Norm,
        groups: int = 1,
        dilation: int = 1,
        stride_1x1: bool = False,
        zero_init_norm: bool = False,
        zero_init_conv: bool = False,
        inplace: bool = True,
        index: int = 0,
    ):
        super().__init__()
        k, d = temporal_kernel, dilation
        first, middle = (stride, 1) if stride_1x1 else (1, stride)
        self.a = Conv3d(dim_in, dim_inner, (k, 1, 1), (1, first, first), (k // 2, 0, 0), bias=False)
        self.a_bn = norm(dim_inner)
        self.a_relu = nn.ReLU(inplace)
        self.b = Conv3d(dim_inner, dim_inner, (1, 3, 3), (1, middle, middle), (0, d, d), (1, d, d), groups, bias=False)
        self.b_bn = norm(dim_inner)
        self.b_relu = nn.ReLU(inplace)
        self.c = Conv3d(dim_inner, dim_out, 1, bias=False)
        self.c.zero_init = zero_init_conv
        self.c_bn = _last(norm(dim_out), zero_init_norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a_relu(self.a_bn(self.a(x)))
        x = self.b_relu(self.b_bn(self.b(x)))
        return self.c_bn(self.c(x))


class X3DTransform(nn.Module):
    """1 x 1 x 1, k x 3 x 3, 1 x 1 x 1 convolutions; squeeze-excitation in every other block, swish in the middle.

    ("X3D: Expanding Architectures for Efficient Video Recognition", section 3.1.)

    Args:
        dim_in, dim_out, dim_inner: channels in, out and of the middle convolution.
        temporal_kernel: frames k of the middle convolution, odd.
        stride: spatial stride, at the middle convolution unless `stride_1x1`.
        groups, dilation: of the middle convolution; X3D has `dim_inner` groups, one a channel.
        index: of the block in its stage; even ones have squeeze-excitation.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        dim_inner: int,
        temporal_kernel: int,
        stride: int,
        norm: Norm,
        groups: int = 1,
        dilation: int = 1,
        stride_1x1: bool = False,
        zero_init_norm: bool = False,
        zero_init_conv: bool = False,
        inplace: bool = True,
        index: int = 0,
    ):
        super().__init__()
        k, d = temporal_kernel, dilation
        first, middle = (stride, 1) if stride_1x1 else (1, stride)
        self.a = Conv3d(dim_in, dim_inner, 1, (1, first, first), bias=False)
        self.a_bn = norm(dim_inner)
        self.a_relu = nn.ReLU(inplace)
        self.b = Conv3d(
            dim_inner, dim_inner, (k, 3, 3), (1, middle, middle), (k // 2, d, d), (1, d, d), groups, bias=False
        )
        self.b_bn = norm(dim_inner)
        self.se = SqueezeExcitation(dim_inner) if index % 2 == 0 else nn.Identity()
        self.b_swish = nn.SiLU()
        self.c = Conv3d(dim_inner, dim_out, 1, bias=False)
        self.c.zero_init = zero_init_conv
        self.c_bn = _last(norm(dim_out), zero_init_norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a_relu(self.a_bn(self.a(x)))
        x = self.b_swish(self.se(self.b_bn(self.b(x))))
        return self.c_bn(self.c(x))


TRANSFORMS = {
    "basic_transform": BasicTransform,
    "bottleneck_transform": BottleneckTransform,
    "x3d_transform": X3DTransform,
}


class ResBlock(CheckpointedBlock):
    """relu(shortcut(x) + branch(x)); the shortcut is a 1 x 1 x 1 convolution and norm where width or stride changes.

    Args:
        branch: the residual branch, (B, dim_in, T, H, W) -> (B, dim_out, T, H / stride, W / stride).
        drop_rate: share of samples whose branch is dropped in training, 0 <= rate < 1.
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
    ):
        super().__init__()
        self.has_projection = dim_in != dim_out or stride != 1
        if self.has_projection:
            self.branch1 = Conv3d(dim_in, dim_out, 1, (1, stride, stride), bias=False)
            self.branch1_bn = norm(dim_out)
        self.branch2 = branch
        self.drop = DropPath(drop_rate) if drop_rate else nn.Identity()
        self.relu = nn.ReLU(inplace)

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        return self.branch1_bn(self.branch1(x)) if self.has_projection else x

    def forward_block(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.shortcut(x) + self.drop(self.branch2(x)))


class ResStage(nn.Module):
    """A stage: for every pathway its modules in order, named `pathway{i}_{name}`.

    Args:
        pathways: for every pathway a dict name -> module, (B, C, T, H, W) in and out, run in the dict's order.
    """

    def __init__(self, pathways: Sequence[dict[str, nn.Module]]):
        super().__init__()
        self.names = [[f"pathway{i}_{name}" for name in modules] for i, modules in enumerate(pathways)]
        for i, modules in enumerate(pathways):
            for name, module in modules.items():
                self.add_module(f"pathway{i}_{name}", module)

    def depth_groups(self) -> list[list[nn.Module]]:
        """The modules by depth: a residual block of each pathway, and what follows it there."""
        groups: list[list[nn.Module]] = []
        for modules in self.pathways():
            depth = -1
            for module in modules:
                depth += isinstance(module, ResBlock)
                if depth == len(groups):
                    groups.append([])
                groups[depth].append(module)
        return groups

    def pathways(self) -> list[list[nn.Module]]:
        """Return the modules of each pathway."""
        return [[self.get_submodule(name) for name in names] for names in self.names]

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
    num_blocks: int,
    temporal_kernels: Sequence[int],
    num_block_temp_kernel: int,
    stride: int,
    norm: Norm,
    groups: int = 1,
    dilation: int = 1,
    stride_1x1: bool = False,
    zero_init_norm: bool = False,
    zero_init_conv: bool = False,
    inplace: bool = True,
    nonlocal_at: Sequence[int] = (),
    make_nonlocal: Callable[[int], nn.Module] | None = None,
    drop_rate: float = 0.0,
) -> dict[str, nn.Module]:
    """The residual blocks (`res{i}`) of one pathway in one stage, with non-local blocks (`nonlocal{i}`) behind some.

    Args:
        transform: class of the residual branch.
        temporal_kernels: repeated over the first `num_block_temp_kernel` blocks; the others have kernel 1.
        nonlocal_at: blocks followed by `make_nonlocal(dim_out)`.
        drop_rate: share of samples whose branch is dropped in training, in each block.

    Raises:
        ValueError: a non-local block behind a block that does not exist.
    """
    wrong = [i for i in nonlocal_at if not 0 <= i < num_blocks]
    if wrong:
        raise ValueError(f"NONLOCAL.LOCATION names block(s) {wrong} of a stage with {num_blocks} blocks")
    modules: dict[str, nn.Module] = {}
    for i in range(num_blocks):
        kernel = temporal_kernels[i % len(temporal_kernels)] if i < num_block_temp_kernel else 1
        block_in, block_stride = (dim_in, stride) if i == 0 else (dim_out, 1)
        branch = transform(
            block_in,
            dim_out,
            dim_inner,
            kernel,
            block_stride,
            norm,
            groups,
            dilation,
            stride_1x1,
            zero_init_norm,
            zero_init_conv,
            inplace,
            index=i,
        )
        modules[f"res{i}"] = ResBlock(branch, block_in, dim_out, block_stride, norm, inplace, drop_rate)
        if i in nonlocal_at:
            modules[f"nonlocal{i}"] = make_nonlocal(dim_out)
    return modules
