"""Words of errors."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
