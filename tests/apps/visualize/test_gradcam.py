"""Grad-CAM against values computed by hand, against captum, and over every family of models."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slowfast.apps.visualize.gradcam import find_layer, grad_cam, normalized
from slowfast.config import load_config
from slowfast.models import VideoModel, build_model

# Layers before the head, one per pathway.
LAYERS = {
    "ResNet": ["s5/pathway0_res1"],
    "SlowFast": ["s3/pathway0_res1", "s3/pathway1_res1"],
    "X3D": ["s5"],
    "RegNet": ["layer3"],
    "MViT": ["blocks.2.norm1"],
    "TimeSformer": ["blocks.1.temporal_norm1"],
}


class Tiny(VideoModel):
    """One channel of features, doubled in place, and a head of two classes: 3 * mean and -mean."""

    num_features = 1

    def __init__(self):
        super().__init__()
        self.features = nn.Identity()
        self.head = nn.Linear(1, 2, bias=False)
        self.head.weight.data = torch.tensor([[3.0], [-1.0]])

    def forward(self, inputs):
        x = self.features(inputs[0]).mul_(2)
        return self.head(x.mean(dim=(2, 3, 4)))


def clips(cfg, seed=0):
    clip = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(seed))
    return [clip[:, :, :: cfg.SLOWFAST.ALPHA], clip] if len(cfg.DATA.INPUT_CHANNEL_NUM) == 2 else [clip]


@pytest.fixture
def build(tiny_models, parity):
    """Function: the tiny model of a name, in eval mode, with weights that leave nothing at zero, and its clips."""

    def make(name, *overrides):
        cfg = load_config(None, [*tiny_models[name], *overrides])
        return parity.fill_module(build_model(cfg)).eval(), clips(cfg)

    return make


def test_by_hand():
    clip = torch.arange(-4.0, 4.0).reshape(1, 1, 2, 2, 2)
    (found,), scores = grad_cam(Tiny().eval(), [clip], ["features"])
    # The mean is -0.5: twice that scores -3 and 1, so class 1 is explained. Its gradient at each place is -2 / 8.
    assert scores.tolist() == [[-3.0, 1.0]]
    torch.testing.assert_close(found, F.relu(-0.25 * clip[:, 0]))
    (other,), _ = grad_cam(Tiny().eval(), [clip], ["features"], torch.tensor([0]))
    torch.testing.assert_close(other, F.relu(0.75 * clip[:, 0]))
    (both,), _ = grad_cam(Tiny().eval(), [clip], ["features"], torch.tensor([[1.0, 1.0]]))
    torch.testing.assert_close(both, F.relu(0.5 * clip[:, 0]))


def test_weights_by_frame():
    """The gradient differs by frame: averaged over both it is 0."""

    class Later(Tiny):
        def forward(self, inputs):
            x = self.features(inputs[0]).mean(dim=(3, 4))
            return self.head(x[:, :, 1] - x[:, :, 0])

    clip = torch.arange(1.0, 9.0).reshape(1, 1, 2, 2, 2)
    (by_frame,), _ = grad_cam(Later().eval(), [clip], ["features"], per_frame=True)
    torch.testing.assert_close(by_frame, F.relu(torch.tensor([-0.75, 0.75]).view(1, 2, 1, 1) * clip[:, 0]))
    (over_all,), _ = grad_cam(Later().eval(), [clip], ["features"])
    assert not over_all.any()


def test_normalized():
    maps = torch.stack([torch.arange(8.0).reshape(2, 2, 2) + 5, torch.full((2, 2, 2), 3.0)])
    scaled = normalized(maps)
    torch.testing.assert_close(scaled[0].flatten(), torch.arange(8.0) / 7)
    assert not scaled[1].any()


@pytest.mark.parametrize("name", LAYERS)
def test_every_family(build, name):
    model, inputs = build(name)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        truth = model(inputs)
    with torch.inference_mode():
        maps, scores = grad_cam(model, inputs, LAYERS[name])
    torch.testing.assert_close(scores, truth)
    for found, clip in zip(maps, inputs, strict=True):
        assert found.shape == (2, *clip.shape[2:])
        assert bool((found >= 0).all()) and found.any()
    # Nothing is left behind.
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(clip.requires_grad for clip in inputs)


@pytest.mark.parametrize("name", ["ResNet", "SlowFast", "X3D"])
def test_as_captum(build, name):
    """Captum's maps have the size of the layer; ours are those, scaled up."""
    attr = pytest.importorskip("captum.attr")
    model, inputs = build(name, "MODEL.HEAD_ACT", "none")

    class Separate(nn.Module):
        def forward(self, *clips):
            return model(list(clips))

    layers = ["s5.pathway0_res1", "s5.pathway1_res1"][: len(inputs)]
    classes = torch.tensor([3, 1])
    maps, _ = grad_cam(model, inputs, layers, classes)
    for layer, found, clip in zip(layers, maps, inputs, strict=True):
        theirs = attr.LayerGradCam(Separate(), model.get_submodule(layer))
        small = theirs.attribute(tuple(inputs), target=classes, relu_attributions=True)
        truth = attr.LayerAttribution.interpolate(small, tuple(clip.shape[2:]), "trilinear")
        torch.testing.assert_close(found, truth[:, 0])


