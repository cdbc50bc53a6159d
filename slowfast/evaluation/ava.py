"""Frame mAP at IoU 0.5, the metric of AVA (Gu et al., AVA, CVPR 2018, section 4), over all key frames.

Two evaluations are published, and their numbers differ. `AVA_EVALUATIONS` holds both, by name:

- `pyslowfast` is the copy that PySlowFast ships, by which its numbers and PGT's are published. All detections count,
  in the order of the list; on a key frame without ground truth they are wrong.
- `activitynet` is the current official one, `get_ava_performance.py` of the ActivityNet challenge. On each key frame
  the 50 rows (box and class) of best score count, best first. Key frames that the ground truth does not name are
  ignored. A key frame that it names without a box of a scored class counts; detections on it are wrong.

Both are built on the evaluator of the TensorFlow object detection API. Its order of operations is kept, because the
result for equal scores depends on it:

- Boxes of a key frame and class are matched in that order, not by score.
- A box is matched to the ground truth box of largest IoU, the first of several. It is correct if that one is not yet
  matched and the IoU is at least 0.5. It is never matched to the second best.
- Boxes without area are ignored, but are among the 50.
- Boxes of a class are listed in the order in which key frames first appear, and ranked by
  `numpy.argsort(scores)[::-1]`. The order of equal scores depends on NumPy and the processor, so two machines may
  differ in the third digit if many scores are equal.

Shapes: boxes are (N, 4), x1, y1, x2, y2, as shares of the frame's width and height.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from slowfast.evaluation.finite import check_finite
from slowfast.utils.boxes import iou
from slowfast.utils.registry import Registry

# A function `(groundtruth, detections) -> detections` by name: it returns the detections that count, in the order in
# which they are matched. Both lists hold the measured classes alone, but all their key frames. `empty_key_frames` says
# that annotated key frames without a box change the result.
AVA_EVALUATIONS = Registry("AVA.EVALUATION", facts={"empty_key_frames": False})
DEFAULT_EVALUATION = "pyslowfast"

_MIN_OVERLAP = 0.5  # IoU
_MOST_PER_KEY_FRAME = 50
# Rows converted to Python numbers at a time, which are several times as large as in arrays.
_ROWS_AT_A_TIME = 100_000
# Pairs of detection and ground truth box per chunk, about 100 MB.
_PAIRS_AT_A_TIME = 1_000_000


@dataclasses.dataclass
class BoxRows:
    """Boxes with one class each, as the lines of an AVA file.

    Attributes:
        key_frames: (video, second) of each key frame, without duplicates; a key frame may have no box, and a second a
            fraction.
        key_frame: (N,) position of the box's key frame in `key_frames`.
        boxes: (N, 4) float64.
        classes: (N,) class ids, counted from 1.
        scores: (N,) scores; person ids in ground truth, or None.

    Raises:
        ValueError: columns of different lengths, duplicate key frames, or a position outside of them.
    """

    key_frames: list[tuple[str, float]]
    key_frame: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.key_frame = np.asarray(self.key_frame, dtype=np.int64)
        self.boxes = np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4)
        self.classes = np.asarray(self.classes, dtype=np.int64)
        columns = {"key_frame": self.key_frame, "boxes": self.boxes, "classes": self.classes}
        if self.scores is not None:
            self.scores = np.asarray(self.scores)
            columns["scores"] = self.scores
        sizes = {name: len(column) for name, column in columns.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"columns of boxes must have equal lengths, but they are {sizes}")
        if len(set(self.key_frames)) < len(self.key_frames):
            raise ValueError("the list of key frames holds a key frame twice")
        if len(self.key_frame) and not 0 <= self.key_frame.min() <= self.key_frame.max() < len(self.key_frames):
            raise ValueError(f"boxes name key frames outside 0 to {len(self.key_frames) - 1}")

    def __len__(self) -> int:
        return len(self.key_frame)

    @classmethod
    def from_columns(
        cls,
        videos: Sequence[str],
        seconds: Sequence[float],
        boxes: np.ndarray,
        classes: Sequence[int],
        scores: Sequence[float] | None = None,
    ) -> BoxRows:
        """Build it from the columns of a file: video, second, box, class and score of each of N boxes."""
        numbers: dict[tuple[str, float], int] = {}
        keys = zip(map(str, videos), seconds, strict=True)
        key_frame = [numbers.setdefault(key, len(numbers)) for key in keys]
        return cls(list(numbers), key_frame, boxes, classes, scores)

    def select(self, kept: np.ndarray) -> BoxRows:
        """Return the boxes that `kept` chooses, a mask (N,) or positions, with all key frames."""
        scores = None if self.scores is None else self.scores[kept]
        return BoxRows(self.key_frames, self.key_frame[kept], self.boxes[kept], self.classes[kept], scores)


@AVA_EVALUATIONS.register("pyslowfast")
def _all_as_listed(groundtruth: BoxRows, detections: BoxRows) -> BoxRows:
    """Return all detections, in their order."""
    return detections


@AVA_EVALUATIONS.register("activitynet", empty_key_frames=True)
def _best_of_annotated(groundtruth: BoxRows, detections: BoxRows) -> BoxRows:
    """Return the best rows of each key frame that the ground truth names, best first.

    Equal scores are cut and ordered by a heap, as in the official script.
    """
    annotated = set(groundtruth.key_frames)
    known = np.array([key in annotated for key in detections.key_frames], dtype=bool)
    detections = detections.select(known[detections.key_frame])
    x1, y1, x2, y2 = detections.boxes.T
    columns = (detections.scores, detections.classes, y1, x1, y2, x2)
    heaps: dict[int, list[tuple]] = {}
    for start in range(0, len(detections), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        entries = zip(*(column[part].tolist() for column in columns), itertools.count(start))
        for key_frame, entry in zip(detections.key_frame[part].tolist(), entries, strict=True):
            heap = heaps.setdefault(key_frame, [])
            if len(heap) < _MOST_PER_KEY_FRAME:
                heapq.heappush(heap, entry)
            elif entry[0] > heap[0][0]:
                heapq.heapreplace(heap, entry)
    best = (entry[-1] for heap in heaps.values() for entry in sorted(heap, key=lambda entry: -entry[0]))
    return detections.select(np.fromiter(best, dtype=np.int64))


def evaluate_ava(
    groundtruth: BoxRows,
    detections: BoxRows,
    excluded: Iterable[tuple[str, float]] = (),
    class_ids: Iterable[int] | None = None,
    evaluation: str = DEFAULT_EVALUATION,
) -> dict:
    """Compute the average precision of each class and their mean, as one of the published evaluations does.

    Args:
        groundtruth: annotated boxes; its key frames are the annotated ones, with or without a box.
        detections: boxes with scores.
        excluded: (video, second) of the key frames to leave out.
        class_ids: ids of the classes to measure, as in a label map; boxes of other classes are left out. None measures
            all classes of the two lists, with the same mean.
        evaluation: name in `AVA_EVALUATIONS`; see the head of this file.

    Returns:
        `{"mAP@0.5": float, "AP": {class id: float}}`. AP is nan for a class without ground truth and 0 for one without
        detections; the mean is over the classes with ground truth, nan if there is none.

    Raises:
        ValueError: unknown evaluation; detections without scores; values that are not finite; a ground truth box with
            x1 > x2 or y1 > y2; class ids below 1, or none.
    """
    ranked = _ranked(groundtruth, detections, excluded, class_ids, evaluation)
    precisions = {class_id: _average_precision(*found) for class_id, found in ranked.items()}
    measured = [value for value in precisions.values() if not np.isnan(value)]
    return {"mAP@0.5": float(np.mean(measured)) if measured else float("nan"), "AP": precisions}


def precision_recall(
    groundtruth: BoxRows,
    detections: BoxRows,
    excluded: Iterable[tuple[str, float]] = (),
    class_ids: Iterable[int] | None = None,
    evaluation: str = DEFAULT_EVALUATION,
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return recall and precision of each class with ground truth, after each of its N detections, the best first.

    Both are (N,). Precision is interpolated: the best one at this or a higher recall. The area below it is the class's
    AP. Arguments and errors are those of `evaluate_ava`.
    """
    ranked = _ranked(groundtruth, detections, excluded, class_ids, evaluation)
    return {
        class_id: (hits / positives, precision)
        for class_id, (hits, precision, positives) in ranked.items()
        if positives
    }


