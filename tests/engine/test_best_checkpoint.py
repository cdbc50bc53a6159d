"""The checkpoint with the best value of a metric, also where a run is cut off."""

import os
import signal

import pytest
import torch

from slowfast.checkpoint.io import checkpoint_dir, checkpoint_path, find_checkpoints, load_checkpoint
from slowfast.engine.task import ClipTask
from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.evaluation.predictions import ClassificationPredictions
from slowfast.runtime.signals import TrainingInterrupted

SETTINGS = ["SOLVER.MAX_EPOCH", 4, "TRAIN.EVAL_PERIOD", 1, "TRAIN.BEST_METRIC", "top1_err"]


@pytest.fixture
def says(monkeypatch):
    """`says(*values)`: let the next validations have these values of top1_err."""

    def patch(*values, name="top1_err"):
        answers = iter(values)
        monkeypatch.setattr(ClassificationPredictions, "metrics", lambda self: {"other": 1.0, name: next(answers)})

    return patch


def best_of(cfg):
    return os.path.join(checkpoint_dir(cfg.OUTPUT_DIR), "checkpoint_best.pyth")


def assert_is_epoch(cfg, epoch, value, other=None):
    """Compare with the checkpoint of that epoch, of the run `other`."""
    found = load_checkpoint(best_of(cfg))
    assert found["best"] == {"metric": cfg.TRAIN.BEST_METRIC, "epoch": epoch, "value": value}
    expected = load_checkpoint(checkpoint_path((other or cfg).OUTPUT_DIR, epoch))
    assert found["epoch"] == expected["epoch"] and found["rng_state"] is not None
    assert all(torch.equal(found["model_state"][key], tensor) for key, tensor in expected["model_state"].items())


@pytest.mark.parametrize(
    ("metric", "values", "epoch"), [("top1_err", (50.0, 20.0, 20.0, 30.0), 2), ("own_acc", (0.5, 0.2, 0.7, 0.7), 3)]
)
def test_the_first_of_the_best_is_kept(tiny_cfg, says, metric, values, epoch):
    says(*values, name=metric)
    cfg = tiny_cfg(*SETTINGS, "TRAIN.BEST_METRIC", metric)
    train(cfg)
    assert_is_epoch(cfg, epoch, values[epoch - 1])
    assert [file.epoch for file in find_checkpoints(cfg.OUTPUT_DIR)] == [1, 2, 3, 4]


def test_it_is_remembered_where_a_run_is_cut_off(tiny_cfg, says, monkeypatch, tmp_path):
    """The epoch has no checkpoint of its own, and the run stops in the one after it."""
    whole = tiny_cfg(*SETTINGS, "OUTPUT_DIR", str(tmp_path / "whole"))
    says(50.0, 20.0, 40.0, 30.0)
    train(whole)
    cfg = tiny_cfg(*SETTINGS, "TRAIN.CHECKPOINT_PERIOD", 4)
    original, steps = ClipTask.train_step, []

    def step(*args):
        steps.append(0)
        if len(steps) == 7:  # the first of the third epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(ClipTask, "train_step", step)
        says(50.0, 20.0)
        with pytest.raises(TrainingInterrupted):
            train(cfg)
    assert_is_epoch(cfg, 2, 20.0, whole)
    says(40.0, 30.0)
    train(cfg)
    assert_is_epoch(cfg, 2, 20.0, whole)


def test_epochs_done_again_come_to_the_same(tiny_cfg, says):
    cfg = tiny_cfg(*SETTINGS)
    says(50.0, 20.0, 40.0, 30.0)
    train(cfg)
    for epoch in (2, 3, 4):
        os.remove(checkpoint_path(cfg.OUTPUT_DIR, epoch))
    os.remove(os.path.join(cfg.OUTPUT_DIR, "val_results.json"))
    says(50.0, 20.0, 40.0, 30.0)
    train(cfg)
    assert_is_epoch(cfg, 2, 20.0)


def test_an_evaluation_cut_off_after_it_is_done_again(tiny_cfg, says, monkeypatch):
    cfg = tiny_cfg(*SETTINGS, "SOLVER.MAX_EPOCH", 1)
    says(50.0)
    with monkeypatch.context() as patch:
        patch.setattr("slowfast.engine.test.VAL_RESULTS_NAME", "no name\0")
        with pytest.raises(ValueError, match="null"):
            train(cfg)
    assert_is_epoch(cfg, 1, 50.0)
    says(50.0)
    assert train(cfg)["top1_err"] == 50.0
    assert_is_epoch(cfg, 1, 50.0)


def test_a_metric_that_there_is_not(tiny_cfg):
    with pytest.raises(ValueError, match=r"TRAIN\.BEST_METRIC is 'map', .*top1_acc"):
        train(tiny_cfg("SOLVER.MAX_EPOCH", 1, "TRAIN.BEST_METRIC", "map"))


def test_it_can_be_tested_and_without_the_setting_there_is_none(tiny_cfg):
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1)
    train(cfg)
    assert not os.path.exists(best_of(cfg))
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 2, "TRAIN.BEST_METRIC", "loss", "TEST.CHECKPOINT_FILE_PATH", best_of(cfg))
    train(cfg)
    assert run_test(cfg)["checkpoint"] == best_of(cfg)
