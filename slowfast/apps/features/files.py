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
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from slowfast.datasets.video.find import place_of
from slowfast.runtime.logging import get_logger
from slowfast.utils.archives import DamagedArchiveError, read_npz
from slowfast.utils.errors import check_choice, first_line
from slowfast.utils.files import atomic_write_local
from slowfast.utils.tables import numpy_column, read_parquet, read_parquet_metadata, require_parquet, write_parquet

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
        features: (N, C) or (N, C, H, W).
        window: (N,) index of the clip or step.
        crop: (N,) index of the spatial crop.
        frames: (N, 2) first and last frame that the window reads.
        times: (N, 2) start of the first and end of the last frame in seconds.
    """

    path: str
    label: int
    fps: float
    num_frames: int
    features: np.ndarray
    window: np.ndarray
    crop: np.ndarray
    frames: np.ndarray
    times: np.ndarray


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
            arrays = {**dataclasses.asdict(record), "about": json.dumps(about)}
            atomic_write_local(path, lambda stream: np.savez(stream, **arrays), durable=True)
        else:
            _write_parquet(path, lambda: [record], about, durable=True)

    def read(self, video: str) -> VideoFeatures:
        """Read the features of a video; ValueError if its file is damaged."""
        try:
            return load_features(self.path_of(video))
        except ValueError as error:
            raise ValueError(f"{error}; remove it, and extract again") from error

    def join(self, videos: Sequence[str], about: dict[str, Any]) -> str:
        """Write the file of all these videos in their order; return its path.

        In npz, `video` (N,) is the index of a row's video in `path`, `label`, `fps` and `num_frames`. Parquet has these
        values in every row.
        """
        if self.format == "npz":
            arrays = {**_joined(list(map(self.read, videos))), "about": json.dumps(about)}
            atomic_write_local(self.whole_path, lambda stream: np.savez(stream, **arrays))
        else:
            _write_parquet(self.whole_path, lambda: map(self.read, videos), about)
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
        values = read_npz(path, [field.name for field in dataclasses.fields(VideoFeatures)])
        scalars = {name: value.item() for name, value in values.items() if value.ndim == 0}
        return VideoFeatures(**{**values, **scalars})


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


def _joined(records: list[VideoFeatures]) -> dict[str, np.ndarray]:
    rows = {name: np.concatenate([vars(r)[name] for r in records]) for name in ("features", *_ROWS)}
    rows["video"] = np.repeat(np.arange(len(records)), [len(r.features) for r in records])
    each = {name: np.array([vars(r)[name] for r in records]) for name in ("path", "label", "fps", "num_frames")}
    return {**rows, **each}


def _write_parquet(
    path: str, records: Callable[[], Iterable[VideoFeatures]], about: dict[str, Any], durable: bool = False
) -> None:
    """Write a row group a video. The shape of a row's features stands in the file's `about`."""

    def fill(stream: BinaryIO) -> None:
        each = iter(records())
        first = next(each)
        metadata = {"about": json.dumps({**about, "shape": list(first.features.shape[1:])})}
        write_parquet(stream, map(_columns, itertools.chain([first], each)), metadata)

    atomic_write_local(path, fill, durable)


def _columns(record: VideoFeatures) -> dict[str, np.ndarray]:
    count = len(record.features)
    return {
        "path": np.full(count, record.path),
        "label": np.full(count, record.label),
        "fps": np.full(count, record.fps),
        "num_frames": np.full(count, record.num_frames),
        "window": record.window,
        "crop": record.crop,
        "first_frame": record.frames[:, 0],
        "last_frame": record.frames[:, 1],
        "start": record.times[:, 0],
        "end": record.times[:, 1],
        "features": record.features,
    }


def _read_parquet(path: str) -> VideoFeatures:
    table, metadata = read_parquet(path)
    shapes = {"features": json.loads(metadata["about"])["shape"]}
    columns = {name: numpy_column(table.column(name), shapes.get(name, ())) for name in table.column_names}
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
