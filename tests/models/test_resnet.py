"""Shapes, surface, initialization and errors of the ResNet family."""

import pytest
import torch

from slowfast.config import load_config
from slowfast.models import MODEL_REGISTRY, VideoModel, build_model

SLOWFAST = [
    "MODEL.MODEL_NAME", "SlowFast", "MODEL.ARCH", "slowfast", "DATA.INPUT_CHANNEL_NUM", [3, 3], "SLOWFAST.ALPHA", 4,
    "SLOWFAST.BETA_INV", 4,
    "RESNET.NUM_BLOCK_TEMP_KERNEL", [[2, 2]] * 4, "RESNET.SPATIAL_STRIDES", [[1, 1], *[[2, 2]] * 3],
    "RESNET.SPATIAL_DILATIONS", [[1, 1]] * 4, "NONLOCAL.LOCATION", [[[], []]] * 4, "NONLOCAL.GROUP", [[1, 1]] * 4,
]  # fmt: skip
VARIANTS = {
    "slow": [],
    "slow_basic": ["RESNET.TRANS_FUNC", "basic_transform"],
    "c2d": ["MODEL.ARCH", "c2d"],
    "i3d": ["MODEL.ARCH", "i3d"],
    "i3d_nopool": ["MODEL.ARCH", "i3d_nopool"],
    "nonlocal_softmax": [
        "NONLOCAL.LOCATION",
        [[[]], [[1]], [[0]], [[]]],
        "NONLOCAL.INSTANTIATION",
        "softmax",
    ],
    "nonlocal_dot": ["NONLOCAL.LOCATION", [[[]], [[1]], [[0]], [[]]], "NONLOCAL.GROUP", [[1], [4], [1], [1]]],
    "dilated": [
        "RESNET.SPATIAL_STRIDES",
        [[1], [2], [2], [1]],
        "RESNET.SPATIAL_DILATIONS",
        [[1], [1], [1], [2]],
    ],
    "grouped": ["RESNET.NUM_GROUPS", 2],
    "stride_1x1": ["RESNET.STRIDE_1X1", True],
    "slowfast": SLOWFAST,
    "slowfast_no_fusion_norm": [*SLOWFAST, "SLOWFAST.FUSION_BN", False, "SLOWFAST.FUSION_RELU", False],
}


def clips(cfg, batch=2, frames=8, size=32):
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(batch, 3, frames, size, size, generator=generator)
    return [clip[:, :, :: cfg.SLOWFAST.ALPHA], clip] if cfg.MODEL.ARCH == "slowfast" else [clip]


@pytest.fixture(params=VARIANTS)
def cfg(request, tiny_model):
    return load_config(None, [*tiny_model, *VARIANTS[request.param]])


def test_surface(cfg):
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    inputs = clips(cfg)
    with torch.no_grad():
        scores = model(inputs)
        features = model.forward_features(inputs)
    assert scores.shape == (2, 5)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(2))
    assert sum(f.shape[1] for f in features) == model.num_features
    model.reset_classifier(7)
    assert model(inputs).shape == (2, 7)


