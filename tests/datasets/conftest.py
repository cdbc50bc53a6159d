"""Fixtures of the tests of data sets."""

import pytest


@pytest.fixture
def written(tmp_path):
    """Function: write text or bytes to a file of the test's folder, and return its path."""

    def write(content: str | bytes, name: str = "list.csv") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogateescape"))
        return str(path)

    return write
