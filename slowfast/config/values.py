"""Convert a value to the type of its default: `"1e-4"` to a float, `"(3, 7, 7)"` to a list, `8` to `[8]`."""

import ast
import itertools
import math
import os
import re
from typing import Any

import yaml

from slowfast.utils.errors import short

LONGEST = 10_000  # characters of a text; paths have at most 4,096
DEEPEST = 50  # nested lists and sections; settings have 5
_LONGEST_LIST = 100_000  # characters of a list given as text
_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
_WORDS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}
_NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "text", list: "a list"}


class WrongType(Exception):
    """Value of another type than its key; `args[0]` names the expected type."""


def read_value(value: Any, kind: type | None, example: Any = None, nullable: bool = False) -> Any:
    """Convert a YAML or Python value, or a word of a command line, to `kind`.

    Args:
        kind: type; None for any plain value.
        example: default of a list, whose items tell the type of the value's items.
        nullable: None, or the text "None", stays None; otherwise it becomes the empty text or list.

    Raises:
        WrongType: the value has another type.
    """
    if value is None or value == "None":
        if nullable or kind is None:
            return None
        if kind in (str, list):
            return kind()
        raise WrongType(_expected(kind))
    readers = {bool: _bool, int: _int, float: _float, str: _str}
    try:
        if kind is list:
            return _list(value, example)
        return readers[kind](value) if kind in readers else _any(value)
    except RecursionError:  # of a list that contains itself too
        raise WrongType(f"{_expected(kind)}, nested at most {DEEPEST} deep") from None


def _expected(kind: type | None) -> str:
    """Return the type in words, for messages."""
    return _NAMES.get(kind, "a plain value")


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    raise WrongType(_expected(bool))


def _float(value: Any) -> float:
    if isinstance(value, str):
        try:
            value = float(value.lower().replace(".inf", "inf"))
        except ValueError:
            raise WrongType(_expected(float)) from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WrongType(_expected(float))
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if math.isnan(value):
        raise WrongType(_expected(float))
    return value


def _int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return _small(int(value))
        except ValueError:
            value = _number_or_fail(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise WrongType(_expected(int))
    return _small(value)


def _small(value: int) -> int:
    """Return a number that fits into 64 bits, as those of PyTorch and NumPy do."""
    if not -(2**63) <= value < 2**64:
        raise WrongType(f"{_expected(int)} of at most 64 bits")
    return value


def _number_or_fail(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise WrongType(_expected(int)) from None


def _str(value: Any) -> str:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if not isinstance(value, str):
        raise WrongType(f"{_expected(str)} (in YAML, put quotes around it)")
    # Checkpoints hold the settings as YAML in UTF-8, and file names hold no null character.
    if len(value) > LONGEST or "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise WrongType(f"UTF-8 text without null characters, at most {LONGEST:,} long")
    return value


def _any(value: Any) -> Any:
    """Convert a value without a known type: numbers with an exponent and bracketed lists are read."""
    if isinstance(value, str):
        if _EXPONENT.fullmatch(value):
            return float(value)
        parsed = _parsed(value)
        return _str(parsed) if isinstance(parsed, str) else _any(parsed)
    if isinstance(value, (list, tuple)):
        return [_any(item) for item in value]
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return _small(value)
    raise WrongType(_expected(None))


def _list(value: Any, example: Any) -> list[Any]:
    value = _parsed(value) if isinstance(value, str) else value
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    sample = example[0] if example else None
    if sample is None:
        return [_any(item) for item in items]
    kind = float if isinstance(sample, (int, float)) and _has_fraction(example) else type(sample)
    try:
        return [read_value(item, kind, sample) for item in items]
    except WrongType as error:
        raise WrongType(f"a list whose items are each {error.args[0]}") from None


def _has_fraction(items: list[Any]) -> bool:
    return any(isinstance(item, float) for item in items)


def literal(text: str) -> Any:
    """Return the value of a Python literal, without running code.

    Raises:
        ValueError: it is none, or it is too large.
    """
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("not a literal") from error


def _parsed(text: str) -> Any:
    """Parse text that starts with a bracket as a literal, without running code; return other text unchanged."""
    if not text.lstrip().startswith(("[", "(")):
        return text
    if len(text) > _LONGEST_LIST or _depth(text) > DEEPEST:
        raise WrongType(f"a list of at most {_LONGEST_LIST:,} characters, nested at most {DEEPEST} deep")
    try:
        return literal(text.strip())
    except ValueError:
        return _yaml_list(text)


def _depth(text: str) -> int:
    steps = ((character in "([{") - (character in ")]}") for character in text)
    return max(itertools.accumulate(steps), default=0)


def _yaml_list(text: str) -> Any:
    """Parse `[one, other]` without quotes, as a shell leaves it.

    Raises:
        ValueError: text that starts like a list and is not one.
    """
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, TypeError) as error:
        # PyYAML raises the others for a value that does not fit its tag.
        if text.startswith("["):
            raise ValueError(
                f"{short(text)} is not a list; quote its entries, as in \"['s1', '*pathway0*']\""
            ) from error
        return text
    return value if isinstance(value, list) else text
