"""Checks of PyTorch files before PyTorch reads them: damage, and content that would exhaust or end the process.

PyTorch's safe reader executes nothing, but it compares no checksum, and it hashes nested keys without a limit.
"""

from __future__ import annotations

import math
import os
import pickle
import zipfile
from collections import OrderedDict
from typing import Any, BinaryIO

from slowfast.utils.archives import check_archive
from slowfast.utils.errors import short

_ARCHIVE = b"PK\x03\x04"  # first bytes of a file of PyTorch 1.6 and later
_DEEPEST = 100  # levels of containers
# Bytes for each element of a storage, by the name of its class.
_SIZES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage", "UntypedStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
# Arguments of all calls together may hold this many items for each byte of the file; in small files 1 Mi.
_ROOM, _SMALL = 16, 2**20
# Pickles of a file before 1.6: magic number, version, facts about the machine, content, names of storages.
_OLD_PICKLES, _OLD_CONTENT = 5, 3


def check_torch_file(stream: BinaryIO) -> None:
    """Check a PyTorch file of any version, before it is read.

    - Since PyTorch 1.6: every record has the content that its CRC tells. Older files have no checksum.
    - Records are not compressed. A storage is not larger than its record; those of an older file are together not
      larger than the file.
    - Containers are nested at most 100 deep, and calls do not multiply the size of the file.

    Raises:
        ValueError: the file is damaged or refused.
        OSError: it cannot be read.
    """
    size = os.fstat(stream.fileno()).st_size
    start = stream.read(len(_ARCHIVE))
    stream.seek(0)
    if start != _ARCHIVE:
        _check_old(stream, size)
        return
    records = check_archive(stream)
    folder = next(iter(records)).partition("/")[0]
    with zipfile.ZipFile(stream) as archive:
        if f"{folder}/data.pkl" not in records:
            raise ValueError("it has no record data.pkl")
        with archive.open(f"{folder}/data.pkl") as content:
            storages = _check_pickle(content, size)
    for key, count in storages.items():
        found = records.get(f"{folder}/data/{key}", 0)
        if found < count:
            raise ValueError(f"its storage {short(key)} should have {count} bytes and has {found}")


def _check_old(stream: BinaryIO, size: int) -> None:
    for number in range(_OLD_PICKLES):
        storages = _check_pickle(stream, size)
        if number == _OLD_CONTENT and sum(storages.values()) > size:
            raise ValueError(f"its storages should have {sum(storages.values())} bytes, more than the file")


def _check_pickle(stream: BinaryIO, size: int) -> dict[str, int]:
    """Check the nesting and the calls of a pickle in a file of `size` bytes; return the bytes of storages by key."""
    outline = _Outline(stream, size)
    try:
        _check_depth(outline.load())
    except ValueError:
        raise
    except Exception as error:  # a damaged or crafted pickle can raise any exception
        raise ValueError(f"its pickle cannot be read ({type(error).__name__}: {short(error)})") from error
    return outline.storages


class _Made(list):
    """Stand-in for what a pickle makes or names; its items are the parts. It is never hashed."""


class _Outline(pickle._Unpickler):
    """Unpickler of lists, tuples, plain values and `_Made`: it calls nothing, and hashes none of them.

    Attributes:
        storages: bytes of each storage by key.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        super().__init__(stream, encoding="latin1")
        self.storages: dict[str, int] = {}
        self._room = max(_ROOM * size, _SMALL)

    def find_class(self, module: str, name: str) -> _Made:
        return _Made([f"{module}.{name}"])

    def persistent_load(self, pid: Any) -> _Made:
        if not isinstance(pid, tuple) or len(pid) < 5 or not isinstance(pid[2], str) or not isinstance(pid[1], _Made):
            raise ValueError("it holds more than tensors and plain values")
        kind, key, count = str(pid[1][0]).rpartition(".")[2], pid[2], pid[4]
        if not isinstance(count, int) or count < 0:
            raise ValueError(f"its storage {short(key)} has {short(count)} elements")
        self.storages[key] = max(self.storages.get(key, 0), count * _SIZES.get(kind, 1))
        return _Made([pid])

    def make(self) -> None:
        """Replace a function or class, and its arguments, by a stand-in."""
        arguments, function = self.stack.pop(), self.stack.pop()
        self._room -= sum(len(part) for part in arguments if isinstance(part, (str, bytes, list, tuple)))
        if function[:1] and str(function[0]).endswith(("Storage", "Tensor", ".bytearray")):
            # Empty storages are as large as their arguments tell.
            self._room -= math.prod(part for part in arguments if isinstance(part, int))
        if self._room < 0:
            raise ValueError("its pickle uses the same content too often")
        self.append(_Made([function, arguments]))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Made):
            raise ValueError(f"its pickle sets attributes of a {type(target).__name__}")
        if target[:1] == [["collections.OrderedDict"]] and not _are_attributes(state):
            raise ValueError("its pickle replaces methods of a dict")
        target.append(state)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1] += (key, value)

    def extend(self) -> None:
        """Append items or pairs to a stand-in or list."""
        items = self.pop_mark()
        self.stack[-1] += items

    def gather(self) -> None:
        """Make a stand-in of items or pairs."""
        self.append(_Made(self.pop_mark()))

    def gather_none(self) -> None:
        """Make a stand-in of an empty container."""
        self.append(_Made())

    dispatch = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: make,
        pickle.NEWOBJ[0]: make,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: extend,
        pickle.ADDITEMS[0]: extend,
        pickle.DICT[0]: gather,
        pickle.FROZENSET[0]: gather,
        pickle.EMPTY_DICT[0]: gather_none,
        pickle.EMPTY_SET[0]: gather_none,
    }


def _are_attributes(state: Any) -> bool:
    """Return True for pairs of names and values that may be set on an OrderedDict, such as `_metadata`."""
    return isinstance(state, _Made) and all(
        isinstance(name, str) and not hasattr(OrderedDict, name) for name in state[::2]
    )


def _check_depth(item: Any) -> None:
    """Check that containers are nested at most `_DEEPEST` deep; a container that occurs several times counts once."""
    heights: dict[int, int] = {}

    def measure(item: Any, depth: int) -> int:
        """Return the number of levels of an item that lies below `depth` containers."""
        if not isinstance(item, (list, tuple)):
            return 0
        if depth >= _DEEPEST or depth + heights.get(id(item), 0) > _DEEPEST:
            raise ValueError(f"its content is nested more than {_DEEPEST} deep")
        if id(item) not in heights:
            heights[id(item)] = 1 + max((measure(part, depth + 1) for part in item), default=0)
        return heights[id(item)]

    measure(item, 0)
