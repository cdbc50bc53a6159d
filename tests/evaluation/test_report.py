"""Reports of predictions: tables and files."""

import csv
from pathlib import Path

import numpy as np
import pytest

from slowfast.evaluation.ava import BoxRows
from slowfast.evaluation.ava_files import read_excluded, read_groundtruth
from slowfast.evaluation.predictions import BoxPredictions, ClassificationPredictions
from slowfast.evaluation.report import Report, read_class_names

AVA = Path(__file__).parents[1] / "fixtures" / "ava_small"


def predictions(classes=5, videos=60, steps=4, several=False):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, videos)
    if several:
        labels = (generator.random((videos, classes)) < 0.2).astype(np.float32)
    read = generator.random((videos, steps, classes)).astype(np.float32)
    names = [f"{number}.mp4" for number in range(videos)]
    return ClassificationPredictions(read.sum(axis=1), labels, names, read, {"max": read.max(axis=1)})


def boxes():
    truth = BoxRows([("v", 902)], [0, 0], [[0, 0, 0.5, 1], [0.5, 0, 1, 1]], [1, 2])
    return BoxPredictions([("v", 902)], [0, 0], truth.boxes, np.array([[0.9, 0.1], [0.2, 0.6]]), [1, 2], truth)


def test_report_of_ava_counts_what_is_measured():
    truth = read_groundtruth(AVA / "groundtruth.csv")
    excluded = read_excluded(AVA / "excluded.csv")
    truth.scores = np.ones(len(truth))
    report = Report.from_ava(truth, truth, excluded, {1: "bend", 99: "nothing"})
    counted = sum(key not in excluded for key in (truth.key_frames[k] for k in truth.key_frame[truth.classes == 1]))
    assert report.classes[["class", "samples"]].values.tolist() == [["bend", counted], ["nothing", 0]]
    assert report.metrics["ava_classes"] == 1
    assert "nan" in report.format(per_class=True)
    with pytest.raises(ValueError, match="no class has a ground truth box"):
        Report.from_ava(truth, truth, excluded, {99: "nothing"})


def test_several_labels_and_boxes_have_no_confusion(tmp_path):
    report = Report.from_predictions(predictions(several=True), dict(enumerate("abcde")))
    assert report.classes["class"].tolist() == list("abcde")
    assert [Path(path).name for path in report.write(str(tmp_path))] == ["metrics.json", "classes.csv"]
    with open(tmp_path / "classes.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["AP"]) for row in rows] == pytest.approx(report.classes["value"].tolist())
    report = Report.from_predictions(boxes())
    assert report.metrics == {"ava_map": 1.0, "ava_classes": 2, "ava_evaluation": "pyslowfast"}
    assert report.confusion is None


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("map.pbtxt", 'item {\n name: "run"\n id: 4\n}\n', {4: "run"}),
        ("names.json", '{"run": 1, "sit": 0}', {1: "run", 0: "sit"}),
        ("names.json", '["sit", "run"]', {0: "sit", 1: "run"}),
        ("names.json", '{"run": "1", "sit": 0.0}', {1: "run", 0: "sit"}),
        ("names.txt", "sit\n\nrun fast\n", {0: "sit", 1: "run fast"}),
        ("names.txt", "sit\x1cstill\r\nrun\u2028fast\r\n", {0: "sit\x1cstill", 1: "run\u2028fast"}),
    ],
)
def test_class_names(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert read_class_names(str(tmp_path / name)) == expected


def test_class_names_are_no_formulas_in_files_for_people(tmp_path):
    """A program that drops one leading apostrophe has the names as they were."""
    names = dict(enumerate(["=cmd|' /C calc'!A0", "@SUM(1)", "-1.5", "'quoted", 'two\nlines, "quoted" \x1b\udcff']))
    report = Report.from_predictions(predictions(), names)
    report.write(str(tmp_path))
    with open(tmp_path / "classes.csv", newline="", errors="surrogateescape") as stream:
        cells = [row["class"] for row in csv.DictReader(stream)]
    with open(tmp_path / "confusion.csv", newline="", errors="surrogateescape") as stream:
        head, *lines = csv.reader(stream)
    assert head[1:] == [line[0] for line in lines] == cells
    assert cells == ["'=cmd|' /C calc'!A0", "'@SUM(1)", "-1.5", "''quoted", names[4]]
    assert [cell.removeprefix("'") for cell in cells] == list(names.values())
    printed = report.format(per_class=True)
    assert "\x1b" not in printed and r"two\nlines" in printed


@pytest.mark.parametrize("names", [{0: "zero"}, dict(enumerate("abcdef")), dict(enumerate("abcde", start=1))])
def test_class_names_of_another_number_are_refused(names):
    with pytest.raises(ValueError, match=f"{len(names)} class names for 5 classes"):
        Report.from_predictions(predictions(), names)


def test_boxes_may_have_names_of_more_classes():
    report = Report.from_predictions(boxes(), {1: "stand", 2: "sit", 3: "run"})
    assert report.classes["class"].tolist() == ["stand", "sit"]
    with pytest.raises(ValueError, match="class number 2 has none"):
        Report.from_predictions(boxes(), {1: "stand", 3: "run"})


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "3", "null", '"abc"', '{"run": "x"}', '{"run": 1e400}', '{"run": NaN}', '{"run": null}'),
        *('{"run": -1}', '{"run": 1.5}', '{"run": true}', '{"run": [1]}', '["run", ["sit"]]', '["run", null]'),
        *('{"run": 1, "sit": 1}', '{"run": 1, "run": 2}', '{"run": ' + "9" * 5000 + "}", "[" * 10_000),
    ],
)
def test_class_names_that_do_not_read(tmp_path, text):
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(ValueError, match=r"names\.json") as error:
        read_class_names(str(tmp_path / "names.json"))
    assert type(error.value) is ValueError and len(str(error.value).splitlines()) == 1


def test_class_names_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="class names"):
        read_class_names(str(tmp_path / "missing.txt"))
