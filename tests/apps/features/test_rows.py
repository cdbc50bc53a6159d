"""Features of long videos pass through a temporary file: the same files, in the memory of a block, and nothing left."""

import dataclasses
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from slowfast.apps.features import rows as rows_module
from slowfast.apps.features.extract import FeatureOptions, extract
from slowfast.apps.features.files import FeatureFolder, VideoFeatures, load_features
from slowfast.apps.features.rows import VideoRows
from slowfast.datasets.clips.streaming import Chunk
from slowfast.utils import archives


def files_under(folder):
    """Content of every file by its path in the folder, without the lock and the description of the run."""
    own = {".run.lock", "features.json"}
    paths = (path for path in Path(folder).rglob("*") if path.is_file() and path.name not in own)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def chunks(windows, crops, channels, at_once=3):
    """Chunks of a video of 25 fps and their features."""
    numbers = np.random.default_rng(0)
    for first in range(0, windows, at_once):
        here = range(first, min(first + at_once, windows))
        frames = [(8 * n, 8 * n + 7) for n in here]
        times = [[8 * n / 25, (8 * n + 8) / 25] for n in here]
        chunk = Chunk(0, first, windows, frames=frames, times=times, fps=25.0, num_frames=8 * windows)
        yield chunk, numbers.random((len(here) * crops, channels), np.float32)


def collect(folder, *sizes):
    rows = VideoRows(str(folder))
    for chunk, features in chunks(*sizes):
        rows.add(chunk, features)
    return rows, rows.record("a.mp4", 2, chunk)


@pytest.mark.parametrize("in_memory", [1, 2**22])
def test_a_file_is_that_of_all_rows_at_once(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(rows_module, "_IN_MEMORY", in_memory)
    monkeypatch.setattr(archives, "_ROWS_BYTES", 100)
    _, record = collect(tmp_path, 7, 2, 5)
    features = np.concatenate([part for _, part in chunks(7, 2, 5)])
    frames = np.array([(8 * (n // 2), 8 * (n // 2) + 7) for n in range(14)])
    expected = {"path": "a.mp4", "label": 2, "fps": 25.0, "num_frames": 56, "features": features}
    expected |= {"window": np.array([n // 2 for n in range(14)]), "crop": np.array([0, 1] * 7), "frames": frames}
    expected |= {"times": (frames + [0, 1]) / 25, "about": json.dumps({"kind": "pooled"})}
    np.savez(tmp_path / "expected.npz", **expected)
    folder = FeatureFolder(str(tmp_path / "f"))
    folder.write(record, {"kind": "pooled"})
    assert Path(folder.path_of("a.mp4")).read_bytes() == (tmp_path / "expected.npz").read_bytes()
    assert sorted(files_under(tmp_path)) == ["expected.npz", os.path.relpath(folder.path_of("a.mp4"), tmp_path)]


@pytest.mark.parametrize("file_format", ["npz", "parquet"])
def test_extraction_through_the_disk_changes_nothing(
    saved_weights, tiny_cfg, tmp_path, tiny_data, monkeypatch, file_format
):
    if file_format == "parquet":
        pytest.importorskip("pyarrow")
    cfg, _ = saved_weights(tiny_cfg, "TEST.NUM_SPATIAL_CROPS", 3, "DATA.SAMPLING_RATE", 1)
    videos = tuple(str(tiny_data / f"test {n}.mp4") for n in (0, 1))
    usual, disk = (
        FeatureOptions(str(tmp_path / name), file_format=file_format, videos=videos, one_file=True) for name in "ab"
    )
    extract(cfg, usual)
    monkeypatch.setattr(rows_module, "_IN_MEMORY", 1)
    monkeypatch.setattr(archives, "_ROWS_BYTES", 5 * 128 * 4)  # 5 of 12 rows
    extract(cfg, disk)
    before, after = (files_under(options.output) for options in (usual, disk))
    assert before.keys() == after.keys()
    if file_format == "npz":
        assert before == after
        return
    import pyarrow.parquet

    for name in before:  # in more row groups
        one, other = (pyarrow.parquet.ParquetFile(tmp_path / top / name) for top in "ab")
        assert one.read().equals(other.read()) and one.schema_arrow.metadata == other.schema_arrow.metadata
        assert other.num_row_groups == 3 * one.num_row_groups


@pytest.mark.parametrize("file_format", ["npz", "parquet"])
def test_memory_does_not_grow_with_the_video(tmp_path, monkeypatch, file_format):
    """2 MiB of features and 8 take the same memory, apart from what a window needs beside them."""
    if file_format == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(rows_module, "_IN_MEMORY", 2**16)
    monkeypatch.setattr(archives, "_ROWS_BYTES", 2**18)
    chunk, features = next(chunks(32, 1, 1024, at_once=32))
    peaks = []
    for windows in (512, 2048):
        folder = FeatureFolder(str(tmp_path / str(windows)), file_format)
        os.makedirs(folder.folder)
        tracemalloc.start()
        rows = VideoRows(folder.folder)
        for first in range(0, windows, 32):
            rows.add(dataclasses.replace(chunk, first=first, windows=windows), features)
        folder.write(rows.record("a.mp4", 0, chunk), {"kind": "pooled"})
        rows.close()
        folder.join(["a.mp4"], {"kind": "pooled"})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        found = load_features(folder.path_of("a.mp4")).features
        assert found.shape == (windows, 1024) and np.array_equal(found[-32:], features)
    assert peaks[1] - peaks[0] < 1536 * 300  # bytes
    assert peaks[1] < 2**21


def test_a_full_disk_is_told_and_leaves_nothing(
    saved_weights, tiny_cfg, tmp_path, tiny_data, monkeypatch, told_of_limit
):
    cfg, _ = saved_weights(tiny_cfg)
    options = FeatureOptions(str(tmp_path / "f"), videos=(str(tiny_data / "test 0.mp4"),))
    monkeypatch.setattr(rows_module, "_IN_MEMORY", 1)
    for work in (lambda: extract(cfg, options), lambda: collect(tmp_path, 400, 2, 64)):
        told = told_of_limit(25_000, work)
        assert told.startswith("NoRoomError") and "bytes are free" in told and str(tmp_path) in told
        assert len(told.splitlines()) == 1
    assert files_under(tmp_path / "f") == {}


def test_rows_of_two_sizes_have_no_common_file(tmp_path):
    folder = FeatureFolder(str(tmp_path))
    index = np.arange(2)
    pairs = np.stack([index, index], axis=1)
    for name, width in (("a.mp4", 4), ("b.mp4", 5)):
        features = np.zeros((2, 3, width), np.float32)
        record = VideoFeatures(name, 0, 25.0, 2, features, index, index * 0, pairs, pairs / 25)
        folder.write(record, {"kind": "spatial"})
    with pytest.raises(ValueError, match=r"\[3, 5\].*\[3, 4\].*--one-file"):
        folder.join(["a.mp4", "b.mp4"], {})
    assert not os.path.exists(folder.whole_path)
    assert load_features(folder.path_of("b.mp4")).features.shape == (2, 3, 5)
