"""3-D convolutions computed as 2-D convolutions and matrix products, where that is faster.

Shapes: x is (B, C, T, H, W), kernels are k_t x k_h x k_w. In channels_last_3d layout the memory of x has three more
views without a copy:

- B * T images (C, H, W), of which a 1 x k x k kernel is a 2-D convolution;
- B images (C, T, H * W), of which a k x 1 x 1 kernel is a 2-D convolution;
- a matrix of B * T * H * W rows and C columns, of which a 1 x 1 x 1 kernel is a matrix product.

On the CPU, some weight gradients are computed tap by tap. docs/performance.md has the measurements behind these
choices.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable

from slowfast.runtime.device import has_fast_float32_products

_LAYOUT = torch.channels_last_3d
_FAST_FLOAT32_PRODUCTS = has_fast_float32_products()
# With fewer channels, in or out, PyTorch's own weight gradients are faster than those by taps.
_MIN_CHANNELS = 128
# Positions for each channel, below which half-precision matrix products are faster than convolutions.
_FEW_POSITIONS = 2

_convolution_backward = torch.ops.aten.convolution_backward


class Conv3d(nn.Conv3d):
    """3-D convolution with the parameters, arguments and results of `nn.Conv3d`.

    Attributes:
        planar: compute in two dimensions and in channels-last layout, see `set_planar`; None: on the CPU only.
        full_precision: compute in float32 under autocast (`TRAIN.DEPTHWISE_FP32`).
        packs: keep a copy of the weights in the layout that oneDNN computes in, see `pack_weights`.
        zero_init: start with weights of zero.
    """

    planar: bool | None = None
    full_precision: bool = False
    packs: bool = False
    zero_init: bool = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() == 4:
            return self.forward(x[None])[0]
        padding = self.padding
        if self.padding_mode != "zeros" or isinstance(padding, str):
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x, padding = F.pad(x, self._reversed_padding_repeated_twice, mode), (0, 0, 0)
        return self.convolve(x, self.weight, self.bias, padding)

    def convolve(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: Sequence[int]
    ) -> torch.Tensor:
        """Convolve x with a weight (O, C / groups, k_t, k_h, k_w), with this layer's stride, dilation and groups."""
        if self.full_precision and torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self.convolve(x.float(), weight, bias, padding)
        geometry = _Geometry(self.stride, tuple(padding), self.dilation)
        if x.device.type == "cpu" if self.planar is None else self.planar:
            packs = self.packs and weight is self.weight and _can_pack(x)
            packed = (_PACKED.get(self) or _PACKED.setdefault(self, _Packed())) if packs else None
            return _planar_conv3d(x, weight, bias, geometry, self.groups, packed)
        return _conv(x, weight, bias, geometry, self.groups)


def set_planar(model: nn.Module, planar: bool) -> None:
    """Compute all convolutions of `model` in two dimensions, or as plain 3-D convolutions."""
    for module in model.modules():
        if isinstance(module, Conv3d):
            module.planar = planar


def pack_weights(model: nn.Module) -> None:
    """Keep copies of the weights of `model` in the layout that oneDNN computes in, for prediction on the CPU.

    Otherwise each call brings all weights into that layout. Copies are made by the first call, and anew once weights
    have changed. They take as much memory as the weights.
    """
    for module in model.modules():
        if isinstance(module, Conv3d):
            module.packs = True


def depthwise_convolutions(model: nn.Module) -> list[Conv3d]:
    """Return the depthwise convolutions of `model`."""
    return [
        module for module in model.modules() if isinstance(module, Conv3d) and module.groups == module.in_channels > 1
    ]


class _Packed:
    """Weights of one 2-D convolution in oneDNN's layout.

    Attributes:
        kept: the weights, which only oneDNN reads; those that they were made of, kept so that no others come to lie at
            their place; version, type and geometry. None before the first call. It is replaced as a whole, since
            threads may share a model.
    """

    def __init__(self) -> None:
        self.kept: tuple[torch.Tensor, torch.Tensor, tuple] | None = None

    def convolve(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: _Geometry, groups: int
    ) -> torch.Tensor:
        """Compute F.conv2d without a gradient."""
        stride, padding, dilation = (list(values) for values in geometry)
        facts = (0 if weight.is_inference() else weight._version, _computed_in(x), geometry)
        kept = self.kept
        if kept is None or kept[1].data_ptr() != weight.data_ptr() or kept[2] != facts:
            (plain,) = _cast(weight)
            pack = torch.ops.mkldnn._reorder_convolution_weight
            packed = pack(plain.contiguous(), padding, stride, dilation, groups, list(x.shape))
            self.kept = kept = packed, weight, facts
        x, bias = _cast(x, bias)
        return torch.ops.mkldnn._convolution_pointwise(
            x, kept[0], bias, padding, stride, dilation, groups, "none", [], ""
        )


