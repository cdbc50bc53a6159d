"""Safe reader for pickles of numpy arrays in plain containers.

A pickle names functions that are called on reading. Here the few names that numpy arrays need are bound to stand-ins,
which build an array from its bytes; all other names are refused. numpy's own functions are not called, since a crafted
state can make them read foreign memory.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

# Booleans, integers and floats of a fixed size in numpy's notation: "f4", "<f4", "|b1".
_NUMBERS = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
# Instructions that create instances of classes, sets, or objects from outside the pickle.
_REFUSED = (
    pickle.INST,
    pickle.OBJ,
    pickle.NEWOBJ,
    pickle.NEWOBJ_EX,
    pickle.EXT1,
    pickle.EXT2,
    pickle.EXT4,
    pickle.EMPTY_SET,
    pickle.FROZENSET,
    pickle.ADDITEMS,
    pickle.PERSID,
    pickle.BINPERSID,
    pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER,
)
_DEEPEST = 20  # levels of containers
_NUMPY_CORES = ("numpy.core", "numpy._core")  # before and since numpy 2


class RefusedPickleError(ValueError):
    """The pickle is damaged, or holds more than arrays and plain containers; nothing was executed."""


def read_plain_pickle(stream: BinaryIO) -> Any:
    """Return the content of a pickle of Python 2 or 3; text and bytes become latin-1 text.

    Raises:
        RefusedPickleError: it names a function or class that arrays do not need (the message says which), or is
            damaged.
    """
    allowed, array_type = _stand_ins()
    try:
        return _arrays_of(_Unpickler(stream, allowed).load(), array_type)
    except RefusedPickleError:
        raise
    except Exception as error:
        # A damaged or crafted pickle can raise any exception, in the unpickler and in the stand-ins.
        reason = (str(error).splitlines() or [""])[0]
        raise RefusedPickleError(f"it cannot be read ({type(error).__name__}: {reason[:200]})") from error


class _Unpickler(pickle._Unpickler):
    """Python's unpickler in Python, restricted to the instructions that arrays need.

    The one in C hashes each key of a dict, and a deeply nested key crashes the process.
    """

    def __init__(self, stream: BinaryIO, allowed: dict[tuple[str, str], Any]):
        super().__init__(stream, encoding="latin1")
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        found = self._allowed.get((module, name))
        if found is None:
            raise RefusedPickleError(
                f"it names {module}.{name}, but a file of weights holds only numpy arrays and plain containers; "
                "nothing was executed. It may be an attack: get the file from its source again"
            )
        return found

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()

    def refuse(self) -> None:
        raise RefusedPickleError("it makes objects other than numpy arrays and plain containers; nothing was executed")

    dispatch = {
        **pickle._Unpickler.dispatch,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        **dict.fromkeys((opcode[0] for opcode in _REFUSED), refuse),
    }


def _stand_ins() -> tuple[dict[tuple[str, str], Any], type]:
    """Return the names that a pickle may use, and the type of an array in it.

    They are made for each pickle, since a pickle can change them.
    """

    class Kind:
        """Stand-in for `numpy.dtype`."""

        def __init__(self, text: str, *_: Any):
            if not isinstance(text, str) or not _NUMBERS.fullmatch(text):
                raise ValueError(f"an array of {str(text)[:40]!r}, which are no plain numbers")
            self.numpy = np.dtype(text)

        def __setstate__(self, state: tuple) -> None:
            if state[1] in ("<", ">"):
                self.numpy = self.numpy.newbyteorder(state[1])

    class Array:
        """Stand-in for `numpy.ndarray`; `numpy` is set when its state is read."""

        numpy: np.ndarray

        def __setstate__(self, state: tuple) -> None:
            _, shape, kind, by_columns, content = state
            self.numpy = _array(shape, kind.numpy, bool(by_columns), content)

    def reconstruct(*_: Any) -> Array:
        return Array()

    def scalar(kind: Kind, content: str | bytes) -> Array:
        return from_buffer(content, kind, (), "C")

    def from_buffer(content: str | bytes, kind: Kind, shape: tuple, order: str) -> Array:
        array = Array()
        array.numpy = _array(shape, kind.numpy, order == "F", content)
        return array

    allowed = {
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Kind,
        ("_codecs", "encode"): _encode,
        ("__builtin__", "bytes"): _no_bytes,
        ("collections", "OrderedDict"): _ordered_dict,
    }
    for core in _NUMPY_CORES:
        allowed[f"{core}.multiarray", "_reconstruct"] = reconstruct
        allowed[f"{core}.multiarray", "scalar"] = scalar
        allowed[f"{core}.numeric", "_frombuffer"] = from_buffer
    return allowed, Array


def _array(shape: Any, kind: np.dtype, by_columns: bool, content: str | bytes) -> np.ndarray:
    """Return a writable array from its bytes, in native byte order; numpy checks the sizes."""
    raw = content.encode("latin1") if isinstance(content, str) else content
    flat = np.frombuffer(bytearray(raw), dtype=kind)
    array = flat.reshape(tuple(int(size) for size in shape), order="F" if by_columns else "C")
    return np.ascontiguousarray(array, dtype=kind.newbyteorder("=")).reshape(array.shape)


def _ordered_dict(pairs: Iterable[tuple[Any, Any]] = ()) -> dict:
    """Stand in for `collections.OrderedDict`."""
    pairs = [(key, value) for key, value in pairs]
    _check_keys([key for key, _ in pairs])
    return dict(pairs)


def _check_keys(keys: Iterable[Any]) -> None:
    wrong = next((key for key in keys if not isinstance(key, (str, bytes, int, float, type(None)))), None)
    if wrong is not None:
        raise RefusedPickleError(f"it has a {type(wrong).__name__} as a key of a dict, and nothing was executed")


def _encode(text: str, encoding: str = "latin1", *_: Any) -> bytes:
    """Stand in for `_codecs.encode`, by which Python 3 writes bytes in a pickle for Python 2."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes written as {str(encoding)[:40]!r}")
    return str.encode(text, "latin1")


def _no_bytes() -> bytes:
    """Stand in for `bytes()`, by which Python 3 writes the bytes of an empty array in a pickle for Python 2."""
    return b""


def _arrays_of(item: Any, array_type: type) -> Any:
    """Return `item` with stand-ins replaced by arrays, in dicts, lists and tuples (which become lists).

    A container that occurs several times is converted once.
    """
    done: dict[int, Any] = {}

    def convert(item: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError(f"containers nested more than {_DEEPEST} deep")
        if isinstance(item, array_type):
            return item.numpy
        if isinstance(item, (str, bytes, int, float, complex, type(None))):
            return item
        if not isinstance(item, (dict, list, tuple)):
            raise ValueError(f"it holds a {type(item).__name__}")
        if id(item) not in done:
            inner = [convert(value, depth + 1) for value in (item.values() if isinstance(item, dict) else item)]
            done[id(item)] = dict(zip(item, inner, strict=True)) if isinstance(item, dict) else inner
        return done[id(item)]

    return convert(item, 0)
