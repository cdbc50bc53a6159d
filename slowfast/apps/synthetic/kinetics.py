"""A set in Kinetics' format: annotations as its authors publish them, videos named as their tools name them.

    annotations/train.csv            label,youtube_id,time_start,time_end,split
    videos/train/right then left/NAME_000010_000020.mp4
    train.csv                        lists of the videos: path label
    classes.txt                      name of class i in line i

and the same for val and test. The class is the order of the directions of two discs.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slowfast.apps.synthetic import files as files
from slowfast.apps.synthetic import render as render
from slowfast.apps.synthetic import scenes as scenes
from slowfast.apps.synthetic.scenes import Key

COUNTS = {"train": 1200, "val": 60, "test": 180}
CLASSES = [name.replace("-", " then ") for name in render.CLASS_NAMES]
HEADER = ("label", "youtube_id", "time_start", "time_end", "split")
SECONDS = 10  # of every cut; the file has 9 of them
# Height and width of the pictures, in short sides: landscape, wide, portrait.
SHAPES = ((1.0, 1.125), (1.0, 1.25), (1.125, 1.0))


@dataclass(frozen=True)
class Facts:
    """A video of the set; `start` is the second at which it was cut out of the whole."""

    split: str
    label: int
    name: str
    start: int

    @property
    def path(self) -> str:
        """Where it lies in the set."""
        cut = f"{self.start:06d}_{self.start + SECONDS:06d}"
        return f"videos/{self.split}/{CLASSES[self.label]}/{self.name}_{cut}.mp4"


def facts_of(key: Key) -> Facts:
    """What is told of a video without drawing it."""
    label = render.label_of(key.index)
    return Facts(key.split, label, key.name(scenes.YOUTUBE_LETTERS, 11), key.number(170))


def draw(key: Key) -> tuple[np.ndarray, Facts]:
    """Frames (36, H, W, 3) uint8 RGB of a video, in one of three shapes, and its facts."""
    rng = key.generator
    shape = tuple(int(key.size * side) // 2 * 2 for side in SHAPES[key.index // len(CLASSES) % len(SHAPES)])
    facts = facts_of(key)
    events = scenes.crossings(rng, facts.label, shape)
    return render.finish(rng, scenes.draw_crossings(rng, events, (scenes.YELLOW,) * 2, shape)), facts


def write_video(root: Path, frames: np.ndarray, facts: Facts) -> None:
    """Write the file of one video."""
    path = root / facts.path
    path.parent.mkdir(parents=True, exist_ok=True)
    files.encode_video(path, frames)


def last_file(key: Key) -> str:
    """The file of a video that is written last."""
    return facts_of(key).path


def write_lists(root: Path, split: str, videos: list[Facts]) -> None:
    """Write the annotation file of a split, the list of its videos, and the names of the classes."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    for facts in videos:
        table.writerow([CLASSES[facts.label], facts.name, facts.start, facts.start + SECONDS, split])
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"{split}.csv").write_text(text.getvalue())
    (root / f"{split}.csv").write_text(scenes.lines("", (f"{root / facts.path} {facts.label}" for facts in videos)))
    (root / "classes.txt").write_text(scenes.lines("", CLASSES))