def test_tokens_by_a_slow_reference(build):
    """Tokens of MViT between blocks of different grids, laid out place by place, without the class token."""
    model, inputs = build("MViT", "MODEL.HEAD_ACT", "none")
    for layer, (time, height, width) in (("blocks.0", (4, 8, 8)), ("blocks.2.norm1", (4, 4, 4))):
        kept = []
        handle = model.get_submodule(layer).register_forward_hook(
            lambda module, args, output, kept=kept: kept.append(output)
        )
        scores = model(inputs)
        handle.remove()
        (gradient,) = torch.autograd.grad(scores[:, 2].sum(), kept[0])
        truth = torch.zeros(2, time, height, width)
        weights = gradient[:, 1:].mean(dim=1)
        for t in range(time):
            for y in range(height):
                for x in range(width):
                    token = 1 + (t * height + y) * width + x
                    truth[:, t, y, x] = (weights * kept[0][:, token].detach()).sum(dim=1)
        truth = F.interpolate(F.relu(truth)[:, None], size=(8, 32, 32), mode="trilinear")[:, 0]
        (found,), _ = grad_cam(model, inputs, [layer], torch.tensor([2, 2]))
        torch.testing.assert_close(found, truth)


def test_the_logit_and_not_its_probability(build):
    """Where a probability is 1 in float32 its gradient is 0, and a map by it would be blank."""
    model, inputs = build("ResNet")
    with torch.no_grad():
        model.head.projection.weight.mul_(1000)
        best = model(inputs).amax(dim=1)
    assert best.tolist() == [1.0, 1.0]
    (found,), _ = grad_cam(model, inputs, ["s5"])
    assert all(each.max() > 0 for each in found)


def test_boxes(build, tiny_models):
    model, inputs = build("SlowFast", "DETECTION.ENABLE", True, "MODEL.HEAD_ACT", "sigmoid", "MODEL.LOSS_FUNC", "bce")
    boxes = torch.tensor([[0.0, 0.0, 0.0, 31.0, 31.0], [0.0, 4.0, 4.0, 20.0, 20.0]])
    maps, scores = grad_cam(model, inputs, ["s5"], call=lambda clips: model(clips, boxes))
    assert scores.shape == (2, 5) and [tuple(found.shape) for found in maps] == [(2, 2, 32, 32), (2, 8, 32, 32)]
    # No box lies in the second clip.
    assert maps[0][0].any() and not maps[0][1].any()


def test_mistakes(build):
    model, inputs = build("MViT")
    for layers, told in (
        (["blocks.7"], "blocks.2"),
        (["head.projection"], "choose another layer"),
        (["blocks.2"], "class token"),
        (["blocks.1", "blocks.2"], "1 pathways"),
    ):
        with pytest.raises(ValueError, match=told):
            grad_cam(model, inputs, layers)
    for classes in (torch.tensor([0]), torch.tensor([0, 9]), torch.zeros(2, 3)):
        with pytest.raises(ValueError, match="classes"):
            grad_cam(model, inputs, ["blocks.0"], classes)
    with pytest.raises(ValueError, match="called 0 times"):
        grad_cam(model, inputs, ["blocks.0"], call=lambda clips: torch.zeros(2, 5, requires_grad=True))
    with pytest.raises(ValueError, match="eval"):
        grad_cam(model.train(), inputs, ["blocks.0"])
    assert find_layer(model, "blocks/0/norm1") is model.blocks[0].norm1
    timesformer, inputs = build("TimeSformer", "TIMESFORMER.EMBED_DIM", 64)
    with pytest.raises(ValueError, match="no map"):
        grad_cam(timesformer, inputs, ["patch_embed"])
