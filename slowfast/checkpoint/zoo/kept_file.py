"""Size and digest of downloaded files: measured, recorded beside the file, and compared."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from slowfast.utils.files import atomic_write_local

_CHUNK = 1 << 20


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
    atomic_write_local(beside(path, ".json"), json.dumps(dataclasses.asdict(facts_of(path))) + "\n")


def beside(path: Path, ending: str) -> Path:
    """The file next to `path` whose name goes on with `ending`."""
    return path.with_name(path.name + ending)
