"""Convolutions of inputs as short as their kernels, against float64, in every type that is trained in.

There the library's own gradients of weights are garbage on processors with AVX-512, and it writes beyond its memory.
So the comparisons run in processes of their own, whose allocator fills what it hands out (glibc's MALLOC_PERTURB_):
what is left unwritten shows, and a crash is one failed test.
"""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from slowfast.config import load_config
from slowfast.layers.conv import Conv3d
from slowfast.models import build_model

PROGRAM = """
import random, sys
import torch
from slowfast.layers.conv import Conv3d

COUNT, THREADS, AUTOCAST, DTYPE, SEED = eval(sys.argv[1])
dtype = getattr(torch, DTYPE)
torch.set_num_threads(THREADS)
torch.manual_seed(SEED)
rng = random.Random(SEED)
CHANNELS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128)


def stem():
    "The first convolution of the published models, over few channels and many."
    sizes = (rng.randint(1, 9), *[rng.randint(5, 20)] * 2)
    return rng.choice(CHANNELS), rng.choice((8, 16, 24)), 1, (rng.choice((1, 3, 5)), 7, 7), (1, 2, 2), None, 1, sizes


def anything():
    kernel = rng.choice((1, 2, 3, 4, 5, 7)), *[rng.choice((1, 2, 3, 5, 7))] * 2
    if rng.random() < 0.2:
        kernel = 1, kernel[1], rng.choice((1, 3, 5, 7))
    sizes = rng.randint(1, 9), rng.randint(1, 20), rng.randint(1, 20)
    if rng.random() < 0.5:
        sizes = rng.randint(1, 9), *[rng.randint(1, 9)] * 2
    stride = rng.choice((1, 1, 2, 3)), *[rng.choice((1, 2, 3))] * 2
    groups, c_in, c_out = 1, rng.choice(CHANNELS), rng.choice(CHANNELS)
    if rng.random() < 0.4:
        groups = c_in if rng.random() < 0.5 else rng.choice([n for n in range(1, c_in + 1) if c_in % n == 0])
        c_out = groups * rng.choice((1, 1, 2, 3))
    padding = None if rng.random() < 0.6 else [rng.randint(0, k - 1) for k in kernel]
    return c_in, c_out, groups, kernel, stride, padding, rng.choice((1, 1, 1, 2)), sizes


def largest(found, expected):
    error = (found.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-9)
    return float(error.nan_to_num(nan=float("inf")))


done = wrong = 0
while done < COUNT:
    c_in, c_out, groups, kernel, stride, padding, dilation, sizes = rng.choice((stem, anything, anything))()
    padding = [k // 2 for k in kernel] if padding is None else padding
    outputs = [
        (n + 2 * p - dilation * (k - 1) - 1) // s + 1 for n, p, k, s in zip(sizes, padding, kernel, stride, strict=True)
    ]
    work = outputs[0] * outputs[1] * outputs[2] * c_in * c_out // groups * kernel[0] * kernel[1] * kernel[2]
    if min(outputs) < 1 or work > 2e7:
        continue
    done += 1
    ours = Conv3d(c_in, c_out, kernel, stride, padding, dilation, groups, bias=rng.random() < 0.3)
    ours.planar = rng.random() < 0.6
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(parameter.to(dtype))
    if not AUTOCAST:
        ours.to(dtype)
    last = rng.random() < 0.5
    layout = torch.channels_last_3d if last else torch.contiguous_format
    ours.to(memory_format=layout)
    clip = torch.randn(rng.choice((1, 2)), c_in, *sizes).to(dtype).contiguous(memory_format=layout)
    gradient = torch.randn(clip.shape[0], c_out, *outputs).to(dtype)
    clip.requires_grad_()
    with torch.autocast("cpu", dtype, enabled=AUTOCAST):
        y = ours(clip)
    found = [y.detach(), *torch.autograd.grad(y, [clip, *ours.parameters()], gradient)]
    inputs = [clip.detach().double().requires_grad_()]
    inputs += [parameter.detach().double().requires_grad_() for parameter in ours.parameters()]
    bias = inputs[2] if len(inputs) == 3 else None
    y = torch.conv3d(inputs[0], inputs[1], bias, stride, padding, dilation, groups)
    expected = [y.detach(), *torch.autograd.grad(y, inputs, gradient.double())]
    errors = [largest(*pair) for pair in zip(found, expected, strict=True)]
    if max(errors) > (1e-4 if dtype == torch.float32 else 0.03):
        wrong += 1
        print(ours, "planar" if ours.planar else "", layout, tuple(clip.shape), errors)
print(done, "convolutions,", wrong, "wrong")
"""


@pytest.mark.parametrize(
    "count, threads, autocast, dtype",
    [
        (300, 1, False, "bfloat16"),
        (200, 1, True, "bfloat16"),
        (40, 2, True, "bfloat16"),
        (150, 1, False, "float32"),
        (60, 1, True, "float16"),
    ],
)
def test_outputs_and_gradients_of_many_shapes_are_those_of_float64(count, threads, autocast, dtype):
    arguments = repr((count, threads, autocast, dtype, 3))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, arguments],
        env={**os.environ, "MALLOC_PERTURB_": "165"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{count} convolutions, 0 wrong", done.stdout


def test_models_hold_no_other_convolutions(tiny_models):
    """Check that models use our convolutions only."""
    for name, settings in tiny_models.items():
        model = build_model(load_config(None, settings))
        convolutions = [module for module in model.modules() if isinstance(module, nn.modules.conv._ConvNd)]
        assert convolutions, name
        assert {type(module) for module in convolutions if not isinstance(module, Conv3d)} == set(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_zeros_that_are_written_out_change_nothing(dtype):
    """A stem over fewer frames than its kernel: the layouts are those of a longer clip, which needs no such zeros.

    PyTorch's kernels keep channels last, but for bfloat16 on a processor without AVX-512.
    """
    torch.manual_seed(0)
    ours = Conv3d(3, 8, (5, 7, 7), (1, 2, 2), (2, 3, 3), bias=False).to(dtype, memory_format=torch.channels_last_3d)
    clip = torch.randn(2, 3, 4, 12, 12).to(dtype).contiguous(memory_format=torch.channels_last_3d)
    y = ours(clip)
    longer = torch.conv3d(torch.cat([clip, clip], 2), ours.weight, None, (1, 2, 2), (2, 3, 3))
    layout = torch.channels_last_3d
    assert y.is_contiguous(memory_format=layout) == longer.is_contiguous(memory_format=layout)
    expected = torch.conv3d(clip.double(), ours.weight.double(), None, (1, 2, 2), (2, 3, 3))
    torch.testing.assert_close(y.double(), expected, rtol=1e-2, atol=1e-2)
