import pytest
import torch
from torch import nn

from slowfast.engine.optim import build_optimizer, parameter_groups, set_lr
from slowfast.models import build_model


class Mixed(nn.Module):
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
        parameter_groups(nn.Linear(2, 2).requires_grad_(False), 0.1, 0.0, False)


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
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    cfg = tiny_cfg("SOLVER.WEIGHT_DECAY", 0.5, "SOLVER.MOMENTUM", 0.9, "SOLVER.NESTEROV", True)
    optimizer = build_optimizer(model, cfg)
    set_lr(optimizer, 0.1)
    model.weight.grad = torch.full((1, 1), 3.0)
    optimizer.step()
    assert model.weight.item() == pytest.approx(2.0 - 0.1 * 1.9 * (3.0 + 0.5 * 2.0))
