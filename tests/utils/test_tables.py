"""Parquet files of NumPy columns, and aligned text."""

import numpy as np
import pytest

from slowfast.utils.tables import (
    format_table,
    numpy_column,
    read_parquet,
    read_parquet_metadata,
    require_parquet,
    write_parquet,
)

pytest.importorskip("pyarrow")


def test_what_is_written_is_read(tmp_path):
    tables = [
        {"name": np.array(["a", "b\udcff"]), "label": np.array([1, 2]), "rows": np.arange(12.0).reshape(2, 2, 3)},
        {"name": np.array(["c"]), "label": np.array([3]), "rows": np.ones((1, 2, 3))},
    ]
    with open(tmp_path / "t.parquet", "wb") as stream:
        write_parquet(stream, iter(tables), {"about": "{}"})
    table, metadata = read_parquet(tmp_path / "t.parquet")
    assert metadata == read_parquet_metadata(tmp_path / "t.parquet") == {"about": "{}"}
    assert numpy_column(table.column("name")).tolist() == ["a", "b\\udcff", "c"]
    np.testing.assert_array_equal(numpy_column(table.column("label")), [1, 2, 3])
    rows = numpy_column(table.column("rows"), (2, 3))
    np.testing.assert_array_equal(rows, np.concatenate([columns["rows"] for columns in tables]))
    assert rows.flags.writeable


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match="pip install pyarrow"):
        require_parquet()


def test_text_is_aligned():
    table = format_table(["name", "ms"], [["a", "1.5"], ["longer", "10"]])
    assert table.splitlines() == ["name     ms", "a       1.5", "longer   10"]
    assert format_table(["a", "b"], [["long", ""]], left=(0, 1)).splitlines() == ["a     b", "long"]
