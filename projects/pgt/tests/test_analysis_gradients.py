"""Truncated and full gradients against derivatives taken another way, and the gap between them."""

import pytest
import torch
from torch.nn import functional as F

from pgt import StepPlan
from pgt.analysis.truncation import Gap, GradientOnly, add_gradient, measure_gap
from pgt.task import ProgressiveTask
from slowfast.datasets.loading.batch import Batch
from slowfast.models import build_model

STEPS = 3
LABELS = torch.tensor([1, 3])


@pytest.fixture
def made(progressive_cfg, parity, random_clip):
    """`made(*overrides)`: build a config, its model in double precision and train mode, and a batch."""

    def build(*overrides, variant="slow", seed=0):
        cfg = progressive_cfg(variant, *overrides)
        model = parity.fill_module(build_model(cfg)).double().train()
        inputs = random_clip(cfg, seed=seed, dtype=torch.float64)
        return cfg, model, Batch(inputs, LABELS, torch.arange(2), torch.zeros(2, dtype=torch.long))

    return build


def gradient_of(cfg, model, batch, steps, truncated):
    model.zero_grad(set_to_none=True)
    loss = add_gradient(ProgressiveTask(cfg), model, batch, GradientOnly(model), steps, truncated)
    return {name: p.grad.detach().clone() for name, p in model.named_parameters()}, loss


def chained_loss(model, steps):
    """Sum the steps' cross entropy, memory carried on, written out."""
    memory, total = None, 0.0
    for step in steps:
        logits, memory = model(step, memory)
        total = total + F.cross_entropy(logits, LABELS)
    return total


def slope(function, model, direction, eps=1e-9):
    """Return the derivative of `function()` along `direction` of the weights, by central differences.

    So small a step because batch norm over the few values of a tiny model bends sharply.
    """
    values = []
    for sign in (eps, -2 * eps, eps):
        with torch.no_grad():
            for p, d in zip(model.parameters(), direction, strict=True):
                p += sign * d
            values.append(float(function()))
    return (values[0] - values[1]) / (2 * eps)


def along(gradient, direction):
    return sum(float((g * d).sum()) for g, d in zip(gradient.values(), direction, strict=True))


@pytest.mark.parametrize("variant", ["slow", "slow_overlap", "slowfast"])
def test_gradients_are_the_derivatives_they_should_be(variant, made):
    """Full: of the chained loss. Truncated: of every step's loss with its memory held fixed."""
    cfg, model, batch = made(variant=variant)
    steps = StepPlan.from_config(cfg).split(batch.inputs)
    fixed = [None]
    with torch.no_grad():
        for step in steps:
            fixed.append(model(step, fixed[-1])[1])
    full, full_loss = gradient_of(cfg, model, batch, STEPS, truncated=False)
    truncated, truncated_loss = gradient_of(cfg, model, batch, STEPS, truncated=True)
    assert torch.equal(full_loss, truncated_loss)
    torch.manual_seed(1)
    direction = [torch.randn_like(p) / p.detach().norm().clamp_min(1) for p in model.parameters()]

    @torch.no_grad()
    def cut():
        return sum(F.cross_entropy(model(step, m)[0], LABELS) for step, m in zip(steps, fixed, strict=False))

    @torch.no_grad()
    def whole():
        return chained_loss(model, steps)

    assert along(full, direction) == pytest.approx(slope(whole, model, direction), rel=1e-4)
    assert along(truncated, direction) == pytest.approx(slope(cut, model, direction), rel=1e-4)
    assert along(full, direction) != pytest.approx(along(truncated, direction), rel=1e-2)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_fewer_steps_are_the_first_ones(steps, made):
    cfg, model, batch = made("PGT.STEP_WEIGHTS", [1.0, 1.0, 1.0], "MODEL.DROPOUT_RATE", 0.0)
    first = StepPlan.from_config(cfg).split(batch.inputs)[:steps]
    gradient, _ = gradient_of(cfg, model, batch, steps, truncated=False)
    model.full_gradient = True
    expected = torch.autograd.grad(chained_loss(model, first), list(model.parameters()))
    for g, e in zip(gradient.values(), expected, strict=True):
        torch.testing.assert_close(g, e)


def test_measuring_leaves_the_model_as_configured(made):
    cfg, model, batch = made("PGT.FULL_GRADIENT", True, "PGT.STEP_WEIGHTS", [0.0, 0.0, 2.0])
    task = ProgressiveTask(cfg)
    gradient_of(cfg, model, batch, 2, truncated=True)
    assert model.full_gradient and task.gradient_steps == task.plan.steps == STEPS == task.num_steps
    # With all the weight on the last of three steps the first two have no loss.
    assert not any(g.any() for g in gradient_of(cfg, model, batch, 2, truncated=False)[0].values())


def by_name(gap, depth=None):
    return {row.name: row for row in gap.rows(depth)}


def test_gap_is_nil_in_one_step_without_memory_and_behind_the_last_memory(made):
    # Dropout: only with the same masks in both passes do the gradients agree.
    cfg, model, batch = made("MODEL.DROPOUT_RATE", 0.5)
    one, three = measure_gap(ProgressiveTask(cfg), model, [batch], [1, STEPS])
    for row in by_name(one).values():
        assert row.cosine == pytest.approx(1, abs=1e-12) and row.norm_ratio == pytest.approx(1, abs=1e-12)
    rows = by_name(three)
    assert rows["all"].cosine < 0.999
    # The classifier comes after all memory, so its gradient has no path through one.
    assert rows["head.projection.weight"].cosine == pytest.approx(1, abs=1e-12)
    assert rows["head.projection.weight"].norm_ratio == pytest.approx(1, abs=1e-12)
    assert rows["s5.pathway0_res1.branch2.b.weight"].cosine < 0.999

    cfg, model, batch = made("PGT.MEMORY", False)
    (gap,) = measure_gap(ProgressiveTask(cfg), model, [batch], [STEPS])
    assert by_name(gap)["all"].norm_ratio == pytest.approx(1, abs=1e-12)


def test_layers_behind_the_last_operator_have_no_gap_without_memory_in_the_head(made):
    cfg, model, batch = made(variant="no_head")
    (gap,) = measure_gap(ProgressiveTask(cfg), model, [batch], [STEPS])
    rows = by_name(gap)
    behind = ["s5.pathway0_res1.branch2.c.weight", "s5.pathway0_res1.branch2.c_bn.bias", "head.projection.bias"]
    for name in behind:
        assert rows[name].cosine == pytest.approx(1, abs=1e-12), name
    assert rows["s5.pathway0_res0.branch2.c.weight"].cosine < 0.9999
    stages = by_name(gap, depth=1)
    assert set(stages) == {"all", "s1", "s2", "s3", "s4", "s5", "head"}
    assert sum(row.parameters for name, row in stages.items() if name != "all") == stages["all"].parameters
    assert stages["all"].parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("truncated", [True, False])
def test_a_gradient_that_is_no_number_is_named(truncated):
    """In either of the two gradients, and in the second batch alone."""
    gap, sound = Gap(["a.weight", "b.weight"]), [torch.ones(2), torch.ones(3)]
    gap.add(sound, sound)
    broken = [torch.ones(2), torch.tensor([1.0, torch.inf, 1.0])]
    with pytest.raises(ValueError, match=r"gradient of b\.weight on batch 1 is NaN or infinite"):
        gap.add(*((broken, sound) if truncated else (sound, broken)))
