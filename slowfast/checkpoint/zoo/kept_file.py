"""Files that are fetched once: whether they are still what they were, and one process at a time with each."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from slowfast.runtime.logging import get_logger
from slowfast.utils.files import atomic_write_local

logger = get_logger(__name__)

_CHUNK = 1 << 20
# What file systems that cannot lock answer.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@dataclasses.dataclass(frozen=True)
class Facts:
    """Size in bytes and SHA-256 (hexadecimal) of a file; 0 and "" where they are not known."""

    size: int = 0
    sha256: str = ""


def facts_of(path: Path) -> Facts:
    """Measured from the file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return Facts(path.stat().st_size, digest.hexdigest())


def difference(path: Path, known: Facts) -> str | None:
    """What differs from the size and digest that are known, as a part of a sentence; None if nothing does."""
    size = path.stat().st_size
    if known.size and size != known.size:
        return f"its size is {size} bytes, and should be {known.size}"
    if known.sha256:
        found = facts_of(path).sha256
        if found != known.sha256:
            return f"its SHA-256 is {found}, and should be {known.sha256}"
    return None


def recorded(path: Path) -> Facts:
    """What was recorded of a file when it came; nothing known where nothing was, or the note cannot be read."""
    try:
        return Facts(**json.loads(beside(path, ".json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Facts()


def record(path: Path) -> None:
    """Note the facts of a file beside it, for later."""
    text = json.dumps(dataclasses.asdict(facts_of(path))) + "\n"
    atomic_write_local(str(beside(path, ".json")), lambda stream: stream.write(text.encode()))


def beside(path: Path, ending: str) -> Path:
    """The file next to `path` whose name goes on with `ending`."""
    return path.with_name(path.name + ending)


@contextlib.contextmanager
def alone_with(path: Path, name: str) -> Iterator[None]:
    """Hold a lock that belongs to `path` while entered; waits for another process that holds it, and says so.

    The kernel drops the lock when a process ends, however it ends. Where the file system has no locks this is said.

    Raises:
        OSError: the folder cannot be written.
    """
    with open(beside(path, ".lock"), "w") as stream:
        try:
            try:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("waiting for another process that is busy with %s", name)
                fcntl.lockf(stream, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logger.warning("%s cannot be locked (%s); let one process at a time fetch it", path, error.strerror)
        yield
