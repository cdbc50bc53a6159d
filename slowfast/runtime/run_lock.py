"""One job at a time in an output folder.

The lock is a POSIX record lock (`fcntl.lockf`) of rank 0 on `OUTPUT_DIR/.run.lock`. The kernel drops it when that
process ends, however it ends, so a job that crashed never blocks the next. It belongs to the process alone: loader
workers, which inherit open files, cannot keep it. Over NFS it also holds between hosts, through the file server.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

from slowfast.runtime.distributed import all_gather_object, is_main_process
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

LOCK_NAME = ".run.lock"
# What file systems that cannot lock answer: NFS without its lock service, Lustre mounted without locks, FUSE.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}

# Folders this process is in the middle of a job in; with its id, since a forked child is not.
_entered: set[tuple[int, str]] = set()

Result = TypeVar("Result")


class FolderInUseError(ValueError):
    """Another job works in the output folder; the message names it."""


def alone_in_output_dir(work: Callable[[Any], Result]) -> Callable[[Any], Result]:
    """`work(cfg)` as the only job in `cfg.OUTPUT_DIR`; see `run_lock`."""

    @functools.wraps(work)
    def locked(cfg: Any) -> Result:
        with run_lock(cfg.OUTPUT_DIR):
            return work(cfg)

    return locked


@contextlib.contextmanager
def run_lock(output_dir: str) -> Iterator[None]:
    """Hold the folder while entered; all processes of a job enter together, and may do so again inside.

    Where the file system offers no locks this is said, and the job goes on unprotected.

    Raises:
        FolderInUseError: in every process, if another job holds the folder; nothing in it was touched.
        OSError: in every process, if rank 0 cannot write the folder.
    """
    here = (os.getpid(), os.path.realpath(output_dir))
    if here in _entered:
        yield
        return
    descriptor, refusal = _acquire(output_dir) if is_main_process() else (None, None)
    refusal = all_gather_object(refusal)[0]
    if refusal is not None:
        raise refusal
    _entered.add(here)
    try:
        yield
    finally:
        _entered.discard(here)
        if descriptor is not None:
            # The file stays: removing it would let two jobs hold a lock each, one of them on the removed file.
            os.ftruncate(descriptor, 0)
            os.close(descriptor)


def _acquire(output_dir: str) -> tuple[int | None, Exception | None]:
    """An open file with the lock on it (None where there are no locks), or why there is none."""
    try:
        check_output_dir(output_dir)
        descriptor = os.open(os.path.join(output_dir, LOCK_NAME), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        return None, error
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 10_000, 0)
        os.close(descriptor)
        if error.errno in _NO_LOCKS:
            logger.warning(
                "%s cannot be locked (%s); nothing keeps a second job from starting there", output_dir, error.strerror
            )
            return None, None
        return None, FolderInUseError(_refusal(output_dir, holder))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, _signature().encode(), 0)
    return descriptor, None


def _signature() -> str:
    """Who holds the lock, for the messages of others."""
    return json.dumps(
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}",
            "command": " ".join(sys.argv),
        }
    )


def _refusal(output_dir: str, holder: bytes) -> str:
    # A holder that has only just locked has not signed yet.
    try:
        job = "the job with pid {pid} on host {host}, started {started}".format(**json.loads(holder))
    except (ValueError, KeyError):
        job = "another job"
    return (
        f"OUTPUT_DIR {output_dir} is in use by {job}. Let it finish or stop it (`kill PID` saves its state), or set "
        "OUTPUT_DIR to another folder"
    )


def check_output_dir(output_dir: str) -> None:
    """Make the output folder and write a file in it.

    Raises:
        OSError: it cannot be made or written; names the key to set.
    """
    try:
        os.makedirs(output_dir, exist_ok=True)
        with tempfile.TemporaryFile(dir=output_dir) as probe:
            probe.write(b"\0")
            probe.flush()
    except OSError as error:
        message = f"OUTPUT_DIR cannot be written ({error.strerror}); set OUTPUT_DIR to a folder that can"
        raise OSError(error.errno, message, output_dir) from error
