import pytest
import torch
from torch import nn

from slowfast.engine.optim_step import NonFiniteError, OptimStep, autocast_dtype, build_optim_step


def build(accum_steps=1, lr=0.1, **options):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    return model, OptimStep(model, torch.optim.SGD(model.parameters(), lr=lr), accum_steps, **options)


def step(model, optim_step, x, target):
    with optim_step.sync():
        with optim_step.autocast():
            loss = nn.functional.mse_loss(model(x), target)
        optim_step.backward(loss)
    return optim_step()


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 4, generator=generator), torch.randn(8, 3, generator=generator)


def test_accumulated_batches_equal_one_large_batch(data):
    x, target = data
    whole, optim_step = build()
    assert step(whole, optim_step, x, target)
    parts, optim_step = build(accum_steps=4)
    stepped = [step(parts, optim_step, x[i : i + 2], target[i : i + 2]) for i in range(0, 8, 2)]
    assert stepped == [False, False, False, True]
    torch.testing.assert_close(parts.weight, whole.weight)


def test_boundary_is_where_no_gradient_waits(data):
    model, optim_step = build(accum_steps=2)
    seen = [optim_step.at_boundary]
    for _ in range(2):
        step(model, optim_step, *data)
        seen.append(optim_step.at_boundary)
    assert seen == [True, False, True]
    assert model.weight.grad is None


def test_clip_by_norm(data):
    x, target = data
    reference, _ = build()
    before = reference.weight.detach().clone()
    nn.functional.mse_loss(reference(x), target).backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in reference.parameters()))
    model, optim_step = build(lr=10.0, clip_norm=0.01)
    step(model, optim_step, x, target)
    torch.testing.assert_close(before - model.weight, 10.0 * reference.weight.grad * 0.01 / norm)
    torch.testing.assert_close(optim_step.grad_norm, norm)


def test_clip_by_value(data):
    x, target = data
    reference, _ = build()
    before = reference.weight.detach().clone()
    nn.functional.mse_loss(reference(x), target).backward()
    assert reference.weight.grad.abs().max() > 0.05
    model, optim_step = build(clip_value=0.05)
    step(model, optim_step, x, target)
    torch.testing.assert_close(before - model.weight, 0.1 * reference.weight.grad.clamp(-0.05, 0.05))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_loss_stops_before_weights_are_touched(data, bad):
    model, optim_step = build()
    before = model.weight.detach().clone()
    optim_step.where = "in epoch 3, videos [7, 9]"
    with pytest.raises(NonFiniteError, match=r"loss is (nan|inf) in epoch 3, videos \[7, 9\]"):
        step(model, optim_step, data[0], torch.full((8, 3), bad))
    assert torch.equal(model.weight, before)


def test_bad_gradient_of_a_good_loss_stops_too():
    model, optim_step = build()
    before = model.weight.detach().clone()
    # The square root of 0 is 0, and its slope infinite.
    optim_step.backward((model(torch.zeros(1, 4)) * 0.0).sum().sqrt())
    with pytest.raises(NonFiniteError, match="gradient"):
        optim_step()
    assert torch.equal(model.weight, before)


def test_a_bad_batch_is_caught_before_the_accumulation_ends(data):
    model, optim_step = build(accum_steps=2)
    with pytest.raises(NonFiniteError):
        step(model, optim_step, data[0], torch.full((8, 3), float("nan")))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_trains(data, dtype):
    x, target = data
    exact, optim_step = build()
    step(exact, optim_step, x, target)
    model, optim_step = build(autocast_dtype=dtype, scale_loss=dtype is torch.float16)
    with optim_step.autocast():
        assert model(x).dtype is dtype
    step(model, optim_step, x, target)
    assert model.weight.dtype is torch.float32
    torch.testing.assert_close(model.weight, exact.weight, rtol=0, atol=2e-3)


def test_overflow_in_float16_skips_the_step_and_lowers_the_scale(data):
    x, target = data
    model, optim_step = build(autocast_dtype=torch.float16, scale_loss=True)
    before = model.weight.detach().clone()
    step(model, optim_step, x * 1e4, target)
    scale = optim_step.scaler.get_scale()
    assert torch.equal(model.weight, before)
    assert scale < 65536.0


