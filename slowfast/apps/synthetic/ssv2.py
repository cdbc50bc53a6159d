"""Set in the format of Something-Something V2, 12 frames a second.

    something-something-v2-labels.json          {"Moving something right then left": "0", ...}
    something-something-v2-train.json           [{"id", "label", "template", "placeholders"}, ...]
    something-something-v2-validation.json
    train.csv, val.csv                          lists of frames
    frames/ID/ID_000001.jpg
    20bn-something-something-v2/ID.webm         the same frames as VP9 videos

A disc crosses the picture twice; the class is the order of the directions. Each crossing takes 4 of 36 frames. So 8
frames at equal distances show where the disc was, but not where it went.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slowfast.apps.synthetic import files, render, scenes
from slowfast.apps.synthetic.scenes import Format, Key

FPS = 12
OFFICIAL_SPLIT = {"train": "train", "val": "validation"}
TEMPLATES = [f"Moving [something] {name.replace('-', ' then ')}" for name in render.CLASS_NAMES]
RADIUS = {"a big disc": 5.5, "a small disc": 4.0}
_THINGS = list(RADIUS)


@dataclass(frozen=True)
class _Facts:
    """Facts of a video: its class, its name (a number), and the object that moves."""

    label: int
    name: str
    thing: str

    @property
    def entry(self) -> dict:
        """Return the entry of the annotation file."""
        template = TEMPLATES[self.label]
        label = template.replace("[something]", self.thing).lower()
        return {"id": self.name, "label": label, "template": template, "placeholders": [self.thing]}

    def frame(self, number: int) -> str:
        """Return the path of frame `number` (from 0) below `frames`."""
        return f"{self.name}/{self.name}_{number + 1:06d}.jpg"


def _facts_of(key: Key) -> _Facts:
    """Return the facts of a video without drawing it."""
    label = render.label_of(key.index)
    return _Facts(label, str(1 + key.number(10**6)), _THINGS[key.index // len(TEMPLATES) % len(_THINGS)])


def _write_json(path: Path, content) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


class SSv2Format(Format):
    """Format of Something-Something V2."""

    counts = {"train": 1200, "val": 180}

    def draw(self, key: Key) -> tuple[np.ndarray, _Facts]:
        """Draw frames (36, H, W, 3) uint8 RGB of a video; return them and its facts."""
        rng = key.generator
        shape = (key.size, key.size * 9 // 16 * 2)
        facts = _facts_of(key)
        radius = RADIUS[facts.thing]
        events = [replace(event, radius=radius) for event in scenes.crossings(rng, facts.label, shape)]
        return render.finish(rng, scenes.draw_crossings(rng, events, (scenes.YELLOW,) * 2, shape)), facts

    def write_video(self, root: Path, frames: np.ndarray, facts: _Facts) -> None:
        """Write one video as a file and as JPEG frames."""
        video = root / "20bn-something-something-v2" / f"{facts.name}.webm"
        files.write_footage(
            video, [root / "frames" / facts.frame(number) for number in range(len(frames))], frames, FPS
        )

    def last_file(self, key: Key) -> str:
        """Return the file that `write_video` writes last."""
        return f"frames/{_facts_of(key).frame(render.NUM_FRAMES - 1)}"

    def write_lists(self, root: Path, split: str, videos: list[_Facts]) -> None:
        """Write the annotation file and the frame list of a split, and the file of labels."""
        labels = {template.replace("[", "").replace("]", ""): str(label) for label, template in enumerate(TEMPLATES)}
        _write_json(root / "something-something-v2-labels.json", labels)
        _write_json(root / f"something-something-v2-{OFFICIAL_SPLIT[split]}.json", [facts.entry for facts in videos])
        rows = (
            f'{facts.name} {number} {frame} {facts.frame(frame)} ""'
            for number, facts in enumerate(videos)
            for frame in range(render.NUM_FRAMES)
        )
        (root / f"{split}.csv").write_text(scenes.lines(files.FRAME_LIST_HEADER, rows))
