"""Faults of a job in one process."""

import re

import pytest

TINY = ["SOLVER.MAX_EPOCH", 3, "TEST.ENABLE", False]
WORKERS = ["DATA_LOADER.NUM_WORKERS", 2]


@pytest.mark.slow
def test_loader_worker_killed(job, checkpoints, tiny_cfg):
    """As by the kernel when memory runs out, in the second epoch."""
    run = job(*TINY, *WORKERS, processes=1, faults=[{"when": "step", "number": 5, "how": "kill_a_worker"}])
    assert run.end() == 2, run.output
    victim = re.search(r"WORKER (\d+)", run.output)[1]
    assert run.last_words.startswith(
        f"error: a loader worker of process 0 (pid {victim}) was killed by signal: Killed."
    )
    for fact in ("DATA_LOADER.NUM_WORKERS", "TRAIN.BATCH_SIZE", "The same command continues"):
        assert fact in run.last_words
    assert "Traceback" not in run.output
    assert checkpoints(tiny_cfg(*TINY)) == [(1, 0)]


@pytest.mark.slow
def test_ctrl_c(job, checkpoints, tiny_cfg):
    run = job(*TINY, *WORKERS, processes=1, faults=[{"when": "step", "number": 5, "how": "ctrl_c"}])
    assert run.end() == 130, run.output
    assert re.search(r"stopped on request; the same command continues from \S+\.pyth$", run.last_words)
    assert "Traceback" not in run.output
    assert checkpoints(tiny_cfg(*TINY)) == [(1, 0), (1, 2)]


@pytest.mark.slow
def test_ctrl_c_where_nothing_is_to_be_saved(job, tiny_cfg):
    """While testing, when loader workers are at work."""
    settings = ["SOLVER.MAX_EPOCH", 1, *WORKERS]
    # One validation batch comes first.
    run = job(*settings, processes=1, faults=[{"when": "predict", "number": 2, "how": "ctrl_c"}])
    assert run.end() == 130, run.output
    assert re.search(r"stopped; the same command continues from \S+_00001\.pyth$", run.last_words)
    assert "Traceback" not in run.output
