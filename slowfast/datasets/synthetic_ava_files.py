"""Files of the set in AVA's format, named as the authors of AVA and of the published settings name them.

    frames/VIDEO/VIDEO_000001.jpg
    frame_lists/train.csv, val.csv
    annotations/ava_train_v2.2.csv, ava_val_v2.2.csv       video,second,x1,y1,x2,y2,action,person
    annotations/ava_val_excluded_timestamps_v2.2.csv       video,second
    annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt
    annotations/person_box_67091280_iou90/ava_detection_*  video,second,x1,y1,x2,y2,action or nothing,confidence

The last are what a detector of persons finds: the boxes, a little off, some of them with too little confidence to
count, and some boxes where nobody is. Of train they carry the actions, and of val the boxes alone.
"""

from pathlib import Path

import numpy as np

from slowfast.datasets import synthetic_ava as ava
from slowfast.datasets import synthetic_files as files
from slowfast.datasets import synthetic_scenes as scenes
from slowfast.datasets.synthetic_ava import Facts
from slowfast.datasets.synthetic_scenes import Key

LABEL_MAP = "ava_action_list_v2.2_for_activitynet_2019.pbtxt"
DETECTOR = "person_box_67091280_iou90"
DETECTED = {
    "train": "ava_detection_train_boxes_and_labels_include_negative_v2.2.csv",
    "val": "ava_detection_val_boxes_and_labels.csv",
}
EXCLUDED = 0.03  # share of the key seconds that are not scored
OFF_BY = 0.02  # how far an edge of a detected box is from the true one, standard deviation in widths of the picture
UNSURE = 0.04  # share of the persons who are found with too little confidence
FALSE_BOXES = 0.3  # boxes where nobody is, a key second
SURE, NOT_SURE = (0.905, 1.0), (0.3, 0.895)  # ranges of the confidence, on both sides of the usual threshold


def write_video(root: Path, frames: np.ndarray, facts: Facts) -> None:
    """Write the frames of one video."""
    files.write_images([root / "frames" / _frame(facts.name, number) for number in range(len(frames))], frames)


def last_file(key: Key) -> str:
    """The file of a video that is written last."""
    return f"frames/{_frame(ava.name_of(key), ava.NUM_FRAMES - 1)}"


def write_lists(root: Path, split: str, videos: list[Facts]) -> None:
    """Write the list of the frames of a split, and its boxes: annotated ones, and those of a detector."""
    lists, notes = root / "frame_lists", root / "annotations"
    for folder in (lists, notes / DETECTOR):
        folder.mkdir(parents=True, exist_ok=True)
    frames = (
        f'{facts.name} {number} {frame} {_frame(facts.name, frame)} ""'
        for number, facts in enumerate(videos)
        for frame in range(ava.NUM_FRAMES)
    )
    (lists / f"{split}.csv").write_text(scenes.lines(files.FRAME_LIST_HEADER, frames))
    true_boxes = (row for facts in videos for row in _true_rows(facts))
    (notes / f"ava_{split}_v2.2.csv").write_text(scenes.lines("", true_boxes))
    # A generator of its own, so that what a detector finds does not change what the videos show.
    rng = np.random.default_rng([len(videos), sum(map(ord, videos[0].name))])
    detected = [row for facts in videos for row in _detected_rows(rng, facts)]
    (notes / DETECTOR / DETECTED[split]).write_text(scenes.lines("", detected))
    if split == "val":
        excluded = (
            f"{facts.name},{second:04d}" for facts in videos for second in ava.KEY_SECONDS if rng.random() < EXCLUDED
        )
        (notes / "ava_val_excluded_timestamps_v2.2.csv").write_text(scenes.lines("", excluded))
    names = (f'item {{\n  name: "{name}"\n  id: {action}\n}}' for action, name in ava.ACTIONS.items())
    (notes / LABEL_MAP).write_text(scenes.lines("", names))


def _frame(name: str, number: int) -> str:
    return f"{name}/{name}_{number + 1:06d}.jpg"


def _true_rows(facts: Facts) -> list[str]:
    return [
        f"{facts.name},{second:04d},{_edges(person.box(second, facts.shape))},{action},{number}"
        for second in ava.KEY_SECONDS
        for number, person in enumerate(facts.persons)
        for action in person.actions(second)
    ]


def _detected_rows(rng: np.random.Generator, facts: Facts) -> list[str]:
    rows = []
    for second in ava.KEY_SECONDS:
        for person in facts.persons:
            box = np.clip(person.box(second, facts.shape) + rng.normal(0, OFF_BY, 4), 0, 1)
            confidence = rng.uniform(*(NOT_SURE if rng.random() < UNSURE else SURE))
            actions = person.actions(second) if facts.split == "train" else [""]
            rows += [_detected_row(facts, second, box, action, confidence) for action in actions]
        if rng.random() < FALSE_BOXES:
            confidence = rng.uniform(*(SURE if rng.random() < 0.2 else NOT_SURE))
            rows.append(_detected_row(facts, second, _false_box(rng), "", confidence))
    return rows


def _false_box(rng: np.random.Generator) -> np.ndarray:
    """A box at the upper or lower edge, where no person's middle ever is."""
    size = rng.uniform(0.2, 0.35, 2)
    corner = np.array([rng.uniform(0, 1 - size[0]), rng.choice([0.0, 1 - size[1]])])
    return np.concatenate([corner, corner + size])


def _detected_row(facts: Facts, second: int, box: np.ndarray, action: int | str, confidence: float) -> str:
    return f"{facts.name},{second:04d},{_edges(box)},{action},{confidence:.6f}"


def _edges(box: np.ndarray) -> str:
    return ",".join(f"{edge:.3f}" for edge in box)
