"""Read JSON: every mistake is a ValueError, in files of other programs with file and line."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

from slowfast.utils.files import regular_file

_SHOWN = 200


def read_text(path: str | os.PathLike) -> str:
    """Read a text file (UTF-8; other bytes are kept as surrogates)."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape", opener=regular_file) as stream:
        return stream.read()


def read_json(path: str | os.PathLike, kind: type | tuple[type, ...], form: str) -> Any:
    """Read a JSON file.

    Args:
        kind: type, or types, of the whole.
        form: what the file has to look like, for the message.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it does not parse, an object has a name twice, or the whole is of another type; with file and line.
    """
    text = read_text(path)
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{_place(path, text, error.lineno)} does not parse: {error.msg} (it is not like {form})"
        ) from None
    except _RepeatedName as error:
        name = json.dumps(error.args[0])
        second = text.find(name, text.find(name) + len(name))
        line = text.count("\n", 0, max(second, 0)) + 1
        raise ValueError(f"{_place(path, text, line)} has the name {name:.{_SHOWN}} twice in one object") from None
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits
        raise ValueError(f"{_place(path, text, 1)} does not parse: {error} (it is not like {form})") from None
    if not isinstance(value, kind):
        raise ValueError(f"{path}, line 1: the file is not like {form}")
    return value


def parse_json(text: str | bytes) -> Any:
    """Parse JSON of our own; raise ValueError if it is none, or is nested deeper than Python follows."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


class _RepeatedName(Exception):
    pass


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise _RepeatedName(next(name for name, count in counts.items() if count > 1))
    return values


def _place(path: str | os.PathLike, text: str, line: int) -> str:
    shown = text.split("\n")[line - 1 : line] or [""]
    return f"{path}, line {line}: {shown[0][:_SHOWN]!r}"
