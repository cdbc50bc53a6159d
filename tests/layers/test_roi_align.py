"""RoIAlign against loops over boxes, bins and samples, and against torchvision."""

import math
import sys
from types import ModuleType

import pytest
import torch

from slowfast.layers import roi_align as module
from slowfast.layers.roi_align import RoIAlign, pure_roi_align, roi_align

# Sample, x1, y1, x2, y2 over two pictures of 9 x 12 positions of 16 pixels: the fixtures' boxes, and odd ones.
BOXES = torch.tensor([
    [0, 4, 6, 60, 80], [0, 30.5, 10.25, 120, 90], [1, 0, 0, 127, 95],
    [1, -40, -70, 50, 40], [0, 150, 100, 260, 190], [1, -300, -300, -200, -200],  # over the edges, and far outside
    [0, 50, 50, 50, 50], [1, 60, 20, 60, 90],  # a point, a line
    [1, 33, 34, 33.5, 34.25], [0, -150, -120, 300, 260],  # within one position, and larger than the picture
], dtype=torch.float64)  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_detection():
    """The library is looked for anew, before and after."""
    module._library.cache_clear()
    yield
    module._library.cache_clear()


def reference(x, boxes, bins, scale, ratio, aligned):
    """One number after another, by the definition."""
    out = x.new_zeros(len(boxes), x.shape[1], bins, bins)
    for n, (sample, *corners) in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (corner * scale - (0.5 if aligned else 0.0) for corner in corners)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        counts = [ratio or max(math.ceil(side / bins), 0) for side in (height, width)]
        for row in range(bins):
            for column in range(bins):
                for i in range(counts[0]):
                    for j in range(counts[1]):
                        y = y1 + height / bins * (row + (i + 0.5) / counts[0])
                        at = x1 + width / bins * (column + (j + 0.5) / counts[1])
                        out[n, :, row, column] += bilinear(x[int(sample)], y, at) / (counts[0] * counts[1])
    return out


def bilinear(picture, y, x):
    height, width = picture.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros_like(picture[:, 0, 0])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = (1 - (x - left)) * picture[:, top, left] + (x - left) * picture[:, top, right]
    lower = (1 - (x - left)) * picture[:, bottom, left] + (x - left) * picture[:, bottom, right]
    return (1 - (y - top)) * upper + (y - top) * lower


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("bins", [1, 3])
def test_values_and_gradients_are_the_loops(aligned, ratio, bins):
    torch.manual_seed(0)
    x = torch.randn(2, 2, 9, 12, dtype=torch.float64, requires_grad=True)
    expected = reference(x, BOXES, bins, 1 / 16, ratio, aligned)
    actual = roi_align(x, BOXES, bins, 1 / 16, ratio, aligned)
    torch.testing.assert_close(actual, expected)
    weights = torch.randn_like(expected)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (actual, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("aligned", [True, False])
def test_torchvision_gives_the_same(aligned):
    try:
        from torchvision.ops import roi_align as library

        library(torch.zeros(1, 1, 1, 1), torch.zeros(1, 5), 1)
    except Exception as error:  # a build for another PyTorch fails in ways of its own
        pytest.skip(f"torchvision does not run here: {error!r}")
    torch.manual_seed(0)
    x, boxes = torch.randn(2, 8, 9, 12, requires_grad=True), BOXES.float()
    theirs = library(x, boxes, 7, 1 / 16, 0, aligned)
    ours = pure_roi_align(x, boxes, 7, 1 / 16, 0, aligned)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(theirs)
    torch.testing.assert_close(*(torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs)))


def fake_torchvision(monkeypatch, operator):
    package, ops = ModuleType("torchvision"), ModuleType("torchvision.ops")
    package.ops, ops.roi_align = ops, operator
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.ops", ops)


def test_an_installed_library_is_used(monkeypatch):
    calls = []

    def operator(x, boxes, size, scale=1.0, ratio=-1, aligned=False):
        calls.append((x.dtype, boxes.dtype, size, scale, ratio, aligned))
        return x.new_ones(len(boxes), x.shape[1], size, size)

    fake_torchvision(monkeypatch, operator)
    y = RoIAlign(7, 1 / 16, 2, aligned=False)(torch.zeros(2, 3, 9, 12, dtype=torch.bfloat16), BOXES)
    assert bool((y == 1).all()) and y.dtype == torch.bfloat16
    assert calls[-1] == (torch.float32, torch.float32, 7, 1 / 16, 2, False)


def test_a_library_that_fails_is_passed_over(monkeypatch):
    def operator(*args):
        raise RuntimeError("Couldn't load custom C++ ops")

    fake_torchvision(monkeypatch, operator)
    x = torch.randn(2, 3, 9, 12, dtype=torch.float64)
    torch.testing.assert_close(roi_align(x, BOXES, 2, 1 / 16), reference(x, BOXES, 2, 1 / 16, 0, True))


def test_autocast_and_narrow_types_keep_the_numbers():
    torch.manual_seed(0)
    x, boxes = torch.randn(2, 8, 9, 12), BOXES.float()
    full = roi_align(x, boxes, 7, 1 / 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(roi_align(x, boxes, 7, 1 / 16), full)
    narrow = roi_align(x.bfloat16(), boxes, 7, 1 / 16)
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow, roi_align(x.bfloat16().float(), boxes, 7, 1 / 16).bfloat16())
    last = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(roi_align(last, boxes, 7, 1 / 16), full)


def test_no_boxes_give_no_rows_and_a_graph():
    x = torch.randn(2, 3, 9, 12, requires_grad=True)
    y = roi_align(x, torch.zeros(0, 5), 7, 1 / 16)
    assert y.shape == (0, 3, 7, 7)
    y.sum().backward()
    assert not x.grad.any()


def test_shapes_alone():
    x = torch.empty(2, 3, 9, 12, device="meta")
    assert roi_align(x, BOXES, 7).shape == (len(BOXES), 3, 7, 7)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([2, 0, 0, 8, 8], r"box 1 of 2 is \[2.0, .*whole number from 0 to 1, for a batch of 2"),
        ([-1, 0, 0, 8, 8], r"box 1 of 2 is \[-1.0"),
        ([0.5, 0, 0, 8, 8], r"box 1 of 2 is \[0.5"),
        ([math.nan, 0, 0, 8, 8], "box 1 of 2"),
        ([1, 0, math.inf, 8, 8], "finite"),
        ([1, 60, 20, 30, 40], "x2, y2 not under x1, y1"),
    ],
)
def test_boxes_that_cannot_be_are_named(box, message):
    boxes = torch.tensor([[1.0, 0, 0, 8, 8], box])
    with pytest.raises(ValueError, match=message):
        roi_align(torch.zeros(2, 3, 9, 12), boxes, 7)


@pytest.mark.parametrize("shape", [(3, 4), (5,), (1, 3, 5)])
def test_boxes_of_another_shape_are_named(shape):
    with pytest.raises(ValueError, match=r"\(N, 5\)"):
        roi_align(torch.zeros(2, 3, 9, 12), torch.zeros(shape), 7)
