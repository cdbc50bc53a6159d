"""A file of JSON values, one a line, to which a program that may be killed adds."""

from __future__ import annotations

import json
import os
from typing import Any, TextIO


def read_log(path: str) -> list[list]:
    """The lists in a log; lines that were cut off, or hold something else, are passed over; nothing without a file."""
    values = []
    if path and os.path.isfile(path):
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            for line in stream:
                try:
                    value = json.loads(line)
                except ValueError:
                    continue
                if isinstance(value, list):
                    values.append(value)
    return values


def open_log(path: str) -> TextIO:
    """The log, to be added to; a last line that was cut off is ended first.

    Raises:
        OSError: the file cannot be written.
    """
    os.makedirs(os.path.dirname(path) or os.curdir, exist_ok=True)
    whole = True
    if os.path.isfile(path) and os.path.getsize(path):
        with open(path, "rb") as stream:
            stream.seek(-1, os.SEEK_END)
            whole = stream.read() == b"\n"
    log = open(path, "a", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 (the caller closes it)
    if not whole:
        log.write("\n")
    return log


def add_to_log(log: TextIO, value: list[Any]) -> None:
    """Add a value, and have it in the file before going on."""
    log.write(json.dumps(value) + "\n")
    log.flush()
