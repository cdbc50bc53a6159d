"""RegNet3D: published sizes, where time is convolved, what it shares with ResNet."""

import pytest
import torch

from slowfast.config import load_config
from slowfast.models import build_model

REGNET = [
    "MODEL.MODEL_NAME", "RegNet", "MODEL.ARCH", "r3d", "DATA.NUM_FRAMES", 4, "DATA.TRAIN_CROP_SIZE", 32,
    "MODEL.DROPOUT_RATE", 0.0, "NUM_GPUS", 0,
]  # fmt: skip
# Stages' depths, widths and group width, and the parameters of the same network over pictures with 1000 classes.
PUBLISHED = {
    "400M": ((1, 2, 7, 12), (32, 64, 160, 384), 16, 5_157_512),
    "4.0G": ((2, 5, 14, 2), (80, 240, 560, 1360), 40, 22_118_248),
}


def meta_model(*more):
    with torch.device("meta"):
        return build_model(load_config(None, [*REGNET, *more]))


@pytest.mark.parametrize("size", PUBLISHED)
def test_over_single_frames_it_is_the_published_network(size):
    model = meta_model("REGNET.DEPTH", size, "MODEL.NUM_CLASSES", 1000)
    flat = sum(p.numel() // (p.shape[2] if p.ndim == 5 else 1) for p in model.parameters())
    assert flat == PUBLISHED[size][3]


@pytest.mark.parametrize("size", PUBLISHED)
def test_time_is_convolved_first_in_the_blocks_of_the_last_two_stages(size):
    depths, widths, group_width, _ = PUBLISHED[size]
    shapes = {name: tuple(p.shape) for name, p in meta_model("REGNET.DEPTH", size).state_dict().items()}
    assert shapes["s1.pathway0_stem.conv.weight"] == (32, 3, 1, 3, 3)
    dim_in = 32
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for block in range(depth):
            prefix = f"s{stage + 2}.pathway0_res{block}"
            kernel = 3 if stage >= 2 else 1
            assert shapes[f"{prefix}.branch2.a.weight"] == (width, dim_in, kernel, 1, 1)
            assert shapes[f"{prefix}.branch2.b.weight"] == (width, group_width, 1, 3, 3)
            assert shapes[f"{prefix}.branch2.c.weight"] == (width, width, 1, 1, 1)
            assert (f"{prefix}.branch1.weight" in shapes) == (block == 0)
            dim_in = width
        assert f"s{stage + 2}.pathway0_res{depth}.branch2.a.weight" not in shapes


def test_every_stage_halves_the_picture_and_none_the_frames():
    torch.manual_seed(0)
    model = build_model(load_config(None, [*REGNET, "MODEL.NUM_CLASSES", 5])).eval()
    sizes = []
    for stage in (model.s1, model.s2, model.s3, model.s4, model.s5):
        stage.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output[0].shape[2:])))
    with torch.no_grad():
        scores = model([torch.randn(2, 3, 4, 64, 64)])
    assert sizes == [(4, side, side) for side in (32, 16, 8, 4, 2)]
    assert scores.shape == (2, 5)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(2))


def test_surface():
    model = build_model(load_config(None, [*REGNET, "MODEL.NUM_CLASSES", 5]))
    inputs = [torch.randn(2, 3, 4, 32, 32)]
    (features,) = model.forward_features(inputs)
    assert features.shape == (2, model.num_features, 4, 1, 1)
    model(inputs).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert [len(group) for group in model.depth_groups()] == [1] * (1 + 22 + 1)
    model.reset_classifier(7)
    assert model(inputs).shape == (2, 7)


def test_published_names_of_sizes():
    for long, short in (("400MF", "400M"), ("4.0GF", "4.0G")):
        assert meta_model("REGNET.DEPTH", long).num_features == meta_model("REGNET.DEPTH", short).num_features


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["REGNET.DEPTH", "800M"], "REGNET.DEPTH is '800M'; it can be 400M.*nearest is 400M"),
        (["RESNET.TRANS_FUNC", "basic_transform"], "the blocks of RegNet are bottleneck_transform"),
        (["RESNET.SPATIAL_DILATIONS", [[1], [1]]], "SPATIAL_DILATIONS .*needs 4 lists"),
    ],
)
def test_what_cannot_be_built_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        meta_model(*settings)
