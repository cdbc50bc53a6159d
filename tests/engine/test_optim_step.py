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
