"""Files of predictions: several tables of arrays in one .npz or Parquet file.

A file holds a main table and others; a table has columns (N, ...). In .npz each column is an array, named `COLUMN` in
the main table and `TABLE.COLUMN` in the others. In Parquet the rows of all tables follow each other, and the text
column `table` names the table ("" is the main one). Columns of more dimensions are flat lists.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from slowfast.utils.files import atomic_write
from slowfast.utils.tables import arrow_table, numpy_column, read_parquet, require_parquet

Table = Mapping[str, np.ndarray]
FORMATS = (".npz", ".parquet")
_ABOUT = "about"


def check_format(path: str | os.PathLike) -> None:
    """Raise ValueError if `path` does not end in .npz or .parquet, or if pyarrow is missing for Parquet."""
    suffix = os.path.splitext(path)[1]
    if suffix not in FORMATS:
        raise ValueError(f"{path}: predictions are written to files that end in {' or '.join(FORMATS)}")
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


def read_tables(path: str | os.PathLike) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Read the tables of a file by name ("" is the main one), and the JSON values beside them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is of another kind or not whole; see also `check_format`.
    """
    check_format(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file of predictions {path}")
    read = _read_parquet if os.fspath(path).endswith(".parquet") else _read_npz
    try:
        return read(os.fspath(path))
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a whole file of predictions: {error}") from error


def _fill_npz(stream: Any, tables: Mapping[str, Table], about: dict[str, Any]) -> None:
    arrays = {
        f"{table}.{name}" if table else name: column
        for table, columns in tables.items()
        for name, column in columns.items()
    }
    np.savez(stream, **arrays, **{_ABOUT: json.dumps(about)})


def _read_npz(path: str) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    tables: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as arrays:
        about = json.loads(arrays[_ABOUT].item())
        for key in arrays.files:
            table, _, name = key.rpartition(".")
            if key != _ABOUT:
                tables.setdefault(table, {})[name] = arrays[key]
    return tables, about


def _fill_parquet(stream: Any, tables: Mapping[str, Table], about: dict[str, Any]) -> None:
    import pyarrow

    shapes = {table: {name: list(c.shape[1:]) for name, c in columns.items()} for table, columns in tables.items()}
    parts = [arrow_table({"table": _names(table, columns), **columns}) for table, columns in tables.items()]
    whole = pyarrow.concat_tables(parts, promote_options="default")
    metadata = {_ABOUT: json.dumps(about), "shapes": json.dumps(shapes)}
    pyarrow.parquet.write_table(whole.replace_schema_metadata(metadata), stream)


def _names(table: str, columns: Table) -> np.ndarray:
    return np.full(len(next(iter(columns.values()))), table, dtype=f"U{max(len(table), 1)}")


def _read_parquet(path: str) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    import pyarrow

    whole, metadata = read_parquet(path)
    about, shapes = json.loads(metadata[_ABOUT]), json.loads(metadata["shapes"])
    table_of = whole.column("table").to_numpy()
    tables: dict[str, dict[str, np.ndarray]] = {}
    for table, columns in shapes.items():
        rows = whole.filter(pyarrow.array(table_of == table))
        tables[table] = {name: numpy_column(rows.column(name), shape) for name, shape in columns.items()}
    return tables, about
