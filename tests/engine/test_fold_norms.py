"""Models prepared to predict: batch norms folded into convolutions, weights cast once."""

import copy

import pytest
import torch
from torch import nn

from slowfast.config import load_config
from slowfast.engine.model_setup import ModelSetup, fold_norms, setup_model
from slowfast.layers.norm import BatchNorm, FrozenBatchNorm3d
from slowfast.models import build_model

MODELS = {
    "slow": [],
    "frozen": ["BN.NORM_TYPE", "frozen_batchnorm"],
    "basic": ["RESNET.TRANS_FUNC", "basic_transform"],
    "regnet": ["MODEL.MODEL_NAME", "RegNet", "MODEL.ARCH", "r3d"],
    "nonlocal": ["NONLOCAL.LOCATION", [[[]], [[1]], [[0]], [[]]]],
}


def norms(model):
    return [m for m in model.modules() if isinstance(m, (BatchNorm, FrozenBatchNorm3d))]


@pytest.mark.parametrize("name", MODELS)
def test_every_norm_is_folded_and_no_score_changes(name, tiny_model, parity):
    model = parity.fill_module(build_model(load_config(None, [*tiny_model, *MODELS[name]]))).eval()
    clip = torch.rand(2, 3, 8, 32, 32)
    count = len(norms(model))
    with torch.no_grad():
        expected = model([clip])
        assert fold_norms(model) == count > 10
        assert norms(model) == []
        torch.testing.assert_close(model([clip]), expected, rtol=1e-4, atol=1e-6)


def test_a_norm_without_convolution_stays():
    model = nn.Sequential(nn.BatchNorm3d(3), nn.ReLU())
    assert fold_norms(model) == 0 and len(norms(model)) == 1


def test_models_that_train_are_never_folded(tiny_model):
    setup = ModelSetup(fold_norms=True)
    cpu = torch.device("cpu")
    assert norms(setup_model(build_model(load_config(None, tiny_model)), cpu, setup, training=True))
    assert not norms(setup_model(build_model(load_config(None, tiny_model)), cpu, setup, training=False))


def test_weights_cast_once_give_the_scores_of_weights_cast_at_every_call(tiny_model, parity):
    plain = parity.fill_module(build_model(load_config(None, tiny_model))).eval()
    cast = setup_model(copy.deepcopy(plain), torch.device("cpu"), ModelSetup(dtype=torch.bfloat16), training=False)
    setup_model(plain, torch.device("cpu"), training=False)
    assert cast.s3.pathway0_res0.branch2.a.weight.dtype == torch.bfloat16
    clip = torch.rand(2, 3, 8, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cast([clip]), plain([clip]))
