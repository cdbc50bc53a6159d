"""RegNet3D: sizes, where time is convolved, initial weights, the head, settings without effect."""

import pytest
import torch

from slowfast.checkpoint import load_checkpoint, load_weights
from slowfast.checkpoint.io import save_checkpoint
from slowfast.config import load_config
from slowfast.layers.norm import BatchNorm3d
from slowfast.models import build_model

REGNET = [
    "MODEL.MODEL_NAME", "RegNet", "MODEL.ARCH", "r3d", "DATA.NUM_FRAMES", 4, "DATA.TRAIN_CROP_SIZE", 32,
    "MODEL.DROPOUT_RATE", 0.0, "NUM_GPUS", 0, "MODEL.NUM_CLASSES", 5,
]  # fmt: skip
# Stem, blocks, widths and groups of the stages, and parameters at 200 classes. Those of 400M are published; those of 4G
# are the sum over its layers.
SIZES = {
    "400M": (24, (1, 2, 7, 12), (32, 64, 160, 384), (16, 16, 16, 16), 8_796_800),
    "4G": (48, (2, 5, 14, 2), (80, 240, 560, 1360), (2, 6, 14, 34), 34_677_272),
}


def meta_model(*more):
    with torch.device("meta"):
        return build_model(load_config(None, [*REGNET, *more]))


