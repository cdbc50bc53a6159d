"""The temporary folder of a server, which the next server removes if this one is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

_PREFIX, _LOCK = "slowfast-serve-", "lock"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder, removed at the end; first remove those of servers that were killed.

    A server holds a lock on a file in its folder. The kernel drops it when the process ends, however it ends.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _remove_if_abandoned(folder):
            logger.info("removed %s, which a server that was killed had left", folder)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        descriptor = os.open(os.path.join(name, _LOCK), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Content says that the lock was taken: not yet, or on a file system without locks, there is none.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                os.write(descriptor, b"locked\n")
            yield Path(name)
        finally:
            os.close(descriptor)


def _remove_if_abandoned(folder: Path) -> bool:
    """Remove a folder of this user whose lock was taken, and is free now; return True if it was removed."""
    try:
        status = os.lstat(folder)  # of a link, which is no folder
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            return False
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if not os.fstat(descriptor).st_size:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
        return True
    except OSError:  # it is locked, or cannot be removed
        return False
    finally:
        os.close(descriptor)
