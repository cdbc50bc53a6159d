"""Image models on video: names of torchvision, and kernels repeated over time."""

import pytest
import torch

from slowfast.checkpoint import load_checkpoint, load_weights
from slowfast.checkpoint.formats.foreign_names import torchvision_key
from slowfast.checkpoint.weights import fit_weights, is_inflatable
from slowfast.config import load_config
from slowfast.models import build_model

BLOCKS = (3, 4, 6, 3)
R50 = ["RESNET.DEPTH", 50, "RESNET.TRANS_FUNC", "bottleneck_transform", "RESNET.NUM_BLOCK_TEMP_KERNEL",
       [[blocks] for blocks in BLOCKS]]  # fmt: skip


def torchvision_names() -> list[str]:
    """Return the names of torchvision's ResNet-50."""
    names = ["conv1.weight", *norm("bn1")]
    for layer, blocks in enumerate(BLOCKS, 1):
        for block in range(blocks):
            front = f"layer{layer}.{block}"
            for conv in (1, 2, 3):
                names += [f"{front}.conv{conv}.weight", *norm(f"{front}.bn{conv}")]
            if block == 0:
                names += [f"{front}.downsample.0.weight", *norm(f"{front}.downsample.1")]
    return [*names, "fc.weight", "fc.bias"]


def norm(name: str) -> list[str]:
    return [f"{name}.{tensor}" for tensor in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]


def image_weights(model, classes: int) -> dict[str, torch.Tensor]:
    """Random weights for images under torchvision's names, as large as the video model's."""
    own = model.state_dict()
    weights = {}
    for name in torchvision_names():
        shape = own[torchvision_key(name)].shape
        shape = (*shape[:2], *shape[3:]) if len(shape) == 5 else shape
        shape = (classes, *shape[1:]) if name.startswith("fc.") else shape
        weights[name] = torch.rand(shape) + 0.5 if shape else torch.tensor(3)
    return weights


@pytest.mark.parametrize("arch", ["i3d", "slow"])
def test_kernels_of_torchvisions_resnet_are_repeated_over_time(tiny_cfg, tmp_path, arch):
    video = build_model(tiny_cfg(*R50, "MODEL.ARCH", arch))
    weights = image_weights(video, classes=9)
    path = str(tmp_path / "resnet.pth")
    torch.save(weights, path)
    report = load_weights(
        video, load_checkpoint(path, "pytorch")["model_state"], path, drop_classifier=True, inflate=True
    )
    assert not report.missing and not report.unexpected
    assert sorted(report.mismatched) == ["head.projection.bias", "head.projection.weight"]
    own = video.state_dict()
    for name, value in weights.items():
        key = torchvision_key(name)
        if own[key].dim() == 5:
            assert key in report.transformed
            torch.testing.assert_close(own[key].sum(dim=2), value)
            assert all(torch.equal(frame, own[key][:, :, 0]) for frame in own[key].unbind(2))
        elif key in report.matched:
            assert torch.equal(own[key], value)


def test_a_still_clip_gives_what_its_image_gave():
    """Without padding in time, every frame of the output is the image's."""
    image, video = torch.nn.Conv3d(3, 4, (1, 3, 3)), torch.nn.Conv3d(3, 4, (5, 3, 3))
    flat = {key: value.squeeze(2) if value.dim() == 5 else value for key, value in image.state_dict().items()}
    load_weights(video, flat, "file", inflate=True)
    picture = torch.rand(2, 3, 1, 8, 8)
    torch.testing.assert_close(video(picture.expand(-1, -1, 9, -1, -1)), image(picture).expand(-1, -1, 5, -1, -1))


@pytest.mark.parametrize("arch", ["c2d", "i3d"])
@torch.no_grad()
def test_a_resnet_of_images_sees_in_equal_frames_what_it_sees_in_the_image(tiny_cfg, shallow, parity, arch):
    """Away from the ends of the clip, where zeros are padded, features are the image's."""
    image = parity.fill_module(build_model(tiny_cfg(*shallow, "MODEL.ARCH", "2d", "DATA.NUM_FRAMES", 1))).eval()
    video = build_model(tiny_cfg(*shallow, "MODEL.ARCH", arch, "DATA.NUM_FRAMES", 32)).eval()
    assert load_weights(video, image.state_dict(), "file", inflate=True).is_exact
    picture = torch.randn(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    (flat,), (moving,) = (
        model.forward_features([picture.expand(-1, -1, frames, -1, -1)]) for model, frames in ((image, 1), (video, 32))
    )
    middle = moving.shape[2] // 2
    torch.testing.assert_close(moving[:, :, middle], flat[:, :, 0], rtol=1e-4, atol=1e-5)
    ends_differ = not torch.allclose(moving[:, :, 0], flat[:, :, 0], rtol=1e-2)
    assert ends_differ == (arch == "i3d")


def test_without_the_setting_the_error_says_so(tiny_cfg):
    model = build_model(tiny_cfg(*R50))
    weights = {torchvision_key(name): value for name, value in image_weights(model, classes=2).items()}
    with pytest.raises(ValueError, match="TRAIN.CHECKPOINT_INFLATE True"):
        load_weights(model, weights, "file")


def test_kernels_of_one_frame_and_of_none_are_inflated_alike(tiny_cfg):
    video = build_model(tiny_cfg("MODEL.ARCH", "i3d"))
    image = build_model(tiny_cfg("MODEL.ARCH", "c2d"))
    report = load_weights(video, image.state_dict(), "file", inflate=True)
    assert report.is_exact and report.transformed
    flat = {key: value.squeeze(2) if value.dim() == 5 else value for key, value in image.state_dict().items()}
    again, _ = fit_weights(video, flat, inflate=True)
    assert all(torch.equal(value, again[key]) for key, value in video.state_dict().items())


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [
        ((8, 3, 7, 7), (8, 3, 5, 7, 7), True),
        ((8, 3, 1, 7, 7), (8, 3, 5, 7, 7), True),
        ((8, 3, 3, 7, 7), (8, 3, 5, 7, 7), False),
        ((8, 3, 7, 7), (8, 3, 5, 3, 3), False),
        ((8, 3, 7, 7), (8, 4, 5, 7, 7), False),
        ((8, 3), (8, 3), False),
    ],
)
def test_which_kernels_inflate(given, wanted, fits):
    assert is_inflatable(given, wanted) is fits


