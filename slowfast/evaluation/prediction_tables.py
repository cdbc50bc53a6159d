"""Tables of predictions: their files, and checks of their columns.

A file of predictions holds a main table and others, in .npz or Parquet; a table has columns (N, ...). In .npz each
column is an array, named `COLUMN` in the main table and `TABLE.COLUMN` in the others. In Parquet the rows of all tables
follow each other, and the text column `table` names the table ("" is the main one). Columns of more dimensions are flat
lists.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from slowfast.runtime.distributed import atomic_write
from slowfast.utils.archives import read_npz
from slowfast.utils.tables import arrow_table, numpy_column, read_parquet, require_parquet

_FORMATS = (".npz", ".parquet")
_ABOUT = "about"

Table = Mapping[str, np.ndarray]


def check_format(path: str | os.PathLike) -> None:
    """Raise ValueError if `path` does not end in .npz or .parquet, or if pyarrow is missing for Parquet."""
    suffix = os.path.splitext(path)[1]
    if suffix not in _FORMATS:
        raise ValueError(f"{path}: predictions are written to files that end in {' or '.join(_FORMATS)}")
    if suffix == ".parquet":
        require_parquet()


def write_tables(path: str | os.PathLike, main: Table, others: Mapping[str, Table], about: dict[str, Any]) -> None:
    """Write tables to a file atomically, in the main process.

    Args:
        main: columns of the main table.
        others: other tables by name.
        about: JSON values to keep beside the tables.

    Raises:
        ValueError: see `check_format`.
        OSError: the file cannot be written.
    """
    check_format(path)
    fill = _fill_parquet if os.fspath(path).endswith(".parquet") else _fill_npz
    atomic_write(os.path.abspath(path), lambda stream: fill(stream, {"": main, **others}, about))


def read_tables(path: str) -> tuple[dict[str, dict[str, np.ndarray]], Any]:
    """Read the tables of a file by name ("" is the main one), and the JSON values beside them."""
    return _read_parquet(path) if path.endswith(".parquet") else _read_npz(path)


def _fill_npz(stream: Any, tables: Mapping[str, Table], about: dict[str, Any]) -> None:
    arrays = {
        f"{table}.{name}" if table else name: column
        for table, columns in tables.items()
        for name, column in columns.items()
    }
    np.savez(stream, **arrays, **{_ABOUT: json.dumps(about)})


def _read_npz(path: str) -> tuple[dict[str, dict[str, np.ndarray]], Any]:
    tables: dict[str, dict[str, np.ndarray]] = {}
    arrays = read_npz(path)
    about = json.loads(arrays.pop(_ABOUT).item())
    for key, column in arrays.items():
        table, _, name = key.rpartition(".")
        tables.setdefault(table, {})[name] = column
    return tables, about


def _fill_parquet(stream: Any, tables: Mapping[str, Table], about: dict[str, Any]) -> None:
    import pyarrow

    shapes = {table: {name: list(c.shape[1:]) for name, c in columns.items()} for table, columns in tables.items()}
    parts = [arrow_table({"table": _names(table, columns), **columns}) for table, columns in tables.items()]
    whole = pyarrow.concat_tables(parts, promote_options="default")
    metadata = {_ABOUT: json.dumps(about), "shapes": json.dumps(shapes)}
    pyarrow.parquet.write_table(whole.replace_schema_metadata(metadata), stream, write_page_checksum=True)


def _names(table: str, columns: Table) -> np.ndarray:
    return np.full(len(next(iter(columns.values()))), table, dtype=f"U{max(len(table), 1)}")


def _read_parquet(path: str) -> tuple[dict[str, dict[str, np.ndarray]], Any]:
    import pyarrow

    whole, metadata = read_parquet(path)
    about, shapes = json.loads(metadata[_ABOUT]), json.loads(metadata["shapes"])
    table_of = whole.column("table").to_numpy()
    tables: dict[str, dict[str, np.ndarray]] = {}
    for table, columns in shapes.items():
        rows = whole.filter(pyarrow.array(table_of == table))
        tables[table] = {name: numpy_column(rows.column(name), shape) for name, shape in columns.items()}
    return tables, about


def real_numbers(name: str, values: Any, dims: int) -> np.ndarray:
    """Return an array of real numbers, in the byte order of this machine; ValueError for another type or shape."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or array.ndim != dims:
        raise ValueError(
            f"{name} are {array.dtype} of shape {array.shape}; they must be real numbers in {dims} dimension(s)"
        )
    native = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 and array.dtype.kind == "f" else None
    return array.astype(native or (np.float64 if array.dtype.kind == "f" else np.int64), copy=False)


def whole_numbers(name: str, values: Any) -> np.ndarray:
    """Return (N,) int64; ValueError for another type or shape."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} are {array.dtype} of shape {array.shape}; they must be a row of whole numbers")
    return array.astype(np.int64, copy=False)


def checked_labels(values: Any) -> np.ndarray:
    """Return class numbers (V,), or (V, classes) of 0 and 1; ValueError for another type or shape, or other values."""
    array = np.asarray(values)
    if array.ndim == 1:
        return whole_numbers("labels", array)
    if array.ndim != 2 or array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ValueError(
            f"labels are {array.dtype} of shape {array.shape}; they must be a class number for each video, or 0 and 1 "
            "for each video and class"
        )
    return array


def texts(name: str, column: np.ndarray) -> list[str]:
    """Return a column of texts as a list; ValueError for another type or shape."""
    if column.ndim != 1 or (column.size and column.dtype.kind != "U"):
        raise ValueError(f"{name} are {column.dtype} of shape {column.shape}; they must be a row of texts")
    return column.tolist()


def check_shapes(given: Mapping[str, np.ndarray], shapes: Mapping[str, tuple], scores: np.ndarray) -> None:
    """Raise ValueError if an array of `given` does not have its shape of `shapes`."""
    wrong = [f"{name} {values.shape}" for name, values in given.items() if values.shape != shapes[name]]
    if wrong:
        raise ValueError(f"scores {scores.shape} do not go with {', '.join(wrong)}")


def check_names(name: str, values: Any, length: int) -> None:
    """Raise ValueError if `values` is neither None nor a list of `length` texts."""
    if values is None:
        return
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} are {values!r:.40}, not a list of texts")
    if len(values) != length:
        raise ValueError(f"there are {len(values)} {name} for {length}")


def key_frame_table(keys: list[tuple[str, float]], dtype: np.dtype) -> Table:
    """Return (video, second) pairs as a table, seconds in `dtype`."""
    videos, seconds = zip(*keys, strict=True) if keys else ((), ())
    return {"video": np.array(videos, dtype=str), "second": np.array(seconds, dtype=dtype)}


def key_frames_of(table: Mapping[str, np.ndarray]) -> list[tuple[str, float]]:
    """Return the (video, second) pairs of a table."""
    return list(zip(texts("video", table["video"]), real_numbers("second", table["second"], 1).tolist(), strict=True))
