"""Annotations of one split of AVA: boxes, and for val and test the ground truth."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from slowfast.datasets.ava.key_frames import KeyFrameFilter
from slowfast.evaluation.ava_files import BoxTable, read_boxes, read_excluded
from slowfast.runtime.logging import get_logger
from slowfast.utils.errors import LineErrors, naming_keys
from slowfast.utils.label_map import read_label_map

logger = get_logger(__name__)

VAL_EVERY = 4  # seconds between key frames of val, unless AVA.FULL_TEST_ON_VAL; as published
# A file of detections holds annotated boxes if more than this share of its boxes is annotated: a detector hardly ever
# hits the four edges to three decimals.
_TRUTH_SHARE = 0.5


@dataclass(frozen=True)
class Annotations:
    """The boxes of one split.

    Attributes:
        tables: boxes to learn from or to score, one table per file.
        truth: val and test: the annotated boxes to score against; None in train, and in a test without annotations.
        excluded: val and test: (video, second) of key frames that are not scored.
    """

    tables: list[BoxTable]
    truth: BoxTable | None = None
    excluded: list[tuple[str, float]] = field(default_factory=list)

    @staticmethod
    def read(cfg: Any, split: str) -> Annotations:
        """Read the files of a split, which the keys `AVA.*` name in `AVA.ANNOTATION_DIR`.

        Raises:
            FileNotFoundError, ValueError: see `read_boxes`; ValueError also if no file of predicted boxes is named.
        """
        ava, classes, least = cfg.AVA, cfg.MODEL.NUM_CLASSES, cfg.AVA.DETECTION_SCORE_THRESH
        if split == "train":
            truth, predicted = (_files(cfg, key) for key in ("TRAIN_GT_BOX_LISTS", "TRAIN_PREDICT_BOX_LISTS"))
            if not truth and not predicted:
                raise ValueError("AVA.TRAIN_GT_BOX_LISTS is empty, as is TRAIN_PREDICT_BOX_LISTS; name files of boxes")
            with naming_keys(cfg, "MODEL.NUM_CLASSES"):
                return Annotations(_training_boxes(truth, predicted, classes, least))
        excluded = [key_frame for path in _files(cfg, "EXCLUSION_FILE") for key_frame in read_excluded(path)]
        if not ava.GROUNDTRUTH_FILE and split == "test" and ava.TEST_PREDICT_BOX_LISTS and not ava.TEST_ON_GROUND_TRUTH:
            paths = _files(cfg, "TEST_PREDICT_BOX_LISTS")
            with naming_keys(cfg, "MODEL.NUM_CLASSES"):
                return Annotations([read_boxes(path, classes, least) for path in paths], None, excluded)
        if not ava.GROUNDTRUTH_FILE:
            raise ValueError(
                f"AVA.GROUNDTRUTH_FILE is empty; {split} needs the annotated boxes to score against. (A test of the "
                "boxes in AVA.TEST_PREDICT_BOX_LISTS goes without, and saves their scores alone)"
            )
        (truth_path,) = _files(cfg, "GROUNDTRUTH_FILE")
        with naming_keys(cfg, "MODEL.NUM_CLASSES"):
            truth = read_boxes(truth_path, classes)
        predicted = [] if ava.TEST_ON_GROUND_TRUTH else _files(cfg, "TEST_PREDICT_BOX_LISTS")
        if ava.TEST_ON_GROUND_TRUTH:
            tables, annotated = [truth], [truth_path]
        elif predicted:
            with naming_keys(cfg, "MODEL.NUM_CLASSES"):
                tables, annotated = _evaluation_boxes(predicted, truth_path, truth, classes, least)
        else:
            raise ValueError(
                f"AVA.TEST_PREDICT_BOX_LISTS is empty; {split} scores the boxes that a detector of persons found: name "
                "its files, or set AVA.TEST_ON_GROUND_TRUTH True to score the annotated ones, which flatters"
            )
        if annotated:
            logger.warning(
                "%s scores ANNOTATED boxes (%s) in place of predicted ones: its mAP is better than with any detector "
                "of persons, and not to be compared with published ones",
                split, ", ".join(annotated),
            )  # fmt: skip
        if split == "val" and not ava.FULL_TEST_ON_VAL:
            tables, truth = [_every(table, VAL_EVERY) for table in tables], _every(truth, VAL_EVERY)
        return Annotations(tables, truth, excluded)

    @property
    def videos(self) -> list[str]:
        """Names of all videos that have boxes, in order of first appearance."""
        tables = self.tables if self.truth is None else [*self.tables, self.truth]
        return list(dict.fromkeys(name for table in tables for name in table.names))

    def check_truth(self, key_frames: KeyFrameFilter) -> None:
        """Warn of annotated boxes that count as missed because their second is no key frame.

        Raises:
            ValueError: an annotated second that has no frame, with file, line number and line.
        """
        if self.truth is None:
            return
        key_frames.with_frame(self.truth)
        lost = ~key_frames.usable(self.truth)
        if lost.any():
            names = sorted({self.truth.names[video] for video in self.truth.videos[lost]})
            logger.warning(
                "%d of %d annotated boxes of %s count as missed: their videos have no frames, or their seconds lie "
                "outside AVA.KEY_SECONDS (%d videos, such as %s)",
                lost.sum(), len(self.truth), self.truth.path, len(names), names[0],
            )  # fmt: skip


def class_names(cfg: Any) -> dict[int, str]:
    """Return id -> name of the scored classes: those of `AVA.LABEL_MAP_FILE`, or all ids if that is "".

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no label map, or has an id over `MODEL.NUM_CLASSES`.
    """
    num_classes, paths = cfg.MODEL.NUM_CLASSES, _files(cfg, "LABEL_MAP_FILE")
    if not paths:
        return {number: str(number) for number in range(1, num_classes + 1)}
    (path,) = paths
    names = read_label_map(path)
    last = max(names)
    if last > num_classes:
        raise ValueError(
            f"{path} has {len(names)} classes with ids up to {last}, but MODEL.NUM_CLASSES is {num_classes}, and a "
            f"model's outputs are ids 1 to that; set MODEL.NUM_CLASSES {last} (ids without a class may lie between)"
        )
    if last < num_classes:
        logger.warning(
            "MODEL.NUM_CLASSES is %d, but the ids of %s end at %d: the outputs after it learn nothing; set it to %d",
            num_classes, path, last, last,
        )  # fmt: skip
    return names


def _every(table: BoxTable, seconds: int) -> BoxTable:
    """Keep the rows and key frames whose second is a multiple of `seconds`, or begins with one (904.5)."""
    empty = [(video, second) for video, second in table.empty if second // 1 % seconds == 0]
    return replace(table.rows(np.floor(table.seconds) % seconds == 0), empty=empty)


def _files(cfg: Any, key: str) -> list[str]:
    """Return the paths of the files that a key of AVA names.

    Raises:
        FileNotFoundError: one does not exist; with the key.
    """
    names = [cfg.AVA[key]] if isinstance(cfg.AVA[key], str) else cfg.AVA[key]
    paths = [os.path.join(cfg.AVA.ANNOTATION_DIR, name) for name in names if name]
    for path in paths:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no file {path}; AVA.{key} names it, in the folder AVA.ANNOTATION_DIR")
    return paths


def _training_boxes(
    truth: Sequence[str], predicted: Sequence[str], num_classes: int, least_score: float
) -> list[BoxTable]:
    """Read annotated and predicted boxes; a file in both lists counts as annotated.

    Published settings list the annotations among the predicted boxes too.

    Raises:
        FileNotFoundError, ValueError: as `read_boxes`.
    """
    known = {os.path.realpath(path) for path in truth}
    others = [path for path in predicted if os.path.realpath(path) not in known]
    tables = [read_boxes(path, num_classes) for path in truth]
    return tables + [read_boxes(path, num_classes, least_score) for path in others]


def _evaluation_boxes(
    predicted: Sequence[str], truth_path: str, truth: BoxTable, num_classes: int, least_score: float
) -> tuple[list[BoxTable], list[str]]:
    """Read the boxes to score in val or test, and name the files among them that hold annotated boxes.

    Args:
        predicted: files of boxes, predicted or annotated.
        truth_path, truth: the annotations and their rows.
        num_classes, least_score: see `read_boxes`.

    Raises:
        FileNotFoundError, ValueError: as `read_boxes`.
    """
    tables, annotated = [], []
    for path in predicted:
        if os.path.realpath(path) == os.path.realpath(truth_path):
            tables.append(truth)
            annotated.append(path)
            continue
        errors = LineErrors(1)
        table = read_boxes(path, num_classes, least_score, errors)
        # Annotations have person numbers in place of scores; these may be 0 in all lines.
        sample = table if len(table) else read_boxes(path, num_classes, 0.0, LineErrors(1))
        if _share_in(sample, truth) > _TRUTH_SHARE:
            annotated.append(path)
            table = read_boxes(path, num_classes)
        elif errors:
            raise ValueError(errors[0])
        tables.append(table)
    return tables, annotated


def _share_in(table: BoxTable, truth: BoxTable) -> float:
    """Return the share of rows whose box, to three decimals, is an annotated one; 0 without rows."""
    known, rows = (
        {
            (one.names[video], second, *box)
            for video, second, box in zip(
                one.videos, one.seconds.tolist(), (one.boxes.round(3) + 0.0).tolist(), strict=True
            )
        }
        for one in (truth, table)
    )
    return len(rows & known) / max(len(rows), 1)