# Not an attribute of the modules, since such weights can be neither copied nor saved.
_PACKED: weakref.WeakKeyDictionary[Conv3d, _Packed] = weakref.WeakKeyDictionary()


def _can_pack(x: torch.Tensor) -> bool:
    """Return True where PyTorch has oneDNN's convolutions with weights in its layout, and no gradient is asked for."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or x.device.type != "cpu":
        return False
    if not (torch.backends.mkldnn.enabled and hasattr(torch.ops.mkldnn, "_convolution_pointwise")):
        return False
    dtype = _computed_in(x)
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Geometry(NamedTuple):
    """Stride, padding and dilation, of three axes for a clip or two for an image."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def over(self, *axes: int) -> _Geometry:
        """Return the geometry of some axes."""
        return _Geometry(*(tuple(values[axis] for axis in axes) for values in self))


def _planar_conv3d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: _Geometry,
    groups: int,
    packed: _Packed | None,
) -> torch.Tensor:
    """Compute F.conv3d in channels_last_3d layout; x is copied if it has another layout.

    Args:
        packed: keeper of the weights in oneDNN's layout; None to compute from `weight`.
    """
    x = x.contiguous(memory_format=_LAYOUT)
    kernel, (stride, padding, dilation) = tuple(weight.shape[2:]), geometry
    if not any(padding) and groups == 1 and kernel == (1, 1, 1):
        x, geometry = _subsampled(x, stride), _Geometry((1, 1, 1), padding, dilation)
        if packed is None and _by_products(x, weight):
            return F.linear(x.permute(0, 2, 3, 4, 1), weight.flatten(1), bias).permute(0, 4, 1, 2, 3)
    if kernel[0] == 1 and padding[0] == 0:
        return _over_frames(x, weight, bias, geometry, groups, packed)
    if kernel[1:] == (1, 1) and padding[1:] == (0, 0):
        return _over_time(x, weight, bias, geometry, groups, packed)
    if groups > 1 and groups == x.shape[1] == weight.shape[0] and stride[0] == 1 and dilation[0] == 1:
        return _depthwise(x, weight, bias, geometry)
    return _conv(x, weight, bias, geometry, groups)


def _conv(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: _Geometry, groups: int
) -> torch.Tensor:
    """Compute F.conv2d or F.conv3d, avoiding the shapes at which oneDNN is wrong."""
    x, geometry = _with_zeros(x, weight, geometry)
    return (F.conv3d if weight.dim() == 5 else F.conv2d)(x, weight, bias, *geometry, groups)


def _with_zeros(x: torch.Tensor, weight: torch.Tensor, geometry: _Geometry) -> tuple[torch.Tensor, _Geometry]:
    """Pad x explicitly along axes that are short for the kernel; return it and the remaining geometry.

    On processors with AVX-512, oneDNN leaves weight gradients unwritten, or writes beyond them, if it pads a short
    input: one shorter than the kernel, or for some strides no longer than kernel and padding together. Some outputs of
    grouped convolutions are wrong too. docs/performance.md lists the shapes.
    """
    if x.device.type != "cpu":
        return x, geometry
    stride, padding, dilation = geometry
    axes = zip(x.shape[2:], weight.shape[2:], padding, dilation, strict=True)
    written = [pad if pad and size < step * (kernel - 1) + 1 + pad else 0 for size, kernel, pad, step in axes]
    if not any(written):
        return x, geometry
    left = tuple(pad - done for pad, done in zip(padding, written, strict=True))
    return F.pad(x, [pad for pad in reversed(written) for _ in range(2)]), _Geometry(stride, left, dilation)


