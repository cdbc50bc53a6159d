"""A run that was cut off, at any moment, ends with bitwise the weights of one that was not."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.engine.task import ClipTask
from slowfast.engine.train import train
from slowfast.runtime.signals import TrainingInterrupted

# Batches of 2: six iterations an epoch, three updates. Precise statistics, dropout and momentum make state.
SETTINGS = ["SOLVER.MAX_EPOCH", 3, "TRAIN.BATCH_SIZE", 2, "TRAIN.ACCUM_STEPS", 2, "BN.USE_PRECISE_STATS", True]
WORKERS = ["DATA_LOADER.NUM_WORKERS", 2]

# Trains in one process after the other; each dies by SIGKILL, at once, when something happens the n-th time.
DIES = """
import json, os, signal, sys
import torch
import torch._dynamo  # which the first optimizer of each process below would import, for two seconds
torch.set_num_threads(1)
import slowfast.checkpoint.io as io
from slowfast.config import load_config
from slowfast.engine.task import ClipTask
from slowfast.engine.train import train

moment, count, seen = "", 0, 0

def die_at(wanted, before=lambda *a: None):
    def wrap(function):
        def call(*args, **kwargs):
            global seen
            if moment == wanted:
                seen += 1
                if seen == count:
                    before(*args)
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return call
    return wrap

