import torch
from torch import nn

from slowfast.engine.precise_bn import update_bn_stats


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 4, 1),
        nn.BatchNorm3d(4, momentum=0.3),
        nn.ReLU(),
        nn.Conv3d(4, 5, 1),
        nn.BatchNorm3d(5),
        nn.Dropout(0.5),
    )


def batches_of(sizes):
    generator = torch.Generator().manual_seed(3)
    return [2.0 * torch.randn(size, 3, 2, 3, 3, generator=generator) + 5.0 for size in sizes]


def test_statistics_are_those_of_all_batches_together():
    """Compare with a reference that keeps all inputs of both norms in double precision."""
    model, batches = small_network(), batches_of([4, 4, 2])
    first, second = [], []
    with torch.no_grad():
        for x in batches:
            x = model[0](x)
            first.append(x)
            mean, var = x.mean(dim=(0, 2, 3, 4), keepdim=True), x.var(dim=(0, 2, 3, 4), keepdim=True, correction=0)
            weight, bias = (p.view(1, -1, 1, 1, 1) for p in (model[1].weight, model[1].bias))
            second.append(model[3](((x - mean) / (var + 1e-5).sqrt() * weight + bias).relu()))
    assert update_bn_stats(model, batches, lambda m, x: m(x)) == 2
    for norm, inputs in ((model[1], first), (model[4], second)):
        values = torch.cat(inputs).double().transpose(0, 1).flatten(1)
        torch.testing.assert_close(norm.running_mean, values.mean(dim=1).float(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(norm.running_var, values.var(dim=1).float(), rtol=1e-5, atol=1e-6)


def test_nothing_else_changes():
    model = small_network()
    model.train()
    model[2].eval()
    weights = {k: v.clone() for k, v in model.state_dict().items() if "running" not in k}
    generator_state = torch.get_rng_state()
    update_bn_stats(model, batches_of([4, 4]), lambda m, x: m(x))
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in weights.items())
    assert [module.training for module in model] == [True, True, False, True, True, True]
    assert torch.equal(torch.get_rng_state(), generator_state)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_without_batch_norm_no_batch_is_read():
    def unread():
        raise AssertionError("a batch was read")
        yield

    assert update_bn_stats(nn.Conv3d(3, 4, 1), unread(), lambda m, x: m(x)) == 0
