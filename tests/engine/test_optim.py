import pytest
import torch
from torch import nn

from slowfast.config import load_config
from slowfast.engine.optim import build_optimizer, get_lr, parameter_groups, set_lr
from slowfast.models import VideoModel, build_model


class Mixed(VideoModel):
    """A convolution, two kinds of norm, a shared weight, a lone parameter, and one that is not trained."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 1)
        self.bn = nn.BatchNorm3d(4)
        self.ln = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)
        self.tied = nn.Linear(4, 2, bias=False)
        self.tied.weight = self.head.weight
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.fixed = nn.Parameter(torch.zeros(3), requires_grad=False)

    def no_weight_decay(self):
        return {"token"}


def names_by_decay(model, groups):
    names = {id(p): name for name, p in model.named_parameters()}
    return {g["weight_decay"]: sorted(names[id(p)] for p in g["params"]) for g in groups}


def test_groups_by_decay():
    model = Mixed()
    plain = names_by_decay(model, parameter_groups(model, 0.1, 0.2, zero_decay_1d=False))
    assert plain == {
        0.2: ["bn.bias", "bn.weight", "ln.bias", "ln.weight"],
        0.1: ["conv.bias", "conv.weight", "head.bias", "head.weight"],
        0.0: ["token"],
    }
    undecayed = names_by_decay(model, parameter_groups(model, 0.1, 0.2, zero_decay_1d=True))
    assert undecayed[0.1] == ["conv.weight", "head.weight"]
    assert undecayed[0.0] == ["conv.bias", "head.bias", "token"]


@pytest.mark.parametrize("zero_1d", [False, True])
def test_every_trainable_parameter_is_in_one_group(tiny_cfg, zero_1d):
    model = build_model(tiny_cfg("NONLOCAL.LOCATION", "[[[]], [[1]], [[]], [[]]]"))
    groups = parameter_groups(model, 1e-4, 0.0, zero_1d)
    listed = [id(p) for group in groups for p in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in model.parameters() if p.requires_grad}


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match="no trainable parameter"):
        parameter_groups(Mixed().requires_grad_(False), 0.1, 0.0, False)


@pytest.mark.parametrize(
    ("method", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_methods(tiny_cfg, method, kind):
    cfg = tiny_cfg("SOLVER.OPTIMIZING_METHOD", method, "SOLVER.MOMENTUM", 0.7, "SOLVER.BETAS", "(0.8, 0.95)")
    optimizer = build_optimizer(Mixed(), cfg)
    assert type(optimizer) is kind
    assert optimizer.defaults.get("momentum", 0.7) == 0.7
    assert optimizer.defaults.get("betas", (0.8, 0.95)) == (0.8, 0.95)
    set_lr(optimizer, 0.125)
    assert {group["lr"] for group in optimizer.param_groups} == {0.125}


def test_sgd_step_by_hand(tiny_cfg):
    """Nesterov momentum from rest: step = lr * (1 + momentum) * (gradient + decay * weight)."""
    model = VideoModel()
    model.weight = nn.Parameter(torch.full((1, 1), 2.0))
    cfg = tiny_cfg("SOLVER.WEIGHT_DECAY", 0.5, "SOLVER.MOMENTUM", 0.9, "SOLVER.NESTEROV", True)
    optimizer = build_optimizer(model, cfg)
    set_lr(optimizer, 0.1)
    model.weight.grad = torch.full((1, 1), 3.0)
    optimizer.step()
    assert model.weight.item() == pytest.approx(2.0 - 0.1 * 1.9 * (3.0 + 0.5 * 2.0))


SLOWFAST = [
    "MODEL.MODEL_NAME", "SlowFast", "MODEL.ARCH", "slowfast", "DATA.INPUT_CHANNEL_NUM", [3, 3], "SLOWFAST.ALPHA", 4,
    "SLOWFAST.BETA_INV", 4, "RESNET.SPATIAL_STRIDES", [[1, 1], *[[2, 2]] * 3], "NONLOCAL.LOCATION",
    [[[], []], [[1], []], [[], []], [[], []]],
]  # fmt: skip
# Depth of a parameter by how its name starts, of 0 to 9 at 18 layers: two blocks a stage. The first that fits counts.
DEPTHS = [
    ("s1.", 0), ("s1_fuse.", 0),
    ("s2.pathway0_res0.", 1), ("s2.pathway1_res0.", 1), ("s2.pathway0_res1.", 2), ("s2.pathway1_res1.", 2),
    ("s2_fuse.", 2),
    ("s3.pathway0_res0.", 3), ("s3.pathway1_res0.", 3), ("s3.pathway0_res1.", 4), ("s3.pathway1_res1.", 4),
    ("s3.pathway0_nonlocal1.", 4), ("s3_fuse.", 4),
    ("s4.pathway0_res0.", 5), ("s4.pathway1_res0.", 5), ("s4.pathway0_res1.", 6), ("s4.pathway1_res1.", 6),
    ("s4_fuse.", 6),
    ("s5.pathway0_res0.", 7), ("s5.pathway1_res0.", 7), ("s5.pathway0_res1.", 8), ("s5.pathway1_res1.", 8),
    ("head.", 9),
]  # fmt: skip


@pytest.mark.parametrize("model_settings", [[], SLOWFAST], ids=["slow", "slowfast"])
def test_layer_decay_by_the_table(tiny_model, model_settings):
    cfg = load_config(None, [*tiny_model, *model_settings, "SOLVER.LAYER_DECAY", 0.5])
    model = build_model(cfg)
    optimizer = build_optimizer(model, cfg)
    set_lr(optimizer, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    seen = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen[name] = group["lr"]
            depth = next(depth for start, depth in DEPTHS if name.startswith(start))
            assert group["lr"] == pytest.approx(0.1 * 0.5 ** (9 - depth)), name
            assert group["weight_decay"] == (0.0 if "bn" in name else 1e-4), name
    assert seen.keys() == set(names.values())
    assert get_lr(optimizer) == pytest.approx(0.1)


def test_layer_decay_of_frozen_layers_and_of_unknown_ones(tiny_model):
    cfg = load_config(None, [*tiny_model, "SOLVER.LAYER_DECAY", 0.5])
    model = build_model(cfg)
    model.head.requires_grad_(False)
    model.s1.requires_grad_(False)
    optimizer = build_optimizer(model, cfg)
    set_lr(optimizer, 0.1)
    assert max(group["lr"] for group in optimizer.param_groups) == pytest.approx(0.05)
    assert get_lr(optimizer) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="Mixed has no depth_groups"):
        build_optimizer(Mixed(), cfg)
    with pytest.raises(ValueError, match="LAYER_DECAY is 1.5"):
        load_config(None, ["SOLVER.LAYER_DECAY", 1.5])
