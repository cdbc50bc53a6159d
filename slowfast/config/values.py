"""Convert a value to the type of its default: `"1e-4"` to a float, `"(3, 7, 7)"` to a list, `8` to `[8]`."""

import ast
import math
import os
import re
from typing import Any

import yaml

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
    if kind is list:
        return _list(value, example)
    return readers[kind](value) if kind in readers else _any(value)


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
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise WrongType(_expected(float))
    return float(value)


def _int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            value = _number_or_fail(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise WrongType(_expected(int))
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
    return value


def _any(value: Any) -> Any:
    """Convert a value without a known type: numbers with an exponent and bracketed lists are read."""
    if isinstance(value, str):
        if _EXPONENT.fullmatch(value):
            return float(value)
        return _parsed(value)
    if isinstance(value, (list, tuple)):
        return [_any(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
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


def _parsed(text: str) -> Any:
    """Parse text that starts with a bracket as a literal, without running code; return other text unchanged."""
    if not text.lstrip().startswith(("[", "(")):
        return text
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return _yaml_list(text)


def _yaml_list(text: str) -> Any:
    """Parse `[one, other]` without quotes, as a shell leaves it.

    Raises:
        ValueError: text that starts like a list and is not one.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        if text.startswith("["):
            raise ValueError(f"{text} is not a list; quote its entries, as in \"['s1', '*pathway0*']\"") from error
        return text
    return value if isinstance(value, list) else text
