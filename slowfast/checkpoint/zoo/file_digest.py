"""Size and digest of downloaded files: measured, recorded beside the file, and compared."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from slowfast.utils.files import atomic_write_local

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class FileDigest:
    """Size in bytes and SHA-256 (hexadecimal) of a file; 0 and "" if unknown."""

    size: int = 0
    sha256: str = ""


def digest_of(path: Path) -> FileDigest:
    """Compute size and SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return FileDigest(path.stat().st_size, digest.hexdigest())


def difference(path: Path, known: FileDigest) -> str | None:
    """Describe how a file differs from the known size and SHA-256; None if it does not."""
    size = path.stat().st_size
    if known.size and size != known.size:
        return f"its size is {size} bytes, and should be {known.size}"
    if known.sha256:
        found = digest_of(path).sha256
        if found != known.sha256:
            return f"its SHA-256 is {found}, and should be {known.sha256}"
    return None


def recorded_digest(path: Path) -> FileDigest:
    """Return the digest recorded beside a file; an unknown one if there is none or it cannot be read."""
    try:
        return FileDigest(**json.loads(beside(path, ".json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return FileDigest()


def record_digest(path: Path) -> None:
    """Record the digest of a file beside it."""
    atomic_write_local(beside(path, ".json"), json.dumps(dataclasses.asdict(digest_of(path))) + "\n")


def beside(path: Path, ending: str) -> Path:
    """Return `path` with `ending` added to its name."""
    return path.with_name(path.name + ending)
