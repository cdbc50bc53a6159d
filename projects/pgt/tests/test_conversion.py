"""Converted models as PyTorch objects: pickled, copied, compared by class; and models that nobody listed."""

import copy
import logging
import pickle

import pytest
import torch
from torch import nn

from pgt import StepPlan
from pgt.conversion import Rules, build_progressive_model, convert
from pgt.memory import LastFrames
from pgt.model import ProgressiveModel
from pgt.operators.layers import MarkovConv3d, MarkovPool
from slowfast.config import load_config
from slowfast.engine.ema import build_average
from slowfast.engine.model_setup import ModelSetup, setup_model
from slowfast.layers.conv import Conv3d
from slowfast.layers.pool import SpaceTimePool
from slowfast.models import VideoModel, build_model

CPU = torch.device("cpu")


def twins(model):
    return [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]


@torch.no_grad()
def test_models_are_pickled_and_copied(variant, progressive_cfg, parity, random_clip, run_steps):
    cfg = progressive_cfg(variant)
    model, steps = parity.fill_module(build_model(cfg)).eval(), StepPlan.from_config(cfg).split(random_clip(cfg))
    for twin in twins(model):
        assert type(twin) is type(model) is ProgressiveModel
        for name, layer in model.named_modules():
            assert type(twin.get_submodule(name)) is type(layer), name
        assert torch.equal(run_steps(twin, steps)[0], run_steps(model, steps)[0])
        for parameter in twin.parameters():
            parameter.zero_()  # the twin's clip model has its weights, and the model keeps its own
        assert not run_steps(twin, steps)[0].equal(run_steps(model, steps)[0])


@torch.no_grad()
def test_models_with_frozen_norms_are_pickled_and_copied(progressive_cfg, parity, random_clip, run_steps):
    cfg = progressive_cfg("slow")
    model = parity.fill_module(build_model(cfg)).train()
    model = setup_model(model, CPU, ModelSetup(freeze=("s1", "s2")))
    steps = StepPlan.from_config(cfg).split(random_clip(cfg))
    for twin in twins(model):
        twin.train()
        assert not twin.s1.pathway0_stem.bn.training and twin.s3.pathway0_res0.branch2.a_bn.training
        assert type(twin.s1.pathway0_stem.bn) is type(model.s1.pathway0_stem.bn)
        assert torch.equal(run_steps(twin.eval(), steps)[0], run_steps(model.eval(), steps)[0])


def test_the_average_is_a_model_of_its_own(progressive_cfg):
    cfg = progressive_cfg("slow", "EMA.ENABLE", True)
    model = build_model(cfg)
    average = build_average(cfg, model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert type(average.module) is ProgressiveModel
    assert average.module.clip_model.head is average.module.head is not model.head


def test_modes_reach_the_clip_model(progressive_cfg):
    model = build_model(progressive_cfg("slow"))
    assert model.training and model.clip_model.training
    model.eval()
    assert not any(module.training for module in [model.clip_model, *model.modules()])


def test_an_operator_keeps_what_its_layer_is():
    layer, called = nn.Conv3d(2, 3, (3, 1, 1), padding=(1, 0, 0)).eval(), []
    handle = layer.register_forward_hook(lambda *_: called.append(0))
    operator = MarkovConv3d.from_layer(layer, "op", LastFrames(1))
    assert operator.weight is layer.weight and operator.state_dict().keys() == layer.state_dict().keys()
    assert not operator.training and type(layer) is nn.Conv3d
    operator(torch.zeros(1, 2, 3, 1, 1))
    handle.remove()
    operator(torch.zeros(1, 2, 3, 1, 1))
    assert called == [0]


class StrangersModel(VideoModel):
    """Clip model that the project does not know: plain layers and a forward of its own."""

    def __init__(self):
        super().__init__()
        self.num_features, self.in_channels = 8, [3]
        self.weight = nn.Parameter(torch.ones(8))
        self.spatial = Conv3d(3, 4, (1, 3, 3), (1, 4, 4), (0, 1, 1))
        self.temporal = nn.Conv3d(4, 8, (3, 1, 1), padding=(1, 0, 0))
        self.pool = SpaceTimePool()
        self.classifier = nn.Linear(8, 5)

    def forward(self, inputs, boxes=None):
        x = self.temporal(self.spatial(inputs[0]).relu()).relu()
        return self.classifier(self.pool(x).flatten(1) * self.weight)


@torch.no_grad()
def test_a_strangers_model_is_converted(progressive_cfg, random_clip, run_steps, caplog):
    torch.manual_seed(0)
    plain = StrangersModel().eval()
    names = list(plain.state_dict())
    with caplog.at_level(logging.INFO):
        model = build_progressive_model(copy.deepcopy(plain), progressive_cfg("slow"))
    assert "StrangersModel has 2 operators with memory" in caplog.text
    assert model.operators == {"temporal", "pool"} and list(model.state_dict()) == names
    assert type(model.temporal) is MarkovConv3d and type(model.pool) is MarkovPool
    first, second, _ = StepPlan((8,), (1,), 3).split(random_clip(progressive_cfg("slow")))
    torch.testing.assert_close(model(first)[0], plain(first))
    _, memory = model(first)
    inner = [plain.spatial(x).relu() for x in (first[0], second[0])]
    z = plain.temporal(torch.cat([inner[0][:, :, -1:], inner[1]], dim=2)).relu()[:, :, 1:]
    last = plain.temporal(inner[0]).relu()[:, :, -1:]
    expected = plain.classifier(torch.cat([last, z], dim=2).mean(dim=(2, 3, 4)))
    torch.testing.assert_close(model(second, memory)[0], expected)
    both = [first, second]
    assert torch.equal(run_steps(twins(model)[0], both)[0], run_steps(model, both)[0])


def test_a_model_without_operators_says_why(progressive_cfg):
    with pytest.raises(ValueError, match=r"ResNet has no layer that can carry memory.*PGT.HEAD is False"):
        build_model(progressive_cfg("c2d", "PGT.HEAD", False))


class StandardizedConv3d(Conv3d):
    """Convolution whose forward an operator does not know."""

    def forward(self, x):
        return self.convolve(x, self.weight - self.weight.mean(), self.bias, self.padding)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: setattr(m, "temporal", StandardizedConv3d(4, 8, (3, 1, 1), padding=(1, 0, 0))),
            "forward of its own",
        ),
        (lambda m: setattr(m, "again", m.temporal), "used in 2 places"),
        (lambda m: setattr(m, "num_pathways", 2), "has no pathways"),
    ],
)
def test_layers_that_cannot_be_converted_are_named(change, message):
    model = StrangersModel()
    change(model)
    with pytest.raises(ValueError, match=message):
        convert(model, Rules([LastFrames(1)], [LastFrames(1)], [2]))


