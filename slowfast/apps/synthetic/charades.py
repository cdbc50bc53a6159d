"""Set in the format of Charades, 24 frames a second, any number of actions a video.

    Charades_v1_train.csv, Charades_v1_test.csv    actions as `c004 0.83 1.17;...`, seconds
    Charades_v1_classes.txt                        c000 After a red disc, the first
    Charades_v1/ID.mp4, Charades_v1_rgb/ID/ID-000001.jpg
    train.csv, val.csv                             lists of frames with the numbers of their actions

Two discs cross the picture. An action begins with each disc. Its class is the color of the disc and the color of the
disc before it, if any. It lasts to the next disc or the end, long after the disc is gone. The discs are too far apart
for a clip of 16 frames. In some videos the light is on for a while: an action that overlaps the others, and that any
clip can tell.
"""

import csv
import io
import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slowfast.apps.synthetic import files, render, scenes
from slowfast.apps.synthetic.scenes import Format, Key

FPS = 24
_STRETCH = 2  # frames for each one of `sweep`
NUM_FRAMES = render.NUM_FRAMES * _STRETCH
OFFICIAL_SPLIT = {"train": "train", "val": "test"}
HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"
COLORS = {"red": scenes.RED, "blue": scenes.BLUE, "green": scenes.GREEN}
_PAIRS = [tuple(list(COLORS)[color] for color in pair) for pair in render.CLASSES]
FIRST = [f"After a {color} disc, the first" for color in COLORS]
_SECOND = [f"After a {second} disc, before it a {first} one" for first, second in _PAIRS]
CLASSES = [*FIRST, *_SECOND, "Light is on"]
_LIGHT = len(CLASSES) - 1
_LIGHT_FRAMES = (16, 40)  # fewest and most
_LIGHT_GAIN = 45.0  # gray values


@dataclass(frozen=True)
class _Action:
    """An action in frames `first` to `last`, counted from 0."""

    label: int
    first: int
    last: int

    def __str__(self) -> str:
        # Half a frame is added on both sides, so that rounding moves no frame in or out.
        start, end = (max((frame + side) / FPS, 0.0) for frame, side in ((self.first, -0.5), (self.last, 0.5)))
        return f"c{self.label:03d} {start:.2f} {end:.2f}"


@dataclass(frozen=True)
class _Facts:
    """Facts of a video: its name, its subject, and its actions in order of time."""

    name: str
    subject: str
    actions: tuple[_Action, ...]

    def frame(self, number: int) -> str:
        """Return the path of frame `number` (from 0) below `Charades_v1_rgb`."""
        return f"{self.name}/{self.name}-{number + 1:06d}.jpg"

    @property
    def row(self) -> list[str]:
        """Return the row of the annotation file."""
        told = [CLASSES[action.label] for action in self.actions]
        script = "; then ".join(told) + "."
        actions = ";".join(str(action) for action in self.actions)
        length = f"{NUM_FRAMES / FPS:.2f}"
        return [self.name, self.subject, "Living room", "6", "7", "Yes", script, "disc;light", script, actions, length]


def _name(key: Key) -> str:
    return key.name(string.ascii_uppercase + string.digits, 5)


def _frame_rows(number: int, facts: _Facts) -> list[str]:
    rows = []
    for frame in range(NUM_FRAMES):
        shown = [str(action.label) for action in facts.actions if action.first <= frame <= action.last]
        rows.append(f'{facts.name} {number} {frame} {facts.frame(frame)} "{",".join(shown)}"')
    return rows


class CharadesFormat(Format):
    """Format of Charades."""

    counts = {"train": 720, "val": 180}

    def draw(self, key: Key) -> tuple[np.ndarray, _Facts]:
        """Draw frames (72, H, W, 3) uint8 RGB of a video; return them and its facts."""
        rng = key.generator
        shape = (key.size, key.size * 9 // 16 * 2)
        label = render.label_of(key.index)
        # The directions are no part of the class.
        events = scenes.crossings(rng, int(rng.integers(len(render.CLASSES))), shape, _STRETCH)
        colors = tuple(COLORS[color] for color in _PAIRS[label])
        frames = scenes.draw_crossings(rng, events, colors, shape, _STRETCH)
        first, second = (event.start for event in events)
        actions = [
            _Action(render.CLASSES[label][0], first, second - 1),
            _Action(len(FIRST) + label, second, NUM_FRAMES - 1),
        ]
        if rng.random() < 0.5:
            count = int(rng.integers(_LIGHT_FRAMES[0], _LIGHT_FRAMES[1] + 1))
            first = int(rng.integers(0, NUM_FRAMES - count + 1))
            frames[first : first + count] += _LIGHT_GAIN
            actions.append(_Action(_LIGHT, first, first + count - 1))
        actions.sort(key=lambda action: action.first)
        facts = _Facts(_name(key), f"S{key.index % 267:03d}", tuple(actions))
        return render.finish(rng, frames), facts

    def write_video(self, root: Path, frames: np.ndarray, facts: _Facts) -> None:
        """Write one video as a file and as JPEG frames."""
        video = root / "Charades_v1" / f"{facts.name}.mp4"
        files.write_footage(
            video, [root / "Charades_v1_rgb" / facts.frame(number) for number in range(len(frames))], frames, FPS
        )

    def last_file(self, key: Key) -> str:
        """Return the file that `write_video` writes last."""
        return f"Charades_v1_rgb/{_Facts(_name(key), '', ()).frame(NUM_FRAMES - 1)}"

    def write_lists(self, root: Path, split: str, videos: list[_Facts]) -> None:
        """Write the annotation file and the frame list of a split, and the class names."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerows([HEADER.split(","), *(facts.row for facts in videos)])
        (root / f"Charades_v1_{OFFICIAL_SPLIT[split]}.csv").write_text(text.getvalue())
        names = (f"c{label:03d} {name}" for label, name in enumerate(CLASSES))
        (root / "Charades_v1_classes.txt").write_text(scenes.lines("", names))
        rows = (row for number, facts in enumerate(videos) for row in _frame_rows(number, facts))
        (root / f"{split}.csv").write_text(scenes.lines(files.FRAME_LIST_HEADER, rows))
