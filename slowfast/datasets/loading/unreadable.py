"""Book-keeping of video files that cannot be decoded."""

from __future__ import annotations

from collections.abc import Iterable

from slowfast.runtime.logging import get_logger

logger = get_logger(__name__)

SHOWN = 20


class UnreadableError(RuntimeError):
    """So many video files cannot be read that going on makes no sense; the message lists them."""


class UnreadableFiles(dict[str, str]):
    """Path -> first cause, of the files of one split that could not be read so far.

    Args:
        num_files: files of the split.
        max_fraction: share of them that may be unreadable (`DATA.MAX_UNREADABLE_FRACTION`).
        answer: what happens with such a file, for the log.
        folder_key: the setting that says where the files lie.
    """

    def __init__(
        self,
        num_files: int,
        max_fraction: float,
        answer: str = "replaced by another file",
        folder_key: str = "DATA.PATH_PREFIX",
    ) -> None:
        super().__init__()
        self.num_files = num_files
        self.max_fraction = max_fraction
        self.answer = answer
        self.folder_key = folder_key

    def add(self, path: str, cause: str) -> bool:
        """Note a file; True, and a line in the log, if it is new."""
        if path in self:
            return False
        self[path] = cause
        logger.warning("unreadable video %s: %s (%s)", path, cause, self.answer)
        return True

    def update_from(self, pairs: Iterable[tuple[str, str]]) -> int:
        """Note (path, cause) pairs, such as `Batch.unreadable`; how many of them are new."""
        return sum(self.add(path, cause) for path, cause in pairs)

    def check(self) -> None:
        """UnreadableError with the list, once more than `max_fraction` of the files are unreadable."""
        if len(self) <= self.max_fraction * self.num_files:
            return
        lines = [f"  {path}: {cause}" for path, cause in list(self.items())[:SHOWN]]
        if len(self) > SHOWN:
            lines.append(f"  ... and {len(self) - SHOWN} more, each with its cause in the log")
        raise UnreadableError(
            f"{len(self)} of {self.num_files} video files cannot be read, more than "
            f"DATA.MAX_UNREADABLE_FRACTION {self.max_fraction:g} allows. "
            f"If they do not exist, check {self.folder_key}.\n" + "\n".join(lines)
        )
