"""Small sets in the formats that the authors of data sets publish: made whole, kept when there, shown in a picture."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from slowfast.datasets import (
    synthetic_ava,
    synthetic_ava_files,
    synthetic_charades,
    synthetic_kinetics,
    synthetic_ssv2,
)
from slowfast.datasets import synthetic_render as render
from slowfast.datasets.synthetic_scenes import MAX_VIDEOS, Key

FORMAT_VERSION = 3  # to be raised whenever the same parameters give other files
MANIFEST = "synthetic.json"
CHUNK = 10  # videos a worker makes at a time
PREVIEW_FRAMES = 36


@dataclass(frozen=True)
class Format:
    """How the videos of a set are drawn and written.

    `counts` are the usual numbers of videos by split; `draw(key)` gives frames (T, H, W, 3) uint8 RGB and the facts
    that the lists need; `write_video(root, frames, facts)` writes one video, `last_file(key)` being the path in the set
    of what it writes last; `write_lists(root, split, facts of all videos)` writes the rest.
    """

    counts: dict[str, int]
    draw: Callable[[Key], tuple[np.ndarray, Any]]
    write_video: Callable[[Path, np.ndarray, Any], None]
    last_file: Callable[[Key], str]
    write_lists: Callable[[Path, str, list], None]


def _format(drawing, writing) -> Format:
    return Format(drawing.COUNTS, drawing.draw, writing.write_video, writing.last_file, writing.write_lists)


FORMATS = {
    "kinetics": _format(synthetic_kinetics, synthetic_kinetics),
    "charades": _format(synthetic_charades, synthetic_charades),
    "ava": _format(synthetic_ava, synthetic_ava_files),
    "ssv2": _format(synthetic_ssv2, synthetic_ssv2),
}


@dataclass(frozen=True)
class SetSpec:
    """What a set holds: its format, videos by split (None: the usual number), short side in pixels, and the seed."""

    format: str
    train: int | None = None
    val: int | None = None
    test: int | None = None
    size: int = render.MIN_SIZE
    seed: int = 0
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format {self.format}: there are {', '.join(FORMATS)}")
        if self.size < render.MIN_SIZE or self.size % 2:
            raise ValueError(f"size {self.size}: must be even (4:2:0 video) and at least {render.MIN_SIZE} pixels")
        usual = FORMATS[self.format].counts
        for split in render.SPLITS:
            count = getattr(self, split)
            if split not in usual and count is not None:
                raise ValueError(f"{split} {count}: the format {self.format} has {' and '.join(usual)} alone")
            if split in usual and count is None:
                object.__setattr__(self, split, usual[split])
            if count is not None and not 1 <= count <= MAX_VIDEOS:
                raise ValueError(f"{split} {count}: a split needs from 1 to {MAX_VIDEOS} videos")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: must not be negative")

    @property
    def counts(self) -> dict[str, int]:
        """Videos of each split that the format has."""
        return {split: getattr(self, split) for split in FORMATS[self.format].counts}

    def videos(self) -> Iterator[Key]:
        """The key of every video."""
        for split, count in self.counts.items():
            yield from (Key(self.seed, split, index, self.size) for index in range(count))


def make_set(root: Path, spec: SetSpec, workers: int = 0) -> bool:
    """Make the set in `root`, in `workers` processes (0: in this one). Returns False if a complete one was there.

    Raises:
        ValueError: if `root` holds a set made with other parameters.
        OSError: if a file cannot be written.
    """
    root = Path(root).resolve()
    if _is_there(root, spec):
        return False
    root.mkdir(parents=True, exist_ok=True)
    keys = list(spec.videos())
    facts = dict(zip(keys, _make_videos(root, spec.format, keys, workers), strict=True))
    for split in spec.counts:
        videos = [facts[key] for key in keys if key.split == split]
        FORMATS[spec.format].write_lists(root, split, videos)
    # Written last and in one move, so that it is there only if the set is complete.
    temporary = root / f"{MANIFEST}.tmp"
    temporary.write_text(json.dumps({**asdict(spec), "root": str(root)}, indent=2) + "\n")
    os.replace(temporary, root / MANIFEST)
    return True


def _make_videos(root: Path, name: str, keys: list[Key], workers: int) -> list:
    make = partial(_make_video, root, name)
    if workers < 1:
        return list(map(make, keys))
    # Spawned, not forked: a fork of a process that runs threads (torch, OpenCV) may hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(make, keys, chunksize=CHUNK))


def _make_video(root: Path, name: str, key: Key) -> Any:
    frames, facts = FORMATS[name].draw(key)
    FORMATS[name].write_video(root, frames, facts)
    return facts


def _is_there(root: Path, spec: SetSpec) -> bool:
    """Whether `root` holds the complete set; ValueError if it holds another one."""
    manifest = root / MANIFEST
    if not manifest.exists():
        return False
    found = json.loads(manifest.read_text())
    wanted = asdict(spec)
    differing = sorted(key for key in wanted if found.get(key) != wanted[key])
    if differing:
        pairs = ", ".join(f"{key} {found.get(key)} (asked: {wanted[key]})" for key in differing)
        raise ValueError(f"{root} holds a set made with other parameters: {pairs}. Remove it or name another folder")
    last_file = FORMATS[spec.format].last_file
    # Some lists name absolute paths, which no longer hold in a set that was moved.
    return found["root"] == str(root) and all((root / last_file(key)).exists() for key in spec.videos())


def preview(spec: SetSpec) -> np.ndarray:
    """A picture (H, W, 3) uint8 of the first six training videos, one a row; of long ones frames at equal distances."""
    videos = [FORMATS[spec.format].draw(key)[0] for key in list(spec.videos())[: min(6, spec.counts["train"])]]
    shape = np.max([frames.shape[1:3] for frames in videos], axis=0)
    shown = []
    for frames in videos:
        some = frames[:: -(-len(frames) // PREVIEW_FRAMES)]
        rest = shape - some.shape[1:3]
        shown.append(np.pad(some, ((0, 0), (0, rest[0]), (0, rest[1]), (0, 0))))
    return render.contact_sheet(shown)
