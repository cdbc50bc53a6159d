"""Set in the format of Kinetics: annotations as published, videos named as the download tools name them.

    annotations/train.csv            label,youtube_id,time_start,time_end,split
    videos/train/right then left/NAME_000010_000020.mp4
    train.csv                        list of videos: path label
    classes.txt                      name of class i in line i

Splits val and test have the same files. The class is the order of the directions of two discs.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slowfast.apps.synthetic import files, render, scenes
from slowfast.apps.synthetic.scenes import Format, Key

CLASSES = [name.replace("-", " then ") for name in render.CLASS_NAMES]
HEADER = ("label", "youtube_id", "time_start", "time_end", "split")
SECONDS = 10  # of every cut; the file has 9 of them
# Height and width of the pictures, in short sides: landscape, wide, portrait.
SHAPES = ((1.0, 1.125), (1.0, 1.25), (1.125, 1.0))


@dataclass(frozen=True)
class _Facts:
    """Facts of a video; `start` is the second at which it was cut out of the original."""

    split: str
    label: int
    name: str
    start: int

    @property
    def path(self) -> str:
        """Return the path below the root."""
        cut = f"{self.start:06d}_{self.start + SECONDS:06d}"
        return f"videos/{self.split}/{CLASSES[self.label]}/{self.name}_{cut}.mp4"


def _facts_of(key: Key) -> _Facts:
    """Return the facts of a video without drawing it."""
    label = render.label_of(key.index)
    return _Facts(key.split, label, key.name(scenes.YOUTUBE_LETTERS, 11), key.number(170))


class KineticsFormat(Format):
    """Format of Kinetics."""

    counts = {"train": 1200, "val": 60, "test": 180}

    def draw(self, key: Key) -> tuple[np.ndarray, _Facts]:
        """Draw frames (36, H, W, 3) uint8 RGB of a video in one of three shapes; return them and its facts."""
        rng = key.generator
        shape = tuple(int(key.size * side) // 2 * 2 for side in SHAPES[key.index // len(CLASSES) % len(SHAPES)])
        facts = _facts_of(key)
        events = scenes.crossings(rng, facts.label, shape)
        return render.finish(rng, scenes.draw_crossings(rng, events, (scenes.YELLOW,) * 2, shape)), facts

    def write_video(self, root: Path, frames: np.ndarray, facts: _Facts) -> None:
        """Write one video file."""
        path = root / facts.path
        path.parent.mkdir(parents=True, exist_ok=True)
        files.encode_video(path, frames)

    def last_file(self, key: Key) -> str:
        """Return the file that `write_video` writes last."""
        return _facts_of(key).path

    def write_lists(self, root: Path, split: str, videos: list[_Facts]) -> None:
        """Write the annotation file and the list of a split, and the class names."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(HEADER)
        for facts in videos:
            table.writerow([CLASSES[facts.label], facts.name, facts.start, facts.start + SECONDS, split])
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        (root / "annotations" / f"{split}.csv").write_text(text.getvalue())
        (root / f"{split}.csv").write_text(scenes.lines("", (f"{root / facts.path} {facts.label}" for facts in videos)))
        (root / "classes.txt").write_text(scenes.lines("", CLASSES))