def _ranked(
    groundtruth: BoxRows,
    detections: BoxRows,
    excluded: Iterable[tuple[str, float]],
    class_ids: Iterable[int] | None,
    evaluation: str,
) -> dict[int, tuple[np.ndarray, np.ndarray, int]]:
    """Return for each class the arguments of `_average_precision`; see `evaluate_ava`."""
    counted = AVA_EVALUATIONS.get(evaluation)
    _check(groundtruth, detections)
    ids = _class_ids(groundtruth, detections, class_ids)
    groundtruth = groundtruth.select(np.isin(groundtruth.classes, ids))
    detections = counted(groundtruth, detections.select(np.isin(detections.classes, ids)))
    rank = _first_appearance(detections)

    excluded = set(excluded)
    groundtruth = groundtruth.select(~_on(groundtruth, excluded))
    x1, y1, x2, y2 = detections.boxes.T
    detections = detections.select((x1 < x2) & (y1 < y2) & ~_on(detections, excluded))
    correct = _correct(groundtruth, detections)

    order = np.lexsort((rank[detections.key_frame], detections.classes))
    classes, scores, correct = detections.classes[order], detections.scores[order].astype(np.float64), correct[order]
    first, last = np.searchsorted(classes, ids, "left"), np.searchsorted(classes, ids, "right")
    positives = np.array([np.count_nonzero(groundtruth.classes == class_id) for class_id in ids])
    return {
        int(class_id): (*_hits_and_precision(scores[a:b], correct[a:b]), int(number))
        for class_id, a, b, number in zip(ids, first, last, positives, strict=True)
    }


