"""Models that score boxes: their heads against the definition, and every family's surface."""

import pytest
import torch

from slowfast.config import load_config
from slowfast.layers.roi_align import roi_align
from slowfast.models import build_model
from slowfast.models.losses import build_loss

BOXES = torch.tensor([[1, 2, 3, 30, 40], [0, 10.5, 0, 63, 63], [1, -5, 20, 80, 30], [1, 8, 8, 8, 8.0]])
DETECTION = [
    "DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce", "DATA.TRAIN_CROP_SIZE", 64,
    "DATA.TRAIN_JITTER_SCALES", [64, 64], "DATA.TEST_CROP_SIZE", 64,
]  # fmt: skip
DILATED = ["RESNET.SPATIAL_STRIDES", [[1], [2], [2], [1]], "RESNET.SPATIAL_DILATIONS", [[1], [1], [1], [2]]]
FAMILIES = {
    "slow": DILATED,
    "slow_max": [*DILATED, "MODEL.FINAL_POOL", ["avg", "max"], "DETECTION.ALIGNED", False],
    "i3d": ["MODEL.ARCH", "i3d"],
    "slowfast": [
        "MODEL.MODEL_NAME", "SlowFast", "MODEL.ARCH", "slowfast", "DATA.INPUT_CHANNEL_NUM", [3, 3],
        "SLOWFAST.ALPHA", 4, "SLOWFAST.BETA_INV", 4, *DILATED, "DETECTION.ROI_XFORM_RESOLUTION", 3,
    ],
    "x3d": [
        "MODEL.MODEL_NAME", "X3D", "MODEL.ARCH", "x3d", "RESNET.TRANS_FUNC", "x3d_transform", "X3D.DEPTH_FACTOR", 0.4,
        "X3D.DIM_C5", 32,
    ],
    "mvit": [
        "MODEL.MODEL_NAME", "MViT", "MODEL.ARCH", "mvit", "MVIT.DEPTH", 2, "MVIT.EMBED_DIM", 16, "MVIT.NUM_HEADS", 2,
        "MVIT.POOL_Q_STRIDE", [[1, 1, 2, 2]], "MVIT.DROPPATH_RATE", 0.0, "MVIT.POOL_KVQ_KERNEL", [3, 3, 3],
    ],
}  # fmt: skip
STRIDES = {"slow": 16, "slow_max": 16, "i3d": 32, "slowfast": 16, "x3d": 32, "mvit": 8}


@pytest.fixture
def detection_cfg(tiny_model):
    """`detection_cfg(family, *more)`: load the config of a family that scores boxes."""
    return lambda family, *more: load_config(None, [*tiny_model, *DETECTION, *FAMILIES[family], *more])


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def built(family, detection_cfg, parity):
    cfg = detection_cfg(family)
    return cfg, parity.fill_module(build_model(cfg)).eval()


def clips(cfg, batch=2):
    clip = torch.randn(batch, 3, 8, 64, 96, generator=torch.Generator().manual_seed(0))
    return [clip[:, :, :: cfg.SLOWFAST.ALPHA], clip] if cfg.MODEL.ARCH == "slowfast" else [clip]


@torch.no_grad()
def test_scores_are_the_definition(family, built):
    cfg, model = built
    inputs, head = clips(cfg), model.head
    options, scale = cfg.DETECTION, 1 / STRIDES[family]
    pooled = []
    for x in model.forward_features(inputs):
        if family == "x3d":
            x = head.conv_5_bn(head.conv_5(x)).relu()
        x = x.amax(dim=2) if cfg.MODEL.FINAL_POOL[1] == "max" else x.mean(dim=2)
        bins = roi_align(x, BOXES, options.ROI_XFORM_RESOLUTION, scale, 0, options.ALIGNED)
        pooled.append(bins.amax(dim=(2, 3)))
    features = torch.cat(pooled, dim=1)
    if family == "x3d":
        features = (features @ head.lin_5.weight.flatten(1).T).relu()
    expected = torch.sigmoid(features @ head.projection.weight.T + head.projection.bias)
    scores = model(inputs, BOXES)
    torch.testing.assert_close(scores, expected)
    assert scores.shape == (4, 5)
    assert (scores[0] - scores[2]).abs().max() > 1e-4  # the box matters, and not only the clip


