import pytest
import torch
from torch import nn

from slowfast.checkpoint.weights import load_weights, rename_keys
from slowfast.models import build_model


def network(classes=2):
    return nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.Linear(4, classes))


def weights_of(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def test_everything_matches():
    source, target = network(), network()
    report = load_weights(target, weights_of(source), "file")
    assert report.is_exact
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())


def test_other_shapes_are_listed():
    with pytest.raises(ValueError, match="CHECKPOINT_DROP_MISMATCH") as caught:
        load_weights(network(2), weights_of(network(5)), "file.pyth")
    message = str(caught.value)
    assert "file.pyth" in message
    assert "2.weight, checkpoint (5, 4), model (2, 4)" in message
    assert "2.bias, checkpoint (5,), model (2,)" in message


def test_drop_mismatch_keeps_the_heads_initialization_and_reports_every_key(caplog):
    source, target = network(5), network(2)
    del source[1].bias
    own_head = target[2].weight.clone()
    weights = weights_of(source) | {"extra.weight": torch.zeros(1)}
    report = load_weights(target, weights, "file", drop_mismatch=True)
    assert torch.equal(target[2].weight, own_head)
    assert torch.equal(target[0].weight, source[0].weight)
    assert sorted(report.matched) == ["0.bias", "0.weight", "1.running_mean", "1.running_var", "1.weight"]
    assert (report.missing, report.unexpected) == (["1.bias"], ["extra.weight"])
    assert sorted(report.mismatched) == ["2.bias", "2.weight"]
    for key in ("1.bias", "extra.weight", "2.bias", "2.weight"):
        assert key in caplog.text


def test_missing_keys():
    weights = weights_of(network())
    del weights["2.bias"]
    with pytest.raises(ValueError, match="2.bias"):
        load_weights(network(), weights, "file")
    assert load_weights(network(), weights, "file", allow_missing=True).missing == ["2.bias"]


def test_nothing_fits():
    with pytest.raises(ValueError, match="no key fits"):
        load_weights(network(), {"else.weight": torch.zeros(1)}, "file", drop_mismatch=True, allow_missing=True)


def test_prefix_of_a_parallel_wrapper_and_named_patterns():
    renamed = rename_keys({"module.encoder.a": torch.zeros(1), "module.encoder.b": torch.zeros(1)}, ["encoder."])
    assert sorted(renamed) == ["a", "b"]
    with pytest.raises(ValueError, match="two keys the name 'a'"):
        rename_keys({"x.a": torch.zeros(1), "a": torch.zeros(1)}, ["x."])


def test_frozen_and_trained_batch_norm_exchange_checkpoints(tiny_cfg):
    torch.manual_seed(0)
    trained = build_model(tiny_cfg())
    frozen = build_model(tiny_cfg("BN.NORM_TYPE", "frozen_batchnorm"))
    for norm in trained.modules():
        if isinstance(norm, nn.BatchNorm3d):
            nn.init.uniform_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    clip = [torch.randn(2, 3, 4, 32, 32)]
    assert load_weights(frozen, weights_of(trained), "file").is_exact
    torch.testing.assert_close(frozen.eval()(clip), trained.eval()(clip))
    back = build_model(tiny_cfg())
    assert load_weights(back, weights_of(frozen), "file").is_exact
    torch.testing.assert_close(back.eval()(clip), trained(clip))
