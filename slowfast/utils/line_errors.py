"""Errors in lines of annotation files: a run stops at the first, a checker collects them."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from collections.abc import Iterator

_collected: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("collected", default=None)


class LineErrors(list[str]):
    """The first `limit` messages, and the number of all.

    Attributes:
        count: messages that were appended, kept or not.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.count = limit, 0

    def append(self, message: str, /) -> None:
        """Count the message, and keep it if there is room."""
        self.count += 1
        if len(self) < self.limit:
            super().append(message)


def record(error: ValueError, errors: list[str] | None) -> None:
    """Append the error's message to `errors`, so that the reader skips the line; without a list, raise the error.

    Inside `collect_errors`, its list serves readers that were called without one.
    """
    errors = _collected.get() if errors is None else errors
    if errors is None:
        raise error
    errors.append(str(error))


@contextlib.contextmanager
def collect_errors(errors: list[str]) -> Iterator[None]:
    """Make every reader called in this context skip wrong lines and append the messages to `errors`."""
    token = _collected.set(errors)
    try:
        yield
    finally:
        _collected.reset(token)


def line_of(path: str, number: int) -> str:
    """Return line `number`, from 1, of a text file."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as stream:
        return next(itertools.islice(stream, number - 1, None), "").rstrip("\r\n")
