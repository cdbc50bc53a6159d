"""Safe reader for pickles of numpy arrays in plain containers.

A pickle names functions that are called on reading. Here the few names that numpy arrays need are bound to stand-ins,
which build an array from its bytes; all other names are refused. numpy's own functions are not called, since a crafted
state can make them read foreign memory.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import warnings
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
import torch

from slowfast.utils.errors import short

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
_NUMPY_CORES = ("numpy.core", "numpy._core")  # before and since numpy 2
_DEEPEST = 20  # levels of containers
# Arguments of all calls together may be this many times as long as the pickle, and 1 MiB in any case.
_ROOM, _SMALL = 16, 2**20


class RefusedPickleError(ValueError):
    """The pickle is damaged, or holds more than arrays and plain containers; nothing was executed."""


def read_plain_pickle(stream: BinaryIO, tensors: bool = False) -> Any:
    """Return the content of a pickle of Python 2 or 3; text and bytes become latin-1 text.

    Args:
        tensors: PyTorch's tensors are read too, as arrays.

    Raises:
        RefusedPickleError: it names a function or class that arrays do not need (the message says which), or is
            damaged.
    """
    try:
        return _arrays_of(_Unpickler(stream, _STAND_INS | _TENSORS if tensors else _STAND_INS).load())
    except RefusedPickleError:
        raise
    except Exception as error:
        # A damaged or crafted pickle can raise any exception, in the unpickler and in the stand-ins.
        raise RefusedPickleError(f"it cannot be read ({type(error).__name__}: {short(error)})") from error


class _Unpickler(pickle._Unpickler):
    """Python's unpickler in Python, restricted to the instructions that arrays need.

    The one in C hashes each key of a dict, and a deeply nested key crashes the process.
    """

    def __init__(self, stream: BinaryIO, stand_ins: dict[tuple[str, str], Any]):
        super().__init__(stream, encoding="latin1")
        self._stand_ins = stand_ins
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        self._room = max(_ROOM * size, _SMALL)

    def find_class(self, module: str, name: str) -> Any:
        found = self._stand_ins.get((module, name))
        if found is None:
            raise RefusedPickleError(
                f"it names {short(f'{module}.{name}')}, but a file of weights holds only numpy arrays and plain "
                "containers; nothing was executed. It may be an attack: get the file from its source again"
            )
        return found

    def load_reduce(self) -> None:
        self._use(self.stack[-1])
        super().load_reduce()

    def load_build(self) -> None:
        """Set the state of an array or dtype. Attributes of anything else would outlive the pickle."""
        if not isinstance(self.stack[-2], (_Array, _Kind)):
            self.refuse()
        self._use(self.stack[-1])
        super().load_build()

    def _use(self, parts: tuple) -> None:
        """Count content that a call copies: a pickle can name the same content again and again."""
        self._room -= sum(len(part) for part in parts if isinstance(part, (str, bytes, list, tuple)))
        if self._room < 0:
            raise RefusedPickleError("it uses the same content too often")

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
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        **dict.fromkeys((opcode[0] for opcode in _REFUSED), refuse),
    }


class _Kind:
    """Stand-in for `numpy.dtype`."""

    def __init__(self, text: str, *_: Any):
        if not isinstance(text, str) or not _NUMBERS.fullmatch(text):
            raise ValueError(f"an array of {str(text)[:40]!r}, which are no plain numbers")
        self.numpy = np.dtype(text)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.numpy = self.numpy.newbyteorder(state[1])


class _Array:
    """Stand-in for `numpy.ndarray`; `numpy` is set when its state is read."""

    numpy: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, content = state
        self.numpy = _array(shape, kind.numpy, bool(by_columns), content)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(kind: _Kind, content: str | bytes) -> _Array:
    return _from_buffer(content, kind, (), "C")


def _from_buffer(content: str | bytes, kind: _Kind, shape: tuple, order: str) -> _Array:
    array = _Array()
    array.numpy = _array(shape, kind.numpy, order == "F", content)
    return array


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


# Names that a pickle may use. It cannot change the stand-ins: attributes are set on arrays and dtypes alone.
_STAND_INS = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): _ordered_dict,
    **{(f"{core}.multiarray", "_reconstruct"): _reconstruct for core in _NUMPY_CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _NUMPY_CORES},
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in _NUMPY_CORES},
}


def _storage(content: bytes) -> Any:
    """Stand in for `torch.storage._load_from_bytes`, with PyTorch's reader that executes nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # typed storages are deprecated
        storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise ValueError(f"a storage is a {type(storage).__name__}")
    return storage


def _tensor(storage: Any, offset: int, shape: tuple, strides: tuple, *_: Any) -> _Array:
    """Stand in for `torch._utils._rebuild_tensor_v2`."""
    values = _from_storage(storage)
    # A stride of 0 would make a huge tensor of few bytes.
    if math.prod(shape) > len(values):
        raise ValueError(f"a tensor {tuple(shape)} of {len(values)} numbers")
    array = _Array()
    array.numpy = values.as_strided(shape, strides, offset).numpy().copy()  # PyTorch checks the bounds
    return array


def _from_storage(storage: Any) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.empty(0, dtype=storage.dtype).set_(storage)


_TENSORS = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
}


def _arrays_of(item: Any) -> Any:
    """Return `item` with stand-ins replaced by arrays, in dicts, lists and tuples (which become lists).

    A container that occurs several times is converted once.
    """
    done: dict[int, Any] = {}

    def convert(item: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError(f"containers nested more than {_DEEPEST} deep")
        if isinstance(item, _Array):
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
