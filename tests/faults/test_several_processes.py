"""Faults of a job in two processes: it ends with the first cause as its last words, or goes on where it was."""

import os
import re
import signal

import pytest
import torch

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.engine.train import train

pytestmark = pytest.mark.processes

# Three epochs of three iterations, a checkpoint after each; a batch norm, dropout and momentum to be restored.
TINY = ["SOLVER.MAX_EPOCH", 3, "TEST.ENABLE", False, "DIST.STOP_TIMEOUT", 10]
WORKERS = ["DATA_LOADER.NUM_WORKERS", 1]
LONG = [*TINY, *WORKERS, "SOLVER.MAX_EPOCH", 500, "TRAIN.CHECKPOINT_PERIOD", 500, "TRAIN.EVAL_PERIOD", 500]


def final_weights(cfg):
    files = find_checkpoints(cfg.OUTPUT_DIR)
    assert (files[-1].epoch, files[-1].iteration) == (3, 0)
    return load_checkpoint(files[-1].path)["model_state"]


@pytest.mark.slow
def test_rank_killed(job, checkpoints, tiny_cfg):
    run = job(*TINY, *WORKERS, faults=[{"rank": 1, "when": "step", "number": 5, "how": "kill"}])
    assert run.end() == 1, run.output
    assert re.search(r"^error: process 1 \(pid \d+\) was killed by SIGKILL; out of memory", run.last_words)
    assert checkpoints(tiny_cfg(*TINY)) == [(1, 0)]


@pytest.mark.slow
def test_rank_raises(job, checkpoints, tiny_cfg):
    run = job(*TINY, faults=[{"rank": 1, "when": "step", "number": 5, "how": "fail"}])
    assert run.end() == 1, run.output
    assert run.last_words.endswith("error: process 1 failed: RuntimeError: this was bound to happen")
    assert checkpoints(tiny_cfg(*TINY)) == [(1, 0)]


@pytest.mark.slow
def test_rank_hangs(job, checkpoints, tiny_cfg):
    settings = [*TINY, "DIST.TIMEOUT", 5, "DIST.STOP_TIMEOUT", 2]
    run = job(*settings, faults=[{"rank": 0, "when": "step", "number": 5, "how": "hang"}])
    assert run.end() == 1, run.output
    assert run.last_words.startswith("error: process 0 hung")
    assert "process 1 failed: LostContactError" in run.last_words and "DIST.TIMEOUT 5 s" in run.last_words
    assert checkpoints(tiny_cfg(*TINY)) == [(1, 0)]


@pytest.mark.slow
def test_loader_worker_of_a_rank_killed(job, checkpoints, tiny_cfg):
    run = job(*TINY, *WORKERS, faults=[{"rank": 1, "when": "step", "number": 5, "how": "kill_a_worker"}])
    assert run.end() in (1, 2), run.output
    victim = re.search(r"WORKER (\d+)", run.output)[1]
    assert f"a loader worker of process 1 (pid {victim}) was killed by signal: Killed." in run.last_words
    assert "DATA_LOADER.NUM_WORKERS" in run.last_words
    assert checkpoints(tiny_cfg(*TINY)) == [(1, 0)]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_whose_newest_checkpoint_is_damaged(rank, job, checkpoints, tiny_cfg):
    """It would resume from the one before, and the other rank would not."""
    before = job(*TINY, "SOLVER.MAX_EPOCH", 2)
    assert before.end() == 0, before.output
    assert checkpoints(tiny_cfg(*TINY)) == [(1, 0), (2, 0)]
    run = job(*TINY, faults=[{"rank": rank, "when": "load", "number": 1, "how": "find_damage"}])
    assert run.end() == 2, run.output
    assert "checkpoint_epoch_00002.pyth is damaged" in run.output
    assert re.search(r"weights to start from: rank 0: \w+; rank 1: \w+$", run.last_words)
    assert checkpoints(tiny_cfg(*TINY)) == [(1, 0), (2, 0)]


@pytest.mark.slow
def test_launcher_killed(job, checkpoints, tiny_cfg):
    """Kill the launcher: the kernel tells the processes that it started, which save and end."""
    run = job(*LONG)
    run.wait_for("train_iter", 2)
    run.process.kill()
    assert run.end() == -signal.SIGKILL
    assert_stopped(run, checkpoints(tiny_cfg()))


