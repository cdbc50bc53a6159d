"""Training that ends early, after validations without a better value, also where it was cut off or is shared."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from slowfast.checkpoint.io import checkpoint_path, find_checkpoints, load_checkpoint
from slowfast.config import load_config
from slowfast.engine.task import ClipTask
from slowfast.engine.train import train
from slowfast.evaluation.predictions import ClassificationPredictions
from slowfast.runtime.signals import TrainingInterrupted

# Best after epoch 2; without an early stop training goes on to epoch 6.
VALUES = (50.0, 20.0, 30.0, 20.0, 40.0, 10.0)
SETTINGS = [
    *("SOLVER.MAX_EPOCH", 6, "TRAIN.EVAL_PERIOD", 1, "TRAIN.CHECKPOINT_PERIOD", 10),
    *("TRAIN.BEST_METRIC", "top1_err", "TRAIN.EARLY_STOP_PATIENCE", 2),
]


@pytest.fixture
def measured(monkeypatch):
    """Let the validation after each epoch have the value of `VALUES`; return the list of those that were made."""
    made = []

    def metrics(self):
        made.append(VALUES[len(made)])
        return {"top1_err": made[-1]}

    monkeypatch.setattr(ClassificationPredictions, "metrics", metrics)
    return made


def saved_epochs(cfg):
    return [(file.epoch, file.iteration) for file in find_checkpoints(cfg.OUTPUT_DIR)]


def test_it_ends_after_so_many_and_goes_on_with_more(tiny_cfg, measured, tmp_path, caplog):
    cfg = tiny_cfg(*SETTINGS)
    assert train(cfg)["top1_err"] == VALUES[3]
    assert measured == [*VALUES[:4]] and saved_epochs(cfg) == [(4, 0)]
    assert "after epoch 4 of 6: top1_err was best after epoch 2 (20), and 2 validation(s) since" in caplog.text
    caplog.clear()
    assert train(cfg) == {} and len(measured) == 4
    assert "TRAIN.EARLY_STOP_PATIENCE 2" in caplog.text
    # With more patience the run goes on as if it had never ended.
    train(tiny_cfg(*SETTINGS, "TRAIN.EARLY_STOP_PATIENCE", 4))
    assert "these apply from now on: TRAIN.EARLY_STOP_PATIENCE 4 (was 2)" in caplog.text
    assert measured == [*VALUES] and saved_epochs(cfg) == [(4, 0), (6, 0)]
    del measured[:]
    whole = tiny_cfg(*SETTINGS, "TRAIN.EARLY_STOP_PATIENCE", 0, "OUTPUT_DIR", str(tmp_path / "whole"))
    train(whole)
    found, expected = (load_checkpoint(checkpoint_path(run.OUTPUT_DIR, 6))["model_state"] for run in (cfg, whole))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("step", [10, 9], ids=["in epoch 4", "at the end of epoch 3"])
def test_a_stop_does_not_change_the_count(tiny_cfg, measured, monkeypatch, step):
    cfg = tiny_cfg(*SETTINGS)
    original, steps = ClipTask.train_step, []

    def stopped(*args):
        steps.append(0)
        if len(steps) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(ClipTask, "train_step", stopped)
        with pytest.raises(TrainingInterrupted):
            train(cfg)
    train(cfg)
    assert measured == [*VALUES[:4]] and saved_epochs(cfg)[-1] == (4, 0)


def test_epochs_without_a_validation_do_not_count(tiny_cfg, measured):
    """Values of the epochs 2, 4 ...: the best is that of the fourth."""
    cfg = tiny_cfg(*SETTINGS, "TRAIN.EVAL_PERIOD", 2, "TRAIN.EARLY_STOP_PATIENCE", 1, "SOLVER.MAX_EPOCH", 9)
    train(cfg)
    assert measured == [*VALUES[:3]] and saved_epochs(cfg) == [(6, 0)]


def test_it_needs_a_metric():
    with pytest.raises(ValueError, match=r"TRAIN\.EARLY_STOP_PATIENCE is 3, but TRAIN\.BEST_METRIC"):
        load_config(None, ["TRAIN.EARLY_STOP_PATIENCE", 3])


@pytest.mark.slow
def test_two_processes_end_together_and_test(tiny_cfg, tiny_file, tool, finish):
    """Without a learning rate no validation is better than the first."""
    settings = [*SETTINGS, "TRAIN.EARLY_STOP_PATIENCE", 1, "SOLVER.BASE_LR", 0.0, "BN.NORM_TYPE", "frozen_batchnorm"]
    status, output = finish(tool("run_net", "--cfg", tiny_file, "--num_procs", 2, *settings))
    assert status == 0, output
    cfg = tiny_cfg(*settings)
    assert saved_epochs(cfg) == [(2, 0)]
    results = json.loads((Path(cfg.OUTPUT_DIR) / "test_results.json").read_text())
    assert results["checkpoint"] == checkpoint_path(cfg.OUTPUT_DIR, 2)
