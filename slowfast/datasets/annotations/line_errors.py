"""What becomes of a line of an annotation file that is wrong: the first one ends a run, a checker wants to see more."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from collections.abc import Iterator
from typing import Protocol

_collecting: contextvars.ContextVar[LineError | None] = contextvars.ContextVar("collecting", default=None)


class LineError(Protocol):
    """Where readers put the messages about wrong lines; a list is one."""

    def append(self, message: str, /) -> None:
        """Take a message that names file, line number and line."""


class LineErrors(list[str]):
    """The first messages of a file or of several, and the number of all.

    Args:
        limit: messages that are kept.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.count = limit, 0

    def append(self, message: str, /) -> None:
        """Count the message, and keep it while there is room."""
        self.count += 1
        if len(self) < self.limit:
            super().append(message)


def note(error: ValueError, wrong: LineError | None) -> None:
    """Put the error's message into `wrong`, whose reader then passes over the line; without one, raise it.

    Under `collecting` there is one for readers that were called without.
    """
    wrong = _collecting.get() if wrong is None else wrong
    if wrong is None:
        raise error
    wrong.append(str(error))


@contextlib.contextmanager
def collecting(wrong: LineError) -> Iterator[None]:
    """Have every reader called in this context pass over wrong lines and put the messages into `wrong`."""
    token = _collecting.set(wrong)
    try:
        yield
    finally:
        _collecting.reset(token)


def line_of(file: str, number: int) -> str:
    """The line of that number, from 1, of a text file."""
    with open(file, encoding="utf-8-sig", errors="surrogateescape") as stream:
        return next(itertools.islice(stream, number - 1, None), "").rstrip("\r\n")
