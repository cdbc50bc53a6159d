"""Worker processes of a data loader: what they need, shielding them from signals, and explaining their death."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import multiprocessing.queues
import os
import re
import resource
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from slowfast.runtime.distributed import get_rank

# PyTorch's messages about a dead worker.
_KILLED = re.compile(r"DataLoader worker \(pid (\d+)\) is killed by signal: (.+?)\.(?:\s|$)")
_GONE = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) exited unexpectedly(?: with exit code (\d+))?")
# Errors of PyTorch and Python when a batch cannot be passed on, and exit codes of a worker that met them.
_NO_MEMORY = re.compile(
    r"shared memory.*No space left|unable to (?:resize|allocate|write).*</?torch_|No space left on dev"
)
_NO_DESCRIPTORS = re.compile(r"Too many open files|received 0 items of ancdata")
_EXIT_CODES = {"Bus error": 71, "descriptors": 72}
# Remedies by signal or error; "" for other causes.
_ADVICE = {
    "Killed": (
        "Memory probably ran out: lower DATA_LOADER.NUM_WORKERS, DATA_LOADER.PREFETCH_FACTOR or TRAIN.BATCH_SIZE, or "
        "give the job more memory"
    ),
    "Bus error": (
        "Shared memory (/dev/shm) is full: enlarge it (docker run --shm-size), or lower DATA_LOADER.NUM_WORKERS or "
        "DATA_LOADER.PREFETCH_FACTOR"
    ),
    "descriptors": (
        "There are no more file descriptors: raise their number (ulimit -n), or lower DATA_LOADER.NUM_WORKERS"
    ),
    "": "With DATA_LOADER.NUM_WORKERS 0 the main process reads the data and shows the cause",
}


# File descriptors of a process without and for each loader worker, with room to spare.
_DESCRIPTORS, _DESCRIPTORS_PER_WORKER = 64, 8


def check_workers(workers: int) -> None:
    """Check that a process can have loader workers: they need descriptors, without which it would wait for ever.

    Raises:
        ValueError: too few, with the numbers; or the machine has no shared memory.
    """
    if not workers:
        return
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _DESCRIPTORS + _DESCRIPTORS_PER_WORKER * workers
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        raise ValueError(
            f"this process may open {allowed} files (ulimit -n), but with DATA_LOADER.NUM_WORKERS {workers} it needs "
            f"{needed}: raise the limit, for instance ulimit -n {max(1024, needed)}, or set NUM_WORKERS 0"
        )
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise ValueError(
            f"DATA_LOADER.NUM_WORKERS {workers} takes shared memory, and this machine gives none ({error.strerror}): "
            "mount /dev/shm so that it can be written, or set NUM_WORKERS 0"
        ) from error


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
        # Python drops a batch that cannot be passed on, and the main process would wait for it for ever.
        multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)
        # SIGTERM is blocked, so it stays pending until the thread takes it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_parent_alone, daemon=True).start()
        if self.inner is not None:
            self.inner(worker_id)


def _end_worker(error: Exception, _: Any) -> None:
    """End this worker, which cannot pass on a batch; the exit code tells the main process why."""
    cause = _cause(str(error))
    if not cause:
        traceback.print_exception(error)
    os._exit(_EXIT_CODES.get(cause, 1))


def _cause(text: str) -> str:
    """Return the key of the remedy for an error of PyTorch or Python; "" if it is another error."""
    return "descriptors" if _NO_DESCRIPTORS.search(text) else "Bus error" if _NO_MEMORY.search(text) else ""


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
    except (RuntimeError, OSError, EOFError) as error:
        if not isinstance(error, LoaderWorkerError) and (cause := _passing_failed(error)):
            what = str(error) if isinstance(error, OSError) else "a batch of a loader worker cannot be passed on"
            raise LoaderWorkerError(f"{what}. {_ADVICE[cause]}") from error
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


def _passing_failed(error: Exception) -> str:
    """Return the cause if a batch could not be passed on, in a worker's own words or in this process."""
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return "descriptors" if error.errno == errno.EMFILE else ""
    return _cause(text) if "DataLoader worker" in text or "torch_" in text or "ancdata" in text else ""


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
        known = {str(number): name for name, number in _EXIT_CODES.items()}
        how = "ended" + (f" with exit code {code}" if code else " by itself")
        advice = _ADVICE[known.get(code, "")]
    return (
        f"a loader worker of process {get_rank()} (pid {pid}) {how}. {advice}. The same command continues from the "
        "last checkpoint"
    )
