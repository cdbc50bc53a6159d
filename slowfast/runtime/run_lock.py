"""Lock of an output folder, which allows one job at a time.

Rank 0 locks the file `OUTPUT_DIR/.run.lock`. The kernel drops the lock when that process ends, so a job that crashed
never blocks the next one. Loader workers, which inherit open files, cannot keep it.
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
from slowfast.utils.files import FileLockedError, file_lock, no_room_explained
from slowfast.utils.json_file import parse_json

LOCK_NAME = ".run.lock"

# (process id, folder) of the locks that this process holds; a forked child holds none.
_held: set[tuple[int, str]] = set()

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


@contextlib.contextmanager
def run_lock(output_dir: str) -> Iterator[None]:
    """Hold the lock of an output folder. All ranks enter together; entering again inside is allowed.

    Raises:
        FolderInUseError: on every rank, if another job holds the folder; the folder is unchanged.
        OSError: on every rank, if rank 0 cannot write to the folder.
    """
    here = (os.getpid(), os.path.realpath(output_dir))
    if here in _held:
        yield
        return
    with contextlib.ExitStack() as stack:
        refusal = _acquire(output_dir, stack) if is_main_process() else None
        refusal = all_gather_object(refusal)[0]
        if refusal is not None:
            raise refusal
        _held.add(here)
        stack.callback(_held.discard, here)
        yield


def _acquire(output_dir: str, stack: contextlib.ExitStack) -> Exception | None:
    """Take the lock until `stack` closes; return the error if that fails."""
    path = os.path.join(output_dir, LOCK_NAME)
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
