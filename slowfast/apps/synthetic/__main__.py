"""Make a small set of videos, whose labels need what was seen long before.

    python -m slowfast.apps.synthetic --output DIR

makes the `sweep` set, long videos whose label is the ORDER of two events too far apart for any short clip. It writes
H.264 videos, `train.csv`, `val.csv` and `test.csv` (lines `path label`) and, with `--annotations`, labels of frames and
boxes of the moving disc.

    python -m slowfast.apps.synthetic --format kinetics|charades|ava|ssv2 --output DIR

makes a set with the folders, names and files that the authors of that data set publish (`synthetic_formats`).

A set that is already there, complete and made with the same parameters, is kept.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from slowfast.apps.synthetic import files as files
from slowfast.apps.synthetic import formats as formats
from slowfast.apps.synthetic import render as render

FORMAT_VERSION = 2  # to be raised whenever the same parameters give other videos
MANIFEST = "sweep.json"
SWEEP = "sweep"
CHUNK = 40  # videos a worker makes at a time


@dataclass(frozen=True)
class SweepSpec:
    """What a set holds: frame size in pixels, videos a split, the seed, and whether frames and boxes are annotated."""

    size: int = 32
    train: int = 1200
    val: int = 240
    test: int = 480
    seed: int = 0
    annotations: bool = False
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.size < render.MIN_SIZE or self.size % 2:
            raise ValueError(
                f"size {self.size}: frames must be even (4:2:0 video) and at least {render.MIN_SIZE} pixels"
            )
        for split in render.SPLITS:
            if getattr(self, split) < 1:
                raise ValueError(f"{split} {getattr(self, split)}: a split needs at least one video")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: must not be negative")

    def videos(self) -> Iterator[tuple[str, int]]:
        """(split, index) of every video."""
        return ((split, index) for split in render.SPLITS for index in range(getattr(self, split)))


def make_sweep(root: Path, spec: SweepSpec, workers: int = 0) -> bool:
    """Make the set in `root`, in `workers` processes (0: in this one). Returns False if a complete one was there.

    ValueError if `root` holds a set made with other parameters.
    """
    root = Path(root).resolve()
    if _is_there(root, spec):
        return False
    for split in render.SPLITS:
        (root / "videos" / split).mkdir(parents=True, exist_ok=True)
    events = _make_videos(root, spec, workers)
    files.write_class_names(root)
    for split in render.SPLITS:
        count = getattr(spec, split)
        files.write_list(root, split, map(render.label_of, range(count)))
        if spec.annotations:
            files.write_annotations(root, split, [events[split, index] for index in range(count)], spec.size)
    _write_manifest(root, spec)
    return True


def _make_videos(root: Path, spec: SweepSpec, workers: int) -> dict:
    """Make all videos; the events of each by (split, index)."""
    videos = list(spec.videos())
    make = partial(_make_video, root, spec)
    if workers < 1:
        return dict(zip(videos, map(make, videos), strict=True))
    # Spawned, not forked: a fork of a process that runs threads (torch, OpenCV) may hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return dict(zip(videos, pool.map(make, videos, chunksize=CHUNK), strict=True))


def _make_video(root: Path, spec: SweepSpec, video: tuple[str, int]) -> tuple[render.Event, render.Event]:
    split, index = video
    frames, events = render.render_video(spec.seed, split, index, spec.size)
    files.encode_video(files.video_path(root, split, index), frames)
    if spec.annotations:
        files.write_frames(root, split, index, frames)
    return events


def _is_there(root: Path, spec: SweepSpec) -> bool:
    """Whether `root` holds the complete set (more than asked is fine); ValueError if it holds another one."""
    manifest = root / MANIFEST
    if not manifest.exists():
        return False
    found = json.loads(manifest.read_text())
    wanted = asdict(spec)
    differing = sorted(key for key in wanted if key != "annotations" and found.get(key) != wanted[key])
    if differing:
        pairs = ", ".join(f"{key} {found.get(key)} (asked: {wanted[key]})" for key in differing)
        raise ValueError(f"{root} holds a set made with other parameters: {pairs}. Remove it or name another folder")
    have_all = all(files.video_path(root, split, index).exists() for split, index in spec.videos())
    return have_all and Path(found["root"]) == root and (found["annotations"] or not spec.annotations)


def _write_manifest(root: Path, spec: SweepSpec) -> None:
    """Written last and in one move, so that it is there only if the set is complete."""
    temporary = root / f"{MANIFEST}.tmp"
    temporary.write_text(
        json.dumps({**asdict(spec), "root": str(root), "classes": render.CLASS_NAMES}, indent=2) + "\n"
    )
    os.replace(temporary, root / MANIFEST)


def preview(spec: SweepSpec) -> np.ndarray:
    """A picture (H, W, 3) uint8 of the first training video of every class, one a row."""
    videos = [render.render_video(spec.seed, "train", index, spec.size)[0] for index in range(len(render.CLASSES))]
    return render.contact_sheet(videos)


def _parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m slowfast.apps.synthetic", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the set")
    choices = [SWEEP, *formats.FORMATS]
    parser.add_argument("--format", choices=choices, default=SWEEP, help="whose files are written (default: sweep)")
    parser.add_argument("--size", type=int, default=SweepSpec.size, help="short side in pixels")
    usual = {SWEEP: {split: getattr(SweepSpec, split) for split in render.SPLITS}} | {
        name: made.counts for name, made in formats.FORMATS.items()
    }
    for split in render.SPLITS:
        counts = ", ".join(f"{name} {counts[split]}" for name, counts in usual.items() if split in counts)
        parser.add_argument(f"--{split}", type=int, help=f"{split} videos (default: {counts})")
    parser.add_argument("--seed", type=int, default=SweepSpec.seed)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; 0: none besides this one")
    parser.add_argument(
        "--annotations", action="store_true", help="sweep: also frames, their labels, boxes of the disc"
    )
    parser.add_argument("--preview", type=Path, help="also write a picture of some videos to this PNG file")
    return parser.parse_args(arguments)


def _make(parsed: argparse.Namespace) -> tuple[bool, list[int], np.ndarray | None]:
    """Make what is asked for: whether it was made anew, videos of each split, and a picture of some."""
    counts = {split: getattr(parsed, split) for split in render.SPLITS if getattr(parsed, split) is not None}
    settings = {"size": parsed.size, "seed": parsed.seed, **counts}
    if parsed.format == SWEEP:
        spec = SweepSpec(**settings, annotations=parsed.annotations)
        made = make_sweep(parsed.output, spec, parsed.workers)
        return made, [spec.train, spec.val, spec.test], preview(spec) if parsed.preview else None
    if parsed.annotations:
        raise ValueError(f"--annotations belongs to sweep; the format {parsed.format} always has its own")
    spec = formats.SetSpec(parsed.format, **settings)
    made = formats.make_set(parsed.output, spec, parsed.workers)
    return made, list(spec.counts.values()), formats.preview(spec) if parsed.preview else None


def main(arguments: list[str] | None = None) -> None:
    """Command line of the module."""
    parsed = _parse_arguments(arguments)
    try:
        made, counts, picture = _make(parsed)
        if picture is not None and not cv2.imwrite(str(parsed.preview), picture[..., ::-1]):
            raise OSError(f"could not write {parsed.preview}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{'made' if made else 'kept'} {' + '.join(map(str, counts))} videos in {parsed.output.resolve()}")


if __name__ == "__main__":
    main()