def _subsampled(x: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
    """Subsample x to the positions that a kernel of size 1 reads at this stride."""
    if all(step == 1 for step in stride):
        return x
    return x[:, :, :: stride[0], :: stride[1], :: stride[2]].contiguous(memory_format=_LAYOUT)


def _over_frames(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: _Geometry,
    groups: int,
    packed: _Packed | None,
) -> torch.Tensor:
    """Compute a 1 x k x k kernel as a 2-D convolution of every frame."""
    x = _subsampled(x, (geometry.stride[0], 1, 1))
    b, c, t, h, w = x.shape
    frames = x.transpose(1, 2).reshape(b * t, c, h, w)
    y = _conv2d(frames, weight.squeeze(2), bias, geometry.over(1, 2), groups, packed)
    return y.unflatten(0, (b, t)).transpose(1, 2)


def _over_time(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: _Geometry,
    groups: int,
    packed: _Packed | None,
) -> torch.Tensor:
    """Compute a k x 1 x 1 kernel as a 2-D convolution over time and position."""
    x = _subsampled(x, (1, *geometry.stride[1:]))
    stride, padding, dilation = geometry.over(0)
    flat = _Geometry((*stride, 1), (*padding, 0), (*dilation, 1))
    return _conv2d(x.flatten(3), weight.squeeze(4), bias, flat, groups, packed).unflatten(3, x.shape[3:])


def _by_products(x: torch.Tensor, weight: torch.Tensor, stride: Sequence[int] = ()) -> bool:
    """Return True where matrix products are faster than convolutions, or as fast and more exact, as on GPUs.

    Both x and its positions may be of two or three axes.
    """
    if x.device.type != "cpu":
        return True
    if torch.compiler.is_compiling() or _computed_in(x) not in (torch.bfloat16, torch.float16):
        return _FAST_FLOAT32_PRODUCTS
    # A half-precision convolution reorders its weights at each call, which counts where they are many.
    positions = x.numel() // x.shape[1] // math.prod(stride)
    return positions < _FEW_POSITIONS * max(weight.shape[:2])


def _computed_in(x: torch.Tensor) -> torch.dtype:
    """Return the type that a convolution of x is computed in."""
    return torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype


def _own_backward(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Return True to use the autograd functions below: on the CPU, and not while compiling, which fuses plain ops."""
    needs = torch.is_grad_enabled() and weight.requires_grad
    return needs and x.device.type == "cpu" and not torch.compiler.is_compiling()


def _cast(*tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
    """Cast the arguments of a convolution as autocast does."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    return [None if tensor is None else tensor.to(dtype) for tensor in tensors]


def _conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: _Geometry,
    groups: int,
    packed: _Packed | None,
) -> torch.Tensor:
    if packed is not None:
        x, geometry = _with_zeros(x, weight, geometry)
        return packed.convolve(x, weight, bias, geometry, groups)
    if groups > 1 or not _own_backward(x, weight):
        return _conv(x, weight, bias, geometry, groups)
    wide = min(weight.shape[:2]) >= _MIN_CHANNELS
    products = wide and _by_products(x, weight, geometry.stride)
    if not (products or (wide and weight.shape[2] > weight.shape[3] == 1)):
        return _conv(x, weight, bias, geometry, groups)
    x, weight, bias = _cast(x, weight, bias)
    x, geometry = _with_zeros(x, weight, geometry)
    with torch.autocast(x.device.type, enabled=False):
        y = _DenseConv2d.apply(x, weight, geometry, products)
        return y if bias is None else y + bias[:, None, None]


def _depthwise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: _Geometry) -> torch.Tensor:
    """Compute a depthwise convolution with stride 1 in time."""
    if not _own_backward(x, weight):
        return _conv(x, weight, bias, geometry, x.shape[1])
    x, weight, bias = _cast(x, weight, bias)
    with torch.autocast(x.device.type, enabled=False):
        x, geometry = _with_zeros(x, weight, geometry)
        y = _DepthwiseConv3d.apply(x, weight, geometry)
        return y if bias is None else y + bias[:, None, None, None]