@pytest.mark.slow
def test_disk_full_while_writing(job, checkpoints, tiny_cfg):
    """Keep the first checkpoint, and nothing else, where the second does not fit."""
    run = job(*TINY, faults=[{"rank": 0, "when": "save", "number": 2, "how": "fill_the_disk"}])
    assert run.end() in (1, 2), run.output
    assert "the checkpoint could not be written" in run.last_words
    assert "checkpoint_epoch_00002.pyth" in run.last_words
    cfg = tiny_cfg(*TINY)
    assert checkpoints(cfg) == [(1, 0)]
    assert os.listdir(os.path.join(cfg.OUTPUT_DIR, "checkpoints")) == ["checkpoint_epoch_00001.pyth"]


@pytest.mark.slow
def test_ctrl_c_to_several_processes(job, checkpoints, tiny_cfg):
    """Signal the process group as the terminal does; the launcher passes it on."""
    run = job(*LONG)
    run.wait_for("train_iter", 2)
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.end() == 130, run.output
    assert_stopped(run, checkpoints(tiny_cfg()))


@pytest.mark.slow
def test_sigterm_to_each_process_and_a_second_job_before_it(job, checkpoints, tiny_cfg):
    """Start a second job in the folder: it refuses, and harms nothing."""
    run = job(*LONG)
    run.wait_for("train_iter", 2)
    second = job(*LONG)
    assert second.end() == 2, second.output
    assert re.search(rf"OUTPUT_DIR .* is in use by the job with pid {run.ranks()[0]} on host", second.last_words)
    run.signal(signal.SIGTERM, run.pids())
    assert run.end() == 143, run.output
    assert_stopped(run, checkpoints(tiny_cfg()))


def assert_stopped(run, positions):
    assert "Traceback" not in run.output
    assert "the same command continues from" in run.output
    (position,) = positions
    assert position > (0, 0)


@pytest.mark.slow
def test_restarts_under_torchrun_go_on_exactly_where_the_checkpoint_stood(job, tiny_cfg, tmp_path):
    """Kill a rank, and damage the newest file; after the restart another dies while it writes."""
    quiet = job(*TINY, "OUTPUT_DIR", tmp_path / "quiet")
    assert quiet.end() == 0, quiet.output
    faults = [
        {"rank": 1, "when": "step", "number": 8, "how": "damage_the_newest_and_die"},
        {"rank": 0, "when": "save", "number": 1, "how": "write_half_and_die"},
    ]
    torchrun = ["--standalone", "--nproc-per-node", 2, "--max-restarts", 2]
    folder = str(tmp_path / "disturbed")
    run = job(*TINY, "OUTPUT_DIR", folder, faults=faults, torchrun=torchrun)
    assert run.end() == 0, run.output
    assert re.findall(r"all start again: restart (\d) of at most 2", run.output) == ["1", "2"]
    resumed = re.findall(r"resumed from \S+/(\S+): epoch (\d), iteration (\d)", run.output)
    assert resumed == [("checkpoint_epoch_00001.pyth", "2", "1")] * 2
    skipped = re.findall(r"skipping a checkpoint: \S+/(checkpoint_epoch_\d+\.pyth)\b", run.output)
    assert set(skipped) == {"checkpoint_epoch_00002.pyth"}
    names = [f"checkpoint_epoch_{number:05d}.pyth" for number in (1, 2, 3)]
    assert sorted(os.listdir(os.path.join(folder, "checkpoints"))) == names
    disturbed, undisturbed = (
        final_weights(tiny_cfg("OUTPUT_DIR", where)) for where in (folder, str(tmp_path / "quiet"))
    )
    assert disturbed.keys() == undisturbed.keys()
    assert [key for key, value in disturbed.items() if not torch.equal(value, undisturbed[key])] == []


@pytest.mark.slow
def test_goes_on_in_one_process_where_two_stopped(job, checkpoints, tiny_cfg, tmp_path, caplog):
    """One process of two gets a SIGTERM in the middle of an epoch; both obey, and the job goes on in one."""
    settings = [*TINY, "BN.NORM_TYPE", "frozen_batchnorm", "MODEL.DROPOUT_RATE", 0.0]
    run = job(*settings, faults=[{"rank": 1, "when": "step", "number": 4, "how": "stop"}])
    assert run.end() == 143, run.output
    cfg = tiny_cfg(*settings)
    assert checkpoints(cfg) == [(1, 0), (1, 1)]
    train(cfg)
    assert "1 process(es) on 1 host(s) instead of 2 process(es) on 1 host(s)" in caplog.text
    assert "each batch norm layer, sees 4 clips, not 2" in caplog.text
    assert "epoch 2, iteration 2" in caplog.text and "started again" not in caplog.text
    alone = tiny_cfg(*settings, "OUTPUT_DIR", str(tmp_path / "alone"))
    train(alone)
    expected = final_weights(alone)
    for key, value in final_weights(cfg).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-5)
