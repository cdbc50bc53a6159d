"""X3D: published sizes, what each key changes, the head over wider pictures."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from slowfast.config import load_config
from slowfast.models import build_model

X3D = [
    "MODEL.MODEL_NAME", "X3D", "MODEL.ARCH", "x3d", "RESNET.TRANS_FUNC", "x3d_transform", "MODEL.NUM_CLASSES", 400,
    "X3D.WIDTH_FACTOR", 2.0, "X3D.DEPTH_FACTOR", 2.2, "X3D.BOTTLENECK_FACTOR", 2.25,
]  # fmt: skip
TINY = [
    *X3D, "X3D.WIDTH_FACTOR", 1.0, "X3D.DEPTH_FACTOR", 0.4, "X3D.DIM_C5", 32, "MODEL.NUM_CLASSES", 5,
    "MODEL.DROPOUT_RATE", 0.0, "DATA.TRAIN_CROP_SIZE", 32, "DATA.NUM_FRAMES", 4, "NUM_GPUS", 0,
]  # fmt: skip
# Parameters in millions and multiply-adds of a view in thousand millions, as PySlowFast lists them; XL: "X3D", table 4.
PUBLISHED = {
    "XS": ([4, 160], 3.8, 0.60),
    "S": ([13, 160], 3.8, 1.96),
    "M": ([16, 224], 3.8, 4.73),
    "L": ([16, 312, "X3D.DEPTH_FACTOR", 5.0], 6.2, 18.37),
    "XL": ([16, 312, "X3D.DEPTH_FACTOR", 5.0, "X3D.WIDTH_FACTOR", 2.9], 11.0, 35.84),
}


def tiny(*more):
    torch.manual_seed(0)
    return build_model(load_config(None, [*TINY, *more]))


def shapes(model):
    return {name: tuple(p.shape) for name, p in model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes(size):
    (frames, crop, *factors), millions, operations = PUBLISHED[size]
    cfg = load_config(
        None, [*X3D, *factors, "DATA.NUM_FRAMES", frames, "DATA.TRAIN_CROP_SIZE", crop, "TRAIN.ENABLE", False]
    )
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = build_model(cfg).eval()
        model([torch.empty(1, 3, frames, crop, crop)])
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    assert counter.get_total_flops() / 2e9 == pytest.approx(operations, rel=0.01)


def test_published_widths_and_depths():
    settings = [*X3D, "X3D.DEPTH_FACTOR", 5.0, "X3D.WIDTH_FACTOR", 2.9, "TRAIN.ENABLE", False]
    with torch.device("meta"):
        model = build_model(load_config(None, settings))
    found = shapes(model)
    assert found["s1.pathway0_stem.conv.weight"] == (32, 1, 5, 1, 1)
    for stage, (depth, width) in enumerate(((5, 32), (10, 72), (25, 136), (15, 280)), start=2):
        blocks = [name for name in found if name.startswith(f"s{stage}.") and name.endswith("branch2.c.weight")]
        assert len(blocks) == depth
        assert found[f"s{stage}.pathway0_res0.branch2.b.weight"] == (int(2.25 * width), 1, 3, 3, 3)
        assert found[f"s{stage}.pathway0_res{depth - 1}.branch2.c.weight"][0] == width
        gated = {int(name.split("res")[1].split(".")[0]) for name in found if f"s{stage}." in name and "fc1.w" in name}
        assert gated == set(range(0, depth, 2))


def test_keys_that_change_single_layers():
    plain = shapes(tiny())
    assert "head.lin_5_bn.weight" not in plain
    assert plain["s2.pathway0_res0.branch2.c.weight"] == (16, 36, 1, 1, 1)  # 12 channels, rounded
    changed = shapes(tiny("X3D.BN_LIN5", True, "X3D.SCALE_RES2", True))
    assert changed["head.lin_5_bn.weight"] == (32,)
    assert changed["s2.pathway0_res0.branch2.c.weight"] == (24, 54, 1, 1, 1)
    assert changed["s3.pathway0_res0.branch2.c.weight"] == (48, 108, 1, 1, 1)
    grouped = shapes(tiny("X3D.CHANNELWISE_3x3x3", False, "RESNET.NUM_GROUPS", 2))
    assert grouped["s3.pathway0_res0.branch2.b.weight"] == (54, 27, 3, 3, 3)


def test_every_parameter_learns_with_a_norm_behind_the_wide_convolution():
    model = tiny("X3D.BN_LIN5", True)
    model([torch.randn(2, 3, 4, 32, 32)]).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    features = torch.randn(2, 96, 4, 1, 1)
    one, two = (model.train().head([features + shift]) for shift in (0.0, 1.0))
    assert not torch.allclose(one, two)


@torch.no_grad()
def test_a_larger_test_crop_is_a_test_on_several_crops():
    model = tiny().eval()
    wide = torch.randn(1, 96, 4, 1, 3)
    single = torch.stack([model.head([wide[..., i : i + 1]]) for i in range(3)]).mean(dim=0)
    torch.testing.assert_close(model.head([wide]), single)
    assert model([torch.randn(1, 3, 4, 72, 40)]).shape == (1, 5)


@torch.no_grad()
def test_the_window_is_the_crop_over_32_rounded_up():
    """At 40 pixels there are 2 x 2 positions, all of them in one window."""
    model = tiny("DATA.TRAIN_CROP_SIZE", 40).eval()
    logits = []
    model.head.projection.register_forward_hook(lambda module, inputs, output: logits.append(output.shape))
    model([torch.randn(1, 3, 4, 40, 40)])
    assert model.forward_features([torch.randn(1, 3, 4, 40, 40)])[0].shape == (1, 96, 4, 2, 2)
    assert logits == [(1, 1, 1, 1, 5)]


def test_layers_by_depth():
    model = tiny()
    groups = model.depth_groups()
    assert [len(group) for group in groups] == [1] * (1 + 6 + 1)  # stem, 1 + 1 + 2 + 2 blocks, head
    listed = [p for group in groups for module in group for p in module.parameters()]
    assert {id(p) for p in listed} == {id(p) for p in model.parameters()} and len(listed) == len(set(listed))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["X3D.WIDTH_FACTOR", 0.0], r"X3D.WIDTH_FACTOR is 0\.0; it must be over 0"),
        (["X3D.DEPTH_FACTOR", -1.0], r"X3D.DEPTH_FACTOR is -1\.0"),
        (["X3D.BOTTLENECK_FACTOR", 0.0], r"X3D.BOTTLENECK_FACTOR is 0\.0"),
        (["X3D.BOTTLENECK_FACTOR", 0.01], r"X3D.BOTTLENECK_FACTOR 0\.01 leaves no channel inside .* of 16"),
        (["X3D.DIM_C1", 0], "X3D.DIM_C1 is 0, but it must be at least 1"),
        (["X3D.DIM_C5", 0], "X3D.DIM_C5 is 0"),
        (["X3D.CHANNELWISE_3x3x3", False, "RESNET.NUM_GROUPS", 5], "NUM_GROUPS 5 does not divide the 36 channels"),
        (["RESNET.TRANS_FUNC", "basic_transform"], "the blocks of X3D are x3d_transform"),
        (["MODEL.HEAD_ACT", "none", "MODEL.DROPCONNECT_RATE", 1.0], r"MODEL\.DROPCONNECT_RATE 1\.0, .*under 1"),
        (["RESNET.SPATIAL_DILATIONS", [[1], [1], [1], [0]]], "SPATIAL_DILATIONS .* must be 1 to"),
        (
            ["NONLOCAL.LOCATION", [[[]], [[1]], [[]], [[]]]],
            r"NONLOCAL\.LOCATION .*block\(s\) \[1\] of a stage with 1 blocks",
        ),
    ],
)
def test_what_cannot_be_built_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(*settings)