@pytest.mark.parametrize("carries", [True, False], ids=["memory", "memory off"])
def test_a_layer_that_a_step_leaves_out_is_named(carries):
    model = convert(StrangersModel(), Rules([LastFrames(1)], [LastFrames(1)], [2]))
    model.carries_memory = carries
    model.clip_model.forward = lambda inputs: model.temporal(model.spatial(inputs[0]))
    with pytest.raises(RuntimeError, match="not run the operators pool"):
        model([torch.zeros(1, 3, 4, 8, 8)])


@pytest.mark.parametrize("name", ["slow", "i3d", "x3d", "slowfast", "mvit_mean", "timesformer", "progressive_nonlocal"])
@torch.no_grad()
def test_half_precision_models_run(name, progressive_cfg, parity, random_clip, run_steps):
    cfg = progressive_cfg(name)
    model = parity.fill_module(build_model(cfg)).eval()
    steps = StepPlan.from_config(cfg).split(random_clip(cfg))
    exact, whole = run_steps(model, steps)[0], model.whole_clip(random_clip(cfg))
    model.bfloat16()
    steps = [[x.bfloat16() for x in step] for step in steps]
    rough, _ = run_steps(model, steps)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.0, atol=0.05)
    half = model.whole_clip([x.bfloat16() for x in random_clip(cfg)])
    torch.testing.assert_close(half.float(), whole, rtol=0.0, atol=0.05)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(1, 3, 8, 32, 32), r"takes a list of 1 clip.*got a tensor \(1, 3, 8, 32, 32\)"),
        ([torch.zeros(1, 3, 8, 32, 32)] * 2, "takes a list of 1 clip"),
        ([torch.zeros(3, 8, 32, 32)], "takes a list of 1 clip"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, message, progressive_cfg):
    model = build_model(progressive_cfg("slow"))
    for call in (model, model.step_features, model.whole_clip):
        with pytest.raises(ValueError, match=message):
            call(inputs)


def test_keys_without_effect_are_warned_of(tiny_model, caplog):
    with caplog.at_level(logging.WARNING):
        load_config(None, [*tiny_model, "PROJECTS", ["pgt"], "PGT.STEPS", 3, "PGT.CACHE", "max"])
    assert "PGT.ENABLE is False, so PGT.STEPS, PGT.CACHE has no effect" in caplog.text
    caplog.clear()
    load_config(None, [*tiny_model, "PROJECTS", ["pgt"]])
    assert "PGT" not in caplog.text
