"""Files: opening of regular ones only, atomic writing, appending, and locks between processes and hosts.

A name where this program writes may hold something that is not its own: a link, a folder, a named pipe. The rule: a
folder that it is given may be a link, and is followed. A file of its own is not.
- A file that is written as a whole replaces what is under its name: of a link, the link and not its target.
- A file that is appended to or locked has to be a regular file. Anything else is refused, and is not opened.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

# Not by `get_logger`: its module writes log files by this one.
logger = logging.getLogger(__name__)

Content = str | bytes | Callable[[BinaryIO], object]
TEMPORARY = ".tmp"  # ending of files that are not complete
_LONGEST_NAME = 255  # bytes of a file name on most file systems
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder"}
# Errors of file systems without locks: NFS without its lock service, Lustre mounted without locks, FUSE.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
# Errors of file systems that cannot flush a folder, some network ones and FUSE.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}
# Errors of a rename that may pass.
_PASSING = {errno.ESTALE, errno.EBUSY, errno.EINTR}
# Errors of a write that finds no room: a full disk, a quota, a limit on the size of files.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ERROR_NUMBER = re.compile(r"\bos error (\d+)\b")


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


def atomic_write_local(path: str | os.PathLike, content: Content, durable: bool = False) -> None:
    """Write a file from this process, whatever its rank; readers find the complete file or the former one.

    Args:
        content: bytes, text (UTF-8), or a function that writes to a binary stream. If the disk is full, the function is
            called again, to measure what it writes.
        durable: flush the file and its folder to disk, so that the write survives a power cut.

    Raises:
        OSError: the folder is missing, or the disk is full; the former file is unchanged.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    fill = data if callable(data) else lambda stream: stream.write(data)
    with no_room_explained(path, fill), replacing(path) as temporary, open(temporary, "wb") as stream:
        fill(stream)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
    if durable:
        _sync_folder(os.path.dirname(os.path.abspath(path)))


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Yield the path of a new, empty temporary file; rename it to `path` on success, remove it on an error.

    What lay under the temporary name is removed first: a file of a process that was killed, or a link.

    Raises:
        OSError: the folder is missing or cannot be written, or a folder has one of the two names.
    """
    temporary = temporary_path(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
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


def temporary_path(path: str | os.PathLike) -> str:
    """Return the path of the temporary file of `replacing`: `path` and an ending, or a digest if that is too long."""
    folder, name = os.path.split(os.fspath(path))
    if len(os.fsencode(name + TEMPORARY)) > _LONGEST_NAME:
        name = hashlib.sha1(os.fsencode(name), usedforsecurity=False).hexdigest()
    return os.path.join(folder, name + TEMPORARY)


class NoRoomError(OSError):
    """There is no room to write a file; the message says how many bytes it needs, and how many are free."""


@contextlib.contextmanager
def no_room_explained(path: str | os.PathLike, fill: Callable[[BinaryIO], object] | None = None) -> Iterator[None]:
    """Turn an error about a full disk, of any library, into a NoRoomError about `path`.

    Args:
        path: file that is written, or folder of the files.
        fill: what writes the file, called once more to measure it; None if that cannot be repeated.
    """
    try:
        yield
    except NoRoomError:
        raise
    except Exception as error:
        number = _no_room(error)
        if not number:
            raise
        needed = _size_of(fill) if fill is not None else 0
        folder = os.path.abspath(path)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        disk = os.statvfs(folder)
        needs = f"it needs {needed:,} bytes, and " if needed else ""
        told = f"{os.strerror(number)}; {needs}{disk.f_bavail * disk.f_frsize:,} bytes are free"
        raise NoRoomError(number, told, os.fspath(path)) from error


def _no_room(error: BaseException | None) -> int:
    """Return the error number if an error, or what it came from, tells that there is no room; else 0."""
    while error is not None:
        found = _ERROR_NUMBER.search(str(error))  # as Rust writes it
        number = error.errno if isinstance(error, OSError) and error.errno else int(found[1]) if found else 0
        if number in _NO_ROOM:
            return number
        error = error.__cause__ or error.__context__
    return 0


def _size_of(fill: Callable[[BinaryIO], object]) -> int:
    """Return how many bytes `fill` writes; 0 if that fails."""
    size = _Size()
    with contextlib.suppress(Exception):
        fill(size)
        return size.size
    return 0


class _Size(io.RawIOBase):
    """Stream that keeps nothing of what is written but its size in bytes."""

    def __init__(self) -> None:
        self.size = self._place = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = (0, self._place, self.size)[whence] + offset
        return self._place

    def write(self, data: bytes) -> int:
        count = memoryview(data).nbytes
        self._place += count
        self.size = max(self.size, self._place)
        return count


def check_regular(path: str | os.PathLike) -> None:
    """Check that nothing but a regular file has this name, without opening it.

    Raises:
        OSError: a link, a folder, a named pipe or a device has it.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise OSError(errno.EEXIST, f"{kind} has the name of a file of this program; move it away", os.fspath(path))


def open_own(path: str | os.PathLike) -> int:
    """Open a regular file to read it and append to it, and create it if it is missing; return the descriptor.

    Raises:
        OSError: see `check_regular`, or the file cannot be written.
    """
    check_regular(path)
    # The flags guard against what takes the name just now.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(path, flags, 0o666)


def append_line(path: str | os.PathLike, line: str) -> None:
    """Append a line to a file, whole or not at all. A line that was cut off is ended first.

    Raises:
        OSError: see `open_own`, or the disk is full.
    """
    descriptor = open_own(path)
    try:
        size = os.fstat(descriptor).st_size
        data = line.encode("utf-8", "surrogateescape") + b"\n"
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data
        with no_room_explained(path, lambda stream: stream.write(data)):
            try:
                rest = data
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError:
                os.ftruncate(descriptor, size)
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
        note: a JSON object about this process, or "", kept in the file while the lock is held.

    Raises:
        FileLockedError: another process holds the lock, with `wait` False.
        OSError: the file cannot be created, see `open_own`, or holds something else than a note.
    """
    descriptor = open_own(path)
    try:
        if _lock(descriptor, os.fspath(path), name, wait):
            if os.pread(descriptor, 1, 0) not in (b"", b"{"):
                told = "it is no lock file of this program: it holds other content; move it away"
                raise OSError(errno.EEXIST, told, os.fspath(path))
            os.ftruncate(descriptor, 0)
            os.write(descriptor, note.encode())
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
