"""Residual blocks against convolutions added up tap by tap; depths, groups, dilation, dropped branches of networks."""

import itertools

import pytest
import torch
from torch import nn

from slowfast.config import load_config
from slowfast.models import build_model
from slowfast.models.blocks import TRANSFORMS, BranchOptions, ResBlock, SqueezeExcitation, round_channels

SLOWFAST = [
    "MODEL.MODEL_NAME", "SlowFast", "MODEL.ARCH", "slowfast", "DATA.INPUT_CHANNEL_NUM", [3, 3], "SLOWFAST.ALPHA", 4,
    "RESNET.NUM_BLOCK_TEMP_KERNEL", [[2, 2]] * 4,
]  # fmt: skip
X3D = [
    "MODEL.MODEL_NAME", "X3D", "MODEL.ARCH", "x3d", "RESNET.TRANS_FUNC", "x3d_transform", "X3D.DEPTH_FACTOR", 0.4,
]  # fmt: skip


def slow_conv(x, conv):
    """Every output position as a sum over the kernel's taps and the group's input channels."""
    (st, sh, sw), (dt, dh, dw), groups = conv.stride, conv.dilation, conv.groups
    padded = nn.functional.pad(x, [p for size in reversed(conv.padding) for p in (size, size)])
    kt, kh, kw = conv.kernel_size
    lengths = [
        (size - dilation * (kernel - 1) - 1) // stride + 1
        for size, dilation, kernel, stride in zip(
            padded.shape[2:], conv.dilation, conv.kernel_size, conv.stride, strict=True
        )
    ]
    y = x.new_zeros(x.shape[0], conv.out_channels, *lengths)
    t, h, w = lengths
    per_group = conv.out_channels // groups
    for i, j, k in itertools.product(range(kt), range(kh), range(kw)):
        window = padded[:, :, i * dt :: st, j * dh :: sh, k * dw :: sw][:, :, :t, :h, :w]
        for group, part in enumerate(window.chunk(groups, dim=1)):
            rows = slice(group * per_group, (group + 1) * per_group)
            y[:, rows] += torch.einsum("oc,bcthw->bothw", conv.weight[rows, :, i, j, k], part)
    return y


def slow_norm(x, norm):
    def column(values):
        return values[:, None, None, None]

    scaled = (x - column(norm.running_mean)) / column(norm.running_var + norm.eps).sqrt()
    return scaled * column(norm.weight) + column(norm.bias)


def slow_branch(branch, kind, x):
    x = slow_norm(slow_conv(x, branch.a), branch.a_bn).clamp(min=0)
    if kind == "r2plus1d_transform":
        x = slow_norm(slow_conv(x, branch.t), branch.t_bn).clamp(min=0)
    x = slow_norm(slow_conv(x, branch.b), branch.b_bn)
    if kind == "basic_transform":
        return x
    if kind == "x3d_transform":
        x = branch.se(x)
        x = x / (1 + torch.exp(-x))
    else:
        x = x.clamp(min=0)
    return slow_norm(slow_conv(x, branch.c), branch.c_bn)


@torch.no_grad()
@pytest.mark.parametrize("kind", list(TRANSFORMS))
@pytest.mark.parametrize(
    ("stride", "dilation", "groups", "stride_1x1"),
    [(1, 1, 1, False), (2, 1, 4, False), (1, 2, 4, False), (2, 1, 2, True), (1, 3, 8, False)],
)
def test_block_is_its_convolutions_added_up(kind, stride, dilation, groups, stride_1x1, parity):
    norm = nn.BatchNorm3d
    branch = TRANSFORMS.get(kind)(6, 10, 8, 3, stride, BranchOptions(norm, groups, dilation, stride_1x1), 1, stride)
    block = parity.fill_module(ResBlock(branch, 6, 10, stride, norm, temporal_stride=stride)).double().eval()
    x = torch.randn(2, 6, 4, 7, 8, dtype=torch.float64)
    shortcut = slow_norm(slow_conv(x, block.branch1), block.branch1_bn)
    torch.testing.assert_close(block(x), (shortcut + slow_branch(branch, kind, x)).clamp(min=0))


