"""Indices of long files are kept on disk: the same frames at the same times, and never from a cache that is wrong."""

import logging
import multiprocessing
import os
from array import array
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slowfast.datasets.build import build_loader
from slowfast.datasets.video import index_cache, index_file, pyav
from slowfast.datasets.video.cache import LRUCache
from slowfast.datasets.video.index_cache import IndexCache
from slowfast.datasets.video.open import video_opener
from slowfast.datasets.video.packet_places import PacketPlaces
from slowfast.datasets.video.pyav import PyAVReader
from slowfast.datasets.video.timing import Timeline

X264 = {"preset": "veryfast", "g": "12", "bf": "3"}
ORDER = [69, 3, 3, 40, 12, 11, 68, 0, 55]
FILES = {
    "closed.mp4": {"options": {**X264, "x264-params": "threads=1"}},
    "open_gop.mp4": {"options": {**X264, "x264-params": "open-gop=1:threads=1"}},
    "sound.mp4": {"options": {**X264, "x264-params": "threads=1"}, "audio": True},
    "hevc.mp4": {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "keyint=12:log-level=0"}},
    "closed.mkv": {"options": {**X264, "x264-params": "threads=1"}},
    "counted.ts": {"options": {**X264, "x264-params": "threads=1"}},
}
AT_PLACES = {"closed.mp4", "open_gop.mp4", "sound.mp4", "hevc.mp4"}


@pytest.fixture(autouse=True)
def short_files_are_long(monkeypatch):
    monkeypatch.setattr(index_cache, "LONG_FILE", 10)
    monkeypatch.setattr(index_file, "LONG_FILE", 10)


@pytest.fixture
def cache(tmp_path):
    return IndexCache(str(tmp_path / "indices"))


@pytest.fixture
def opened(cache, monkeypatch):
    """`opened(path)`: open it as a new process would, and return the reader and whether it indexed the file."""
    indexed, index = [], index_file.index_packets
    monkeypatch.setattr(index_file, "index_packets", lambda *args: indexed.append(1) or index(*args))

    def open_anew(path):
        monkeypatch.setattr(pyav, "_known", LRUCache(2**20))
        indexed.clear()
        return PyAVReader(str(path), index_cache=cache), bool(indexed)

    return open_anew


@pytest.fixture(scope="module")
def footage(tmp_path_factory, encode, pictures, decode_all):
    """`footage(name)`: return a file of `FILES` and its full decode."""
    folder, made = tmp_path_factory.mktemp("footage"), {}

    def get(name):
        if name not in made:
            path = encode(folder / name, pictures(70), **FILES[name])
            made[name] = Path(path), np.stack(decode_all(path))
        return made[name]

    return get


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_frames_and_times_are_those_of_the_file(name, mapped, footage, opened, monkeypatch):
    monkeypatch.setattr(index_cache, "MAPPED_BYTES", 0 if mapped else 2**30)
    path, truth = footage(name)
    with PyAVReader(str(path)) as plain:
        times, fps, even = plain.times, plain.fps, Timeline.of_times(plain.times, plain.fps).is_even
    for turn in range(3):
        reader, indexed = opened(path)
        with reader:
            assert indexed == (turn == 0)
            assert (reader.video.places is not None) == (turn > 0 and name in AT_PLACES)
            assert reader.facts.mapped == mapped and reader.fps == fps
            np.testing.assert_array_equal(reader.times, times)
            np.testing.assert_array_equal(Timeline.of(reader).times, Timeline.of_times(times, fps).times)
            assert Timeline.of(reader).is_even == even
            np.testing.assert_array_equal(reader.frames(ORDER), truth[ORDER])
            np.testing.assert_array_equal(reader.frames([20, 21]), truth[[20, 21]])
            assert len(list(reader.in_order(1.0))) == 70 - 30


def test_a_picture_stays_upright(footage, opened, with_matrix, tmp_path):
    path = with_matrix(footage("closed.mp4")[0], tmp_path / "turned.mp4", (0, 1, -1, 0))
    with opened(path)[0] as reader:
        truth = reader.frames(range(70))
    with opened(path)[0] as reader:
        assert reader.video.places is not None
        frames = reader.frames(range(70))
    assert frames.shape[1:3] == footage("closed.mp4")[1].shape[2:0:-1]
    np.testing.assert_array_equal(frames, truth)