def half(state, stream):
    with open(stream.name + ".whole", "wb") as whole:
        save(state, whole)
    content = open(stream.name + ".whole", "rb").read()
    os.remove(stream.name + ".whole")
    stream.write(content[: len(content) // 2])
    stream.flush()

save = torch.save
torch.save = die_at("writing", half)(torch.save)
os.fsync = die_at("syncing")(os.fsync)
os.replace = die_at("renaming")(os.replace)
ClipTask.train_step = die_at("iteration")(ClipTask.train_step)
cfg = load_config(sys.argv[2], sys.argv[3:])
for moment, count in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        train(cfg)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    names = [file.path.rpartition("_")[2] for file in io.find_checkpoints(cfg.OUTPUT_DIR)]
    print("RESULT", json.dumps([os.WTERMSIG(status), names]), flush=True)
"""


def final_state(cfg):
    file = find_checkpoints(cfg.OUTPUT_DIR)[-1]
    assert (file.epoch, file.iteration) == (cfg.SOLVER.MAX_EPOCH, 0)
    return load_checkpoint(file.path)


def assert_same_bits(one, other):
    assert one["model_state"].keys() == other["model_state"].keys()
    for key, value in one["model_state"].items():
        assert torch.equal(value, other["model_state"][key]), key
    moments = one["optimizer_state"]["state"]
    assert moments
    for number, entry in moments.items():
        assert torch.equal(entry["momentum_buffer"], other["optimizer_state"]["state"][number]["momentum_buffer"])
    assert torch.equal(one["rng_state"][0]["torch"], other["rng_state"][0]["torch"])


@pytest.fixture(scope="module")
def trained() -> list:
    """State of the training below, once there is one: it is the same for every test."""
    return []


@pytest.fixture
def uninterrupted(tiny_cfg, tmp_path, trained):
    """State at the end of a training that nothing stopped."""
    if not trained:
        cfg = tiny_cfg(*SETTINGS, "OUTPUT_DIR", str(tmp_path / "uninterrupted"))
        train(cfg)
        trained.append(final_state(cfg))
    return trained[0]


@pytest.mark.slow
def test_killed_again_and_again(tiny_cfg, tiny_file, uninterrupted, tmp_path):
    """Killed before any checkpoint, while writing, before the rename, after it, in mid-epoch; then left to finish.

    The first rename of each run is that of `config.yaml`.
    """
    moments = [("iteration", 3), ("writing", 1), ("syncing", 1), ("renaming", 3), ("syncing", 2), ("iteration", 4)]
    left = [[], [], [], ["00001.pyth"], ["00001.pyth", "00002.pyth"], ["00001.pyth", "00002.pyth"]]
    overrides = [str(x) for x in (*SETTINGS, *WORKERS)]
    command = [sys.executable, "-c", DIES, json.dumps(moments), str(tiny_file), *overrides]
    # Into a file: a pipe would stay open until the workers notice, seconds later, that they are orphans.
    with open(tmp_path / "log", "w") as log:
        subprocess.run(command, stdout=log, stderr=log, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    output = (tmp_path / "log").read_text()
    results = [json.loads(line.removeprefix("RESULT ")) for line in output.splitlines() if line.startswith("RESULT")]
    assert results == [[signal.SIGKILL, names] for names in left], output
    cfg = tiny_cfg(*SETTINGS, *WORKERS)
    train(cfg)
    assert_same_bits(final_state(cfg), uninterrupted)


@pytest.mark.slow
def test_sigterm_to_all_processes_of_a_run(tiny_cfg, tiny_file, uninterrupted, tool, finish):
    """Send SIGTERM to the tool and its workers at an arbitrary moment, as a scheduler does."""
    run = tool("train_net", "--cfg", tiny_file, *SETTINGS, *WORKERS, start_new_session=True)
    lines = []
    for line in run.stdout:
        lines.append(line)
        if sum("train_iter" in entry for entry in lines) == 2:
            os.killpg(run.pid, signal.SIGTERM)
            break
    status, rest = finish(run)
    output = "".join(lines) + rest
    assert status == 143, output
    assert "the same command continues from" in output.splitlines()[-1]
    cfg = tiny_cfg(*SETTINGS, *WORKERS)
    assert find_checkpoints(cfg.OUTPUT_DIR)
    train(cfg)
    assert_same_bits(final_state(cfg), uninterrupted)


def stats_in(caplog):
    """Return the logged objects of statistics."""
    found = [record.getMessage() for record in caplog.records if record.getMessage().startswith("json_stats: ")]
    return [json.loads(text.removeprefix("json_stats: ")) for text in found]


def request_stop_at(monkeypatch, method, number):
    """Send this process a SIGTERM in the `number`-th call of the task's `method`."""
    original, calls = getattr(ClipTask, method), []

    def call(self, *args):
        calls.append(0)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args)

    monkeypatch.setattr(ClipTask, method, call)


# The second update of the second epoch ends with iteration 4; a stop in the last one is an epoch's end.
@pytest.mark.parametrize(("step", "position"), [(1, (0, 2)), (9, (1, 4)), (10, (1, 4)), (11, (2, 0)), (18, (3, 0))])
def test_stop_is_at_the_end_of_the_update(tiny_cfg, monkeypatch, uninterrupted, step, position):
    cfg = tiny_cfg(*SETTINGS, "TRAIN.CHECKPOINT_PERIOD", 3)
    with monkeypatch.context() as patch:
        request_stop_at(patch, "train_step", step)
        with pytest.raises(TrainingInterrupted, match=r"continues from .*\.pyth"):
            train(cfg)
    assert [(file.epoch, file.iteration) for file in find_checkpoints(cfg.OUTPUT_DIR)] == [position]
    train(cfg)
    assert_same_bits(final_state(cfg), uninterrupted)


def test_stop_while_evaluating(tiny_cfg, monkeypatch, uninterrupted, caplog):
    """Save the training; do the interrupted evaluation first after resuming, once."""
    cfg = tiny_cfg(*SETTINGS, "TRAIN.CHECKPOINT_PERIOD", 3, "TRAIN.EVAL_PERIOD", 1)
    with monkeypatch.context() as patch:
        # Six predictions for the precise statistics, the next is the first validation batch.
        request_stop_at(patch, "predict", 7)
        with pytest.raises(TrainingInterrupted):
            train(cfg)
    assert [(file.epoch, file.iteration) for file in find_checkpoints(cfg.OUTPUT_DIR)] == [(1, 0)]
    assert not (Path(cfg.OUTPUT_DIR) / "val_results.json").exists()
    caplog.clear()
    train(cfg)
    epochs = [entry["epoch"] for entry in stats_in(caplog) if entry["_type"] == "val_epoch"]
    assert epochs == ["1/3", "2/3", "3/3"]
    assert_same_bits(final_state(cfg), uninterrupted)


def test_last_evaluation_cut_off(tiny_cfg, monkeypatch):
    """Nothing is left to train, but the metrics were never told."""
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 1)
    with monkeypatch.context() as patch:
        request_stop_at(patch, "predict", 1)
        with pytest.raises(TrainingInterrupted):
            train(cfg)
    metrics = train(cfg)
    assert json.loads((Path(cfg.OUTPUT_DIR) / "val_results.json").read_text()) == {"epoch": 1, **metrics}
    assert "top1_acc" in metrics
    assert train(cfg) == {}


