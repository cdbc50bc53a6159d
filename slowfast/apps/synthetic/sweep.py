"""Synthetic set `sweep`: long videos whose label is the order of two events too far apart for any short clip.

The set is H.264 videos and `train.csv`, `val.csv`, `test.csv` (lines `path label`). With annotations it also has frames
as JPEG files, their labels, and boxes of the moving disc.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from slowfast.apps.synthetic import files, render

FORMAT_VERSION = 2  # raise it whenever the same parameters give other videos
MANIFEST = "sweep.json"
_FIRST_SECOND = 900  # time stamp of frame 0 in AVA's box files
_CHUNK = 40  # videos a worker makes at a time
_STEP_KEYS = ("steps", "min_gap", "max_gap", "step_len", "overlap", "lead")


@dataclass(frozen=True)
class SweepSpec:
    """Parameters of a set.

    Attributes:
        size: of the frames, in pixels.
        train, val, test: videos of each split.
        seed: another one gives other videos.
        annotations: of frames and boxes.
        steps: steps of a video, see `render.StepGrid`, of `step_len` and `overlap` frames; 0 for the usual videos.
        min_gap, max_gap: limits of the gap between the events, in steps; 0 for all that fit.
        lead: steps before the first event, at least.
    """

    size: int = 32
    train: int = 1200
    val: int = 240
    test: int = 480
    seed: int = 0
    annotations: bool = False
    version: int = FORMAT_VERSION
    steps: int = 0
    min_gap: int = 0
    max_gap: int = 0
    step_len: int = 8
    overlap: int = 1
    lead: int = 0

    def __post_init__(self) -> None:
        render.check_size(self.size)
        if not self.steps and (self.min_gap or self.max_gap):
            raise ValueError(f"gaps of {self.min_gap} to {self.max_gap} steps need the number of steps of a video")
        _ = self.grid  # which checks the gaps
        files.check_set(self.counts, self.seed)

    @property
    def grid(self) -> render.StepGrid | None:
        """Steps and gaps of the videos; None for the usual videos."""
        if not self.steps:
            return None
        gaps = self.min_gap or 1, self.max_gap or self.steps - 1 - self.lead
        return render.StepGrid(self.steps, *gaps, self.step_len, self.overlap, self.lead)

    @property
    def num_frames(self) -> int:
        """Number of frames of a video."""
        return self.grid.num_frames if self.grid else render.NUM_FRAMES

    def render(self, split: str, index: int) -> tuple[np.ndarray, tuple[render.Event, render.Event]]:
        """Draw a video, see `render.render_video`."""
        return render.render_video(self.seed, split, index, self.size, self.grid)

    def manifest(self) -> dict[str, Any]:
        """Return the parameters as a manifest has them; steps and gaps are left out where there are none."""
        return {key: value for key, value in asdict(self).items() if self.steps or key not in _STEP_KEYS}

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
    (root / "classes.txt").write_text("\n".join(render.CLASS_NAMES) + "\n")  # the name of class i in line i
    for split, count in spec.counts.items():
        lines = (f"{_video_path(root, split, index)} {render.label_of(index)}\n" for index in range(count))
        (root / f"{split}.csv").write_text("".join(lines))
        if spec.annotations:
            _write_annotations(root, split, [events[split, index] for index in range(count)], spec)
    files.write_manifest(root / MANIFEST, {**spec.manifest(), "root": str(root), "classes": render.CLASS_NAMES})
    return True


def preview(spec: SweepSpec) -> np.ndarray:
    """Draw the first training video of every class, one a row: a picture (H, W, 3) uint8 RGB."""
    videos = [spec.render("train", index)[0] for index in range(len(render.CLASSES))]
    return render.contact_sheet(videos)


def _make_video(root: Path, spec: SweepSpec, video: tuple[str, int]) -> tuple[render.Event, render.Event]:
    split, index = video
    frames, events = spec.render(split, index)
    files.encode_video(_video_path(root, split, index), frames)
    if spec.annotations:
        paths = [root / "frames" / _frame_path(split, index, number) for number in range(len(frames))]
        files.write_images(paths, frames)
    return events


def _is_complete(root: Path, spec: SweepSpec) -> bool:
    """Return True if `root` holds the set. A set with annotations also serves where none are asked for."""
    wanted = {key: value for key, value in spec.manifest().items() if key != "annotations"}
    found = files.read_manifest(root / MANIFEST, wanted)
    if found is None or (spec.annotations and not found["annotations"]):
        return False
    return all(_video_path(root, split, index).exists() for split, index in spec.videos())


def _write_annotations(
    root: Path, split: str, events: list[tuple[render.Event, render.Event]], spec: SweepSpec
) -> None:
    """Write the annotations of a split; `events` are in the order of its videos.

    - `annotations/{split}_frames.csv`: every frame (path below `frames/`) and its actions, numbered from 0, in the
      Charades format.
    - `annotations/{split}_boxes.csv`: boxes of the discs at key frames, one a second from second 900, in the
      AVA format; actions are numbered from 1.
    - `annotations/actions.pbtxt`: names of the actions of the boxes.
    """
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    frame_lines = [files.FRAME_LIST_HEADER]
    box_lines = []
    for index, pair in enumerate(events):
        frame_lines += _frame_lines(split, index, pair, spec.num_frames)
        box_lines += _box_lines(split, index, pair, spec.size)
    (folder / f"{split}_frames.csv").write_text("\n".join(frame_lines) + "\n")
    (folder / f"{split}_boxes.csv").write_text("\n".join(box_lines) + "\n")
    names = (f'item {{\n  name: "{name}"\n  id: {i}\n}}\n' for i, name in enumerate(render.DIRECTIONS, start=1))
    (folder / "actions.pbtxt").write_text("".join(names))


def _frame_lines(split: str, index: int, events: tuple[render.Event, render.Event], count: int) -> list[str]:
    name = _video_name(split, index)
    lines = []
    for number in range(count):
        actions = ",".join(str(event.direction) for event in events if number in event.frames)
        lines.append(f'{name} {index} {number} {_frame_path(split, index, number)} "{actions}"')
    return lines


def _box_lines(split: str, index: int, events: tuple[render.Event, render.Event], size: int) -> list[str]:
    lines = []
    for entity, event in enumerate(events):
        for frame in event.frames:
            if frame % files.FPS == 0:
                box = ",".join(f"{edge:.4f}" for edge in render.disc_box(event, frame, size))
                second = _FIRST_SECOND + frame // files.FPS
                lines.append(f"{_video_name(split, index)},{second:04d},{box},{event.direction + 1},{entity}")
    return lines


def _video_path(root: Path, split: str, index: int) -> Path:
    """Return the path of a video."""
    return root / "videos" / split / f"{_video_name(split, index)}.mp4"


def _frame_path(split: str, index: int, number: int) -> str:
    name = _video_name(split, index)
    return f"{split}/{name}/{name}-{number + 1:06d}.jpg"


def _video_name(split: str, index: int) -> str:
    """Return the name of a video, unique over the splits."""
    return f"{split}_{index:06d}"
