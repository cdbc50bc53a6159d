"""Locks of an output folder: one job at a time and, beside a training, one test.

Rank 0 locks the file `OUTPUT_DIR/.run.lock`, for a test also `.test.lock`. The kernel drops a lock when that process
ends, so a job that crashed never blocks the next one. Loader workers, which inherit open files, cannot keep it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from slowfast.runtime.distributed import all_gather_object, is_main_process
from slowfast.runtime.logging import get_logger
from slowfast.utils.files import FileLockedError, file_lock, no_room_explained
from slowfast.utils.json_file import parse_json

logger = get_logger(__name__)

LOCK_NAME, TEST_LOCK_NAME = ".run.lock", ".test.lock"

# (process id, folder, file) of the locks that this process holds; a forked child holds none.
_held: set[tuple[int, str, str]] = set()

Result = TypeVar("Result")


class FolderInUseError(ValueError):
    """Another job works in the output folder; the message names that job."""


def alone_in_output_dir(work: Callable[[Any], Result]) -> Callable[[Any], Result]:
    """Decorate `work(cfg)` to run under the `run_lock` of `cfg.OUTPUT_DIR`."""

    @functools.wraps(work)
    def locked(cfg: Any) -> Result:
        with run_lock(cfg.OUTPUT_DIR):
            return work(cfg)

    return locked


def beside_training(work: Callable[[Any], Result]) -> Callable[[Any], Result]:
    """Decorate `work(cfg)`, a test, to run under the `run_lock` of `cfg.OUTPUT_DIR`, or beside the job that holds it.

    A test reads checkpoints and writes results alone, so it does not disturb a training. Another test would: there is
    one beside a training, and one that a training does itself warns of it.
    """

    @functools.wraps(work)
    def locked(cfg: Any) -> Result:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(run_lock(cfg.OUTPUT_DIR))
            except FolderInUseError as error:
                beside = str(error)
            else:
                beside = ""
            again = _key(cfg.OUTPUT_DIR, TEST_LOCK_NAME) in _held
            try:
                stack.enter_context(run_lock(cfg.OUTPUT_DIR, TEST_LOCK_NAME))
            except FolderInUseError as error:
                if beside:
                    raise
                logger.warning("%s. Both tests go on; results are those of the one that ends last", error)
            if beside and not again:
                logger.info("testing beside the training: %s", beside.partition(". ")[0])
            return work(cfg)

    return locked


def is_alone(output_dir: str) -> bool:
    """Return True if this process holds the `run_lock` of a folder; a test beside a training does not."""
    return _key(output_dir, LOCK_NAME) in _held


def _key(output_dir: str, name: str) -> tuple[int, str, str]:
    return os.getpid(), os.path.realpath(output_dir), name


@contextlib.contextmanager
def run_lock(output_dir: str, name: str = LOCK_NAME) -> Iterator[None]:
    """Hold the lock of an output folder. All ranks enter together; entering again inside is allowed.

    Args:
        name: of the file.

    Raises:
        FolderInUseError: on every rank, if another job holds the folder; the folder is unchanged.
        OSError: on every rank, if rank 0 cannot write to the folder.
    """
    here = _key(output_dir, name)
    if here in _held:
        yield
        return
    with contextlib.ExitStack() as stack:
        refusal = _acquire(output_dir, name, stack) if is_main_process() else None
        refusal = all_gather_object(refusal)[0]
        if refusal is not None:
            raise refusal
        _held.add(here)
        stack.callback(_held.discard, here)
        yield


def _acquire(output_dir: str, name: str, stack: contextlib.ExitStack) -> Exception | None:
    """Take the lock until `stack` closes; return the error if that fails."""
    path = os.path.join(output_dir, name)
    try:
        _check_output_dir(output_dir)
        stack.enter_context(file_lock(path, f"OUTPUT_DIR {output_dir}", wait=False, note=_signature()))
    except FileLockedError as error:
        return FolderInUseError(_refusal(output_dir, error.note))
    except OSError as error:
        return error
    return None


def _signature() -> str:
    """Describe this job for the messages of others, as JSON."""
    return json.dumps(
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "command": " ".join(sys.argv),
        }
    )


def _refusal(output_dir: str, note: bytes) -> str:
    # A job that has only just taken the lock has not written its note yet.
    try:
        job = "the job with pid {pid} on host {host}, started {started}".format(**parse_json(note))
    except (ValueError, KeyError, TypeError):
        job = "another job"
    return (
        f"OUTPUT_DIR {output_dir} is in use by {job}. Let it finish or stop it (`kill PID` saves its state), or set "
        "OUTPUT_DIR to another folder"
    )


def _check_output_dir(output_dir: str) -> None:
    """Create the output folder and write a temporary file in it.

    Raises:
        OSError: the folder cannot be created or written; the message names OUTPUT_DIR.
    """
    try:
        os.makedirs(output_dir, exist_ok=True)
        with no_room_explained(output_dir), tempfile.TemporaryFile(dir=output_dir) as probe:
            probe.write(b"\0")
            probe.flush()
    except OSError as error:
        message = f"OUTPUT_DIR cannot be written ({error.strerror}); set OUTPUT_DIR to a folder that can"
        raise OSError(error.errno, message, output_dir) from error
