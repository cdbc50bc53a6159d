"""Tables: NumPy columns as Parquet files (package pyarrow, the extra `features`), aligned text, and Markdown.

A column is (N,) or (N, ...). Parquet holds rows of more dimensions flat, so a reader needs their shapes (the trailing
dimensions), which the caller keeps in the file's metadata.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from slowfast.utils.files import regular_file

Columns = Mapping[str, np.ndarray]


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Align cells of text in columns: those in `left` to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; a bar in a cell is escaped."""
    lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows]
    return f"| {' | '.join(head)} |\n|{' --- |' * len(head)}\n" + "".join(f"| {line} |\n" for line in lines)


def replace_marked(text: str, mark: str, table: str, page: str) -> str:
    """Replace what lies between two lines `mark`; ValueError, with the name of the page, unless there are two."""
    if text.count(mark) != 2:
        raise ValueError(f"{page} needs the line {mark.strip()!r} before and after the table")
    before, _, after = text.split(mark)
    return before + mark + table + mark + after


def require_parquet() -> None:
    """Raise ValueError if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "Parquet files need pyarrow, which is not installed: pip install pyarrow (the extra `features`), or write "
            "npz files"
        ) from error


def arrow_table(columns: Columns) -> Any:
    """Build a pyarrow table; columns of more than one dimension become lists of a fixed size."""
    import pyarrow

    arrays = {}
    for name, column in columns.items():
        if column.dtype.kind == "U":
            # File names may hold bytes that are not text, which Parquet refuses.
            texts = [text.encode(errors="backslashreplace").decode() for text in column.tolist()]
            arrays[name] = pyarrow.array(texts, pyarrow.string())
        elif column.ndim == 1:
            arrays[name] = pyarrow.array(column)
        else:
            flat = pyarrow.array(np.ascontiguousarray(column).reshape(-1))
            arrays[name] = pyarrow.FixedSizeListArray.from_arrays(flat, int(np.prod(column.shape[1:])))
    return pyarrow.table(arrays)


def write_parquet(stream: BinaryIO, tables: Iterable[Columns], metadata: Mapping[str, str]) -> None:
    """Write tables with the same columns one after the other, each as a row group, and metadata of the file."""
    import pyarrow.parquet

    writer = None
    for columns in tables:
        table = arrow_table(columns).replace_schema_metadata(dict(metadata))
        writer = writer or pyarrow.parquet.ParquetWriter(stream, table.schema, write_page_checksum=True)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def read_parquet(path: str | os.PathLike) -> tuple[Any, dict[str, str]]:
    """Read a pyarrow table and the metadata of the file.

    Raises:
        ValueError: pyarrow is not installed.
        OSError: the file is damaged; files that are written here have a checksum for each page.
    """
    require_parquet()
    import pyarrow.parquet

    with open(path, "rb", opener=regular_file) as stream:
        table = pyarrow.parquet.read_table(stream, page_checksum_verification=True)
    return table, _texts(table.schema.metadata)


def read_parquet_groups(path: str | os.PathLike) -> Iterator[Any]:
    """Yield the row groups of a file as pyarrow tables; raises the errors of `read_parquet`."""
    require_parquet()
    import pyarrow.parquet

    with open(path, "rb", opener=regular_file) as stream:
        file = pyarrow.parquet.ParquetFile(stream, page_checksum_verification=True)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)


def read_parquet_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Read the metadata of a file without its rows; raise ValueError if pyarrow is not installed."""
    require_parquet()
    import pyarrow.parquet

    with open(path, "rb", opener=regular_file) as stream:
        return _texts(pyarrow.parquet.read_schema(stream).metadata)


def numpy_column(column: Any, shape: Iterable[int] = ()) -> np.ndarray:
    """Convert a pyarrow column to NumPy: text or (N, *shape), writable."""
    shape = tuple(shape)
    flat = column.combine_chunks().flatten() if shape else column
    # Copied: PyTorch warns about read-only arrays, as Arrow's are.
    values = np.array(flat.to_numpy())
    return values.astype(str) if values.dtype == object else values.reshape(len(column), *shape)


def _texts(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (metadata or {}).items()}
