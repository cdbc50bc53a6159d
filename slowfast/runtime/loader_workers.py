"""Worker processes of a data loader: shielding them from signals, and explaining their death."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from slowfast.runtime.distributed import get_rank

# PyTorch's messages about a dead worker.
_KILLED = re.compile(r"DataLoader worker \(pid (\d+)\) is killed by signal: (.+?)\.(?:\s|$)")
_GONE = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) exited unexpectedly(?: with exit code (\d+))?")
# Remedies by signal; "" for other causes.
_ADVICE = {
    "Killed": (
        "Memory probably ran out: lower DATA_LOADER.NUM_WORKERS, DATA_LOADER.PREFETCH_FACTOR or TRAIN.BATCH_SIZE, or "
        "give the job more memory"
    ),
    "Bus error": (
        "Shared memory (/dev/shm) is full: enlarge it (docker run --shm-size), or lower DATA_LOADER.NUM_WORKERS or "
        "DATA_LOADER.PREFETCH_FACTOR"
    ),
    "": "With DATA_LOADER.NUM_WORKERS 0 the main process reads the data and shows the cause",
}


class LoaderWorkerError(ChildProcessError):
    """A loader worker died; the message says how, and what to do."""


def shield_workers(loader: DataLoader) -> None:
    """Shield a loader's workers from SIGINT and SIGTERM that stop the job; only the main process handles them.

    Ctrl-C and `timeout` signal the process group, and schedulers signal each process. A dead worker would break the
    main process off while it saves its state.
    """
    loader.worker_init_fn = _Shielded(loader.worker_init_fn)


class _Shielded:
    """Worker initialization that shields from signals; a class, because workers may have to unpickle it."""

    def __init__(self, inner: Any):
        self.inner = inner

    def __call__(self, worker_id: int) -> None:
        os.setpgid(0, 0)
        # SIGTERM is blocked, so it stays pending until the thread takes it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_parent_alone, daemon=True).start()
        if self.inner is not None:
            self.inner(worker_id)


def _obey_parent_alone() -> None:
    parent = multiprocessing.parent_process()
    while parent is not None:
        sender = signal.sigwaitinfo({signal.SIGTERM}).si_pid
        if sender == parent.pid or not parent.is_alive():
            os._exit(0)


@contextlib.contextmanager
def worker_deaths_explained() -> Iterator[None]:
    """Turn PyTorch's error about a dead worker, which may come at any moment, into a LoaderWorkerError."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        # There may be two errors in either order: of the broken queue, and of the SIGCHLD handler.
        told = f"{_all_messages(error)}\n{_late_error()}"
        if not (_KILLED.search(told) or _GONE.search(told)):
            raise
        raise LoaderWorkerError(_explain(told)) from error


def tells_of_dead_worker(error: BaseException) -> bool:
    """Return True if an error, or what it came from, is PyTorch's about a dead loader worker."""
    told = _all_messages(error)
    return bool(_KILLED.search(told) or _GONE.search(told))


def _all_messages(error: BaseException | None) -> str:
    """Return the messages of an error and of what it came from, the first cause first."""
    told: list[str] = []
    while error is not None:
        told.insert(0, str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(told)


def _late_error() -> str:
    """Return the message of PyTorch's SIGCHLD handler, if it comes now."""
    try:
        time.sleep(0.2)
    except RuntimeError as error:
        return str(error)
    return ""


def _explain(text: str) -> str:
    """Format a message from PyTorch's messages about a dead worker."""
    killed, gone = _KILLED.search(text), _GONE.search(text)
    if killed:
        pid, signal_name = killed.groups()
        how, advice = f"was killed by signal: {signal_name}", _ADVICE.get(signal_name, _ADVICE[""])
    else:
        pid, code = gone.groups()
        how, advice = "ended" + (f" with exit code {code}" if code else " by itself"), _ADVICE[""]
    return (
        f"a loader worker of process {get_rank()} (pid {pid}) {how}. {advice}. The same command continues from the "
        "last checkpoint"
    )
