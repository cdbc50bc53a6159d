"""A loader's worker processes: keeping signals that are meant for the job from them, and telling of their death."""

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

# PyTorch's words for a worker that is gone.
_KILLED = re.compile(r"DataLoader worker \(pid (\d+)\) is killed by signal: (.+?)\.(?:\s|$)")
_GONE = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) exited unexpectedly(?: with exit code (\d+))?")
# What to do, by the signal; "" for others.
_ADVICE = {
    "Killed": (
        "So ends the largest process when memory runs out: lower DATA_LOADER.NUM_WORKERS, DATA_LOADER.PREFETCH_FACTOR "
        "or TRAIN.BATCH_SIZE, or give the job more memory"
    ),
    "Bus error": (
        "Shared memory (/dev/shm) is full: enlarge it (docker run --shm-size), or lower DATA_LOADER.NUM_WORKERS or "
        "DATA_LOADER.PREFETCH_FACTOR"
    ),
    "": "DATA_LOADER.NUM_WORKERS 0 reads in the main process, where the cause shows itself",
}


class LoaderWorkerError(ChildProcessError):
    """A worker process of a loader is gone; the message says how and what to do."""


def shield_workers(loader: DataLoader) -> None:
    """Keep signals that ask the job to stop from the loader's worker processes; the main process obeys them alone.

    Ctrl-C and `timeout` signal the whole process group, and schedulers each process. A worker that died of it would
    stop the main process in the middle of whatever it does.
    """
    loader.worker_init_fn = _Shielded(loader.worker_init_fn)


class _Shielded:
    """Starts a worker shielded from signals; a class because workers may have to unpickle it."""

    def __init__(self, inner: Any):
        self.inner = inner

    def __call__(self, worker_id: int) -> None:
        os.setpgid(0, 0)
        # The thread takes the signal from the queue of pending ones; blocked, it is not acted on.
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
    """Turn PyTorch's error about a dead worker, which may come at any moment, into one that helps.

    Raises:
        LoaderWorkerError: a worker process died.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        # There may be two errors, one from the broken queue and one from the signal of its death, in either order.
        told = f"{error.__context__}\n{error}\n{_late_error()}"
        if not (_KILLED.search(told) or _GONE.search(told)):
            raise
        raise LoaderWorkerError(_explain(told)) from error


def _late_error() -> str:
    """What PyTorch's handler of SIGCHLD still has to say."""
    try:
        time.sleep(0.2)
    except RuntimeError as error:
        return str(error)
    return ""


def _explain(text: str) -> str:
    """Our words for an error of PyTorch's about a dead worker."""
    killed, gone = _KILLED.search(text), _GONE.search(text)
    if killed:
        pid, signal_name = killed.groups()
        how, advice = f"was killed by signal: {signal_name}", _ADVICE.get(signal_name, _ADVICE[""])
    else:
        pid, code = gone.groups()
        how, advice = "ended" + (f" with exit code {code}" if code else " by itself"), _ADVICE[""]
    return (
        f"a loader worker of process {get_rank()} (pid {pid}) {how}. {advice}. What was trained up to the last "
        "checkpoint is safe; the same command goes on from there"
    )
