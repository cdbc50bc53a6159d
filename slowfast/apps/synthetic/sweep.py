"""Synthetic set `sweep`: long videos whose label is the order of two events too far apart for any short clip.

The set is H.264 videos and `train.csv`, `val.csv`, `test.csv` (lines `path label`). With annotations it also has frames
as JPEG files, their labels, and boxes of the moving disc.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from slowfast.apps.synthetic import files, render

FORMAT_VERSION = 2  # raise it whenever the same parameters give other videos
MANIFEST = "sweep.json"
_CHUNK = 40  # videos a worker makes at a time


@dataclass(frozen=True)
class SweepSpec:
    """Parameters of a set: frame size in pixels, videos of each split, seed; `annotations` of frames and boxes."""

    size: int = 32
    train: int = 1200
    val: int = 240
    test: int = 480
    seed: int = 0
    annotations: bool = False
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        render.check_size(self.size)
        for split, count in self.counts.items():
            if count < 1:
                raise ValueError(f"{split} {count}: a split needs at least one video")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: must not be negative")

    @property
    def counts(self) -> dict[str, int]:
        """Number of videos of each split."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def videos(self) -> Iterator[tuple[str, int]]:
        """Yield (split, index) of every video."""
        return ((split, index) for split, count in self.counts.items() for index in range(count))


def make_sweep(root: Path, spec: SweepSpec, workers: int = 0) -> bool:
    """Make the set in the folder `root`; return False if the complete set was there.

    Args:
        workers: number of processes; 0 works in this one.

    Raises:
        ValueError: `root` holds a set made with other parameters.
        OSError: a file cannot be written.
    """
    root = Path(root).resolve()
    if _is_complete(root, spec):
        return False
    for split in render.SPLITS:
        (root / "videos" / split).mkdir(parents=True, exist_ok=True)
    videos = list(spec.videos())
    made = files.make_videos(partial(_make_video, root, spec), videos, workers, _CHUNK)
    events = dict(zip(videos, made, strict=True))
    files.write_class_names(root)
    for split, count in spec.counts.items():
        files.write_list(root, split, map(render.label_of, range(count)))
        if spec.annotations:
            files.write_annotations(root, split, [events[split, index] for index in range(count)], spec.size)
    files.write_manifest(root / MANIFEST, {**asdict(spec), "root": str(root), "classes": render.CLASS_NAMES})
    return True


def preview(spec: SweepSpec) -> np.ndarray:
    """Draw the first training video of every class, one a row: a picture (H, W, 3) uint8 RGB."""
    videos = [render.render_video(spec.seed, "train", index, spec.size)[0] for index in range(len(render.CLASSES))]
    return render.contact_sheet(videos)


def _make_video(root: Path, spec: SweepSpec, video: tuple[str, int]) -> tuple[render.Event, render.Event]:
    split, index = video
    frames, events = render.render_video(spec.seed, split, index, spec.size)
    files.encode_video(files.video_path(root, split, index), frames)
    if spec.annotations:
        files.write_frames(root, split, index, frames)
    return events


def _is_complete(root: Path, spec: SweepSpec) -> bool:
    """Return True if `root` holds the set. A set with annotations also serves where none are asked for."""
    wanted = {key: value for key, value in asdict(spec).items() if key != "annotations"}
    found = files.read_manifest(root / MANIFEST, wanted)
    if found is None or (spec.annotations and not found["annotations"]):
        return False
    return all(files.video_path(root, split, index).exists() for split, index in spec.videos())
