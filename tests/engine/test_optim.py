import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from slowfast.config import load_config
from slowfast.engine.ema import build_average
from slowfast.engine.optim import build_optimizer, get_lr, parameter_groups, set_lr
from slowfast.engine.optim_step import OptimStep
from slowfast.models import VideoModel, build_model

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Mixed(VideoModel):
    """Convolution, two kinds of norm, a shared weight, a lone parameter, and one that is not trained."""

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


def published(name, *sections):
    """Overrides: sections of a published file."""
    files = json.loads((FIXTURES / "published_settings/slowfast.json").read_text())
    return [item for section in sections for item in (section, files[name][section])]


# Settings of published files, with narrow models: the names of their parameters do not depend on the width.
PUBLISHED = {
    "k400_vit_b_16x4_ft": [
        *published("masked_ssl/k400_VIT_B_16x4_FT.yaml", "MODEL", "MVIT", "SOLVER"),
        *("DATA.NUM_FRAMES", 16, "DATA.TRAIN_CROP_SIZE", 32, "MVIT.EMBED_DIM", 24),
    ],
    "k400_mvitv2_s_16x4_ft": [
        *published("masked_ssl/k400_MVITv2_S_16x4_FT.yaml", "MODEL", "MVIT", "SOLVER"),
        *("DATA.NUM_FRAMES", 16, "DATA.TRAIN_CROP_SIZE", 64, "MVIT.EMBED_DIM", 8),
    ],
    "mae_vit_b_16x4": [
        *published("masked_ssl/k400_VIT_B_16x4_MAE_PT.yaml", "MODEL", "MVIT", "SOLVER", "MASK", "AUG"),
        *("DATA.NUM_FRAMES", 16, "DATA.TRAIN_CROP_SIZE", 32, "MVIT.EMBED_DIM", 24, "MASK.DECODER_EMBED_DIM", 64),
    ],
    "byol_slow_r50": [
        *published("contrastive_ssl/BYOL_SlowR50_8x8.yaml", "SOLVER", "BN"),
        *("MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow", "RESNET.WIDTH_PER_GROUP", 4),
    ],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_groups(name):
    """Learning-rate scale, weight decay, and LARS or not, of each parameter, by what a step changes."""
    rows = json.loads((FIXTURES / "optimizer/optimizer_groups.json").read_text())[name]
    rows = {key.removeprefix("backbone."): row for key, row in rows.items()}
    plain = ("SOLVER.OPTIMIZING_METHOD", "sgd", "SOLVER.NESTEROV", False, "SOLVER.MOMENTUM", 0.0, "NUM_GPUS", 0)
    cfg = load_config(None, [*PUBLISHED[name], *plain])
    model = build_model(cfg).double()
    optimizer = build_optimizer(model, cfg)
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.ones_like(parameter)
    set_lr(optimizer, 0.25)
    optimizer.step()
    seen = 0
    for key, parameter in model.named_parameters():
        if key not in rows and key.startswith("head."):
            continue  # a contrastive model has a head of its own
        scale, decay, adaptive = rows[key]
        # All entries are 1, so |w| is |g|. LARS leaves nothing of the decay.
        rate = 0.001 if adaptive else 1.0 if cfg.SOLVER.LARS_ON else 1.0 + decay
        assert (1.0 - parameter.flatten()[0].item()) / 0.25 == pytest.approx(scale * rate, rel=1e-6), key
        seen += 1
    assert seen == len([key for key in rows if not key.startswith("head.pr") or name != "byol_slow_r50"])


class FourTensors(VideoModel):
    """Tensors of `lars_steps`, in float64."""

    def __init__(self, values):
        super().__init__()
        self.weight, self.bias, self.zero = (nn.Parameter(torch.tensor(values[f"{n}_0"])) for n in NAMES[:3])
        self.bn = nn.BatchNorm1d(4, dtype=torch.float64)
        self.bn.weight.data = torch.tensor(values["bn_0"])
        self.bn.bias.requires_grad_(False)


NAMES = ("weight", "bias", "zero", "bn")
LARS = ["SOLVER.LARS_ON", True, "SOLVER.BASE_LR", 0.6, "SOLVER.WEIGHT_DECAY", 0.01, "SOLVER.NESTEROV", True]


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "with_a_loss_scale"])
def test_published_lars_steps(tiny_cfg, scaled):
    """Two steps of the published code; the EMA and the groups see what a plain optimizer shows them."""
    values = np.load(FIXTURES / "optimizer/lars_steps.npz")
    cfg = tiny_cfg(*LARS, "EMA.ENABLE", True, "EMA.DECAY", 0.5)
    model = FourTensors(values)
    optimizer = build_optimizer(model, cfg)
    average = build_average(cfg, model, optimizer)
    optim_step = OptimStep(model, optimizer, scale_loss=scaled)
    tensors = {"weight": model.weight, "bias": model.bias, "zero": model.zero, "bn": model.bn.weight}
    groups = copy.deepcopy([{**group, "params": []} for group in optimizer.param_groups])
    for step in (1, 2):
        # A loss with the gradient of the fixture.
        slopes = {name: torch.tensor(values[f"{name}_grad_{step}"]) for name in NAMES}
        optim_step.backward(sum((tensors[name] * slopes[name]).sum() for name in NAMES))
        assert optim_step()
        for name in NAMES:
            expected = torch.tensor(values[f"{name}_{step}"])
            torch.testing.assert_close(tensors[name].data, expected, rtol=1e-6, atol=1e-9, msg=f"{name}, step {step}")
    assert [{**group, "params": []} for group in optimizer.param_groups] == groups
    mean = 0.5 * torch.tensor(values["weight_1"]) + 0.5 * torch.tensor(values["weight_2"])
    torch.testing.assert_close(average.module.weight.data, mean, rtol=1e-6, atol=1e-9)


def test_lars_follows_clipping(tiny_cfg):
    """Clip the gradient [3, 4] first, to g = [0.3, 0.4]; w = [0, 2] and d = 0.01 are by hand."""
    model = VideoModel()
    model.weight = nn.Parameter(torch.tensor([[0.0, 2.0]], dtype=torch.float64))
    optimizer = build_optimizer(model, tiny_cfg(*LARS, "SOLVER.MOMENTUM", 0.0, "SOLVER.NESTEROV", False))
    optim_step = OptimStep(model, optimizer, clip_norm=0.5)
    set_lr(optimizer, 0.6)
    optim_step.backward((model.weight * torch.tensor([[3.0, 4.0]])).sum())
    optim_step()
    rate = 0.6 * 0.001 * 2.0 / (0.5 + 0.01 * 2.0)
    expected = [0.0 - rate * 0.3, 2.0 - rate * (0.4 + 0.01 * 2.0)]
    assert model.weight.flatten().tolist() == pytest.approx(expected, abs=1e-9)


def test_multi_tensor_adamw_is_adamw(tiny_cfg):
    torch.manual_seed(0)
    one, ends = Mixed(), {}
    for method in ("adamw", "mt_adamw"):
        model = copy.deepcopy(one)
        optimizer = build_optimizer(model, tiny_cfg("SOLVER.OPTIMIZING_METHOD", method, "SOLVER.WEIGHT_DECAY", 0.1))
        assert optimizer.defaults["foreach"] == (True if method == "mt_adamw" else None)
        torch.manual_seed(1)
        for _ in range(3):
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        ends[method] = nn.utils.parameters_to_vector(model.parameters())
    torch.testing.assert_close(ends["mt_adamw"], ends["adamw"], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(ends["adamw"], nn.utils.parameters_to_vector(one.parameters()), atol=1e-3)
