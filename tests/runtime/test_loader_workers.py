import contextlib
import io
import os
import signal
import subprocess
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from slowfast.checkpoint.io import checkpoint_path, load_checkpoint, save_checkpoint
from slowfast.runtime.loader_workers import LoaderWorkerError, shield_workers, worker_deaths_explained


class Pids(Dataset):
    """Samples that are the number of the process that makes them."""

    def __len__(self):
        return 10_000

    def __getitem__(self, index):
        time.sleep(0.01)
        return os.getpid()


@pytest.fixture
def worker():
    """Return an iterator over batches of a shielded worker, and its process id."""
    loader = DataLoader(Pids(), num_workers=1, batch_size=1)
    shield_workers(loader)
    batches = iter(loader)
    return batches, int(next(batches))


def test_signals_that_ask_the_job_to_stop_do_not_reach_a_worker(worker):
    batches, pid = worker
    # Not from its parent, which may stop it.
    subprocess.run(["sh", "-c", f"kill -TERM {pid}"], check=True)
    assert os.getpgid(pid) == pid  # so Ctrl-C does not come either
    assert [int(next(batches)) for _ in range(30)] == [pid] * 30


def test_parent_may_end_a_worker(worker):
    _, pid = worker
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 30
    # PyTorch takes note of its death without an error: the status is 0.
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_status == 0


def test_death_of_a_worker_is_explained(worker):
    batches, pid = worker
    message = rf"worker of process 0 \(pid {pid}\) was killed by signal: Killed.*emory.*DATA_LOADER.NUM_WORKERS"

    def lose_it():
        os.kill(pid, signal.SIGKILL)
        list(batches)

    with pytest.raises(LoaderWorkerError, match=message), worker_deaths_explained():
        lose_it()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are "
            "out of shared memory. Please try to raise your shared memory limit.",
            ["(pid 7) was killed by signal: Bus error.", "--shm-size"],
        ),
        (
            "DataLoader worker (pid 7) is killed by signal: Segmentation fault. ",
            ["Segmentation fault", "NUM_WORKERS 0"],
        ),
        (
            "DataLoader worker (pid 7) exited unexpectedly with exit code 3. Details are lost due to multiprocessing.",
            ["(pid 7) ended with exit code 3", "NUM_WORKERS 0"],
        ),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", ["(pid 7, 8) ended by itself"]),
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", ["killed by signal: Killed", "NUM_WORKERS"]),
    ],
)
def test_messages_of_pytorch(words, told):
    with pytest.raises(LoaderWorkerError) as caught, worker_deaths_explained():
        raise RuntimeError(words)
    for part in told:
        assert part in str(caught.value)


@pytest.mark.parametrize("words", ["other", "Caught UnreadableError in DataLoader worker process 0.\nTraceback"])
def test_other_errors_pass(words):
    with pytest.raises(RuntimeError) as caught, worker_deaths_explained():
        raise RuntimeError(words)
    assert str(caught.value) == words


def test_death_of_a_worker_during_a_save_is_no_failed_checkpoint(worker, tmp_path, monkeypatch):
    """PyTorch raises its error at any moment, here while it writes the checkpoint."""
    _, pid = worker
    path = checkpoint_path(str(tmp_path), 1)
    save_checkpoint({"model_state": {}, "epoch": 0}, path)
    save = torch.save

    class Deadly(io.FileIO):
        def write(self, data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.3)
            return super().write(data)

    def deadly_save(state, stream):
        with Deadly(stream.name, "w") as other:
            save(state, other)

    monkeypatch.setattr(torch, "save", deadly_save)
    with (
        pytest.raises(LoaderWorkerError, match=rf"pid {pid}\) was killed by signal: Killed"),
        worker_deaths_explained(),
    ):
        save_checkpoint({"model_state": {}, "epoch": 1}, path)
    assert load_checkpoint(path)["epoch"] == 0
    assert os.listdir(tmp_path / "checkpoints") == [os.path.basename(path)]
