"""Image models on video: names of torchvision, and kernels repeated over time."""

import pytest
import torch

from slowfast.checkpoint import load_checkpoint, load_weights
from slowfast.checkpoint.formats.foreign_names import torchvision_key
from slowfast.checkpoint.weights import fit_weights, is_inflatable
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