class _DenseConv2d(torch.autograd.Function):
    """2-D convolution whose weight gradient is computed tap by tap, by `products` or by 1 x 1 convolutions."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: torch.Tensor, weight: torch.Tensor, geometry: _Geometry, products: bool
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.products = geometry, products
        return F.conv2d(x, weight, None, *geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = None
        if ctx.needs_input_grad[0]:
            mask = [True, False, False]
            grad_x = _convolution_backward(grad, x, weight, None, *ctx.geometry, False, [0, 0], 1, mask)[0]
        gradient = _weight_gradient if ctx.products else _time_gradient
        return grad_x, gradient(grad, x, weight, ctx.geometry), None, None


def _weight_gradient(grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, geometry: _Geometry) -> torch.Tensor:
    """Compute the weight gradient per tap: (O, positions) of the output gradient times (positions, C) of the input."""
    stride, padding, dilation = geometry
    rows, columns = grad.shape[2:]
    out, channels, *kernel = weight.shape
    positions = grad.permute(0, 2, 3, 1).flatten(0, 2).t()
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0])).permute(0, 2, 3, 1)
    found = weight.new_empty(out, *kernel, channels)
    for i in range(kernel[0]):
        top = i * dilation[0]
        band = padded[:, top : top + (rows - 1) * stride[0] + 1 : stride[0]]
        for j in range(kernel[1]):
            left = j * dilation[1]
            read = band[:, :, left : left + (columns - 1) * stride[1] + 1 : stride[1]]
            torch.mm(positions, read.flatten(0, 2), out=found[:, i, j])
    return found.permute(0, 3, 1, 2)


def _time_gradient(grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, geometry: _Geometry) -> torch.Tensor:
    """Compute the weight gradient of a k x 1 kernel as that of one 1 x 1 convolution per tap.

    oneDNN's own takes twice as long.
    """
    (stride, _), (pad, _), (dilation, _) = geometry
    frames, padded = grad.shape[2], F.pad(x, (0, 0, pad, pad)) if pad else x
    found, one = torch.empty_like(weight), weight[:, :, :1]
    for tap in range(weight.shape[2]):
        first = tap * dilation
        read = padded[:, :, first : first + (frames - 1) * stride + 1 : stride]
        read = read.contiguous(memory_format=torch.channels_last)
        found[:, :, tap : tap + 1] = _convolution_backward(
            grad, read, one, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False]
        )[1]
    return found


class _DepthwiseConv3d(torch.autograd.Function):
    """Depthwise 3-D convolution whose gradients are those of one 2-D convolution per tap in time."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: torch.Tensor, weight: torch.Tensor, geometry: _Geometry) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return F.conv3d(x, weight, None, *geometry, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        pad, within = ctx.geometry.padding[0], ctx.geometry.over(1, 2)
        grad_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight)
        mask = [grad_x is not None, True, False]
        for tap, outputs, inputs in _frames_of_taps(weight.shape[2], pad, grad.shape[2], x.shape[2]):
            g, frames = _as_images(grad[:, :, outputs]), _as_images(x[:, :, inputs])
            found_x, found_weight, _ = _convolution_backward(
                g, frames, weight[:, :, tap], None, *within, False, [0, 0], x.shape[1], mask
            )
            grad_weight[:, :, tap] = found_weight
            if grad_x is not None:
                grad_x[:, :, inputs] += found_x.unflatten(0, (x.shape[0], grad[:, :, outputs].shape[2])).transpose(1, 2)
        return grad_x, grad_weight, None


def _frames_of_taps(kernel: int, pad: int, frames_out: int, frames_in: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield each tap in time that meets a frame, with its output frames and input frames."""
    for tap in range(kernel):
        shift = tap - pad
        first, end = max(0, -shift), min(frames_out, frames_in - shift)
        if first < end:
            yield tap, slice(first, end), slice(first + shift, end + shift)


def _as_images(x: torch.Tensor) -> torch.Tensor:
    """Reshape (B, C, T, H, W) to B * T images."""
    return x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)


def use_plain_convolutions(model: nn.Module) -> nn.Module:
    """Replace the planar convolutions by `nn.Conv3d`, in place, as the benchmark baseline; parameters stay.

    Raises:
        ValueError: a convolution is of a subclass, which does more than convolve.
    """
    for name, module in list(model.named_modules()):
        if not isinstance(module, Conv3d):
            continue
        if type(module) is not Conv3d:
            raise ValueError(f"{name} is a {type(module).__name__}, which does more than a plain convolution")
        model.set_submodule(name, _plain(module))
    return model


def _plain(conv: Conv3d) -> nn.Conv3d:
    plain = nn.Conv3d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        conv.bias is not None,
        conv.padding_mode,
        device="meta",
    )
    plain.weight, plain.bias = conv.weight, conv.bias
    return plain.train(conv.training)
