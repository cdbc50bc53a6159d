"""Arrays that are written and read in blocks: the same files as NumPy's, in the memory of a block."""

import io
import tracemalloc

import numpy as np
import pytest

from slowfast.utils import archives
from slowfast.utils.archives import Blocks, DamagedArchiveError, npz_blocks, read_npz, write_npz


def in_blocks(array, rows):
    """The array as blocks of so many rows."""
    return Blocks(array.shape, array.dtype, lambda: (array[i : i + rows] for i in range(0, len(array), rows)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
@pytest.mark.parametrize("shape", [(1,), (7,), (10, 3), (5, 2, 3, 4)])
def test_files_are_numpys_byte_for_byte(tmp_path, monkeypatch, dtype, shape):
    array = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    others = {"path": "ä b.mp4", "label": 3, "fps": 29.97, "empty": np.zeros((0, 2)), "about": "{}"}
    expected = io.BytesIO()
    np.savez(expected, **others, features=array, last=np.arange(4).reshape(2, 2).T)
    for rows in (1, 3, 100):
        found = io.BytesIO()
        write_npz(found, {**others, "features": in_blocks(array, rows), "last": np.arange(4).reshape(2, 2).T})
        assert found.getvalue() == expected.getvalue()
    path = tmp_path / "a.npz"
    path.write_bytes(expected.getvalue())
    for most in (1, 3 * array[0].nbytes, 2**20):
        monkeypatch.setattr(archives, "_ROWS_BYTES", most)
        blocks = npz_blocks(path, "features")
        parts = list(blocks.read())
        assert (blocks.shape, blocks.dtype) == (shape, dtype)
        assert np.array_equal(np.concatenate(parts), array)
        assert max(map(len, parts)) == min(max(most // array[0].nbytes, 1), len(array))


def test_damage_is_found_in_blocks_too(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_ROWS_BYTES", 64)
    path, rows = tmp_path / "a.npz", np.arange(400, dtype=np.float32).reshape(100, 4)
    np.savez(path, rows=rows, scalar=3, objects=np.array([None]), fortran=np.asfortranarray(rows))
    whole = path.read_bytes()
    for name in ("other", "scalar", "objects", "fortran"):
        with pytest.raises(DamagedArchiveError, match="a.npz"):
            npz_blocks(path, name)
    place = whole.index(rows[50].tobytes())
    path.write_bytes(whole[:place] + b"?" + whole[place + 1 :])
    with pytest.raises(DamagedArchiveError, match="CRC"):
        list(npz_blocks(path, "rows").read())
    # A header that names fewer rows than there are.
    path.write_bytes(whole.replace(b"(100, 4)", b"(010, 4)"))
    for read in (lambda: npz_blocks(path, "rows"), lambda: read_npz(path, ["rows"])):
        with pytest.raises(DamagedArchiveError):
            read()


def test_one_block_is_in_memory(tmp_path):
    """128 MiB written and read, in blocks of 8."""
    rows = np.ones((2**10, 2**11), np.float32)
    blocks = Blocks((16 * len(rows), rows.shape[1]), rows.dtype, lambda: (rows for _ in range(16)))
    path = tmp_path / "a.npz"
    tracemalloc.start()
    with open(path, "wb") as stream:
        write_npz(stream, {"rows": blocks})
    assert sum(part.sum(dtype=np.int64) for part in npz_blocks(path, "rows").read()) == 16 * rows.size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * rows.nbytes