def test_former_handler_is_back_after_training(tiny_cfg):
    before = signal.getsignal(signal.SIGTERM)
    train(tiny_cfg("SOLVER.MAX_EPOCH", 1))
    assert signal.getsignal(signal.SIGTERM) is before


def test_damaged_newest_checkpoint(tiny_cfg, uninterrupted, caplog):
    cfg = tiny_cfg(*SETTINGS)
    train(cfg)
    newest = find_checkpoints(cfg.OUTPUT_DIR)[-1].path
    with open(newest, "r+b") as stream:
        stream.truncate(os.path.getsize(newest) // 2)
    caplog.clear()
    train(cfg)
    assert "skipping a checkpoint" in caplog.text and newest in caplog.text
    assert "checkpoint_epoch_00002.pyth: epoch 3, iteration 1" in caplog.text
    assert_same_bits(final_state(cfg), uninterrupted)


def test_float16_scale_is_carried_on(tiny_cfg, tmp_path):
    half = [*SETTINGS, "TRAIN.MIXED_PRECISION", True, "TRAIN.MIXED_PRECISION_DTYPE", "fp16", "SOLVER.MAX_EPOCH", 2]
    half += ["MODEL.FC_INIT_STD", 0.05]  # a head with gradients that overflow at first, whatever the clips
    whole = tiny_cfg(*half, "OUTPUT_DIR", str(tmp_path / "whole"))
    train(whole)
    cfg = tiny_cfg(*half)
    train(cfg)
    os.remove(find_checkpoints(cfg.OUTPUT_DIR)[-1].path)
    train(cfg)
    assert_same_bits(final_state(cfg), final_state(whole))
    assert final_state(cfg)["scaler_state"] == final_state(whole)["scaler_state"]
    assert final_state(cfg)["scaler_state"]["scale"] < 65536.0  # an overflow lowered it on the way


@pytest.mark.parametrize(
    "settings",
    [
        ["SOLVER.LARS_ON", True, "SOLVER.LAYER_DECAY", 0.9, "SOLVER.CLIP_GRAD_L2NORM", 1.0, "EMA.ENABLE", True],
        ["MODEL.DETACH_FINAL_FC", True],
    ],
    ids=["lars", "linear_probe"],
)
def test_other_ways_of_training_are_continued(tiny_cfg, tmp_path, monkeypatch, settings):
    whole = tiny_cfg(*SETTINGS, *settings, "OUTPUT_DIR", str(tmp_path / "whole"))
    train(whole)
    cfg = tiny_cfg(*SETTINGS, *settings)
    with monkeypatch.context() as patch:
        request_stop_at(patch, "train_step", 9)
        with pytest.raises(TrainingInterrupted):
            train(cfg)
    train(cfg)
    assert_same_bits(final_state(cfg), final_state(whole))


def test_epoch_of_other_batches_starts_again(tiny_cfg, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        request_stop_at(patch, "train_step", 1)
        with pytest.raises(TrainingInterrupted):
            train(tiny_cfg(*SETTINGS))
    train(tiny_cfg(*SETTINGS, "TRAIN.BATCH_SIZE", 3))
    assert "epoch 1 is started again" in caplog.text