def test_a_changed_file_is_indexed_again(footage, opened, tmp_path):
    (first, _), (second, truth) = footage("closed.mp4"), footage("sound.mp4")
    path = tmp_path / "a.mp4"
    path.write_bytes(first.read_bytes())
    assert [opened(path)[1] for _ in range(2)] == [True, False]
    path.write_bytes(second.read_bytes())
    reader, indexed = opened(path)
    with reader:
        assert indexed
        np.testing.assert_array_equal(reader.frames(ORDER), truth[ORDER])
    os.utime(path, ns=(1, 1))
    assert [opened(path)[1] for _ in range(2)] == [True, False]


def test_damage_is_found_and_mended(footage, opened, cache):
    path, truth = footage("closed.mp4")
    opened(path)[0].close()
    (kept,) = Path(cache.folder).iterdir()
    whole = kept.read_bytes()
    places = [0, 5, 9, 40, whole.index(b"\n"), whole.index(b"\n") + 3, len(whole) // 2, len(whole) - 9]
    damaged = [whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :] for place in places]
    for content in (*damaged, b"", whole[:7], whole[:900], whole[:-8], whole + bytes(8), b"\0" * len(whole)):
        kept.write_bytes(content)
        reader, indexed = opened(path)
        with reader:
            np.testing.assert_array_equal(reader.frames(ORDER), truth[ORDER])
        assert indexed and kept.read_bytes() == whole


def test_wrong_places_do_not_show(footage, opened, cache):
    """An index whose checksum is right, and whose places are not: FFmpeg reads the file."""
    path, truth = footage("closed.mp4")
    opened(path)[0].close()
    with opened(path)[0] as reader:
        facts, version = reader.facts, reader.version
    offsets = facts.places.offsets.tolist()
    for wrong in (offsets[::-1], [*offsets[:30], 2**40, *offsets[31:]]):
        places = PacketPlaces(array("q", wrong), *facts.places.arrays[1:], facts.places.head)
        pyav._known.keep(version, replace(facts, places=places))
        with PyAVReader(str(path), index_cache=cache) as reader:
            assert reader.video.places is not None
            np.testing.assert_array_equal(reader.frames(ORDER), truth[ORDER])


def test_short_files_are_not_kept(footage, cache, opened, monkeypatch):
    monkeypatch.setattr(index_cache, "LONG_FILE", 71)
    monkeypatch.setattr(index_file, "LONG_FILE", 71)
    for name in ("closed.mp4", "counted.ts"):
        opened(footage(name)[0])[0].close()
    (kept,) = Path(cache.folder).iterdir()
    assert kept.name.startswith("counted.ts-")  # decoding all of it to count its frames takes long


def test_a_folder_that_cannot_be_written_is_said_once(footage, opened, cache, caplog):
    os.rmdir(cache.folder)
    Path(cache.folder).write_text("a file")
    with caplog.at_level(logging.WARNING):
        for name in ("closed.mp4", "sound.mp4"):
            path, truth = footage(name)
            with opened(path)[0] as reader:
                np.testing.assert_array_equal(reader.frames([7]), truth[[7]])
    assert sum("cannot be kept" in message for message in caplog.messages) == 1


def test_several_processes_share_it(footage, cache):
    path, truth = footage("sound.mp4")
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.starmap(read_anew, [(cache, str(path))] * 12, chunksize=1)
    assert all(np.array_equal(frames, truth[ORDER]) for frames in found)
    assert len(os.listdir(cache.folder)) == 1


def read_anew(cache, path):
    pyav._known = LRUCache(2**20)
    with PyAVReader(path, index_cache=cache) as reader:
        return reader.frames(ORDER)


def test_a_loader_uses_the_folder_of_the_settings(tiny_cfg, tmp_path, monkeypatch):
    """The same batches with DATA.INDEX_CACHE, whose folder two workers make and fill."""
    folder = tmp_path / "a" / "b"
    monkeypatch.setattr(pyav, "_known", LRUCache(1))  # which holds the last file
    plain = [batch.inputs[0] for batch in build_loader(tiny_cfg(), "train")]
    for _ in range(2):
        cfg = tiny_cfg("DATA.INDEX_CACHE", str(folder), "DATA_LOADER.NUM_WORKERS", 2)
        cached = [batch.inputs[0] for batch in build_loader(cfg, "train")]
        assert all(map(np.array_equal, plain, cached)) and len(plain) == len(cached)
    assert {path.suffix for path in folder.iterdir()} == {index_cache.ENDING}


def test_an_impossible_folder_is_refused(tiny_cfg, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="DATA.INDEX_CACHE"):
        video_opener(tiny_cfg("DATA.INDEX_CACHE", str(tmp_path / "file" / "folder")))
