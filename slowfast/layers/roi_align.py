"""RoIAlign: the features of a box on a fixed grid. Shapes: x is (B, C, H, W), boxes are (N, 5).

Source: He et al., "Mask R-CNN" (arXiv 1703.06870), section 3; the details are torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import torch
from torch import nn


class RoIAlign(nn.Module):
    """`roi_align` with fixed settings; no parameters.

    Args:
        output_size: side of the grid.
        spatial_scale, sampling_ratio, aligned: see `roi_align`.
    """

    def __init__(self, output_size: int, spatial_scale: float = 1.0, sampling_ratio: int = 0, aligned: bool = True):
        super().__init__()
        self.output_size, self.spatial_scale = output_size, spatial_scale
        self.sampling_ratio, self.aligned = sampling_ratio, aligned

    def forward(self, x: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return roi_align(x, boxes, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )


def roi_align(
    x: torch.Tensor,
    boxes: torch.Tensor,
    output_size: int,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> torch.Tensor:
    """Cuts every box into a grid of bins and averages, in each, bilinear samples of the features.

    By torchvision where it imports and knows the device, else by `pure_roi_align`. Both compute in 32 bits at least,
    also under autocast, and give x's type. The boxes get no gradient.

    Args:
        x: features.
        boxes: index of the sample in the batch, x1, y1, x2, y2. Outside of the picture, by up to one position, the
            nearest feature counts, beyond that 0; an aligned box without area gives 0.
        output_size: bins R along each side.
        spatial_scale: positions of x for one unit of the boxes' coordinates.
        sampling_ratio: samples of a bin along each side; 0 takes one for every position that the bin covers, rounded
            up.
        aligned: half a position is taken from the coordinates, so that a feature lies in the middle of its position;
            without that, sides are at least one position long.

    Returns:
        (N, C, R, R).

    Raises:
        ValueError: boxes of another shape, of a sample that is not in the batch, with a coordinate that is no finite
            number, or with x2 under x1 or y2 under y1.
    """
    if x.is_meta or boxes.is_meta:
        return x.new_empty(len(boxes), x.shape[1], output_size, output_size)
    boxes = boxes.detach().cpu()  # once, for the checks and all arithmetic on a few numbers
    check_boxes(boxes, x.shape[0])
    dtype, library = torch.promote_types(x.dtype, torch.float32), _library(x.device.type)
    settings = (output_size, spatial_scale, sampling_ratio, aligned)
    with _no_autocast(x.device.type):
        if library is not None:
            y = library(x.to(dtype), boxes.to(x.device, dtype), *settings)
        else:
            y = pure_roi_align(x.to(dtype), boxes.to(dtype), *settings)
    return y.to(x.dtype)


def check_boxes(boxes: torch.Tensor, batch: int) -> None:
    """Raise the ValueError of `roi_align` unless all boxes are of a batch of so many samples."""
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise ValueError(
            f"boxes have shape {tuple(boxes.shape)}; it must be (N, 5): index in the batch, x1, y1, x2, y2"
        )
    index, ordered = boxes[:, 0], (boxes[:, 1:3] <= boxes[:, 3:]).all(dim=1)
    fits = (index >= 0) & (index < batch) & (index == index.floor()) & boxes.isfinite().all(dim=1) & ordered
    if not bool(fits.all()):
        row = int(fits.to(torch.uint8).argmin())
        raise ValueError(
            f"box {row} of {len(boxes)} is {[round(value, 4) for value in boxes[row].tolist()]} (index in the batch, "
            f"x1, y1, x2, y2): the index must be a whole number from 0 to {batch - 1}, for a batch of {batch}, the "
            "coordinates finite, and x2, y2 not under x1, y1"
        )


def pure_roi_align(
    x: torch.Tensor, boxes: torch.Tensor, output_size: int, spatial_scale: float, sampling_ratio: int, aligned: bool
) -> torch.Tensor:
    """`roi_align` by PyTorch's own operations; x and boxes of one floating type, boxes best on the CPU.

    Bilinear weights are a product of one factor a side, and so is their average over a bin. So the result is two
    products with small matrices, which autograd can go back through.
    """
    corners = boxes[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    start, length = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        length = length.clamp(min=1.0)
    height, width = x.shape[2:]
    columns = _bin_weights(start[:, 0], length[:, 0], output_size, width, sampling_ratio).to(x.device)
    rows = _bin_weights(start[:, 1], length[:, 1], output_size, height, sampling_ratio).to(x.device)
    features = x[boxes[:, 0].long().to(x.device)]
    return rows.unsqueeze(1) @ features @ columns.transpose(1, 2).unsqueeze(1)


def _bin_weights(start: torch.Tensor, length: torch.Tensor, bins: int, size: int, sampling_ratio: int) -> torch.Tensor:
    """What each position along one side adds to each bin's average: (N, bins, size).

    Args:
        start, length: of the boxes along this side, in positions, (N,).
        size: positions of the features along this side.
    """
    counts = (length / bins).ceil().clamp(min=0) if sampling_ratio == 0 else torch.full_like(length, sampling_ratio)
    most = int(max(counts.tolist(), default=0))
    sample = torch.arange(most, dtype=length.dtype, device=length.device)
    exists = sample < counts[:, None]  # (N, M)
    share = 1 / counts.clamp(min=1)[:, None]
    offsets = torch.arange(bins, dtype=length.dtype, device=length.device)[:, None] + ((sample + 0.5) * share)[:, None]
    points = start[:, None, None] + (length / bins)[:, None, None] * offsets  # (N, bins, M)
    counted = exists[:, None] & (points >= -1) & (points <= size)
    positions = torch.arange(size, dtype=length.dtype, device=length.device)
    bilinear = (1 - (points.clamp(0, size - 1)[..., None] - positions).abs()).clamp(min=0)  # (N, bins, M, size)
    return (bilinear * counted[..., None]).sum(dim=2) * share[..., None]


@cache
def _library(device_type: str) -> Callable[..., torch.Tensor] | None:
    """torchvision's operator, where it imports and runs on such devices; looked for once."""
    try:
        from torchvision.ops import roi_align as library_roi_align

        one = torch.zeros(1, 1, 1, 1, device=device_type)
        library_roi_align(one, torch.zeros(1, 5, device=device_type), 1)
    except Exception:  # whatever is wrong with it: a build for another PyTorch fails in ways of its own
        return None
    return library_roi_align


def _no_autocast(device_type: str):
    """A context in which products keep their type."""
    known = torch.amp.is_autocast_available(device_type)
    return torch.autocast(device_type, enabled=False) if known else nullcontext()
