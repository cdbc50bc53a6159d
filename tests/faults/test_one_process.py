"""Faults of a job in one process."""

import gc
import os
import re
import threading
from pathlib import Path

import pytest

import slowfast.engine.train as train_module
from slowfast.checkpoint.io import find_checkpoints

pytestmark = pytest.mark.processes

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


@pytest.mark.slow
def test_many_saves_leave_memory_descriptors_threads_and_files_as_they_were(tiny_cfg, monkeypatch):
    """Save 90 times, as in an hour and a half with a save each minute; the user removes old checkpoints."""
    original, seen = train_module.save_checkpoint, []

    def save(state, path):
        original(state, path)
        for old in find_checkpoints(cfg.OUTPUT_DIR)[:-2]:
            os.remove(old.path)
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        descriptors, files = os.listdir("/proc/self/fd"), list(Path(cfg.OUTPUT_DIR).rglob("*"))
        seen.append((len(descriptors), threading.active_count(), len(files), resident / 2**20))

    monkeypatch.setattr(train_module, "save_checkpoint", save)
    small = ["RESNET.WIDTH_PER_GROUP", 1, "DATA.CACHE_VIDEOS", True, "TENSORBOARD.ENABLE", True]
    cfg = tiny_cfg("SOLVER.MAX_EPOCH", 90, "TRAIN.EVAL_PERIOD", 10, *small)
    train_module.train(cfg)
    assert len(seen) == 90
    assert len({counts[:3] for counts in seen[30:]}) == 1
    assert seen[-1][3] - seen[30][3] < 16  # MiB