# Parameters in millions of the published networks on Kinetics-400.
@pytest.mark.parametrize(
    ("file", "millions"),
    [
        ("c2/SLOWFAST_8x8_R101_101_101", 62.83),
        ("c2/SLOWFAST_8x8_R101_50_50", 53.77),
        ("SLOWFAST_8x8_R50", 34.57),
        ("SLOW_8x8_R50", 32.45),
        ("C2D_8x8_R50", 24.33),
    ],
)
def test_published_numbers_of_parameters(file, millions, repo):
    with torch.device("meta"):
        model = build_model(load_config(repo / f"configs/Kinetics/{file}.yaml", ["NUM_GPUS", 0]))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_18_layers_take_the_default_table_of_temporal_kernels():
    settings = [
        "MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow", "RESNET.DEPTH", 18, "RESNET.TRANS_FUNC", "basic_transform",
        "RESNET.WIDTH_PER_GROUP", 4, "DATA.TRAIN_CROP_SIZE", 32, "NUM_GPUS", 0,
    ]  # fmt: skip
    cfg = load_config(None, settings)
    assert cfg.RESNET.NUM_BLOCK_TEMP_KERNEL == [[2], [2], [2], [2]]
    model = build_model(cfg)
    kernels = {name: p.shape[2] for name, p in model.named_parameters() if name.endswith("branch2.a.weight")}
    assert kernels == {
        f"s{stage}.pathway0_res{block}.branch2.a.weight": 3 if stage > 3 else 1
        for stage in (2, 3, 4, 5)
        for block in (0, 1)
    }
    assert model([torch.randn(2, 3, 8, 32, 32)]).shape == (2, 400)
    with pytest.raises(ValueError, match="at RESNET.DEPTH 18 that stage has 2 blocks, so 2 is the most"):
        load_config(None, [*settings, "RESNET.NUM_BLOCK_TEMP_KERNEL", [[3], [4], [6], [3]]])


