"""Helpers for error messages, and for the options and exit status of tools."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest_keys(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Return the `count` entries of `known` that are most similar to `name`, best first.

    Case and surrounding underscores do not count. A key with the same last part in another section (`TRAIN.BASE_LR` for
    `SOLVER.BASE_LR`) comes before keys that are merely similar.
    """
    wanted = _plain(name)
    leaf = wanted.rpartition(".")[2]

    def likeness(candidate: str) -> tuple[bool, float]:
        plain = _plain(candidate)
        moved = "." in plain and plain.rpartition(".")[2] == leaf
        return moved, SequenceMatcher(None, wanted, plain).ratio()

    return sorted(sorted(known), key=likeness, reverse=True)[:count]


def check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Check that `value` is one of `choices`.

    Raises:
        ValueError: with `key`, the value found, all choices and the nearest one.
    """
    if value not in choices:
        nearest = "".join(f" The nearest is {near}." for near in nearest_keys(value, choices))
        raise ValueError(f"{key} is {value!r}; it can be {', '.join(choices) or 'nothing yet'}.{nearest}")


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


def exit_status(
    work: Callable[[], int | None],
    debug: bool | None = None,
    resumes: str = "",
    mistakes: tuple[type[Exception], ...] = (ValueError, OSError),
) -> int:
    """Run a tool and return its exit status: that of `work` (None: 0), 2 for a user's mistake, 130 for Ctrl-C.

    Args:
        work: function that does the work.
        debug: value of `--debug`, which raises mistakes; None for a tool without it.
        resumes: message about starting again after Ctrl-C; "" raises KeyboardInterrupt.
        mistakes: errors of `work` that are a user's mistakes, printed in one line.
    """
    try:
        return work() or 0
    except mistakes as error:
        if debug:
            raise
        print(f"error: {error}{'' if debug is None else ' (--debug shows the traceback)'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if not resumes:
            raise
        print(f"\nstopped; {resumes}", file=sys.stderr)
        return 130
