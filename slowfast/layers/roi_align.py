"""RoIAlign. Shapes: x is (B, C, H, W), boxes are (N, 5), batch index first.

Source: He et al., "Mask R-CNN" (arXiv 1703.06870), section 3; the details are torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import torch
from torch import nn


class RoIAlign(nn.Module):
    """Module of `roi_align`.

    Args:
        output_size: bins along each side.
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
    """Pool the features of each box on a grid: each bin averages bilinear samples.

    Uses torchvision if it can be imported and supports the device, else `pure_roi_align`. Both compute in float32 at
    least, also under autocast, and return the dtype of x. Boxes get no gradient.

    Args:
        x: features.
        boxes: batch index, x1, y1, x2, y2. A sample up to one position outside the features takes the nearest feature,
            beyond that 0. An aligned box without area gives 0.
        output_size: bins R along each side.
        spatial_scale: positions of x per unit of box coordinates.
        sampling_ratio: samples along each side of a bin; 0 for one per position that the bin covers, rounded up.
        aligned: shift boxes by half a position, so that features lie at the centers of positions. Otherwise sides are
            at least one position long.

    Returns:
        (N, C, R, R).

    Raises:
        ValueError: boxes have another shape, an index outside the batch, a coordinate that is not finite, or x2 < x1 or
            y2 < y1.
    """
    if x.is_meta or boxes.is_meta:
        return x.new_empty(len(boxes), x.shape[1], output_size, output_size)
    boxes = boxes.detach().cpu()  # for the checks and the arithmetic on boxes; batches have them there
    check_boxes(boxes, x.shape[0])
    dtype, library = torch.promote_types(x.dtype, torch.float32), _library(x.device.type)
    settings = (output_size, spatial_scale, sampling_ratio, aligned)
    with _no_autocast(x.device.type):
        if library is not None:
            y = library(x.to(dtype), boxes.to(x.device, dtype, non_blocking=True), *settings)
        else:
            y = pure_roi_align(x.to(dtype), boxes.to(dtype), *settings)
    return y.to(x.dtype)


def check_boxes(boxes: torch.Tensor, batch: int) -> None:
    """Check boxes against the batch size; raises the ValueError of `roi_align`."""
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
    """Compute `roi_align` by differentiable PyTorch operations; x and boxes have the same dtype.

    Bilinear weights are separable, and so is their average over a bin. So the result is two products with small
    matrices.
    """
    corners = boxes[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    start, length = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        length = length.clamp(min=1.0)
    height, width = x.shape[2:]
    columns, rows, index = (
        part.to(x.device, non_blocking=True)
        for part in (
            _bin_weights(start[:, 0], length[:, 0], output_size, width, sampling_ratio),
            _bin_weights(start[:, 1], length[:, 1], output_size, height, sampling_ratio),
            boxes[:, 0].long(),
        )
    )
    features = x[index]
    return rows.unsqueeze(1) @ features @ columns.transpose(1, 2).unsqueeze(1)


def _bin_weights(start: torch.Tensor, length: torch.Tensor, bins: int, size: int, sampling_ratio: int) -> torch.Tensor:
    """Return the weight of each position in each bin's average, along one side: (N, bins, size).

    Args:
        start, length: of the boxes along this side in positions, (N,).
        size: number of positions along this side.
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
    """Return torchvision's operator if it can be imported and runs on such devices, else None."""
    try:
        from torchvision.ops import roi_align as library_roi_align

        one = torch.zeros(1, 1, 1, 1, device=device_type)
        library_roi_align(one, torch.zeros(1, 5, device=device_type), 1)
    except Exception:  # a build for another PyTorch version raises errors of its own
        return None
    return library_roi_align


def _no_autocast(device_type: str):
    """Return a context without autocast."""
    known = torch.amp.is_autocast_available(device_type)
    return torch.autocast(device_type, enabled=False) if known else nullcontext()
