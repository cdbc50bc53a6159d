"""A set in Something-Something V2's format, 12 frames a second.

    something-something-v2-labels.json          {"Showing something in red then in blue": "0", ...}
    something-something-v2-train.json           [{"id", "label", "template", "placeholders"}, ...]
    something-something-v2-validation.json
    train.csv, val.csv                          lists of the frames
    frames/ID/ID_000001.jpg
    20bn-something-something-v2/ID.webm         the same as videos, VP9

A disc crosses the picture twice, in two colours, and their order is the class. Each time it is there for two
frames of 36, so that eight, one of every eighth of the video, mostly miss one of the two.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slowfast.datasets import synthetic_files as files
from slowfast.datasets import synthetic_render as render
from slowfast.datasets import synthetic_scenes as scenes
from slowfast.datasets.synthetic_scenes import Key

COUNTS = {"train": 720, "val": 180}
FPS = 12
OFFICIAL_SPLIT = {"train": "train", "val": "validation"}
TEMPLATES = [f"Showing [something] in {first} then in {second}" for first, second in scenes.PAIRS]
RADIUS = {"a big disc": 5.0, "a small disc": 3.5}
THINGS = list(RADIUS)
SHOWN = slice(1, 3)  # of the four frames of a crossing


@dataclass(frozen=True)
class Facts:
    """A video of the set: its class, the name that is a number, and what moves in it."""

    label: int
    name: str
    thing: str

    @property
    def entry(self) -> dict:
        """How the annotation file has it."""
        template = TEMPLATES[self.label]
        label = template.replace("[something]", self.thing).lower()
        return {"id": self.name, "label": label, "template": template, "placeholders": [self.thing]}

    def frame(self, number: int) -> str:
        """Path of a frame, counted from 0, under `frames`."""
        return f"{self.name}/{self.name}_{number + 1:06d}.jpg"


def facts_of(key: Key) -> Facts:
    """What is told of a video without drawing it."""
    label = render.label_of(key.index)
    return Facts(label, str(1 + key.number(10**6)), THINGS[key.index // len(TEMPLATES) % len(THINGS)])


def draw(key: Key) -> tuple[np.ndarray, Facts]:
    """Frames (36, H, W, 3) uint8 RGB of a video and its facts."""
    rng = key.generator
    shape = (key.size, key.size * 9 // 16 * 2)
    facts = facts_of(key)
    radius = RADIUS[facts.thing]
    events = [
        render.Event(event.start + SHOWN.start, event.direction, radius, event.centres[SHOWN])
        for event in scenes.crossings(rng, shape)
    ]
    return render.finish(rng, scenes.draw_crossings(rng, events, scenes.PAIRS[facts.label], shape)), facts


def write_video(root: Path, frames: np.ndarray, facts: Facts) -> None:
    """Write one video: as a file, and its frames as JPEG files."""
    video = root / "20bn-something-something-v2" / f"{facts.name}.webm"
    video.parent.mkdir(parents=True, exist_ok=True)
    files.encode_video(video, frames, FPS)
    files.write_images([root / "frames" / facts.frame(number) for number in range(len(frames))], frames)


def last_file(key: Key) -> str:
    """The file of a video that is written last."""
    return f"frames/{facts_of(key).frame(render.NUM_FRAMES - 1)}"


def write_lists(root: Path, split: str, videos: list[Facts]) -> None:
    """Write the annotation file of a split, the list of its frames, and the file of the labels."""
    labels = {template.replace("[", "").replace("]", ""): str(label) for label, template in enumerate(TEMPLATES)}
    _write_json(root / "something-something-v2-labels.json", labels)
    _write_json(root / f"something-something-v2-{OFFICIAL_SPLIT[split]}.json", [facts.entry for facts in videos])
    rows = (
        f'{facts.name} {number} {frame} {facts.frame(frame)} ""'
        for number, facts in enumerate(videos)
        for frame in range(render.NUM_FRAMES)
    )
    (root / f"{split}.csv").write_text(scenes.lines(files.FRAME_LIST_HEADER, rows))


def _write_json(path: Path, content) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")