VIT = ["MVIT.PATCH_PADDING", [0, 0, 0], "MVIT.PATCH_KERNEL", [2, 8, 8], "MVIT.PATCH_STRIDE", [2, 8, 8],
       "MVIT.POOL_KVQ_KERNEL", [1, 3, 3]]  # fmt: skip
VIT_IMAGE = [*VIT, "MVIT.PATCH_2D", True, "MVIT.PATCH_PADDING", [0, 0], "MVIT.PATCH_KERNEL", [8, 8],
             "MVIT.PATCH_STRIDE", [8, 8], "DATA.NUM_FRAMES", 1]  # fmt: skip
NO_CLASS_TOKEN = ["MVIT.CLS_EMBED_ON", False]
APART = ["MVIT.SEP_POS_EMBED", True]
# Settings of both models, and of the video model alone. 8 frames make 4 positions in time, of 4 x 4; the 16 positions
# of an image could be 4 of 2 x 2. (A class token weighs less among the tokens of more frames, so scores differ.)
TRANSFORMERS = {
    "joint": (NO_CLASS_TOKEN, []),
    "apart": (NO_CLASS_TOKEN, APART),
    "without_pooling": (
        [
            *NO_CLASS_TOKEN,
            "MVIT.POOL_Q_STRIDE",
            [],
            "MVIT.POOL_KV_STRIDE_ADAPTIVE",
            None,
            "MVIT.DIM_MUL",
            [],
            "MVIT.HEAD_MUL",
            [],
            "MVIT.POOL_KVQ_KERNEL",
            None,
        ],
        [],
    ),
    "relative": (
        [*NO_CLASS_TOKEN, "MVIT.USE_ABS_POS", False, "MVIT.REL_POS_SPATIAL", True, "MVIT.RESIDUAL_POOLING", True],
        ["MVIT.REL_POS_TEMPORAL", True],
    ),
    "reversible": (
        ["MVIT.REV.ENABLE", True, "MVIT.REV.BUFFER_LAYERS", [1], "MVIT.DEPTH", 3, *NO_CLASS_TOKEN],
        [],
    ),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
@torch.no_grad()
def test_a_transformer_of_images_scores_a_still_clip_as_its_image(name, tiny_mvit, parity):
    both, own = TRANSFORMERS[name]
    image = build_model(load_config(None, [*tiny_mvit, *VIT_IMAGE, *both]))
    parity.fill_module(image).eval()
    video = build_model(load_config(None, [*tiny_mvit, *VIT, *both, *own])).eval()
    report = load_weights(video, image.state_dict(), "file", inflate=True)
    assert report.is_exact
    picture = torch.randn(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    scores = image([picture])
    torch.testing.assert_close(video([picture.expand(-1, -1, 8, -1, -1)]), scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(image([picture[:, :, 0]]), scores)


def test_positions_with_a_class_token(tiny_mvit, parity):
    image = parity.fill_module(build_model(load_config(None, [*tiny_mvit, *VIT_IMAGE])))
    joint, apart = (build_model(load_config(None, [*tiny_mvit, *VIT, *own])) for own in ([], APART))
    for video in (joint, apart):
        assert load_weights(video, image.state_dict(), "file", inflate=True).is_exact
    flat = image.pos_embed
    torch.testing.assert_close(joint.pos_embed, torch.cat([flat[:, :1], flat[:, 1:].repeat(1, 4, 1)], dim=1))
    assert torch.equal(apart.pos_embed_spatial, flat[:, 1:]) and torch.equal(apart.pos_embed_class, flat[:, :1])
    assert not apart.pos_embed_temporal.any()


def test_a_model_of_images_takes_one_frame(tiny_mvit):
    model = build_model(load_config(None, [*tiny_mvit, *VIT_IMAGE]))
    with pytest.raises(ValueError, match="takes clips of one frame, got 8"):
        model([torch.zeros(1, 3, 8, 32, 32)])


def test_positions_of_another_kind_of_token_are_refused(tiny_mvit):
    image = build_model(load_config(None, [*tiny_mvit, *VIT_IMAGE, *NO_CLASS_TOKEN]))
    video = build_model(load_config(None, [*tiny_mvit, *VIT]))
    with pytest.raises(ValueError, match="pos_embed"):
        load_weights(video, image.state_dict(), "file", inflate=True)