def test_from_config(tiny_cfg):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    assert autocast_dtype(tiny_cfg()) is None
    half = tiny_cfg("TRAIN.MIXED_PRECISION", True, "TRAIN.MIXED_PRECISION_DTYPE", "fp16", "TRAIN.ACCUM_STEPS", 3)
    optim_step = build_optim_step(half, model, optimizer)
    assert (optim_step.autocast_dtype, optim_step.scaler.is_enabled(), optim_step.accum_steps) == (
        torch.float16,
        True,
        3,
    )
    optim_step = build_optim_step(tiny_cfg("TRAIN.MIXED_PRECISION", True), model, optimizer)
    assert (optim_step.autocast_dtype, optim_step.scaler.is_enabled()) == (torch.bfloat16, False)


def test_both_kinds_of_clipping_at_once_are_refused():
    with pytest.raises(ValueError, match="not both"):
        build(clip_value=1.0, clip_norm=1.0)


@pytest.fixture
def reads_late(monkeypatch):
    """Read losses one call late, as on a GPU."""
    monkeypatch.setattr("slowfast.engine.optim_step.reading_waits", lambda device: True)


def fused(model):
    return torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)


def momentum(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)


@pytest.mark.parametrize("optimizer", [fused, momentum])
@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_read_late_a_bad_update_and_those_after_it_change_no_weight(data, reads_late, optimizer, bad):
    torch.manual_seed(0)
    model, weights = nn.Linear(4, 3), []
    optim_step = OptimStep(model, optimizer(model), clip_norm=1.0)
    for number in range(5):
        optim_step.where = f"in iteration {number}"
        loss = nn.functional.mse_loss(model(data[0]), data[1])
        if number == 3:
            loss = loss * float("nan") if bad == "loss" else (model(torch.zeros(1, 4)) * 0.0).sum().sqrt()
        optim_step.backward(loss)
        if number == 4:  # a good batch
            with pytest.raises(NonFiniteError, match=rf"{bad}.* in iteration 3$"):
                optim_step()
        else:
            optim_step()
        weights.append(model.weight.detach().clone())
    assert not torch.equal(weights[1], weights[2])
    assert torch.equal(weights[2], weights[3]) and torch.equal(weights[2], weights[4])


@pytest.mark.parametrize("optimizer", [fused, lambda model: torch.optim.SGD(model.parameters(), lr=0.1)])
def test_read_late_float16_changes_no_weight_after_a_bad_loss(data, reads_late, optimizer):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optim_step = OptimStep(model, optimizer(model), autocast_dtype=torch.float16, scale_loss=True)
    step(model, optim_step, *data)
    good = model.weight.detach().clone()
    step(model, optim_step, data[0], torch.full((8, 3), float("nan")))
    with pytest.raises(NonFiniteError, match="loss is nan"):
        step(model, optim_step, *data)
    assert torch.equal(model.weight, good)


def test_read_late_the_last_update_is_checked_on_demand(data, reads_late):
    model = nn.Linear(4, 3)
    optim_step = OptimStep(model, fused(model))
    step(model, optim_step, *data)
    optim_step.check()
    step(model, optim_step, data[0], torch.full((8, 3), float("inf")))
    with pytest.raises(NonFiniteError, match="loss is inf"):
        optim_step.check()
    optim_step.check()  # told once


def test_read_late_an_optimizer_that_cannot_skip_is_waited_for(data, reads_late):
    model, optim_step = build()
    with pytest.raises(NonFiniteError):
        step(model, optim_step, data[0], torch.full((8, 3), float("nan")))


def test_reading_late_changes_no_weight_of_a_good_run(data, monkeypatch):
    trained = []
    for late in (False, True):
        monkeypatch.setattr("slowfast.engine.optim_step.reading_waits", lambda device, late=late: late)
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        optim_step = OptimStep(model, momentum(model), accum_steps=2, clip_norm=0.5)
        for _ in range(6):
            step(model, optim_step, *data)
        trained.append(model.weight.detach().clone())
    assert torch.equal(*trained)