def _check(groundtruth: BoxRows, detections: BoxRows) -> None:
    if detections.scores is None:
        raise ValueError("detections need a score for every box")
    for name, rows in (("ground truth", groundtruth), ("detections", detections)):
        wrong = np.count_nonzero(~np.isfinite(rows.boxes).all(axis=1))
        if wrong:
            raise ValueError(f"{wrong} boxes of the {name} are not four finite numbers")
    check_finite(detections.scores, "rows of detections", lambda row: _place(detections, row))
    x1, y1, x2, y2 = groundtruth.boxes.T
    wrong = np.flatnonzero((x1 > x2) | (y1 > y2))
    if len(wrong):
        raise ValueError(
            f"{len(wrong)} ground truth boxes have x1 > x2 or y1 > y2, the first on {_place(groundtruth, wrong[0])}: "
            f"{groundtruth.boxes[wrong[0]].tolist()}"
        )


def _place(rows: BoxRows, row: int) -> str:
    video, second = rows.key_frames[rows.key_frame[row]]
    return f"{video}, second {second}"


def _class_ids(groundtruth: BoxRows, detections: BoxRows, class_ids: Iterable[int] | None) -> np.ndarray:
    """Return the sorted ids of the classes to measure."""
    if class_ids is None:
        ids = np.union1d(groundtruth.classes, detections.classes)
    else:
        ids = np.unique(np.array(list(class_ids), dtype=np.int64))
        if len(ids) == 0:
            raise ValueError("there are no class ids to measure")
    if len(ids) and ids[0] < 1:
        raise ValueError(f"class id {ids[0]}: classes are counted from 1")
    return ids


def _first_appearance(rows: BoxRows) -> np.ndarray:
    """Return for each key frame the first row that names it."""
    first = np.full(len(rows.key_frames), len(rows), dtype=np.int64)
    # NumPy keeps the last of several values for one index; in reverse order that is the first row.
    first[rows.key_frame[::-1]] = np.arange(len(rows))[::-1]
    return first


