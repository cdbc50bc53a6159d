"""Machines with an odd clock, a file system like NFS, or one damaged file: a run ends as on a good one, or says why."""

import os
import re
from pathlib import Path

import pytest
import torch

from slowfast.checkpoint.io import find_checkpoints, load_checkpoint
from slowfast.engine.train import train

pytestmark = pytest.mark.processes

ODD_HOST = str(Path(__file__).with_name("odd_host"))
TINY = ["SOLVER.MAX_EPOCH", 3, "TEST.ENABLE", False, "DIST.STOP_TIMEOUT", 10]


def on(*faults):
    """Return the environment of a machine with these faults."""
    return {"ODD_HOST": ",".join(faults), "PYTHONPATH": os.pathsep.join([ODD_HOST, os.environ.get("PYTHONPATH", "")])}


def final_state(folder):
    file = find_checkpoints(str(folder))[-1]
    assert (file.epoch, file.iteration) == (3, 0)
    return load_checkpoint(file.path)


def assert_ends_like_a_good_machine(job, quiet, folder, environment, *settings, processes=1):
    """Kill a run on an odd machine and resume it: its end is bit for bit that of the run in the folder `quiet`."""
    faults = [{"rank": processes - 1, "when": "step", "number": 5, "how": "kill"}]
    arguments = [*TINY, "OUTPUT_DIR", folder, *settings]
    killed = job(*arguments, processes=processes, faults=faults, **environment)
    assert killed.end() != 0, killed.output
    assert [(file.epoch, file.iteration) for file in find_checkpoints(str(folder))] == [(1, 0)]
    resumed = job(*arguments, processes=processes, **environment)
    assert resumed.end() == 0, resumed.output
    assert "checkpoint_epoch_00001.pyth: epoch 2, iteration 1" in resumed.output
    assert re.search(r"OUTPUT_DIR \S+ cannot be locked \([^)]+\): run one job at a time on it", resumed.output)
    assert not [name for name in os.listdir(folder / "checkpoints") if not name.endswith(".pyth")]
    expected, found = final_state(quiet), final_state(folder)
    for part in ("model_state", "optimizer_state"):
        assert flat(found[part]) == flat(expected[part])


def flat(item):
    """Return nested state with each tensor as its bytes."""
    if isinstance(item, torch.Tensor):
        return item.dtype, item.shape, item.numpy().tobytes()
    if isinstance(item, dict):
        return {key: flat(value) for key, value in item.items()}
    return [flat(value) for value in item] if isinstance(item, (list, tuple)) else item


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        ("no fsync of folders", "no locks", "stale rename", "clock zero"),
        ("rename answer lost", "locks not supported", "clock jumps"),
    ],
    ids="-".join,
)
def test_a_file_system_like_nfs_and_an_odd_clock(faults, job, tiny_cfg, tmp_path):
    """Write TensorBoard's file as well, whose writer asks for the time; the zone is one that nobody knows."""
    train(tiny_cfg(*TINY, "OUTPUT_DIR", str(tmp_path / "quiet")))
    settings = ["TENSORBOARD.ENABLE", True]
    environment = {**on(*faults), "TZ": "Nowhere/Odd"}
    assert_ends_like_a_good_machine(job, tmp_path / "quiet", tmp_path / "odd", environment, *settings)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # The killed run may have written nothing; TensorBoard orders the files by the clock in their names.
    files = (tmp_path / "odd").glob("runs-*/events*")
    steps = {event.step for file in files for event in scalars(EventAccumulator(str(file)).Reload())}
    assert steps in ({2, 3}, {1, 2, 3})


def scalars(events):
    return events.Scalars("TrainEpoch/loss") if "TrainEpoch/loss" in events.Tags()["scalars"] else []


@pytest.mark.slow
def test_two_processes_on_an_odd_host(job, tmp_path):
    quiet = job(*TINY, "OUTPUT_DIR", tmp_path / "quiet")
    assert quiet.end() == 0, quiet.output
    environment = {**on("clock jumps", "no fsync of folders", "no locks", "stale rename"), "TZ": "UTC-27:61"}
    assert_ends_like_a_good_machine(job, tmp_path / "quiet", tmp_path / "odd", environment, processes=2)


@pytest.mark.slow
def test_a_file_system_that_cannot_rename_is_refused(job, tmp_path):
    run = job(*TINY, "OUTPUT_DIR", tmp_path / "out", processes=1, **on("rename across devices"))
    assert run.end() == 2, run.output
    assert "Invalid cross-device link" in run.last_words
    assert "train_iter" not in run.output and not (tmp_path / "out/config.yaml").exists()
