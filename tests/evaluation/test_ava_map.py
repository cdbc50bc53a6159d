"""Frame mAP against numbers of the published evaluation, and against a slow one written by its rules."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from slowfast.evaluation import ava, evaluate_ava, evaluate_ava_files
from slowfast.evaluation.ava import BoxRows
from slowfast.evaluation.ava_files import read_detections, read_excluded, read_groundtruth

FIXTURES = Path(__file__).parents[1] / "fixtures"
# Checksum of the order in which NumPy sorts scores with ties on the machine where the published numbers were computed.
TIES = 4003796866


@pytest.fixture
def ties_as_published():
    """Skips where NumPy leaves equal scores in another order, which the published numbers with ties depend on."""
    scores = np.round(np.random.default_rng(0).random(87), 2)
    if zlib.crc32(np.argsort(scores).astype(np.int64).tobytes()) != TIES:
        pytest.skip("NumPy sorts equal scores in another order on this processor than where the numbers were computed")


def test_published_numbers_with_ties(ties_as_published):
    folder = FIXTURES / "ava_small"
    expected = list(json.loads((folder / "expected.json").read_text()).values())
    class_ids = json.loads((folder / "class_whitelist.json").read_text())
    files = (folder / f"{name}.csv" for name in ("groundtruth", "detections", "excluded"))
    result = evaluate_ava_files(*files, class_ids=class_ids)
    assert result["mAP@0.5"] == pytest.approx(expected[0], abs=1e-9)
    assert list(result["AP"]) == class_ids
    assert list(result["AP"].values()) == pytest.approx(expected[1:], abs=1e-9)


@pytest.mark.parametrize("number", range(12))
def test_published_numbers_of_random_cases(number, tmp_path):
    """Boxes out of the picture, without area, twice; key frames without either; overlaps of exactly 0.5."""
    case = json.loads((FIXTURES / "ava_cases.json").read_text())[number]
    for name in ("groundtruth", "detections", "excluded"):
        (tmp_path / name).write_text(case[name])
    result = evaluate_ava_files(
        *(tmp_path / name for name in ("groundtruth", "detections", "excluded")), case["class_ids"]
    )
    assert result["mAP@0.5"] == pytest.approx(case["mean"], abs=1e-12)
    assert list(result["AP"]) == case["class_ids"]
    expected = [np.nan if value is None else value for value in case["average_precision"]]
    assert list(result["AP"].values()) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def slow_overlap(a, b):
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    common = height * width
    return common / ((a[3] - a[1]) * (a[2] - a[0]) + (b[3] - b[1]) * (b[2] - b[0]) - common)


def slow_average_precision(scores, correct, positives):
    """Sum, over the detections, the gain in recall times the best precision at this recall or more."""
    total, former = 0.0, 0.0
    ranked = [correct[i] for i in np.argsort(np.array(scores))[::-1]] if scores else []
    points = [(sum(ranked[:n]) / positives, sum(ranked[:n]) / n) for n in range(1, len(ranked) + 1)]
    for recall, _ in points:
        total += (recall - former) * max((precision for r, precision in points if r >= recall), default=0.0)
        former = recall
    return total


def slow_frame_ap(truth, found, excluded, class_id):
    """Rows are (video, second, box, class, score); one class, frame by frame and box by box."""
    truth = [row for row in truth if row[3] == class_id and row[:2] not in excluded]
    scores, correct = [], []
    for frame in dict.fromkeys(row[:2] for row in found):
        boxes, taken = [row[2] for row in truth if row[:2] == frame], set()
        for _, _, box, _, score in (row for row in found if row[:2] == frame and row[3] == class_id):
            if frame in excluded or box[0] >= box[2] or box[1] >= box[3]:
                continue
            overlaps = [slow_overlap(box, other) for other in boxes]
            best = overlaps.index(max(overlaps)) if overlaps else None
            hit = best is not None and overlaps[best] >= 0.5 and best not in taken
            taken |= {best} if hit else set()
            scores.append(score)
            correct.append(hit)
    return slow_average_precision(scores, correct, len(truth)) if truth else np.nan


def random_rows(generator, frames, most, digits):
    """Few boxes on a coarse grid, so that they often coincide and overlap by exactly one half."""
    rows = []
    for frame in frames:
        for _ in range(generator.integers(0, most + 1)):
            corner, size = generator.integers(-1, 5, 2), generator.integers(0 if digits else 1, 4, 2)
            box = tuple(np.concatenate([corner, corner + size]) / 4.0)
            for class_id in np.unique(generator.integers(1, 5, 3)).tolist():
                rows.append((*frame, box, class_id, round(generator.random(), digits or 1)))
    generator.shuffle(rows)
    return [(*row[:2], tuple(row[2]), *row[3:]) for row in rows]


def as_rows(rows):
    columns = list(zip(*rows, strict=True)) or [(), (), (), (), ()]
    return BoxRows.from_columns(columns[0], columns[1], np.array(columns[2]).reshape(-1, 4), *columns[3:])


@pytest.mark.parametrize("seed", range(40))
def test_random_cases_against_the_slow_way(seed, monkeypatch):
    generator = np.random.default_rng(seed)
    monkeypatch.setattr(ava, "_PAIRS_AT_A_TIME", int(generator.integers(1, 60)))
    frames = [(f"v{video}", second) for video in range(3) for second in range(902, 905)]
    truth = random_rows(generator, frames, 3, 0)
    found = random_rows(generator, [*frames, ("other", 902)], int(generator.integers(0, 7)), 1)
    excluded = {frames[i] for i in generator.integers(0, 9, 2)}
    class_ids = [1, 2, 4, 7]
    truth_listed = [row for row in truth if row[3] in class_ids]
    found_listed = [row for row in found if row[3] in class_ids]
    result = evaluate_ava(as_rows(truth), as_rows(found), excluded, class_ids)
    expected = {i: slow_frame_ap(truth_listed, found_listed, excluded, i) for i in class_ids}
    assert result["AP"] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert result["mAP@0.5"] == pytest.approx(np.nanmean(list(expected.values())), abs=1e-12)


UNIT = [0.0, 0.0, 1.0, 1.0]


def one(boxes, scores=None, classes=None, second=902):
    scores = None if scores is None else np.array(scores)
    return BoxRows([("v", second)], [0] * len(boxes), np.array(boxes), classes or [1] * len(boxes), scores)


def test_an_overlap_of_one_half_counts():
    assert evaluate_ava(one([UNIT]), one([[0, 0, 1, 0.5]], [1.0]))["AP"] == {1: 1.0}
    assert evaluate_ava(one([UNIT]), one([[0, 0, 1, 0.499]], [1.0]))["AP"] == {1: 0.0}


def test_the_listed_order_not_the_score_decides_who_finds_a_box():
    """Both find the one box; the first listed gets it, so the better score is wrong and ranks above."""
    assert evaluate_ava(one([UNIT]), one([UNIT, UNIT], [0.1, 0.9]))["AP"] == {1: 0.5}
    assert evaluate_ava(one([UNIT]), one([UNIT, UNIT], [0.9, 0.1]))["AP"] == {1: 1.0}


def test_a_detection_does_not_take_the_second_best():
    truth = [[0, 0, 1, 1], [0, 0, 1, 0.8]]
    assert evaluate_ava(one(truth), one([UNIT, UNIT], [0.9, 0.8]))["AP"] == {1: 0.5}


def test_wrong_boxes_on_key_frames_without_ground_truth_count():
    rows = BoxRows([("v", 902), ("w", 902)], [0, 1], [UNIT, UNIT], [1, 1], np.array([0.5, 0.9]))
    assert evaluate_ava(one([UNIT]), rows)["AP"] == {1: 0.5}
    assert evaluate_ava(one([UNIT]), rows, [("w", 902)])["AP"] == {1: 1.0}


@pytest.mark.parametrize(("evaluation", "unnamed", "named"), [("pyslowfast", 0.5, 0.5), ("activitynet", 1.0, 0.5)])
def test_detections_where_the_ground_truth_names_no_key_frame(evaluation, unnamed, named):
    """A wrong box of better score on w halves the precision of the right one, if it counts."""
    found = BoxRows([("v", 902), ("w", 902)], [0, 1], [UNIT, UNIT], [1, 1], np.array([0.5, 0.9]))
    assert evaluate_ava(one([UNIT]), found, evaluation=evaluation)["AP"] == {1: unnamed}
    empty = BoxRows([("v", 902), ("w", 902)], [0], [UNIT], [1])
    other_class = BoxRows([("v", 902), ("w", 902)], [0, 1], [UNIT, UNIT], [1, 2])
    for truth in (empty, other_class):
        assert evaluate_ava(truth, found, class_ids=[1], evaluation=evaluation)["AP"] == {1: named}
        assert evaluate_ava(truth, found, [("w", 902)], [1], evaluation)["AP"] == {1: 1.0}


@pytest.mark.parametrize(("better", "ap"), [(49, 1.0), (50, 0.0)])
def test_the_51st_row_of_a_key_frame(better, ap):
    """The one right box of class 1 comes after `better` boxes of class 2, none of which has ground truth."""
    scores = [0.1, *np.linspace(0.5, 0.9, better)]
    found = one([UNIT] * (better + 1), scores, [1] + [2] * better)
    assert evaluate_ava(one([UNIT]), found, evaluation="pyslowfast")["AP"][1] == 1.0
    assert evaluate_ava(one([UNIT]), found, evaluation="activitynet")["AP"][1] == ap
    # Rows of classes that are not measured are not among the 50; boxes without area are.
    assert evaluate_ava(one([UNIT]), found, class_ids=[1], evaluation="activitynet")["AP"] == {1: 1.0}
    flat = one([UNIT] + [[0, 0, 0, 1]] * better, scores)
    assert evaluate_ava(one([UNIT]), flat, evaluation="activitynet")["AP"] == {1: ap}
    # Every key frame has its own 50.
    elsewhere = BoxRows([("v", 902), ("v", 903)], [0] + [1] * better, found.boxes, found.classes, found.scores)
    assert evaluate_ava(one([UNIT]), elsewhere, evaluation="activitynet")["AP"][1] == 1.0


def test_of_equal_scores_the_first_50_rows_count():
    boxes = [UNIT] + [[0.9, 0.9, 1, 1]] * 50
    for right, ap in ((boxes, 1.0), (boxes[::-1], 0.0)):
        result = evaluate_ava(one([UNIT]), one(right, [0.5] * 51, [1 + (box != UNIT) for box in right]), (), [1, 2])
        assert result["AP"][1] == 1.0
        found = one(right, [0.5] * 51, [1 + (box != UNIT) for box in right])
        assert evaluate_ava(one([UNIT]), found, (), [1, 2], "activitynet")["AP"][1] == ap


def test_the_best_box_is_matched_first_in_the_official_evaluation():
    found = one([UNIT, UNIT], [0.1, 0.9])
    assert evaluate_ava(one([UNIT]), found, evaluation="activitynet")["AP"] == {1: 1.0}


def slow_choice(truth, found, class_ids, most):
    """The rows that the official evaluation counts, best first on each key frame; no scores are equal there."""
    chosen = []
    for frame in dict.fromkeys(row[:2] for row in found if row[3] in class_ids):
        rows = [row for row in found if row[:2] == frame and row[3] in class_ids]
        if any(row[:2] == frame for row in truth):
            chosen += sorted(rows, key=lambda row: -row[4])[:most]
    return chosen


@pytest.mark.parametrize("seed", range(30))
def test_random_cases_of_the_official_evaluation(seed, monkeypatch):
    generator = np.random.default_rng(seed)
    most = int(generator.integers(1, 9))
    monkeypatch.setattr(ava, "_MOST_PER_KEY_FRAME", most)
    monkeypatch.setattr(ava, "_ROWS_AT_A_TIME", int(generator.integers(1, 30)))
    frames = [(f"v{video}", second) for video in range(3) for second in (902, 902.5, 903)]
    truth = random_rows(generator, frames, 3, 0)
    found = random_rows(generator, [*frames, ("other", 902)], 6, 1)
    scores = generator.permutation(len(found)) / len(found)
    found = [(*row[:4], score) for row, score in zip(found, scores, strict=True)]
    excluded, class_ids = {frames[i] for i in generator.integers(0, 9, 2)}, {1, 2, 4}
    result = evaluate_ava(as_rows(truth), as_rows(found), excluded, class_ids, "activitynet")
    chosen = slow_choice(truth, found, class_ids, most)
    expected = {class_id: slow_frame_ap(truth, chosen, excluded, class_id) for class_id in sorted(class_ids)}
    assert result["AP"] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_the_two_evaluations_are_equal_where_nothing_differs():
    """The published small set, cut to what both count: key frames with ground truth, their 50 best rows, best first."""
    folder = FIXTURES / "ava_small"
    class_ids = json.loads((folder / "class_whitelist.json").read_text())
    truth, excluded = read_groundtruth(folder / "groundtruth.csv"), read_excluded(folder / "excluded.csv")
    every = read_detections(folder / "detections.csv")
    every.scores = every.scores - 1e-9 * np.arange(len(every))  # no ties
    named, rows = set(truth.key_frames), np.arange(len(every))
    cut = [
        row
        for key_frame in dict.fromkeys(every.key_frame.tolist())
        if every.key_frames[key_frame] in named
        for row in sorted(rows[every.key_frame == key_frame], key=lambda row: -every.scores[row])[:50]
    ]
    assert set(every.classes) <= set(class_ids) and len(cut) < len(every)
    results = [
        evaluate_ava(truth, found, excluded, class_ids, evaluation)["AP"]
        for found, evaluation in [
            (every.select(np.array(cut)), "pyslowfast"),
            (every.select(np.array(cut)), "activitynet"),
            (every, "activitynet"),
        ]
    ]
    assert results[0] == pytest.approx(results[1], abs=0, nan_ok=True)
    assert results[0] == pytest.approx(results[2], abs=0, nan_ok=True)
    assert results[0] != pytest.approx(evaluate_ava(truth, every, excluded, class_ids)["AP"], abs=1e-3, nan_ok=True)


def test_which_classes_are_measured():
    truth, found = one([UNIT, UNIT], classes=[2, 5]), one([UNIT, UNIT], [0.5, 0.5], classes=[2, 3])
    assert evaluate_ava(truth, found) == {"mAP@0.5": 0.5, "AP": pytest.approx({2: 1.0, 3: np.nan, 5: 0.0}, nan_ok=True)}
    only = evaluate_ava(truth, found, class_ids={2, 9})
    assert only == {"mAP@0.5": 1.0, "AP": pytest.approx({2: 1.0, 9: np.nan}, nan_ok=True)}


def test_nothing_to_measure_is_nan():
    empty = BoxRows([], [], np.zeros((0, 4)), [], np.zeros(0))
    result = evaluate_ava(empty, one([UNIT], [0.5]), class_ids=[1])
    assert np.isnan(result["mAP@0.5"]) and np.isnan(result["AP"][1])
    assert evaluate_ava(one([UNIT]), empty, class_ids=[1]) == {"mAP@0.5": 0.0, "AP": {1: 0.0}}
    result = evaluate_ava(empty, empty)
    assert np.isnan(result["mAP@0.5"]) and result["AP"] == {}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"detections": one([UNIT])}, "need a score"),
        ({"detections": one([UNIT], [np.nan])}, "1 of 1 rows of detections .* v, second 902"),
        ({"detections": one([UNIT], [-np.inf])}, "1 of 1 rows of detections"),
        ({"detections": one([[0, 0, np.inf, 1]], [0.5])}, "1 boxes of the detections"),
        ({"groundtruth": one([[0, 0, np.nan, 1]])}, "1 boxes of the ground truth"),
        ({"groundtruth": one([UNIT, [0.5, 0, 0.2, 1]], second=7)}, r"1 ground truth boxes .* on v, second 7"),
        ({"class_ids": []}, "no class ids"),
        ({"class_ids": [0, 1]}, "class id 0"),
        ({"evaluation": "activity_net"}, "activitynet"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        evaluate_ava(**{"groundtruth": one([UNIT]), "detections": one([UNIT], [0.5]), **change})


@pytest.mark.parametrize(
    "columns, message",
    [
        (([("v", 1)], [0, 0], [UNIT], [1, 1]), "equal lengths"),
        (([("v", 1)], [0, 0], [UNIT, UNIT], [1, 1], [0.5]), "equal lengths"),
        (([("v", 1)], [1], [UNIT], [1]), "outside 0 to 0"),
        (([("v", 1), ("v", 1)], [1], [UNIT], [1]), "twice"),
    ],
)
def test_columns_must_fit(columns, message):
    with pytest.raises(ValueError, match=message):
        BoxRows(*columns)