def _on(rows: BoxRows, excluded: set[tuple[str, float]]) -> np.ndarray:
    """Return (N,) booleans: True if a box is on an excluded key frame."""
    return np.array([key in excluded for key in rows.key_frames], dtype=bool)[rows.key_frame]


def _correct(groundtruth: BoxRows, detections: BoxRows) -> np.ndarray:
    """Return (N,) booleans: True if a detection is the first one matched to its ground truth box."""
    numbers = {key: number for number, key in enumerate(groundtruth.key_frames)}
    shared = np.array([numbers.get(key, -1) for key in detections.key_frames], dtype=np.int64)
    classes = 1 + max(groundtruth.classes.max(initial=0), detections.classes.max(initial=0))
    place = groundtruth.key_frame * classes + groundtruth.classes
    by_place = np.argsort(place, kind="stable")
    wanted = shared[detections.key_frame] * classes + detections.classes
    wanted[shared[detections.key_frame] < 0] = -1
    first = np.searchsorted(place[by_place], wanted, "left")
    number = np.searchsorted(place[by_place], wanted, "right") - first

    found = np.full(len(detections), -1, dtype=np.int64)
    compared = np.flatnonzero(number)
    for some in _split(compared, number[compared]):
        best, overlap = _best(groundtruth.boxes[by_place], detections.boxes[some], first[some], number[some])
        found[some] = np.where(overlap >= _MIN_OVERLAP, best, -1)
    candidates = np.flatnonzero(found >= 0)
    correct = np.zeros(len(detections), dtype=bool)
    correct[candidates[np.unique(found[candidates], return_index=True)[1]]] = True
    return correct


def _split(rows: np.ndarray, sizes: np.ndarray) -> Iterator[np.ndarray]:
    """Split `rows` into chunks of about `_PAIRS_AT_A_TIME` pairs."""
    if len(rows):
        part = np.cumsum(sizes) // _PAIRS_AT_A_TIME
        yield from np.split(rows, np.flatnonzero(np.diff(part)) + 1)


def _best(truth: np.ndarray, boxes: np.ndarray, first: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find for each box the ground truth box of largest IoU in truth[first : first + number].

    Args:
        truth: (G, 4).
        boxes: (N, 4).
        first, number: (N,); number at least 1.

    Returns:
        Positions in `truth` and IoU, both (N,).
    """
    starts = np.cumsum(number) - number
    pair_of = np.repeat(np.arange(len(boxes)), number)
    other = np.arange(len(pair_of)) + np.repeat(first - starts, number)
    overlap = iou(boxes[pair_of], truth[other])
    most = np.maximum.reduceat(overlap, starts)
    # First pair of each box that reaches its maximum.
    reached = np.flatnonzero(overlap == most[pair_of])
    pair = reached[np.searchsorted(pair_of[reached], np.arange(len(boxes)))]
    return other[pair], most


def _hits_and_precision(scores: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the correct detections among the best 1, 2, ... N, and the interpolated precision, both (N,).

    Args:
        scores: (N,) scores of one class, in the published order of boxes.
        correct: (N,) booleans.
    """
    # Not a stable sort, as in the published code; the order of ties depends on it.
    hits = np.cumsum(correct[np.argsort(scores)[::-1]])
    precision = hits / np.arange(1, len(hits) + 1)
    return hits, np.maximum.accumulate(precision[::-1])[::-1]


def _average_precision(hits: np.ndarray, precision: np.ndarray, positives: int) -> float:
    """Return the area under the interpolated precision-recall curve (as in the VOC development kit).

    Args:
        hits, precision: of `_hits_and_precision`.
        positives: number of ground truth boxes; 0 gives nan.
    """
    if positives == 0:
        return float("nan")
    return float(np.sum(np.diff(hits, prepend=0) / positives * precision))
