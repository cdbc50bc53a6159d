"""What the first opening of a long file finds out, kept on disk (`DATA.INDEX_CACHE`).

A file of the cache is a line of JSON, zeros up to a multiple of 8 bytes, and arrays. A large one is mapped, not read,
so that processes share it and hold the pages that they use. One of another version of the video, of FFmpeg or of this
format is made anew, and so is a damaged one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import zlib
from array import array
from dataclasses import asdict
from typing import Any, BinaryIO

import av

from slowfast.datasets.video.facts import MAPPED_BYTES, FileFacts
from slowfast.datasets.video.packet_index import PacketIndex
from slowfast.datasets.video.packet_places import PacketPlaces
from slowfast.datasets.video.reader import Rhythm
from slowfast.utils.errors import naming_keys
from slowfast.utils.files import atomic_write_local, regular_file

logger = logging.getLogger(__name__)

Version = tuple[str, int, int, int, int | None]
"""Path, inode, size and time of modification of a file, and the choice of its stream."""

ENDING = ".index"
# Frames from which on a file is kept: indexing fewer packets takes milliseconds.
LONG_FILE = 4096
_FORMAT = 1
_ALIGNED = 8
_PLACES = "offsets", "sizes", "place_pts", "keys"
# Longest first line, in bytes.
_LONGEST_HEAD = 2**20


class IndexCache:
    """Folder of the facts of long files, and of those whose frames are counted by decoding. Can be pickled.

    Several processes may share it: files are replaced as a whole, and all processes would write the same.

    Args:
        folder: it is created.

    Raises:
        ValueError: it cannot be created.
    """

    def __init__(self, folder: str) -> None:
        self.folder = os.path.abspath(folder)
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as error:
            raise ValueError(f"the folder {self.folder} cannot be created: {error.strerror}") from error
        self._complained = False

    @staticmethod
    def from_config(cfg: Any) -> IndexCache | None:
        """Open the cache of a configuration; None without one."""
        if not cfg.DATA.INDEX_CACHE:
            return None
        with naming_keys(cfg, "DATA.INDEX_CACHE"):
            return IndexCache(cfg.DATA.INDEX_CACHE)

    def path_of(self, version: Version) -> str:
        """Return the file of a video: its name, and a digest of its path and stream."""
        path, stream = os.path.abspath(version[0]), version[4]
        digest = hashlib.sha256(os.fsencode(f"{path}\n{stream}")).hexdigest()[:16]
        name = os.path.basename(path).encode("ascii", "replace").decode().replace("?", "_")[:100]
        return os.path.join(self.folder, f"{name}-{digest}{ENDING}")

    def load(self, version: Version) -> FileFacts | None:
        """Return the facts of a file; None if there are none that can be used."""
        path = self.path_of(version)
        try:
            with open(path, "rb", opener=regular_file) as file:
                return _read(file, _stamp(version))
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever the bytes of a damaged file lead to
            logger.warning("%s is damaged (%s: %s); it is made anew", path, type(error).__name__, error)
            return None

    def keep(self, version: Version, facts: FileFacts) -> None:
        """Keep the facts of a file, if it is long or was decoded to count its frames."""
        if facts.counted is None and facts.count < LONG_FILE:
            return
        try:
            atomic_write_local(self.path_of(version), lambda file: _write(file, facts, _stamp(version)))
        except OSError as error:
            if not self._complained:
                logger.warning("the index of %s cannot be kept: %s", version[0], error)
            self._complained = True


def _stamp(version: Version) -> list:
    """Return what facts depend on. Not the inode: it changes when a disk is mounted elsewhere."""
    path, _, size, changed, stream = version
    libraries = [list(numbers) for _, numbers in sorted(av.library_versions.items())]
    return [_FORMAT, os.fsencode(os.path.abspath(path)).hex(), size, changed, stream, av.__version__, libraries]


def _arrays_of(facts: FileFacts) -> dict[str, array[int] | array[float]]:
    found = {"pts": facts.index.pts, "key_pts": facts.index.key_pts, "key_dts": facts.index.key_dts}
    if facts.counted is not None:
        found["counted"] = facts.counted
    if facts.places is not None:
        found |= zip(_PLACES, facts.places.arrays, strict=True)
    return found


def _write(file: BinaryIO, facts: FileFacts, stamp: list) -> None:
    arrays = _arrays_of(facts)
    parts = [(name, numbers.typecode, numbers.tobytes()) for name, numbers in arrays.items()]
    parts.append(("head", "B", b"" if facts.places is None else facts.places.head))
    checksum = 0
    for _, _, data in parts:
        checksum = zlib.crc32(data + bytes(-len(data) % _ALIGNED), checksum)
    index = facts.index
    about = {
        "stamp": stamp,
        "parts": [[name, code, len(data)] for name, code, data in parts],
        "checksum": checksum,
        "stream": facts.stream,
        "index": [index.last_duration, index.cut_off, index.doubt],
        "unit": facts.unit,
        "fps": facts.fps,
        "size": facts.size,
        "headed": facts.headed,
        "notes": facts.notes,
        "rhythm": facts.rhythm and asdict(facts.rhythm),
        "lost_end": facts.lost_end,
        "lost_frames": facts.lost_frames,
    }
    line = json.dumps(about).encode()
    line = b"%08x" % zlib.crc32(line) + line + b"\n"
    file.write(line + bytes(-len(line) % _ALIGNED))
    for _, _, data in parts:
        file.write(data + bytes(-len(data) % _ALIGNED))


def _read(file: BinaryIO, stamp: list) -> FileFacts | None:
    """Read a file of the cache; None if it is of another version.

    Raises:
        ValueError, KeyError, ...: it is damaged.
    """
    line = file.readline(_LONGEST_HEAD)
    if int(line[:8], 16) != zlib.crc32(line[8:-1]):
        raise ValueError("its first line was changed")
    about = json.loads(line[8:])
    if about["stamp"] != stamp:
        return None
    file.seek(0)
    mapped = os.fstat(file.fileno()).st_size >= MAPPED_BYTES
    # A mapping lives as long as a view of it.
    whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if mapped else file.read())
    place = len(line) + -len(line) % _ALIGNED
    if any(whole[len(line) : place]) or zlib.crc32(whole[place:]) != about["checksum"]:
        raise ValueError("its content was changed")
    views = {}
    for name, code, size in about["parts"]:
        views[name] = whole[place : place + size].cast(code)
        place += size + -size % _ALIGNED
    index = PacketIndex(views["pts"], views["key_pts"], views["key_dts"], *about["index"])
    places = None
    if _PLACES[0] in views:
        places = PacketPlaces(*(views[name] for name in _PLACES), bytes(views["head"]))
    span = about["lost_end"]
    return FileFacts(
        about["stream"],
        index,
        views.get("counted"),
        about["unit"],
        about["fps"],
        tuple(about["size"]),
        about["headed"],
        about["notes"],
        about["rhythm"] and Rhythm(**about["rhythm"]),
        places,
        span and tuple(span),
        [tuple(each) for each in about["lost_frames"]],
        mapped=mapped,
    )
