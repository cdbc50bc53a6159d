"""Norms over parts of a batch, and norms that stand still, against PyTorch's own."""

import pytest
import torch
from torch import nn

from slowfast.checkpoint.weights import compare_weights, load_weights
from slowfast.engine.precise_bn import update_bn_stats
from slowfast.layers.norm import (
    BatchNorm3d,
    FrozenBatchNorm3d,
    SubBatchNorm3d,
    freeze_bn_stats,
    trainable_batchnorms,
)

CHANNELS = 3


def clips(batch, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.randn(batch, CHANNELS, 2, 3, 3, generator=generator, **options) + 1.0


def with_affine(norm, seed=5):
    generator = torch.Generator().manual_seed(seed)
    for parameter in norm.parameters():
        parameter.data.normal_(generator=generator)
    return norm


@pytest.mark.parametrize("splits", [1, 2, 4])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_parts_are_norms_of_their_own(splits, layout):
    sub = with_affine(SubBatchNorm3d(CHANNELS, splits, momentum=0.3))
    alone = [with_affine(nn.BatchNorm3d(CHANNELS, momentum=0.3)) for _ in range(splits)]
    for seed in range(3):
        x = clips(8, seed).to(memory_format=layout).requires_grad_()
        weights = clips(8, seed + 10)
        sub.zero_grad()
        y = sub(x)
        (gradient,) = torch.autograd.grad((y * weights).sum(), x, retain_graph=True)
        (y * weights).sum().backward()
        expected = torch.empty_like(y)
        for i, norm in enumerate(alone):
            norm.zero_grad()
            part = x.detach()[i::splits].requires_grad_()
            out = norm(part)
            (out * weights[i::splits]).sum().backward()
            expected[i::splits] = out.detach()
            torch.testing.assert_close(gradient[i::splits], part.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(y, expected)
        for name in ("weight", "bias"):
            total = sum(getattr(norm, name).grad for norm in alone)
            torch.testing.assert_close(getattr(sub, name).grad, total, rtol=1e-4, atol=1e-5)
    means = torch.stack([norm.running_mean for norm in alone])
    variances = torch.stack([norm.running_var for norm in alone])
    mean = means.sum(0) / splits
    variance = variances.sum(0) / splits + ((means - mean) ** 2).sum(0) / splits
    torch.testing.assert_close(sub.running_mean, mean)
    torch.testing.assert_close(sub.running_var, variance)
    assert sub.num_batches_tracked == 3
    x = clips(5, 20)
    shape = (1, -1, 1, 1, 1)
    scale = (sub.weight / (variance + sub.eps).sqrt()).view(shape)
    torch.testing.assert_close(sub.eval()(x), (x - mean.view(shape)) * scale + sub.bias.view(shape))


def test_one_part_is_batch_norm_bit_for_bit():
    sub, plain = with_affine(SubBatchNorm3d(CHANNELS, 1)), with_affine(nn.BatchNorm3d(CHANNELS))
    for seed in range(2):
        assert torch.equal(sub(clips(4, seed)), plain(clips(4, seed)))
    assert all(torch.equal(value, sub.state_dict()[key]) for key, value in plain.state_dict().items())


def test_a_batch_that_does_not_divide_is_named():
    norm = SubBatchNorm3d(CHANNELS, 4)
    with pytest.raises(ValueError, match="4 splits do not divide the 6 clips"):
        norm(clips(6))
    norm.eval()(clips(6))


def trained(kind, *splits):
    model = nn.Sequential(kind(CHANNELS, *splits))
    for seed in range(3):
        model(clips(8, seed))
    return model


def test_weights_travel_between_kinds_of_norm():
    sub, plain = trained(SubBatchNorm3d, 4), trained(BatchNorm3d)
    for source, target in (
        (sub, trained(BatchNorm3d)),
        (plain, trained(SubBatchNorm3d, 2)),
        (sub, trained(SubBatchNorm3d, 2)),
    ):
        assert compare_weights(target, source.state_dict()).is_exact
        load_weights(target, source.state_dict(), "test")
        x = clips(4, 9)
        assert torch.equal(target.eval()(x), source.eval()(x))
    started = trained(SubBatchNorm3d, 2)
    load_weights(started, plain.state_dict(), "test")
    assert torch.equal(started[0].split_mean, plain[0].running_mean.expand(2, -1))
    again = trained(SubBatchNorm3d, 4)
    load_weights(again, sub.state_dict(), "test")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in sub.state_dict().items())


def test_measured_statistics_are_those_of_all_parts():
    model = nn.Sequential(SubBatchNorm3d(CHANNELS, 2))
    batches = [clips(4, seed) for seed in range(3)]
    assert update_bn_stats(model, batches, lambda m, x: m(x)) == 1
    values = torch.cat(batches).transpose(0, 1).flatten(1)
    norm = model[0]
    torch.testing.assert_close(norm.running_mean, values.mean(dim=1))
    torch.testing.assert_close(norm.running_var, values.var(dim=1), rtol=1e-4, atol=1e-5)
    norm.aggregate()
    torch.testing.assert_close(norm.running_var, values.var(dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [(BatchNorm3d,), (SubBatchNorm3d, 1)])
def test_fixed_norms_stay_in_eval_mode(kind):
    model = nn.Sequential(nn.Sequential(trained(*kind)[0]), nn.Dropout(0.5))
    keys = list(model.state_dict())
    freeze_bn_stats(model[0])
    model.train()
    assert [model[0][0].training, model[1].training] == [False, True]
    before = model[0][0].running_mean.clone()
    model(clips(4))
    assert torch.equal(model[0][0].running_mean, before)
    assert list(model.state_dict()) == keys
    assert trainable_batchnorms(model) == []
    assert update_bn_stats(model, [clips(4)], lambda m, x: m(x)) == 0


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_batch_norm_in_channels_last_is_as_exact_as_in_double_precision(offset):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 16, 40, 40, generator=generator) + offset
    weights = torch.randn(x.shape, generator=generator)
    norm, exact = BatchNorm3d(8, momentum=0.3), nn.BatchNorm3d(8, momentum=0.3).double()
    results = []
    for layer, clip in ((norm, x.contiguous(memory_format=torch.channels_last_3d)), (exact, x.double())):
        clip.requires_grad_()
        y = layer(clip)
        (y * weights.to(y.dtype)).sum().backward()
        results.append([y.detach(), clip.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=2e-5, atol=2e-5)
    assert (results[0][0] - results[1][0]).abs().max() < 3e-6


def test_batch_norm_without_affine_map():
    x = torch.randn(2, 3, 2, 4, 4).contiguous(memory_format=torch.channels_last_3d)
    plain, ours = nn.BatchNorm3d(3, affine=False), BatchNorm3d(3, affine=False)
    torch.testing.assert_close(ours(x), plain(x))


def test_a_frozen_norm_is_as_exact_as_batch_norm_in_half_precision():
    """Where the mean is far from 0, rounding scale and shift would leave little of the difference."""
    frozen = FrozenBatchNorm3d(2)
    frozen.running_mean.fill_(50.3), frozen.running_var.fill_(1.7), frozen.weight.fill_(1.3), frozen.bias.fill_(0.2)
    x = (torch.randn(2, 2, 4, 8, 8) + 50.3).bfloat16()
    expected = (x.double() - 50.3) * (1.3 / (1.7 + 1e-5) ** 0.5) + 0.2
    assert (frozen(x).double() - expected).abs().max() < 0.02
