"""Count video files that cannot be decoded, and stop when there are too many."""

from __future__ import annotations

from collections.abc import Iterable

from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

_SHOWN = 20


class UnreadableError(RuntimeError):
    """Too many video files cannot be read; the message lists them."""


class UnreadableFiles(dict[str, str]):
    """Path -> first cause of the unreadable files of one split.

    Args:
        num_files: files of the split.
        max_fraction: fraction of them that may be unreadable (`DATA.MAX_UNREADABLE_FRACTION`).
        answer: how such a file is handled, for the log.
        folder_key: configuration key of the folder of the files.
        kind: of the files, for messages.
    """

    def __init__(
        self,
        num_files: int,
        max_fraction: float,
        answer: str = "replaced by another file",
        folder_key: str = "DATA.PATH_PREFIX",
        kind: str = "video",
    ) -> None:
        super().__init__()
        self.num_files = num_files
        self.max_fraction = max_fraction
        self.answer = answer
        self.folder_key = folder_key
        self.kind = kind

    def add(self, path: str, cause: str) -> bool:
        """Add a file; if it is new, log it and return True."""
        if path in self:
            return False
        self[path] = cause
        logger.warning("unreadable %s %s: %s (%s)", self.kind, path, cause, self.answer)
        return True

    def update_from(self, pairs: Iterable[tuple[str, str]]) -> int:
        """Add (path, cause) pairs, such as `Batch.unreadable`; return how many are new."""
        return sum(self.add(path, cause) for path, cause in pairs)

    def check(self) -> None:
        """Raise UnreadableError if more than `max_fraction` of the files are unreadable."""
        if len(self) <= self.max_fraction * self.num_files:
            return
        lines = [f"  {path}: {cause}" for path, cause in list(self.items())[:_SHOWN]]
        if len(self) > _SHOWN:
            lines.append(f"  ... and {len(self) - _SHOWN} more, each with its cause in the log")
        raise UnreadableError(
            f"{len(self)} of {self.num_files} {self.kind} files cannot be read, more than "
            f"DATA.MAX_UNREADABLE_FRACTION {self.max_fraction:g} allows. "
            f"If they do not exist, check {self.folder_key}.\n" + "\n".join(lines)
        )
