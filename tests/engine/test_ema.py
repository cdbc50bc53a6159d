"""The average of the weights against the formula written out, through checkpoints, evaluation and test."""

import copy
import os
import threading

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.config import load_config
from slowfast.engine.ema import build_average
from slowfast.engine.optim_step import OptimStep
from slowfast.engine.task import ClipTask
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train

ON = ["EMA.ENABLE", True, "EMA.DECAY", 0.6]


@pytest.fixture
def cfg(tiny_cfg):
    return tiny_cfg(*ON)


def run_updates(update, model, count):
    """Yields after every update of the weights."""
    for seed in range(count):
        torch.manual_seed(seed)
        with update.autocast():
            loss = model(torch.randn(4, 3, 1, 2, 2)).square().sum()
        update.backward(loss)
        if update():
            yield seed


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 2, 1), nn.BatchNorm3d(2), nn.Conv3d(2, 1, 1))


@pytest.mark.parametrize("accum", [1, 2])
def test_average_is_the_formula(cfg, accum):
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    average = build_average(cfg, model, optimizer)
    update, expected = OptimStep(model, optimizer, accum_steps=accum), None
    for _ in run_updates(update, model, 6):
        weights = [p.detach().double().clone() for p in model.parameters()]
        if expected is None:
            expected = weights
        else:
            expected = [0.6 * old + 0.4 * new for old, new in zip(expected, weights, strict=True)]
        for mean, p in zip(expected, average.module.parameters(), strict=True):
            torch.testing.assert_close(p.detach().double(), mean, rtol=1e-5, atol=1e-6)
        for ours, theirs in zip(average.module.buffers(), model.buffers(), strict=True):
            assert torch.equal(ours, theirs)
    assert average.n_averaged == 6 // accum
    assert not any(module.training for module in average.modules())


def test_steps_that_a_scaler_skips_do_not_count(cfg):
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    average = build_average(cfg, model, optimizer)
    update = OptimStep(model, optimizer, autocast_dtype=torch.float16, scale_loss=True)
    update.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    for _ in run_updates(update, model, 3):
        pass
    assert average.n_averaged == 0
    assert update.scaler.get_scale() == 2.0**37


def test_off_means_none(tiny_cfg):
    assert build_average(tiny_cfg(), small(), None) is None
    with pytest.raises(ValueError, match="EMA.DECAY is 1.0"):
        load_config(None, ["EMA.DECAY", 1.0])


def final(cfg):
    return load_checkpoint(find_checkpoints(cfg.OUTPUT_DIR)[-1].path)


def replayed(cfg):
    """Trains, and works the average out from the weights after each optimizer step, seen from outside."""
    seen = []

    def watch(optimizer, *_):
        seen.append([p.detach().clone() for group in optimizer.param_groups for p in group["params"]])

    handle = register_optimizer_step_post_hook(watch)
    try:
        train(cfg)
    finally:
        handle.remove()
    mean = seen[0]
    for weights in seen[1:]:
        mean = [0.6 * old + 0.4 * new for old, new in zip(mean, weights, strict=True)]
    return len(seen), mean


def test_a_run_keeps_evaluates_and_tests_the_average(tiny_cfg, monkeypatch):
    """Validation and test see the averaged weights, with statistics measured on them."""
    cfg = tiny_cfg(*ON, "TRAIN.EVAL_PERIOD", 1, "BN.USE_PRECISE_STATS", True)
    predicted, predict = [], ClipTask.predict

    def watched(self, model, batch):
        predicted.append(model.head.projection.weight.detach().clone())
        return predict(self, model, batch)

    monkeypatch.setattr(ClipTask, "predict", watched)
    count, _ = replayed(cfg)
    saved = final(cfg)
    average = saved["ema_state"]["model_state"]
    assert saved["ema_state"]["updates"] == count == 6
    assert average.keys() == saved["model_state"].keys()
    key = "head.projection.weight"
    assert not torch.equal(average[key], saved["model_state"][key])
    assert torch.equal(predicted[-1], average[key])
    predicted.clear()
    run_test(cfg)
    assert all(torch.equal(weight, average[key]) for weight in predicted)
    predicted.clear()
    run_test(tiny_cfg())
    assert all(torch.equal(weight, saved["model_state"][key]) for weight in predicted)


def test_a_run_is_the_formula(tiny_cfg):
    _, mean = replayed(tiny_cfg(*ON))
    ours = final(tiny_cfg())["ema_state"]["model_state"]
    by_size = sorted((tuple(t.shape), float(t.double().sum())) for t in mean)
    names = [key for key in ours if not key.split(".")[-1].startswith(("running", "num_"))]
    expected = sorted((tuple(ours[key].shape), float(ours[key].double().sum())) for key in names)
    assert [shape for shape, _ in by_size] == [shape for shape, _ in expected]
    assert [total for _, total in by_size] == pytest.approx([total for _, total in expected], abs=1e-4)


@pytest.mark.slow
def test_resumed_bit_for_bit_and_begun_afresh(tiny_cfg, tmp_path, caplog):
    whole, cut = [tiny_cfg(*ON, "OUTPUT_DIR", str(tmp_path / name)) for name in ("whole", "cut")]
    train(whole)
    train(cut)
    os.remove(find_checkpoints(cut.OUTPUT_DIR)[-1].path)
    train(cut)
    for key, value in final(whole)["ema_state"]["model_state"].items():
        assert torch.equal(value, final(cut)["ema_state"]["model_state"][key])
    assert final(cut)["ema_state"]["updates"] == 6
    plain = ["OUTPUT_DIR", str(tmp_path / "plain")]
    train(tiny_cfg(*plain, "SOLVER.MAX_EPOCH", 1))
    before = final(tiny_cfg(*plain))
    assert "ema_state" not in before
    with caplog.at_level("INFO"):
        train(tiny_cfg(*plain, *ON))
    assert "the average starts from the weights" in caplog.text
    assert final(tiny_cfg(*plain))["ema_state"]["updates"] == 3


def test_an_average_of_another_model_is_refused(cfg):
    model = small()
    average = build_average(cfg, model, torch.optim.SGD(model.parameters(), lr=0.1))
    state = copy.deepcopy(model.state_dict())
    state["other"] = torch.zeros(1)
    with pytest.raises(ValueError, match="not in the model: other"):
        average.restore({"model_state": state, "updates": 1})


def test_synchronized_norms_keep_their_processes(cfg):
    """Use a lock in place of a process group: neither can be copied."""
    model, group = nn.Sequential(nn.Conv3d(3, 2, 1), nn.SyncBatchNorm(2)), threading.Lock()
    model[1].process_group = group
    average = build_average(cfg, model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert average.module[1].process_group is group and model[1].process_group is group
