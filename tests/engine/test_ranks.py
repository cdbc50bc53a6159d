"""Two processes under torchrun: one voice, every video once, random numbers of their own."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.engine.test import test as run_test

pytestmark = pytest.mark.processes


@pytest.fixture
def odd_data(tiny_data, tmp_path):
    """Make the tiny data set with 3 videos for val and test, which two processes cannot share evenly."""
    for split, count in (("train", 12), ("val", 3), ("test", 3)):
        lines = (tiny_data / f"{split}.csv").read_text().splitlines(keepends=True)
        (tmp_path / f"{split}.csv").write_text("".join(lines[:count]))
    return tmp_path


@pytest.mark.slow
def test_what_a_run_of_two_processes_leaves(tiny_cfg, tiny_file, odd_data, repo, tmp_path):
    settings = ["DATA.PATH_TO_DATA_DIR", odd_data, "TEST.SAVE_RESULTS_PATH", "scores.npz", "TRAIN.EVAL_PERIOD", 1]
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, repo / "tools/run_net.py"]
    command += ["--cfg", tiny_file, *settings]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

    # One process speaks and writes: 2 epochs of 3 iterations, 2 checkpoints, 2 evaluations, 1 test.
    cfg = tiny_cfg(*map(str, settings))
    stats = [json.loads(line) for line in (tmp_path / "out/json_stats.jsonl").read_text().splitlines()]
    kinds = [entry["_type"] for entry in stats]
    counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    assert counts == {"test_final": 1, "train_epoch": 2, "train_iter": 6, "val_epoch": 2}
    assert done.stdout.count('"_type": "train_iter"') == 6
    assert done.stdout.count("] slowfast.engine.train: saved ") == 2
    assert len(find_checkpoints(cfg.OUTPUT_DIR)) == 2
    assert "epoch 1/2:" not in done.stdout + done.stderr  # a progress bar is for terminals

    # Every video and view counts once, as in one process on the same weights.
    assert {entry["videos"] for entry in stats if "videos" in entry} == {3}
    alone = tiny_cfg(*map(str, settings), "OUTPUT_DIR", str(tmp_path / "alone"))
    alone = alone.clone()
    alone.defrost()
    alone.TEST.CHECKPOINT_FILE_PATH = find_checkpoints(cfg.OUTPUT_DIR)[-1].path
    results = run_test(alone)
    assert results["top1_acc"] == pytest.approx(stats[-1]["top1_acc"], abs=1e-3)
    one, two = (np.load(tmp_path / folder / "scores.npz") for folder in ("alone", "out"))
    assert list(one["paths"]) == list(two["paths"])
    np.testing.assert_allclose(two["scores"], one["scores"], rtol=1e-5)

    # Dropout is drawn anew in each process.
    states = load_checkpoint(find_checkpoints(cfg.OUTPUT_DIR)[-1].path)["rng_state"]
    assert len(states) == 2
    assert not torch.equal(states[0]["torch"], states[1]["torch"])