@torch.no_grad()
def test_boxes_are_scored_one_by_one_and_clips_apart(built):
    cfg, model = built
    inputs = clips(cfg)
    together = model(inputs, BOXES)
    for row, box in enumerate(BOXES):
        sample = int(box[0])
        alone = torch.cat([torch.zeros(1), box[1:]])[None]
        scores = model([x[sample : sample + 1] for x in inputs], alone)
        torch.testing.assert_close(scores[0], together[row], rtol=1e-4, atol=1e-6)


def test_training_gives_scores_and_every_parameter_a_gradient(built):
    cfg, model = built
    scores = model.train()(clips(cfg), BOXES)
    assert bool(((scores > 0) & (scores < 1)).all())
    build_loss(cfg)(scores, torch.eye(5)[:4]).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_no_boxes_in_a_batch(built):
    cfg, model = built
    scores = model.train()(clips(cfg), BOXES[:0])
    assert scores.shape == (0, 5)
    loss = build_loss(cfg)(scores, torch.zeros(0, 5))
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in model.parameters())  # none is missing, as processes that exchange them need


def test_clip_weights_fit_and_the_classifier_is_replaced(family, built, detection_cfg):
    cfg, model = built
    clip_model = build_model(detection_cfg(family, "DETECTION.ENABLE", False))
    if family != "mvit":  # a mean over the clip has a norm of its own place, but the same names
        assert [name for name, _ in clip_model.named_parameters()] == [name for name, _ in model.named_parameters()]
    clip_model.load_state_dict(model.state_dict())
    model.reset_classifier(7)
    assert model(clips(cfg), BOXES).shape == (4, 7)


def test_what_is_missing_is_named(family, built, detection_cfg):
    cfg, model = built
    with pytest.raises(ValueError, match=r"model\(inputs, boxes\), boxes \(N, 5\)"):
        model(clips(cfg))
    with pytest.raises(ValueError, match="whole number from 0 to 1, for a batch of 2"):
        model(clips(cfg), BOXES + 1)
    clip_model = build_model(detection_cfg(family, "DETECTION.ENABLE", False))
    with pytest.raises(ValueError, match=r"whole clips, but got 4 boxes"):
        clip_model(clips(cfg), BOXES)


def test_scores_stay_apart_in_mixed_precision(detection_cfg, parity):
    """In 16 bits scores near 1 would be 1, whose logarithm of the rest is infinite."""
    cfg = detection_cfg("slow")
    model = parity.fill_module(build_model(cfg)).train()
    torch.nn.init.constant_(model.head.projection.bias, 9.0)
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(clips(cfg), BOXES)
        loss = build_loss(cfg)(scores, torch.zeros(4, 5))
    assert scores.dtype == loss.dtype == torch.float32
    assert bool((scores < 1).all()) and 5 < loss.item() < 13
    loss.backward()


@pytest.mark.parametrize(("loss", "activation"), [("bce", "softmax"), ("bce_logit", "sigmoid"), ("bce", "none")])
def test_losses_that_do_not_fit_the_head_are_named(detection_cfg, loss, activation):
    with pytest.raises(
        ValueError, match=f"LOSS_FUNC {loss} with MODEL.HEAD_ACT {activation}.*bce with HEAD_ACT sigmoid"
    ):
        build_loss(detection_cfg("slow", "MODEL.LOSS_FUNC", loss, "MODEL.HEAD_ACT", activation))


def test_logits_for_a_loss_that_takes_them(detection_cfg, parity):
    cfg = detection_cfg("slow", "MODEL.LOSS_FUNC", "bce_logit", "MODEL.HEAD_ACT", "none")
    model = parity.fill_module(build_model(cfg)).eval()
    scored = parity.fill_module(build_model(detection_cfg("slow"))).eval()
    torch.testing.assert_close(model(clips(cfg), BOXES).sigmoid(), scored(clips(cfg), BOXES))
    build_loss(cfg)
