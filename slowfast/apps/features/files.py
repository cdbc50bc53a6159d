"""Feature files, npz or Parquet: one a video, and one of all videos.

Shapes: N is the number of windows of a video (clips or steps) times spatial crops; the crops of a window are adjacent.
A row is (C,) for pooled and (C, H, W) for spatial features.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from slowfast.datasets.video.find import place_of
from slowfast.runtime.logging import get_logger
from slowfast.utils.archives import Blocks, DamagedArchiveError, npz_blocks, read_npz, write_npz
from slowfast.utils.errors import check_choice, first_line
from slowfast.utils.files import atomic_write_local
from slowfast.utils.tables import (
    Columns,
    numpy_column,
    read_parquet,
    read_parquet_groups,
    read_parquet_metadata,
    require_parquet,
    write_parquet,
)

logger = get_logger(__name__)

FORMATS = ("npz", "parquet")
FORMAT_VERSION = 1
_ROWS = ("window", "crop", "frames", "times")


@dataclasses.dataclass
class VideoFeatures:
    """Features of one video.

    Attributes:
        path: path of the video.
        label: label in the list; -1 for none.
        fps, num_frames: of the video.
        features: (N, C) or (N, C, H, W); `Blocks` where they need not fit into memory.
        window: (N,) index of the clip or step.
        crop: (N,) index of the spatial crop.
        frames: (N, 2) first and last frame that the window reads.
        times: (N, 2) start of the first and end of the last frame in seconds.
    """

    path: str
    label: int
    fps: float
    num_frames: int
    features: np.ndarray | Blocks
    window: np.ndarray
    crop: np.ndarray
    frames: np.ndarray
    times: np.ndarray


_FIELDS = [field.name for field in dataclasses.fields(VideoFeatures)]


class FeatureFolder:
    """Folder of feature files: `videos/PATH.npz` of each video, and `features.npz` of all.

    Args:
        folder: path of the folder.
        file_format: "npz" or "parquet".

    Raises:
        ValueError: an unknown format, or pyarrow is missing for Parquet.
    """

    def __init__(self, folder: str, file_format: str = "npz") -> None:
        check_choice("the format of feature files", file_format, FORMATS)
        if file_format == "parquet":
            require_parquet()
        self.folder, self.format = folder, file_format

    def path_of(self, video: str) -> str:
        """Return the path of a video's file.

        See `place_of`: one video has one file, and two videos have two.
        """
        return os.path.join(self.folder, "videos", f"{place_of(video)}.{self.format}")

    @property
    def whole_path(self) -> str:
        """Return the path of the file of all videos."""
        return os.path.join(self.folder, f"features.{self.format}")

    def has(self, video: str) -> bool:
        """Return True if the video's file exists and is whole, as its directory at the end of the file tells."""
        path = self.path_of(video)
        if not os.path.isfile(path):
            return False
        try:
            about_features(path)
        except Exception as error:  # libraries raise many types
            logger.warning("%s is not whole (%s), and is made anew", path, first_line(error))
            return False
        return True

    def write(self, record: VideoFeatures, about: dict[str, Any]) -> None:
        """Write a video's file atomically, so that it also survives a power cut.

        Raises:
            OSError: the file cannot be written; ENAMETOOLONG if the file system has no room for its name.
        """
        path = self.path_of(record.path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if self.format == "npz":
            arrays = {**vars(record), "about": json.dumps(about)}
            atomic_write_local(path, lambda stream: write_npz(stream, arrays), durable=True)
        else:
            _write_parquet(path, lambda: _groups(record), about, durable=True)

    def read(self, video: str) -> VideoFeatures:
        """Read the features of a video; ValueError if its file is damaged."""
        with _remedy():
            return load_features(self.path_of(video))

    def join(self, videos: Sequence[str], about: dict[str, Any]) -> str:
        """Write the file of all these videos in their order; return its path. Features pass in blocks.

        In npz, `video` (N,) is the index of a row's video in `path`, `label`, `fps` and `num_frames`. Parquet has these
        values in every row.

        Raises:
            ValueError: the file of a video is damaged, or its rows have another size than those of the first.
        """
        files = [self.path_of(video) for video in videos]
        if self.format == "npz":
            arrays = {**_joined(files), "about": json.dumps(about)}
            atomic_write_local(self.whole_path, lambda stream: write_npz(stream, arrays))
        else:
            _write_parquet(self.whole_path, lambda: _joined_groups(files), about)
        return self.whole_path


def load_features(path: str) -> VideoFeatures:
    """Read the features of one video from an npz or Parquet file; `about_features` tells how they were made.

    Raises:
        FileNotFoundError, PermissionError: the file cannot be opened.
        ValueError: it is damaged, or no file of features.
    """
    with _naming(path):
        if path.endswith(".parquet"):
            return _read_parquet(path)
        return _record(read_npz(path, _FIELDS))


def about_features(path: str) -> dict[str, Any]:
    """Read how the features in a file were made: kind, model, weights, checkpoint, config."""
    with _naming(path):
        if path.endswith(".parquet"):
            return json.loads(read_parquet_metadata(path)["about"])
        return json.loads(read_npz(path, ["about"])["about"].item())


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turn every error of reading a file, of which libraries raise many types, into a ValueError that names it."""
    try:
        yield
    except (FileNotFoundError, PermissionError, DamagedArchiveError):
        raise  # these name it
    except Exception as error:
        raise ValueError(f"{path} is no whole file of features ({first_line(error)})") from error


@contextlib.contextmanager
def _remedy() -> Iterator[None]:
    """Add what to do to an error about the file of a video."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error}; remove it, and extract again") from error


