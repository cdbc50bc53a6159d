"""Files of features: one a video, npz or Parquet, and one of all of them.

Shapes: N are the windows of a video (clips, or steps) times the spatial crops of each, crops side by side; a row is
(C,) for pooled features and (C, H, W) for spatial ones.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from slowfast.utils.files import atomic_write_local

FORMATS = ("npz", "parquet")
FORMAT_VERSION = 1
_ROWS = ("window", "crop", "frames", "times")


@dataclasses.dataclass
class VideoFeatures:
    """The features of one video.

    Attributes:
        path: of the video.
        label: as the list has it; -1 without one.
        fps, num_frames: of the video.
        features: (N, C) or (N, C, H, W).
        window: (N,) number of the clip or step, from 0.
        crop: (N,) number of the spatial crop, from 0.
        frames: (N, 2) first and last frame of the video that the window reads.
        times: (N, 2) seconds from the video's start at which these two begin and end, by its mean frame rate.
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
    """Where features go: `videos/PATH.npz` for each video, `features.npz` for all of them if asked for.

    Args:
        folder: the folder.
        file_format: "npz" or "parquet".

    Raises:
        ValueError: an unknown format, or Parquet without the package that writes it.
    """

    def __init__(self, folder: str, file_format: str = "npz") -> None:
        if file_format not in FORMATS:
            raise ValueError(f"the format of feature files is {file_format!r}; it must be one of {', '.join(FORMATS)}")
        if file_format == "parquet":
            _pyarrow()
        self.folder, self.format = folder, file_format

    def path_of(self, video: str) -> str:
        """The file of a video; its name follows from the video's path alone."""
        clean = os.path.normpath(video)
        if clean.startswith(os.pardir):
            clean = os.path.abspath(video)
        return os.path.join(self.folder, "videos", f"{clean.lstrip(os.sep)}.{self.format}")

    @property
    def whole_path(self) -> str:
        """The file of all videos."""
        return os.path.join(self.folder, f"features.{self.format}")

    def has(self, video: str) -> bool:
        """Whether the video's file is there; it is whole if it is."""
        return os.path.isfile(self.path_of(video))

    def write(self, record: VideoFeatures, about: dict[str, Any]) -> None:
        """Write a video's file at once: either all of it is there afterwards, or nothing."""
        path = self.path_of(record.path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if self.format == "npz":
            arrays = {**dataclasses.asdict(record), "about": json.dumps(about)}
            atomic_write_local(path, lambda stream: np.savez(stream, **arrays))
        else:
            _write_parquet(path, [record], about)

    def read(self, video: str) -> VideoFeatures:
        """The features of a video from its file."""
        return load_features(self.path_of(video))

    def join(self, videos: Sequence[str], about: dict[str, Any]) -> str:
        """Write the file of all these videos, in their order; its path.

        In npz, `video` (N,) says to which entry of `path`, `label`, `fps` and `num_frames` a row belongs. Parquet has
        these beside each row.
        """
        records = map(self.read, videos)
        if self.format == "npz":
            arrays = {**_joined(list(records)), "about": json.dumps(about)}
            atomic_write_local(self.whole_path, lambda stream: np.savez(stream, **arrays))
        else:
            _write_parquet(self.whole_path, records, about)
        return self.whole_path


def load_features(path: str) -> VideoFeatures:
    """The features of one video from its npz or Parquet file; `about_features` has how they were made."""
    if path.endswith(".parquet"):
        return _read_parquet(path)
    with np.load(path) as arrays:
        values = {field.name: arrays[field.name] for field in dataclasses.fields(VideoFeatures)}
    scalars = {name: value.item() for name, value in values.items() if value.ndim == 0}
    return VideoFeatures(**{**values, **scalars})


def about_features(path: str) -> dict[str, Any]:
    """How the features in a file were made: kind, model, weights, checkpoint, configuration."""
    if path.endswith(".parquet"):
        return json.loads(_pyarrow().read_schema(path).metadata[b"about"])
    with np.load(path) as arrays:
        return json.loads(arrays["about"].item())


def _joined(records: list[VideoFeatures]) -> dict[str, np.ndarray]:
    rows = {name: np.concatenate([getattr(r, name) for r in records]) for name in ("features", *_ROWS)}
    rows["video"] = np.repeat(np.arange(len(records)), [len(r.features) for r in records])
    each = {name: np.array([getattr(r, name) for r in records]) for name in ("path", "label", "fps", "num_frames")}
    return {**rows, **each}


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            "Parquet files take pyarrow, not installed here: pip install pyarrow (the extra `features`), or write npz"
        ) from error
    return pyarrow.parquet


def _write_parquet(path: str, records: Iterator[VideoFeatures] | list[VideoFeatures], about: dict[str, Any]) -> None:
    """A group of rows a video; a row's features are flattened, their shape is in the file's `about`."""
    parquet = _pyarrow()

    def fill(stream: Any) -> None:
        writer = None
        for record in records:
            table = _table(record, about)
            writer = writer or parquet.ParquetWriter(stream, table.schema)
            writer.write_table(table)
        writer.close()

    atomic_write_local(path, fill)


def _table(record: VideoFeatures, about: dict[str, Any]) -> Any:
    import pyarrow

    count, size = len(record.features), record.features[0].size
    kind = pyarrow.from_numpy_dtype(record.features.dtype)
    flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(record.features.ravel(), kind), size)
    columns = {
        "path": [record.path] * count,
        "label": np.full(count, record.label),
        "fps": np.full(count, record.fps),
        "num_frames": np.full(count, record.num_frames),
        "window": record.window,
        "crop": record.crop,
        **_pairs(record),
        "features": flat,
    }
    details = {"about": json.dumps({**about, "shape": list(record.features.shape[1:])})}
    return pyarrow.table(columns).replace_schema_metadata(details)


def _pairs(record: VideoFeatures) -> dict[str, np.ndarray]:
    return {
        "first_frame": record.frames[:, 0],
        "last_frame": record.frames[:, 1],
        "start": record.times[:, 0],
        "end": record.times[:, 1],
    }


def _read_parquet(path: str) -> VideoFeatures:
    table = _pyarrow().read_table(path)
    column: Callable[[str], np.ndarray] = lambda name: table.column(name).to_numpy()  # noqa: E731
    flat = table.column("features").combine_chunks().flatten().to_numpy()
    shape = json.loads(table.schema.metadata[b"about"])["shape"]
    return VideoFeatures(
        path=table.column("path")[0].as_py(),
        label=int(column("label")[0]),
        fps=float(column("fps")[0]),
        num_frames=int(column("num_frames")[0]),
        features=flat.reshape(len(table), *shape),
        window=column("window"),
        crop=column("crop"),
        frames=np.stack([column("first_frame"), column("last_frame")], axis=1),
        times=np.stack([column("start"), column("end")], axis=1),
    )
