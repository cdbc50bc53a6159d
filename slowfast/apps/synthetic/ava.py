"""Set in the format of AVA, 30 frames a second, frame 0 at second 900.

One or two discs stand in for persons. At every second each of them moves to and fro, sideways or up and down: an action
that a short clip tells. Every four or five seconds it also flashes in a color. In that second and the next three it
has a second action, which is its motion and the color of the flash. A model without memory of the flash can know this
action in its first second alone.

The second of the flash is labeled because PGT truncates gradients between steps. No loss of a later step reaches the
features of the step that sees the flash, so the loss of that step has to ask for the color.

Files are named as in AVA and in the published configs:

    frames/VIDEO/VIDEO_000001.jpg
    frame_lists/train.csv, val.csv
    annotations/ava_train_v2.2.csv, ava_val_v2.2.csv       video,second,x1,y1,x2,y2,action,person
    annotations/ava_val_excluded_timestamps_v2.2.csv       video,second
    annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt
    annotations/person_box_67091280_iou90/ava_detection_*  video,second,x1,y1,x2,y2,action or nothing,confidence

The last files simulate a person detector: boxes a little off, some with too little confidence, and some false boxes.
Those of train hold actions, those of val boxes alone.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slowfast.apps.synthetic import files, render, scenes
from slowfast.apps.synthetic.scenes import Format, Key

FPS = 30
FIRST_SECOND = 900  # of the video that the clip was cut out of
SECONDS = 12
NUM_FRAMES = SECONDS * FPS
# As in AVA, the first and the last two seconds have no annotations.
KEY_SECONDS = range(FIRST_SECOND + 2, FIRST_SECOND + SECONDS - 1)

_MOTIONS = ("sway", "bob")
_FLASHES = {"red": scenes.RED, "blue": scenes.BLUE, "green": scenes.GREEN}
# Numbers of the actions. AVA's have gaps; here number 3 is none.
_MOTION_IDS = (1, 2)
_FLASH_IDS = ((4, 5, 6), (7, 8, 9))  # by motion and flash
ACTIONS = dict(zip(_MOTION_IDS, _MOTIONS, strict=True)) | {
    _FLASH_IDS[i][j]: f"{motion} since a {color} flash"
    for i, motion in enumerate(_MOTIONS)
    for j, color in enumerate(_FLASHES)
}
_REMEMBERED = 3  # seconds after the flash
_FLASH_FRAMES = 20
_FLASH_GAPS = (4, 5)  # seconds from one flash to the next
_SWING = 4.5  # pixels to either side
_SWING_FRAMES = 20  # there and back
RADIUS = (4.0, 5.5)
PLACES = ((0.20, 0.32), (0.68, 0.80))  # of the middle of a person, left and right, in widths
_HEIGHTS = (0.35, 0.65)


@dataclass(frozen=True)
class _Person:
    """A disc: `centers` (NUM_FRAMES, 2) in pixels; motion and flash (-1: none) of each second from FIRST_SECOND."""

    radius: float
    centers: np.ndarray
    motions: np.ndarray
    flashes: np.ndarray

    def actions(self, second: int) -> list[int]:
        """Return the numbers of its actions at a second."""
        now = second - FIRST_SECOND
        motion = self.motions[now]
        recent = self.flashes[max(now - _REMEMBERED, 0) : now + 1]
        flashed = recent[recent >= 0]
        return [_MOTION_IDS[motion], *([_FLASH_IDS[motion][flashed[-1]]] if len(flashed) else [])]

    def box(self, second: int, shape: tuple[int, int]) -> np.ndarray:
        """Return its box (x1, y1, x2, y2) at a second, clipped to a picture (height, width), relative to its size."""
        # A center at 0 is the middle of the first pixel, half a pixel from the frame's edge.
        x, y = self.centers[(second - FIRST_SECOND) * FPS] + 0.5
        corners = np.array([x - self.radius, y - self.radius, x + self.radius, y + self.radius])
        return np.clip(corners / np.tile(shape[::-1], 2), 0, 1)


@dataclass(frozen=True)
class _Facts:
    """Facts of a video: its unique name and the persons in it."""

    name: str
    split: str
    shape: tuple[int, int]
    persons: tuple[_Person, ...]


def _name_of(key: Key) -> str:
    """Return the name of a video."""
    return key.name(scenes.YOUTUBE_LETTERS, 11)


def _draw_person(rng: np.random.Generator, side: int, shape: tuple[int, int]) -> _Person:
    height, width = shape
    middle = np.array([rng.uniform(*PLACES[side]) * width, rng.uniform(*_HEIGHTS) * height])
    motions = rng.integers(len(_MOTIONS), size=SECONDS + 1)
    flashes = np.full(SECONDS + 1, -1)
    second = int(rng.integers(_FLASH_GAPS[0]))
    while second < len(flashes):
        flashes[second] = rng.integers(len(_FLASHES))
        second += int(rng.choice(_FLASH_GAPS))
    # The motion of a second is centered at it.
    motion = motions[np.rint(np.arange(NUM_FRAMES) / FPS).astype(int)]
    swing = _SWING * np.sin(2 * np.pi * (np.arange(NUM_FRAMES) / _SWING_FRAMES + rng.random()))
    centers = middle + swing[:, None] * np.stack([motion == 0, motion == 1], axis=1)
    return _Person(rng.uniform(*RADIUS), centers, motions, flashes)


def _colors(person: _Person) -> np.ndarray:
    """Return the color of a person in each frame, (NUM_FRAMES, 1, 1, 3)."""
    colors = np.tile(np.array(scenes.YELLOW), (NUM_FRAMES, 1))
    for second, flash in enumerate(person.flashes):
        if flash >= 0:
            start = second * FPS - _FLASH_FRAMES // 2
            colors[max(start, 0) : start + _FLASH_FRAMES] = list(_FLASHES.values())[flash]
    return colors[:, None, None]


LABEL_MAP = "ava_action_list_v2.2_for_activitynet_2019.pbtxt"
_DETECTOR = "person_box_67091280_iou90"
_DETECTED = {
    "train": "ava_detection_train_boxes_and_labels_include_negative_v2.2.csv",
    "val": "ava_detection_val_boxes_and_labels.csv",
}
_EXCLUDED = 0.03  # share of the key seconds that are not scored
_OFF_BY = 0.02  # how far an edge of a detected box is from the true one, standard deviation in widths of the picture
_UNSURE = 0.04  # share of the persons found with too little confidence
_FALSE_BOXES = 0.3  # share of the key seconds with a box where nobody is
_SURE, _NOT_SURE = (0.905, 1.0), (0.3, 0.895)  # ranges of the confidence, on both sides of the usual threshold


def _frame(name: str, number: int) -> str:
    return f"{name}/{name}_{number + 1:06d}.jpg"


def _true_rows(facts: _Facts) -> list[str]:
    return [
        f"{facts.name},{second:04d},{_edges(person.box(second, facts.shape))},{action},{number}"
        for second in KEY_SECONDS
        for number, person in enumerate(facts.persons)
        for action in person.actions(second)
    ]


def _detected_rows(rng: np.random.Generator, facts: _Facts) -> list[str]:
    rows = []
    for second in KEY_SECONDS:
        for person in facts.persons:
            box = np.clip(person.box(second, facts.shape) + rng.normal(0, _OFF_BY, 4), 0, 1)
            confidence = rng.uniform(*(_NOT_SURE if rng.random() < _UNSURE else _SURE))
            actions = person.actions(second) if facts.split == "train" else [""]
            rows += [_detected_row(facts, second, box, action, confidence) for action in actions]
        if rng.random() < _FALSE_BOXES:
            confidence = rng.uniform(*(_SURE if rng.random() < 0.2 else _NOT_SURE))
            rows.append(_detected_row(facts, second, _false_box(rng), "", confidence))
    return rows


def _false_box(rng: np.random.Generator) -> np.ndarray:
    """Sample a box at the upper or lower edge, where the middle of a person never is."""
    size = rng.uniform(0.2, 0.35, 2)
    corner = np.array([rng.uniform(0, 1 - size[0]), rng.choice([0.0, 1 - size[1]])])
    return np.concatenate([corner, corner + size])


def _detected_row(facts: _Facts, second: int, box: np.ndarray, action: int | str, confidence: float) -> str:
    return f"{facts.name},{second:04d},{_edges(box)},{action},{confidence:.6f}"


def _edges(box: np.ndarray) -> str:
    return ",".join(f"{edge:.3f}" for edge in box)


class AVAFormat(Format):
    """Format of AVA."""

    counts = {"train": 80, "val": 30}

    def draw(self, key: Key) -> tuple[np.ndarray, _Facts]:
        """Draw frames (NUM_FRAMES, H, W, 3) uint8 RGB of a video; return them and its facts."""
        rng = key.generator
        shape = (key.size, key.size * 5 // 8 * 2)
        sides = [0, 1] if rng.random() < 0.8 else [int(rng.integers(2))]
        persons = tuple(_draw_person(rng, side, shape) for side in sides)
        # Squares and background at the pace of `sweep`, four of whose frames are a second.
        frames = render.background(rng, NUM_FRAMES, *shape, pace=4 / FPS)
        for person in persons:
            render.draw_disc(frames, person.centers, person.radius, _colors(person))
        return render.finish(rng, frames), _Facts(_name_of(key), key.split, shape, persons)

    def write_video(self, root: Path, frames: np.ndarray, facts: _Facts) -> None:
        """Write the JPEG frames of one video."""
        files.write_images([root / "frames" / _frame(facts.name, number) for number in range(len(frames))], frames)

    def last_file(self, key: Key) -> str:
        """Return the file that `write_video` writes last."""
        return f"frames/{_frame(_name_of(key), NUM_FRAMES - 1)}"

    def write_lists(self, root: Path, split: str, videos: list[_Facts]) -> None:
        """Write the frame list of a split, its annotated boxes, and those of a detector."""
        lists, notes = root / "frame_lists", root / "annotations"
        for folder in (lists, notes / _DETECTOR):
            folder.mkdir(parents=True, exist_ok=True)
        frames = (
            f'{facts.name} {number} {frame} {_frame(facts.name, frame)} ""'
            for number, facts in enumerate(videos)
            for frame in range(NUM_FRAMES)
        )
        (lists / f"{split}.csv").write_text(scenes.lines(files.FRAME_LIST_HEADER, frames))
        true_boxes = (row for facts in videos for row in _true_rows(facts))
        (notes / f"ava_{split}_v2.2.csv").write_text(scenes.lines("", true_boxes))
        # A generator of its own, so that detections do not change the videos.
        rng = np.random.default_rng([len(videos), sum(map(ord, videos[0].name))])
        detected = [row for facts in videos for row in _detected_rows(rng, facts)]
        (notes / _DETECTOR / _DETECTED[split]).write_text(scenes.lines("", detected))
        if split == "val":
            excluded = (
                f"{facts.name},{second:04d}" for facts in videos for second in KEY_SECONDS if rng.random() < _EXCLUDED
            )
            (notes / "ava_val_excluded_timestamps_v2.2.csv").write_text(scenes.lines("", excluded))
        names = (f'item {{\n  name: "{name}"\n  id: {action}\n}}' for action, name in ACTIONS.items())
        (notes / LABEL_MAP).write_text(scenes.lines("", names))
