"""Opening of regular files only, atomic file writing, and locks on files between processes and hosts."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from slowfast.runtime.distributed import is_main_process
from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

Content = str | bytes | Callable[[BinaryIO], object]
TEMPORARY = ".tmp"  # ending of files that are not complete
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder"}
# Errors of file systems without locks: NFS without its lock service, Lustre mounted without locks, FUSE.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
# Errors of file systems that cannot flush a folder, some network ones and FUSE.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}
# Errors of a rename that may pass.
_PASSING = {errno.ESTALE, errno.EBUSY, errno.EINTR}


def regular_file(path: str | bytes | os.PathLike, flags: int) -> int:
    """Open a regular file and return its descriptor: `open(path, opener=regular_file)`.

    A pipe would wait for a writer, and a device such as /dev/zero may never end.

    Raises:
        OSError: no such file, or what is there is no regular file.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"not a regular file but {_KINDS.get(stat.S_IFMT(mode), 'something else')}", path)
    return descriptor


def atomic_write(path: str | os.PathLike, content: Content) -> None:
    """Write a file from rank 0, with its folder; other ranks do nothing. See `atomic_write_local`."""
    if is_main_process():
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        atomic_write_local(path, content)


def atomic_write_local(path: str | os.PathLike, content: Content, durable: bool = False) -> None:
    """Write a file from this process, whatever its rank; readers find the complete file or the former one.

    Args:
        content: bytes, text (UTF-8), or a function that writes to a binary stream.
        durable: flush the file and its folder to disk, so that the write survives a power cut.

    Raises:
        OSError: the folder is missing, or the disk is full; the former file is unchanged.
    """
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        if callable(content):
            content(stream)
        else:
            stream.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
    if durable:
        _sync_folder(os.path.dirname(os.path.abspath(path)))


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Yield the path of a temporary file; rename it to `path` on success, remove it on an error."""
    temporary = os.fspath(path) + TEMPORARY
    try:
        yield temporary
        _rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def _rename(source: str, target: str | os.PathLike) -> None:
    """Rename a file, and try again where a network file system is at fault for a moment.

    NFS gives ESTALE after its server moved. It asks again when an answer was lost, and then no longer finds the source.
    """
    identity = os.stat(source).st_ino
    for pause_s in (0.1, 1.0, None):
        try:
            os.replace(source, target)
            return
        except OSError as error:
            if error.errno == errno.ENOENT and os.path.exists(target) and os.stat(target).st_ino == identity:
                return
            if error.errno not in _PASSING or pause_s is None:
                raise
            time.sleep(pause_s)


def _sync_folder(folder: str) -> None:
    """Flush a folder to disk, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


class FileLockedError(OSError):
    """Another process holds the lock.

    Attributes:
        note: bytes that the holder wrote into the lock file; empty while it is only starting.
    """

    def __init__(self, path: str, note: bytes) -> None:
        super().__init__(errno.EAGAIN, "another process holds the lock", path)
        self.note = note


@contextlib.contextmanager
def file_lock(path: str | os.PathLike, name: str, wait: bool = True, note: str = "") -> Iterator[None]:
    """Hold an exclusive POSIX record lock (`fcntl.lockf`) on the file `path`, which is created.

    The kernel drops the lock when this process ends, however it ends; forked children do not keep it. Over NFS it
    holds between hosts. On a file system without locks a warning is logged, and nothing is locked.

    Args:
        name: what the lock protects, for messages.
        wait: wait for another holder; False raises.
        note: text about this process, kept in the file while the lock is held.

    Raises:
        FileLockedError: another process holds the lock, with `wait` False.
        OSError: the file cannot be created.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if _lock(descriptor, os.fspath(path), name, wait):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note.encode(), 0)
            try:
                yield
            finally:
                # The file stays: after a removal two processes could each hold a lock, one of them on the removed file.
                os.ftruncate(descriptor, 0)
        else:
            yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: str, name: str, wait: bool) -> bool:
    """Lock an open file; False on a file system without locks."""
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if not wait:
                raise FileLockedError(path, os.pread(descriptor, 10_000, 0)) from None
            logger.info("waiting for another process that works on %s", name)
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("%s cannot be locked (%s): run one job at a time on it", name, error.strerror)
        return False