def _record(values: Mapping[str, Any]) -> VideoFeatures:
    """Build a record of the arrays of an npz file."""
    return VideoFeatures(**{name: value if value.shape else value.item() for name, value in values.items()})


def _joined(files: Sequence[str]) -> dict[str, Any]:
    """Return the arrays of the npz file of all videos, given those of each; features are `Blocks`."""
    records = []
    for path in files:
        with _remedy(), _naming(path):
            rest = [name for name in _FIELDS if name != "features"]
            records.append(_record({**read_npz(path, rest), "features": npz_blocks(path, "features")}))
        _check_same_rows(path, records[-1].features.shape[1:], files[0], records[0].features.shape[1:])

    def read() -> Iterator[np.ndarray]:
        for record in records:
            with _remedy():
                yield from record.features.read()

    counts, first = [record.features.shape[0] for record in records], records[0].features
    features = Blocks((sum(counts), *first.shape[1:]), first.dtype, read)
    rows = {name: np.concatenate([vars(r)[name] for r in records]) for name in _ROWS}
    each = {name: np.array([vars(r)[name] for r in records]) for name in ("path", "label", "fps", "num_frames")}
    return {"features": features, **rows, "video": np.repeat(np.arange(len(records)), counts), **each}


def _joined_groups(files: Sequence[str]) -> Iterator[Columns]:
    """Yield the row groups of the Parquet files of videos."""
    first = ()
    for path in files:
        with _remedy(), _naming(path):
            shape = tuple(json.loads(read_parquet_metadata(path)["about"])["shape"])
        first = first or shape
        _check_same_rows(path, shape, files[0], first)
        with _remedy(), _naming(path):
            for table in read_parquet_groups(path):
                yield _numpy_columns(table, shape)


def _check_same_rows(path: str, shape: tuple[int, ...], other: str, other_shape: tuple[int, ...]) -> None:
    """Raise ValueError if the rows of two videos have different sizes."""
    if shape != other_shape:
        raise ValueError(
            f"a row of {path} is {list(shape)}, and of {other} {list(other_shape)}: one file cannot hold both; leave "
            "out --one-file"
        )


def _groups(record: VideoFeatures) -> Iterator[Columns]:
    """Yield the rows of a video in blocks, each for a row group."""
    features, start = record.features, 0
    for rows in features.read() if isinstance(features, Blocks) else [features]:
        part = slice(start, start := start + len(rows))
        yield {
            "path": np.full(len(rows), record.path),
            "label": np.full(len(rows), record.label),
            "fps": np.full(len(rows), record.fps),
            "num_frames": np.full(len(rows), record.num_frames),
            "window": record.window[part],
            "crop": record.crop[part],
            "first_frame": record.frames[part, 0],
            "last_frame": record.frames[part, 1],
            "start": record.times[part, 0],
            "end": record.times[part, 1],
            "features": rows,
        }


def _write_parquet(
    path: str, groups: Callable[[], Iterator[Columns]], about: dict[str, Any], durable: bool = False
) -> None:
    """Write row groups. The shape of a row's features stands in the file's `about`."""

    def fill(stream: BinaryIO) -> None:
        each = groups()
        first = next(each)
        metadata = {"about": json.dumps({**about, "shape": list(first["features"].shape[1:])})}
        write_parquet(stream, itertools.chain([first], each), metadata)

    atomic_write_local(path, fill, durable)


def _numpy_columns(table: Any, shape: Sequence[int]) -> dict[str, np.ndarray]:
    """Convert a table; `shape` is that of a row's features."""
    return {name: numpy_column(table.column(name), shape if name == "features" else ()) for name in table.column_names}


def _read_parquet(path: str) -> VideoFeatures:
    table, metadata = read_parquet(path)
    columns = _numpy_columns(table, json.loads(metadata["about"])["shape"])
    return VideoFeatures(
        path=str(columns["path"][0]),
        label=int(columns["label"][0]),
        fps=float(columns["fps"][0]),
        num_frames=int(columns["num_frames"][0]),
        features=columns["features"],
        window=columns["window"],
        crop=columns["crop"],
        frames=np.stack([columns["first_frame"], columns["last_frame"]], axis=1),
        times=np.stack([columns["start"], columns["end"]], axis=1),
    )
