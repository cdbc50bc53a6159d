"""Error messages, options and exit status of tools, and errors in lines of annotation files.

At a wrong line a run stops; a checker collects the errors of all lines.
"""

from __future__ import annotations

import argparse
import contextlib
import contextvars
import itertools
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from functools import reduce
from operator import getitem
from typing import Any

from slowfast.utils.text import PrintableStream, printable

# What is wrong with a path that is to be written.
_IN_THE_WAY = {
    FileExistsError: "is a file, and a folder is needed",
    NotADirectoryError: "has a file where a folder is needed",
    IsADirectoryError: "is a folder, and a file is needed",
}
_LONGEST_NAME = 200  # characters that are compared with others, which takes time by the square
_collected: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("collected", default=None)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _Brief(reprlib.Repr):
    """Writes values out in part."""

    def repr_int(self, x: int, level: int) -> str:
        """Return a number; Python refuses to write out very long ones."""
        return f"a number of {x.bit_length()} bits" if x.bit_length() > 1000 else super().repr_int(x, level)


def short(value: Any, longest: int = 100) -> str:
    """Return a value as one line of at most `longest` characters, for a message about a foreign file.

    Text and messages of errors are shown as they are, other values by `repr`. Large or deep ones are not written out
    whole before they are cut.
    """
    if isinstance(value, BaseException):
        text = first_line(value)
    elif isinstance(value, str):
        text = value[: 2 * longest]
    else:
        brief = _Brief()
        brief.maxlevel, brief.maxlong, brief.maxstring, brief.maxother = 3, longest, longest, longest
        text = brief.repr(value)
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def quote(text: str, longest: int = 200) -> str:
    """Return the text in quotes, cut after `longest` characters, for a message about a line of a file."""
    return repr(text if len(text) <= longest else f"{text[:longest]}...")


def nearest_keys(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Return the `count` entries of `known` that are most similar to `name`, best first.

    Case and surrounding underscores do not count. A key with the same last part in another section (`TRAIN.BASE_LR` for
    `SOLVER.BASE_LR`) comes before keys that are merely similar.
    """
    wanted = _plain(name[:_LONGEST_NAME])
    leaf = wanted.rpartition(".")[2]

    def likeness(candidate: str) -> tuple[bool, float]:
        plain = _plain(candidate)
        moved = "." in plain and plain.rpartition(".")[2] == leaf
        return moved, SequenceMatcher(None, wanted, plain).ratio()

    return sorted(sorted(known), key=likeness, reverse=True)[:count]


def check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Check that `value` is one of `choices`, which may be patterns (* matches anything, [0-9] a digit).

    Raises:
        ValueError: with `key`, the value found, all choices and the nearest one.
    """
    if not any(fnmatchcase(value, choice) for choice in choices):
        nearest = "".join(f" The nearest is {near}." for near in nearest_keys(value, choices))
        raise ValueError(f"{key} is {short(value)!r}; it can be {', '.join(choices) or 'nothing yet'}.{nearest}")


@contextlib.contextmanager
def naming_keys(cfg: Any, *keys: str) -> Iterator[None]:
    """Put keys of the config and their values in front of the message of a ValueError raised inside.

    Builders use it: what they build checks plain arguments, and a user looks for the keys.
    """
    try:
        yield
    except ValueError as error:
        settings = ", ".join(f"{key} {reduce(getitem, key.split('.'), cfg)!r}" for key in keys)
        raise ValueError(f"{settings}: {error}") from error


def require_matplotlib() -> Any:
    """Import and return matplotlib; ValueError that says what to install if it is missing."""
    try:
        import matplotlib
    except ImportError as error:
        raise ValueError(
            "pictures take matplotlib, not installed here: pip install matplotlib (the extra `plot`)"
        ) from error
    return matplotlib


def names_among(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a parser, for argparse, of comma-separated names that are all in `known`."""

    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return names

    return parse


def nearest_multiples(number: int, divisor: int) -> str:
    """Return the positive multiples of `divisor` next to `number`, in words: "16 or 20"."""
    below = number - number % divisor
    return " or ".join(str(multiple) for multiple in (below, below + divisor) if multiple)


def _plain(name: str) -> str:
    return name.upper().strip("_")


def print_error(error: Exception | str, hint: str = "") -> None:
    """Print an error's message to standard error, as text that cannot act on a terminal.

    Args:
        error: the error, or its message.
        hint: words behind the message.
    """
    message = str(error)
    for kind, found in _IN_THE_WAY.items():
        if isinstance(error, kind) and error.filename is not None:
            message = f"{error.filename} {found}; name another, or move what is there"
    print(printable(f"error: {message} {hint}".rstrip()), file=sys.stderr)


def exit_status(
    work: Callable[[], int | None],
    debug: bool | None = None,
    resumes: str = "",
    mistakes: tuple[type[Exception], ...] = (ValueError, OSError, FloatingPointError),
) -> int:
    """Run a tool and return its exit status: that of `work` (None: 0), 2 for a user's mistake, 130 for Ctrl-C.

    What the work prints passes `printable`, because names of files and classes may hold escape sequences.

    Args:
        work: function that does the work.
        debug: value of `--debug`, which raises mistakes; None for a tool without it.
        resumes: message about starting again after Ctrl-C; "" raises KeyboardInterrupt.
        mistakes: errors of `work` that are a user's mistakes, printed in one line.
    """
    try:
        with contextlib.redirect_stdout(PrintableStream(sys.stdout)):
            return work() or 0
    except mistakes as error:
        if debug:
            raise
        print_error(error, "" if debug is None else "(--debug shows the traceback)")
        return 2
    except KeyboardInterrupt:
        if not resumes:
            raise
        print(f"\nstopped; {resumes}", file=sys.stderr)
        return 130


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