def test_groups_widen_the_middle_of_every_pathway(tiny_model):
    """As in PySlowFast: NUM_GROUPS x WIDTH_PER_GROUP channels inside s2, twice as many a stage, blocks as without."""
    settings = [
        *tiny_model,
        *SLOWFAST,
        "RESNET.DEPTH",
        50,
        "RESNET.NUM_BLOCK_TEMP_KERNEL",
        [[3, 3], [4, 4], [6, 6], [3, 3]],
    ]
    with torch.device("meta"):
        model = build_model(load_config(None, [*settings, "RESNET.WIDTH_PER_GROUP", 16, "RESNET.NUM_GROUPS", 4]))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for pathway, width in ((0, 16), (1, 2)):
        for stage in range(4):
            inner, out = 4 * width * 2**stage, 4 * width * 2**stage
            prefix = f"s{stage + 2}.pathway{pathway}_res1.branch2"
            assert shapes[f"{prefix}.b.weight"] == (inner, inner // 4, 1, 3, 3)
            assert shapes[f"{prefix}.c.weight"] == (out, inner, 1, 1, 1)


@torch.no_grad()
@pytest.mark.parametrize("network", [[], SLOWFAST], ids=["slow", "slowfast"])
@pytest.mark.parametrize("kind", list(TRANSFORMS))
def test_dilation_in_place_of_the_last_stride(tiny_model, network, kind):
    """The last stage's map stays twice as large, and with equal weights its even positions see as far as before."""
    groups = 1 if kind == "basic_transform" else 2
    base = [*tiny_model, *network, "RESNET.TRANS_FUNC", kind, "RESNET.NUM_GROUPS", groups]
    dilated = ["RESNET.SPATIAL_STRIDES", [[1], [2], [2], [1]], "RESNET.SPATIAL_DILATIONS", [[1], [1], [1], [2]]]
    clip = torch.randn(1, 3, 8, 64, 64)
    inputs = [clip[:, :, ::4], clip] if network else [clip]
    strided, wide = (build_model(load_config(None, [*base, *more])).eval() for more in ([], dilated))
    wide.load_state_dict(strided.state_dict())
    features, wide_features = strided.forward_features(inputs), wide.forward_features(inputs)
    assert [tuple(f.shape[3:]) for f in features] == [(2, 2)] * len(inputs)
    assert [tuple(f.shape[3:]) for f in wide_features] == [(4, 4)] * len(inputs)
    assert wide(inputs).shape == (1, 5)
    if kind == "bottleneck_transform" and not network:
        # Of its blocks only the first has a stride, and dilation 2 beside stride 1 reads what stride 2 goes on to read:
        # all but that first 3 x 3, whose own kernel is dilated too.
        strided.s5.pathway0_res0.branch2.b.dilation = (1, 2, 2)
        strided.s5.pathway0_res0.branch2.b.padding = (0, 2, 2)
        even = wide_features[0][..., ::2, ::2]
        torch.testing.assert_close(strided.forward_features(inputs)[0], even, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "network",
    [[], ["RESNET.TRANS_FUNC", "basic_transform"], SLOWFAST, X3D],
    ids=["bottleneck", "basic", "slowfast", "x3d"],
)
def test_branches_are_dropped_by_the_sample_and_more_often_with_depth(tiny_model, network):
    torch.manual_seed(0)
    settings = [*tiny_model, *network, "MODEL.DROPCONNECT_RATE", 0.5, "BN.NORM_TYPE", "frozen_batchnorm"]
    model = build_model(load_config(None, settings))
    for stage, rate in (("s2", 0.2), ("s3", 0.3), ("s4", 0.4), ("s5", 0.5)):
        blocks = [module for module in getattr(model, stage).modules() if isinstance(module, ResBlock)]
        assert {round(block.drop.rate, 9) for block in blocks} == {rate}
    block, rate = model.s5.pathway0_res0, 0.5
    x = torch.randn(64, block.branch1.in_channels, 2, 2, 2)
    with torch.no_grad():
        branch, shortcut = block.branch2(x), block.shortcut(x)
        y = block.train()(x)
        torch.testing.assert_close(block.eval()(x), (shortcut + branch).relu())
    dropped = 0
    for i in range(64):
        without = torch.allclose(y[i], shortcut[i].relu(), atol=1e-6)
        dropped += without
        if not without:
            torch.testing.assert_close(y[i], (shortcut[i] + branch[i] / (1 - rate)).relu())
    assert 16 < dropped < 48


def test_gates_are_two_maps_of_the_channel_means():
    torch.manual_seed(0)
    layer = SqueezeExcitation(48).double()
    x = torch.randn(2, 48, 3, 4, 5, dtype=torch.float64)
    y = layer(x)
    for b in range(2):
        means = x[b].flatten(1).sum(dim=1) / 60
        hidden = (layer.fc1.weight.flatten(1) @ means + layer.fc1.bias).clamp(min=0)
        gates = 1 / (1 + torch.exp(-(layer.fc2.weight.flatten(1) @ hidden + layer.fc2.bias)))
        for c in range(48):
            torch.testing.assert_close(y[b, c], gates[c] * x[b, c])


@pytest.mark.parametrize(
    ("channels", "rounded"),
    # X3D-XL's widths, its squeezed ones, and a number whose nearest multiple is over a tenth too small
    [(34.8, 32), (69.6, 72), (139.2, 136), (278.4, 280), (3.375, 8), (27, 32), (39.375, 40), (1, 8), (11.9, 16)],
)
def test_channels_are_multiples_of_eight(channels, rounded):
    assert round_channels(channels) == rounded
