"""AVA's annotation files: rows read as they stand, wrong ones with their line, boxes merged as a dictionary would."""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from slowfast.datasets.ava.key_frames import KeyFrameBoxes
from slowfast.evaluation.ava_files import read_boxes, read_excluded
from slowfast.evaluation.ava_lines import NO_LABEL


def test_annotated_rows(written):
    path = written("a,0902,0.1,0.2,0.3,0.4,80,0\n\nb,903,0.500,0.5,1,1.004,1\r\na,0902,0.1,0.2,0.3,0.4,3,0\n")
    table = read_boxes(path, 80)
    assert [table.names[i] for i in table.videos] == ["a", "b", "a"]
    assert table.seconds.tolist() == [902, 903, 902]
    assert table.boxes.tolist() == [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 1, 1.004], [0.1, 0.2, 0.3, 0.4]]
    assert table.labels.tolist() == [80, 1, 3]
    assert table.lines.tolist() == [1, 3, 4]
    assert table.places([1]) == [f"{path}, line 3: 'b,903,0.500,0.5,1,1.004,1'"]


def test_rows_of_ava_kinetics(written):
    """Fractions of a second, and key frames without persons, as lines of two columns."""
    path = written("a,89.5,0.1,0.2,0.3,0.4,80,0\nb,0092.000\na,0090.000,0.1,0.2,0.3,0.4,80,0\nb,7.25\n")
    table = read_boxes(path, 80)
    assert table.seconds.tolist() == [89.5, 90]
    assert table.empty == [("b", 92), ("b", 7.25)]
    assert (table.names, table.lines.tolist()) == (["a"], [1, 3])
    assert read_boxes(path, 80, 0.5).empty == table.empty  # detections: the last column is a score of 0
    boxes = KeyFrameBoxes([table], ["b", "a"], 80)
    assert list(zip(boxes.video.tolist(), boxes.second.tolist(), strict=True)) == [(1, 89.5), (1, 90)]
    assert [boxes.find(1, second) for second in (89.5, 89, 90)] == [0, -1, 1]


def test_predicted_rows_and_their_scores(written):
    path = written(
        "a,0902,0.1,0.2,0.3,0.4,,0.95\na,0902,0.1,0.2,0.3,0.4,-1,0.9\na,0902,0.1,0.2,0.3,0.4,7,0.91\n"
        "a,0902,0.1,0.2,0.3,0.4,7,0.8999\n"
    )
    assert read_boxes(path, 80, 0.9).labels.tolist() == [NO_LABEL, NO_LABEL, 7]
    assert len(read_boxes(path, 80, 0.0)) == 4


@pytest.mark.parametrize("with_empty", [False, True])
@pytest.mark.parametrize("least", [None, 0.5])
def test_a_wrong_line_changes_no_other(written, least, with_empty):
    """Lines are read together, or one by one where one of them is wrong."""
    draw = random.Random(1)
    rows = []
    for number in range(2000):
        x, y = draw.random() / 2, draw.random() / 2
        label = draw.choice(["1", "80", "+7", " 5"] + (["", "-1"] if least else []))
        rows.append(
            f"v{number // 300} , {902 + number % 9:04d},{x:.3f},{y:.3f},{x + 0.3},{y + 5e-1},{label},{draw.random()}"
        )
    empty = {5: "nobody,902", 900: "v1, 0903.5"}  # key frames without a box, by line
    for number, line in empty.items() if with_empty else ():
        rows.insert(number - 1, line)
    right = read_boxes(written("\n".join(rows)), 80, least)
    other = read_boxes(written("\n".join([*rows, "wrong"]), "other.csv"), 80, least, wrong := [])
    assert len(wrong) == 1
    assert right.empty == other.empty == ([("nobody", 902), ("v1", 903.5)] if with_empty else [])
    assert right.names == other.names == [f"v{i}" for i in range(7)]
    assert (len(right) == 2000) == (least is None)
    assert set(right.lines).isdisjoint(empty) == with_empty
    for column in ("videos", "seconds", "boxes", "labels", "lines"):
        one, two = getattr(right, column), getattr(other, column)
        assert one.dtype == two.dtype
        assert np.array_equal(one, two)
    if least is None:
        assert right.boxes.tolist() == [list(map(float, row.split(",")[2:6])) for row in rows if row.count(",") > 1]