def test_every_parameter_gets_a_gradient(cfg):
    torch.manual_seed(0)
    model = build_model(cfg)
    model(clips(cfg)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_eval_scores_are_the_mean_over_crops_of_a_wider_picture(tiny_model):
    torch.manual_seed(0)
    model = build_model(load_config(None, tiny_model)).eval()
    wide = torch.randn(1, 256, 8, 1, 3)
    single = torch.stack([model.head([wide[..., i : i + 1]]) for i in range(3)]).mean(dim=0)
    torch.testing.assert_close(model.head([wide]), single)


def test_residual_blocks_start_as_the_identity_with_zero_scale(tiny_model):
    cfg = load_config(None, [*tiny_model, "RESNET.ZERO_INIT_FINAL_BN", True])
    block = build_model(cfg).eval().s3.pathway0_res1
    x = torch.rand(2, 64, 4, 4, 4)
    torch.testing.assert_close(block(x), x)


def test_nonlocal_blocks_start_as_the_identity(tiny_model):
    for use_bn in (True, False):
        settings = [*tiny_model, *VARIANTS["nonlocal_softmax"], "NONLOCAL.USE_BN", use_bn]
        block = build_model(load_config(None, settings)).s3.pathway0_nonlocal1
        x = torch.rand(2, 64, 4, 4, 4)
        torch.testing.assert_close(block(x), x)


def test_frozen_norm_loads_from_trained_norm_and_back_and_computes_the_same(tiny_model, parity):
    trained = parity.fill_module(build_model(load_config(None, tiny_model))).eval()
    frozen = build_model(load_config(None, [*tiny_model, "BN.NORM_TYPE", "frozen_batchnorm"]))
    frozen.load_state_dict(trained.state_dict())
    inputs = [torch.randn(2, 3, 8, 32, 32)]
    with torch.no_grad():
        torch.testing.assert_close(frozen.eval()(inputs), trained(inputs), rtol=1e-4, atol=1e-6)
    missing, unexpected = trained.load_state_dict(frozen.state_dict(), strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    before = frozen.state_dict()["s1.pathway0_stem.bn.running_mean"].clone()
    frozen.train()(inputs)
    assert torch.equal(frozen.state_dict()["s1.pathway0_stem.bn.running_mean"], before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["MODEL.MODEL_NAME", "ResNett"], "nearest is ResNet"),
        (["MODEL.MODEL_NAME", "SlowFast"], "slowfast"),
        (["BN.NORM_TYPE", "group"], "batchnorm, frozen_batchnorm"),
        (["NONLOCAL.LOCATION", [[[]], [[7]], [[]], [[]]]], r"LOCATION .*\[7\]"),
        (["RESNET.TRANS_FUNC", "x4d_transform"], "x3d_transform"),
    ],
)
def test_what_cannot_be_built_is_named(tiny_model, settings, message):
    with pytest.raises(ValueError, match=message):
        build_model(load_config(None, [*tiny_model, *settings]))


def test_sync_batchnorm_over_several_gpus_has_the_keys_of_batchnorm(tiny_model):
    model = build_model(load_config(None, [*tiny_model, "BN.NORM_TYPE", "sync_batchnorm", "NUM_GPUS", 8]))
    assert isinstance(model.s1.pathway0_stem.bn, torch.nn.SyncBatchNorm)
    assert model.state_dict().keys() == build_model(load_config(None, tiny_model)).state_dict().keys()


def test_sync_batchnorm_in_one_process_is_batchnorm_and_says_so(tiny_model, caplog):
    with caplog.at_level("INFO"):
        model = build_model(load_config(None, [*tiny_model, "BN.NORM_TYPE", "sync_batchnorm", "NUM_GPUS", 1]))
    assert any(isinstance(module, torch.nn.BatchNorm3d) for module in model.modules())
    assert caplog.text.count("sync_batchnorm is built as batchnorm") == 1


def test_clips_of_other_lengths_are_refused(tiny_models):
    clip = torch.randn(1, 3, 8, 32, 32)
    with pytest.raises(ValueError, match="pools 8 frames but the features have 4"):
        build_model(load_config(None, tiny_models["ResNet"]))([clip[:, :, :4]])
    with pytest.raises(ValueError, match="slow pathway has 2 frames and the fast one 4; give 4 fast"):
        build_model(load_config(None, tiny_models["SlowFast"]))([clip[:, :, :2], clip[:, :, :4]])


def test_two_pathways_of_a_longer_clip_are_refused(tiny_models):
    clip = torch.randn(1, 3, 16, 32, 32)
    with pytest.raises(ValueError, match=r"\(3, 1, 1\), \(9, 1, 1\).*equal"):
        build_model(load_config(None, tiny_models["SlowFast"]))([clip[:, :, ::4], clip])


def test_other_modules_cannot_be_registered_models(tiny_model, monkeypatch):
    monkeypatch.setitem(MODEL_REGISTRY._objects, "ResNet", lambda cfg: torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="Linear.*VideoModel"):
        build_model(load_config(None, tiny_model))


def test_undefined_methods_are_named():
    class Backbone(VideoModel):
        num_pathways = 2

    model = Backbone()
    for method, args in (("forward_features", ([],)), ("depth_groups", ()), ("pathways", ())):
        with pytest.raises(ValueError, match=f"Backbone has no {method}"):
            getattr(model, method)(*args)
    assert model.no_weight_decay() == set() and model.position_grids() == {}
