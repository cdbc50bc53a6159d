"""ZIP archives, which PyTorch files and .npz files are: checks that find damage before the content is used.

PyTorch does not compare the CRC of a record, and NumPy does so only for a record that it reads to its end.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, BinaryIO

import numpy as np

from slowfast.utils.errors import short
from slowfast.utils.files import regular_file

_FOLDER = 0x10  # external attribute of a folder, in DOS
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_BLOCK = 2**20
_ROWS_BYTES = 2**23
# Compressed records may unpack to 100 times the file's size; those of small files to 64 MiB.
_MOST_UNPACKED, _SMALL = 100, 2**26


class DamagedArchiveError(ValueError):
    """The archive is damaged, or made to exhaust its reader."""


@dataclass(frozen=True)
class Blocks:
    """An array (N, ...) that need not fit into memory.

    Attributes:
        shape, dtype: of the array.
        read: function that returns its rows from the first on, in consecutive arrays (n, ...).
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], Iterable[np.ndarray]]


def block_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the bytes of so many whole rows of an array (N, ...) as make a block: 8 MiB, or a single row."""
    row = dtype.itemsize * math.prod(shape[1:])
    return row * max(1, _ROWS_BYTES // row)


def check_archive(stream: BinaryIO) -> dict[str, int]:
    """Check the structure of an archive, and the CRC of every record; all records must be stored without compression.

    All readers then see the same content. They use no byte outside of records and directory, so damage there is
    harmless.

    Returns:
        The sizes of the records in bytes by name, in the order of the directory.

    Raises:
        DamagedArchiveError: the archive is damaged, or has a record that is compressed.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            _check_structure(archive, stream)
            packed = [record.filename for record in archive.infolist() if record.compress_size != record.file_size]
            if packed:
                raise DamagedArchiveError(f"its record {short(packed[0])} is compressed")
            # PyTorch reads nothing of a folder, and would return memory that nobody has written.
            folders = [record.filename for record in archive.infolist() if record.external_attr & _FOLDER]
            if folders:
                raise DamagedArchiveError(f"its record {short(folders[0])} is marked as a folder")
            for record in archive.infolist():
                with archive.open(record) as content:
                    while content.read(_BLOCK):
                        pass
            return {record.filename: record.file_size for record in archive.infolist()}
    except DamagedArchiveError:
        raise
    except Exception as error:  # zipfile raises many types for damaged files
        raise DamagedArchiveError(f"{type(error).__name__}: {short(error)}") from error


def write_npz(stream: BinaryIO, arrays: Mapping[str, object]) -> None:
    """Write arrays, or what NumPy makes arrays of, to an .npz file: the same bytes as `np.savez`.

    Of `Blocks`, one block after the other is in memory.
    """
    with zipfile.ZipFile(stream, "w") as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as record:
                if isinstance(value, Blocks):
                    descr = np.lib.format.dtype_to_descr(value.dtype)
                    header = {"descr": descr, "fortran_order": False, "shape": value.shape}
                    np.lib.format.write_array_header_1_0(record, header)
                    for rows in value.read():
                        record.write(np.ascontiguousarray(rows))
                else:
                    np.lib.format.write_array(record, np.asanyarray(value), allow_pickle=False)


def read_npz(path: str | os.PathLike, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file by name, and check the CRC of each one.

    Args:
        names: arrays to read; None for all.

    Raises:
        OSError: the file cannot be opened.
        DamagedArchiveError: it is damaged, lacks one of `names`, or holds Python objects.
    """
    with _npz_records(path) as (archive, found):
        return {name: _read_array(archive, found[name]) for name in (found if names is None else names)}


def npz_blocks(path: str | os.PathLike, name: str) -> Blocks:
    """Return an array (N, ...) of an .npz file, to read in blocks; its CRC is checked once the last one is read.

    Raises:
        OSError, DamagedArchiveError: see `read_npz`; reading the blocks may raise them too.
    """

    def read() -> Iterator[np.ndarray]:
        with _npz_records(path) as (archive, found), archive.open(found[name]) as content:
            shape, dtype = _read_header(content, found[name])
            while data := content.read(block_bytes(shape, dtype)):
                yield np.frombuffer(data, dtype).reshape(-1, *shape[1:])

    with _npz_records(path) as (archive, found), archive.open(found[name]) as content:
        return Blocks(*_read_header(content, found[name]), read)


@contextlib.contextmanager
def _npz_records(path: str | os.PathLike) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open an .npz file: the archive, and its records by the name of the array; every error names the file."""
    with open(path, "rb", opener=regular_file) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                _check_structure(archive, stream)
                yield archive, {record.filename.removesuffix(".npy"): record for record in archive.infolist()}
        except KeyError as error:
            raise DamagedArchiveError(f"{os.fspath(path)} has no array {error}") from error
        except DamagedArchiveError as error:
            raise DamagedArchiveError(f"{os.fspath(path)} is a damaged npz file: {error}") from error
        except Exception as error:  # zipfile, zlib and NumPy raise many types for damaged files
            raise DamagedArchiveError(
                f"{os.fspath(path)}, {os.path.getsize(path)} bytes, is a damaged npz file "
                f"({type(error).__name__}: {short(error)})"
            ) from error


def _read_header(content: IO[bytes], record: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """Read the header of a record that holds an array (N, ...) row by row; return the array's shape and type.

    Raises:
        ValueError: the header and the size of the record differ, or it is another kind of array.
    """
    if np.lib.format.read_magic(content) != (1, 0):
        raise ValueError(f"{record.filename} has another version of header")
    shape, by_column, dtype = np.lib.format.read_array_header_1_0(content)
    size = dtype.itemsize * math.prod(shape)
    if dtype.hasobject or by_column or not shape or not size or content.tell() + size != record.file_size:
        raise ValueError(f"{record.filename} of {record.file_size} bytes does not hold {dtype} {shape} row by row")
    return shape, dtype


def _read_array(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(record) as content:
        array = np.lib.format.read_array(content, allow_pickle=False)
        # At the end of a record zipfile compares its CRC. A damaged header may name fewer values than there are.
        if content.read(1):
            raise ValueError(f"{record.filename} has more bytes than its header tells")
    return array


def _check_structure(archive: zipfile.ZipFile, stream: BinaryIO) -> None:
    """Check that records have names of their own, do not overlap, and do not unpack to far more than the file."""
    records = sorted(archive.infolist(), key=lambda record: record.header_offset)
    if len({record.filename for record in records}) < len(records):
        raise DamagedArchiveError("two of its records have the same name")
    if archive.comment:
        raise DamagedArchiveError("something follows its directory")
    end = 0
    for record in records:
        if record.header_offset < end or (not end and record.header_offset):
            raise DamagedArchiveError(f"its record {short(record.filename)} is not where it should be")
        stream.seek(record.header_offset)
        _, name, extra = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
        end = record.header_offset + _LOCAL_HEADER.size + name + extra + record.compress_size
    if end > archive.start_dir:
        raise DamagedArchiveError("its records overlap its directory")
    size, unpacked = os.fstat(stream.fileno()).st_size, sum(record.file_size for record in records)
    if unpacked > max(_MOST_UNPACKED * size, _SMALL):
        raise DamagedArchiveError(f"its {size} bytes unpack to {unpacked} bytes")