WRONG = [
    ("a,902,0.1,0.2,0.3,0.4,1,0,9", "9 columns"),
    ("a,902,0.1,0.2,0.3,0.4", "6 columns"),
    ("video,second,x1,y1,x2,y2,label", "edge 'x1' is not a number"),
    ("a,9.0.2,0.1,0.2,0.3,0.4,1,0", "second '9.0.2'"),
    (",902", "names no video"),
    (",902,0.1,0.2,0.3,0.4,1,0", "names no video"),
    ("a,902,nan,0.2,0.3,0.4,1,0", "edge nan is not finite"),
    ("a,902,0.1,0.2,inf,0.4,1,0", "edge inf is not finite"),
    ("a,902,0.3,0.2,0.3,0.4,1,0", "no area"),
    ("a,902,0.1,0.5,0.3,0.4,1,0", "no area"),
    ("a,902,-0.006,0.2,0.3,0.4,1,0", "out of the picture"),
    ("a,902,0.1,0.2,0.3,1.01,1,0", "out of the picture"),
    ("a,902,10,20,30,40,1,0", "out of the picture"),
    ("a,902,0.1,0.2,0.3,0.4,81,0", "action_id 81 is outside 1 to 80"),
    ("a,902,0.1,0.2,0.3,0.4,0,0", "action_id 0 is outside"),
    ("a,902,0.1,0.2,0.3,0.4,,0", "action_id '' is not"),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_wrong_lines(written, line, message):
    path = written(f"a,902,0.1,0.2,0.3,0.4,1,0\n{line}\na,904,0.1,0.2,0.3,0.4,2,0\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}, line 2: {line!r}") + f".*{re.escape(message)}"):
        read_boxes(path, 80)
    wrong = []
    assert read_boxes(path, 80, errors=wrong).seconds.tolist() == [902, 904]
    assert len(wrong) == 1
    assert message in wrong[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,902,0.1,0.2,0.3,0.4,1", "7 columns"),
        ("a,902,0.1,0.2,0.3,0.4,1,", "score '' is not a number"),
        ("a,902,0.1,0.2,0.3,0.4,1,17", "score 17 is not from 0 to 1.*GROUNDTRUTH_FILE"),
        ("a,902,0.1,0.2,0.3,0.4,1,nan", "score nan"),
        ("a,902,0.1,0.2,0.1,0.4,1,0.99", "no area"),
    ],
)
def test_wrong_predicted_lines(written, line, message):
    path = written(f"{line}\n")
    with pytest.raises(ValueError, match=f"line 1: .*{message}"):
        read_boxes(path, 80, 0.9)


def test_moments(written):
    assert read_excluded(written("a,0902\n\nb-,1798\n")) == [("a", 902), ("b-", 1798)]
    assert read_excluded(written("")) == []
    for line in ("a", "a,902,1", "a,nine", ",902"):
        with pytest.raises(ValueError, match=f"line 2: {line!r}"):
            read_excluded(written(f"a,902\n{line}\n"))
    with pytest.raises(FileNotFoundError, match="no_such"):
        read_excluded("no_such.csv")


def slow_merge(paths, videos, least):
    """The published loader's way: dictionaries by video, second and box."""
    found = {}
    for path in paths:
        for line in Path(path).read_text().splitlines():
            video, second, *box, label, score = line.strip().split(",")
            if video not in videos or float(score) < least:
                continue
            boxes = found.setdefault((videos.index(video), int(second)), {})
            labels = boxes.setdefault(tuple(map(float, box)), set())
            if label not in ("", "-1"):
                labels.add(int(label))
    return dict(sorted(found.items()))


def test_merged_boxes_against_dictionaries(written):
    draw = random.Random(3)
    paths = []
    for name in ("first.csv", "second.csv"):
        rows = []
        for _ in range(400):
            edge = draw.choice(["0.1", "0.10", "0.2", "0.25"])
            label = draw.choice(["", "-1", "1", "2", "9"])
            video, second = draw.choice("abcd"), draw.randint(902, 909)
            rows.append(
                f"{video},{second:04d},{edge},0.1,0.5,{draw.choice(['0.6', '0.7'])},{label},{draw.random():.3f}"
            )
        paths.append(written("\n".join(rows) + "\n", name))
    videos = ["d", "b", "nobody", "a"]
    wanted = slow_merge(paths, videos, 0.7)
    boxes = KeyFrameBoxes([read_boxes(path, 9, 0.7) for path in paths], videos, 9)
    assert list(zip(boxes.video.tolist(), boxes.second.tolist(), strict=True)) == list(wanted)
    for number, (key, of_key) in enumerate(wanted.items()):
        found, labels = boxes.of(number)
        assert [tuple(box) for box in found.tolist()] == list(of_key)
        assert [{int(c) + 1 for c in np.flatnonzero(row)} for row in labels] == list(of_key.values())
        assert boxes.find(*key) == number
    assert boxes.num_labels == sum(len(labels) for of_key in wanted.values() for labels in of_key.values())
    assert boxes.find(2, 902) == -1
    assert boxes.find(0, 901) == boxes.find(3, 910) == -1


def test_no_box_at_all(written):
    boxes = KeyFrameBoxes([read_boxes(written(""), 9)], ["a"], 9)
    assert len(boxes) == 0
    assert boxes.find(0, 902) == -1