def parameters_of_layers(stem, depths, widths, groups, classes):
    """Weights of convolutions, two numbers a channel of a norm, linear map."""
    total, dim_in = 3 * 9 * stem + 2 * stem, stem
    for stage, (depth, width, count) in enumerate(zip(depths, widths, groups, strict=True)):
        for block in range(depth):
            kernel = 3 if stage >= 2 else 1
            total += kernel * dim_in * width + 9 * width * (width // count) + width * width + 3 * 2 * width
            total += dim_in * width + 2 * width if block == 0 else 0
            dim_in = width
    return total + dim_in * classes + classes


@pytest.mark.parametrize("size", SIZES)
def test_parameters(size):
    *layers, published = SIZES[size]
    model = meta_model("REGNET.DEPTH", size, "MODEL.NUM_CLASSES", 200)
    assert sum(p.numel() for p in model.parameters()) == parameters_of_layers(*layers, 200) == published


@pytest.mark.parametrize("size", SIZES)
def test_time_is_convolved_first_in_the_blocks_of_the_last_two_stages(size):
    stem, depths, widths, groups, _ = SIZES[size]
    shapes = {name: tuple(p.shape) for name, p in meta_model("REGNET.DEPTH", size).state_dict().items()}
    assert shapes["conv1.weight"] == (stem, 3, 1, 3, 3)
    dim_in = stem
    for stage, (depth, width, count) in enumerate(zip(depths, widths, groups, strict=True), start=1):
        assert sum(name.startswith(f"layer{stage}.") and name.endswith("conv2.weight") for name in shapes) == depth
        for block in range(depth):
            prefix = f"layer{stage}.{block}"
            kernel = 3 if stage >= 3 else 1
            assert shapes[f"{prefix}.conv1.weight"] == (width, dim_in, kernel, 1, 1)
            assert shapes[f"{prefix}.conv2.weight"] == (width, width // count, 1, 3, 3)
            assert shapes[f"{prefix}.conv3.weight"] == (width, width, 1, 1, 1)
            assert (f"{prefix}.downsample.0.weight" in shapes) == (block == 0)
            dim_in = width


def test_groups_of_4g_have_the_width_of_regnetx():
    *_, widths, groups, _ = SIZES["4G"]
    assert [width / count for width, count in zip(widths, groups, strict=True)] == [40, 40, 40, 40]


def test_names_of_sizes():
    for size, others in (("400M", ["400MF"]), ("4G", ["4.0G", "4.0GF"])):
        for other in others:
            assert meta_model("REGNET.DEPTH", other).num_features == meta_model("REGNET.DEPTH", size).num_features
    with pytest.raises(ValueError, match=r"REGNET.DEPTH is '800M'; it can be 400M.*nearest is 400M"):
        meta_model("REGNET.DEPTH", "800M")


def test_initial_weights():
    torch.manual_seed(0)
    model = build_model(load_config(None, [*REGNET, "RESNET.ZERO_INIT_FINAL_BN", False]))
    norms = {name: module for name, module in model.named_modules() if isinstance(module, BatchNorm3d)}
    for name, norm in norms.items():
        assert bool((norm.weight == (0 if name.endswith(".bn3") else 1)).all()) and bool((norm.bias == 0).all())
        assert (norm.eps, norm.momentum) == (1e-5, 0.1)
    assert sum(name.endswith(".bn3") for name in norms) == 22
    assert bool((model.fc.bias == 0).all())
    assert float(model.fc.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    # He: variance 2 over the weights that read one input in one output channel, times the output channels.
    for conv, fan_out in ((model.layer4[1].conv1, 384 * 3), (model.layer4[1].conv2, 384 * 9)):
        assert float(conv.weight.detach().square().mean()) == pytest.approx(2 / fan_out, rel=0.05)


@torch.no_grad()
def test_every_stage_halves_the_picture_and_none_the_frames(parity):
    model = parity.fill_module(build_model(load_config(None, REGNET))).eval()
    sizes = []
    for stage in (model.relu, model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))
    model([torch.randn(2, 3, 4, 64, 96)])
    assert sizes == [(4, 64 // 2**i, 96 // 2**i) for i in range(1, 6)]


@torch.no_grad()
def test_the_head_averages_all_positions_and_then_applies_softmax(parity):
    model = parity.fill_module(build_model(load_config(None, [*REGNET, "MODEL.HEAD_ACT", "sigmoid"])))
    clip = [torch.randn(2, 3, 4, 64, 64)]
    model.eval()
    (features,) = model.forward_features(clip)
    logits = features.mean(dim=(2, 3, 4)) @ model.fc.weight.T + model.fc.bias
    torch.testing.assert_close(model(clip), logits.softmax(dim=1))
    model.train()
    for norm in model.modules():
        if isinstance(norm, BatchNorm3d):
            norm.eval()
    torch.testing.assert_close(model(clip), logits)


def test_settings_of_other_networks_change_nothing_and_those_set_are_named(caplog):
    plain = meta_model()
    caplog.clear()
    other = meta_model(
        "BN.NORM_TYPE", "frozen_batchnorm", "NONLOCAL.LOCATION", [[[]], [[1]], [[]], [[]]], "RESNET.NUM_GROUPS", 32,
        "RESNET.TRANS_FUNC", "basic_transform", "MODEL.HEAD_ACT", "sigmoid",
    )  # fmt: skip
    assert str(other) == str(plain)
    (warning,) = [record.getMessage() for record in caplog.records if "RegNet" in record.getMessage()]
    for text in ("BN.NORM_TYPE frozen_batchnorm", "NONLOCAL.LOCATION", "MODEL.HEAD_ACT sigmoid"):
        assert text in warning


def test_any_number_of_labels_is_refused():
    """Its softmax ignores HEAD_ACT, so an advice to set sigmoid would not help."""
    labels = ["DATA.MULTI_LABEL", True, "MODEL.LOSS_FUNC", "bce_logit", "MODEL.HEAD_ACT", "sigmoid"]
    with pytest.raises(ValueError, match="DATA.MULTI_LABEL is True.*RegNet"):
        load_config(None, [*REGNET, *labels])


@torch.no_grad()
def test_a_checkpoint_keeps_its_names_which_are_those_of_image_resnets_too(parity, tmp_path):
    model, other = (build_model(load_config(None, REGNET)).eval() for _ in range(2))
    path = str(tmp_path / "regnet.pyth")
    save_checkpoint({"model_state": parity.fill_module(model).state_dict()}, path)
    assert load_weights(other, load_checkpoint(path)["model_state"], path, strict=True).is_exact
    clip = [torch.randn(1, 3, 4, 32, 32)]
    assert torch.equal(model(clip), other(clip))


def test_a_checkpoint_of_other_classes_is_named():
    weights = build_model(load_config(None, [*REGNET, "MODEL.NUM_CLASSES", 7])).state_dict()
    with pytest.raises(ValueError, match=r"its classifier has 7 classes, and MODEL.NUM_CLASSES is 5"):
        load_weights(build_model(load_config(None, REGNET)), weights, "x.pyth")
