"""Reading and writing AVA's CSV files."""

import csv
import os
import time

import numpy as np
import pytest

from slowfast.evaluation import evaluate_ava, evaluate_ava_files
from slowfast.evaluation.ava import BoxRows
from slowfast.evaluation.ava_files import (
    read_detections,
    read_excluded,
    read_groundtruth,
    write_detections,
    write_groundtruth,
)
from slowfast.evaluation.ava_lines import Rules, _read_at_once, _read_by_line

LINES = ["a,0902,0.1,0.2,0.5,0.6,3,0.25", "b c,903,-0.004,0,1e0,.75,80,0.5"]


def listed(rows):
    """Return the rows as tuples."""
    scores = [None] * len(rows) if rows.scores is None else rows.scores.tolist()
    columns = (rows.key_frame.tolist(), rows.boxes.tolist(), rows.classes.tolist(), scores)
    return [(*rows.key_frames[k], *box, c, s) for k, box, c, s in zip(*columns, strict=True)]


@pytest.fixture
def written(tmp_path):
    def write(*lines, end="\n"):
        path = tmp_path / "boxes.csv"
        path.write_bytes("".join(line + end for line in lines).encode("utf-8", "surrogateescape"))
        return path

    return write


EXPECTED = [("a", 902, 0.1, 0.2, 0.5, 0.6, 3, 0.25), ("b c", 903, -0.004, 0.0, 1.0, 0.75, 80, 0.5)]


@pytest.mark.parametrize(
    "lines, end",
    [
        (LINES, "\n"),
        (LINES, "\r\n"),
        (["", LINES[0], "   ", LINES[1], ""], "\n"),
        (["\ufeff" + LINES[0], LINES[1]], "\n"),
        ([" , ".join(LINES[0].split(",")).replace(" ", "", 1), '"b c"' + LINES[1][3:]], "\n"),
        ([LINES[0].replace("0902", "9_02"), LINES[1]], "\n"),
    ],
)
def test_lines_that_read(written, lines, end):
    assert listed(read_detections(written(*lines, end=end))) == EXPECTED


def test_the_eighth_column(written):
    both = written("a,1,0,0,1,1,1", "a,1,0,0,1,1,1,0.5")
    assert read_detections(both).scores.tolist() == [1.0, 0.5]
    without = written("a,1,0,0,1,1,1")
    assert read_detections(without).scores.tolist() == [1.0]
    with_name = written("a,1,0,0,1,1,1,somebody")
    assert listed(read_groundtruth(with_name)) == [("a", 1, 0.0, 0.0, 1.0, 1.0, 1, None)]


def test_an_empty_file(written):
    assert len(read_detections(written())) == len(read_groundtruth(written("  "))) == 0
    assert read_excluded(written()) == []


def test_seconds_are_numbers(written):
    assert read_excluded(written("a,0902", "", "a,902", "b,7")) == [("a", 902), ("a", 902), ("b", 7)]
    assert read_detections(written("a,0902,0,0,1,1,1,1", "a,902,0,0,1,1,1,1")).key_frames == [("a", 902)]


def test_seconds_with_fractions(written):
    """A key frame is the same however its second is written, and another one from a microsecond on."""
    seconds = ["0902", "902.000", "902.5", "0902.500", "902.1", "902.0000004", "902.000001", "9025e-1", "0.1"]
    rows = read_groundtruth(written(*(f"a,{second},0,0,1,1,1" for second in seconds)))
    assert rows.key_frames == [("a", 902), ("a", 902.5), ("a", 902.1), ("a", 902.000001), ("a", 0.1)]
    assert rows.key_frame.tolist() == [0, 0, 1, 1, 2, 0, 3, 1, 4]
    excluded = read_excluded(written(*(f"a,{second}" for second in seconds)))
    assert [rows.key_frames.index(key) for key in excluded] == rows.key_frame.tolist()


def test_key_frames_without_a_box(written, tmp_path):
    path = written("c,0004.500", "a,902,0,0,1,1,1,0", "b,902", "a,0902.000")
    rows = read_groundtruth(path)
    assert rows.key_frames == [("a", 902), ("c", 4.5), ("b", 902)]
    assert len(rows) == 1
    write_groundtruth(tmp_path / "again.csv", rows)
    assert (tmp_path / "again.csv").read_text() == "a,0902,0.0,0.0,1.0,1.0,1\nc,0004.5\nb,0902\n"
    assert read_groundtruth(tmp_path / "again.csv").key_frames == rows.key_frames
    assert len(read_detections(path)) == 1


@pytest.mark.parametrize(
    "line, message",
    [
        ("a,902,0,0,1,1", "6 columns"),
        ("a,902,0,0,1,1,1,1,1", "9 columns"),
        ("a,902,0,x,1,1,1,1", "edge 'x' is not a number"),
        ("a,9O2,0,0,1,1,1,1", "second '9O2' is not a number"),
        ("a,nan,0,0,1,1,1,1", "second nan is not a number"),
        ("a,inf,0,0,1,1,1,1", "second inf is beyond"),
        (",902", "names no video"),
        ("a,902,1", "3 columns"),
        ("a,902,0,0,1,1,1.0,1", "class '1.0' is not a whole number"),
        ("a,902,0,0,1,1,0,1", "class 0: classes are counted from 1"),
        ("a,902,0,0,1,1,-1,1", "class -1: classes are counted from 1"),
        ("a,902,0,0,1,1,,1", "class '' is not a whole number"),
        ("a,902,0,0,1,1,1,", "score '' is not a number"),
        ("a,902,0,0,1,True,1,1", "edge 'True' is not a number"),
        ("a,99999999999999999999,0,0,1,1,1,1", "beyond 2147483647"),
        ("a,902,0,0,1,1,9999999999,1", "beyond 2147483647"),
        ("a,902,0,nan,1,1,1,1", "finite"),
        ("a,902,0,0,1,inf,1,1", "finite"),
        ("a,902,0,0,1,1,1,nan", "score nan is not finite"),
        ("a,902,0,0,1,1,1,-inf", "score -inf is not finite"),
        ("a,902,0,0,1,1,1,1e999", "score 1e999 is not finite"),
    ],
)
def test_a_wrong_line_is_named(written, line, message):
    path = written(LINES[0], "", line, LINES[1])
    with pytest.raises(ValueError, match=message) as error:
        read_detections(path)
    assert f"{path}, line 3: {line!r}" in str(error.value)


ODD_CELLS = [
    "",
    '"',
    '"1"',
    '"q,1"',
    '"x""y"',
    "True",
    "1_0",
    "٣",
    "\x1c1",
    "\0",
    "inf",
    "nan",
    "1e-400",
    "0x1",
    "NA",
    " 1 ",
]


def test_a_file_reads_the_same_at_once_and_line_by_line(tmp_path):
    """pandas takes a column of True for numbers, and lets a stray quote swallow the lines below."""
    generator = np.random.default_rng(0)
    path, read_at_once = str(tmp_path / "boxes.csv"), 0
    for rules in (Rules(9, None), Rules(9, 0.5), Rules(None, None), Rules(None, -np.inf)) * 80:
        rows = [["ab"[n % 2], "0902", "0.1", "0.2", "0.5", "0.9", str(n + 1), "0.75"] for n in range(3)]
        # The last column of annotations is a person, and ignored.
        columns = 7 if rules.least_score is None else 8
        for _ in range(generator.integers(0, 3)):
            row, column = generator.integers(3), generator.integers(columns)
            rows[row][column] = ODD_CELLS[generator.integers(len(ODD_CELLS))]
        lines = [",".join(row) + "\n" for row in rows]
        (tmp_path / "boxes.csv").write_text("".join(lines))
        found = _read_at_once(path, lines[0], rules)
        if found is not None:
            read_at_once += 1
            expected = _read_by_line(path, rules, None)
            assert found.names == expected.names
            for one, other in zip(found[1:7], expected[1:7], strict=True):
                assert np.array_equal(one, other)
    assert read_at_once > 80
    for column in (2, 7):
        cells = LINES[0].split(",")
        cells[column] = "True"
        (tmp_path / "boxes.csv").write_text(",".join(cells) + "\n")
        with pytest.raises(ValueError, match=r"line 1: .*'True' is not a number"):
            read_detections(path)


def test_other_wrong_lines(written):
    path = written(LINES[0], "a,902,0.5,0,0.4,1,1,1")
    assert len(read_detections(path)) == 2
    with pytest.raises(ValueError, match="line 2: 'a,902,0.5,0,0.4,1,1,1': .*x1 <= x2"):
        read_groundtruth(path)
    with pytest.raises(ValueError, match="line 2: 'a,902,3': it is not video,second"):
        read_excluded(written("a,902", "a,902,3"))
    with pytest.raises(ValueError, match="boxes.csv, line 2: .*does not parse"):
        read_detections(written(LINES[0], '"' + LINES[0]))
    with pytest.raises(FileNotFoundError):
        read_groundtruth("nowhere.csv")


def random_boxes(count, dtype, seed=0):
    generator = np.random.default_rng(seed)
    key_frames = [('v,1 "x"', 902), ("w", 7), ("ü\udce4", 12345), ("without boxes", 1)]
    boxes = np.repeat(generator.random((count // 3 + 1, 4)), 3, axis=0)[:count]
    boxes[:, 2:] += boxes[:, :2]
    place = generator.integers(0, 3, count)
    return BoxRows(key_frames, place, boxes, generator.integers(1, 9, count), generator.random(count).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_written_boxes_read_back_to_the_last_bit(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr("slowfast.evaluation.ava_files._LINES_AT_A_TIME", 64)
    rows = random_boxes(200, dtype)
    path = tmp_path / "new" / "detections.csv"
    write_detections(path, rows)
    back = read_detections(path)
    assert [row[:7] for row in listed(back)] == [row[:7] for row in listed(rows)]
    assert (back.scores.astype(dtype) == rows.scores).all()
    write_groundtruth(path, rows)
    assert [row[:7] for row in listed(read_groundtruth(path))] == [row[:7] for row in listed(rows)]
    assert os.listdir(path.parent) == ["detections.csv"]
    result = evaluate_ava(rows, back)
    assert result == evaluate_ava(rows, rows) and result["mAP@0.5"] > 0


def test_the_official_form(tmp_path):
    rows = BoxRows([("v", 902)], [0], [[0.1, 0.2, 0.3, 0.5]], [12], np.array([4.0]))
    write_groundtruth(tmp_path / "truth.csv", rows)
    assert (tmp_path / "truth.csv").read_text() == "v,0902,0.1,0.2,0.3,0.5,12,4\n"
    write_detections(tmp_path / "found.csv", rows)
    assert (tmp_path / "found.csv").read_text() == "v,0902,0.1,0.2,0.3,0.5,12,4.0\n"
    rows.scores = None
    write_groundtruth(tmp_path / "truth.csv", rows)
    assert (tmp_path / "truth.csv").read_text() == "v,0902,0.1,0.2,0.3,0.5,12\n"
    with pytest.raises(ValueError, match="need a score"):
        write_detections(tmp_path / "found.csv", rows)


@pytest.mark.slow
def test_at_most_6_microseconds_a_detection(tmp_path):
    generator = np.random.default_rng(0)
    key_frames, classes = 500, 80
    lines = {"truth.csv": [], "found.csv": []}
    for number in range(key_frames):
        place = [f"v{number // 50}", f"{902 + number % 50:04d}"]
        for person in range(3):
            corner = generator.random(2) * 0.5
            box = np.round(np.concatenate([corner, corner + 0.3]), 3).tolist()
            lines["truth.csv"] += [[*place, *box, c, person] for c in generator.choice(80, 2, replace=False) + 1]
            scores = np.round(generator.random(classes), 4).tolist()
            lines["found.csv"] += [[*place, *box, c + 1, score] for c, score in enumerate(scores)]
    for name, rows in lines.items():
        with open(tmp_path / name, "w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        evaluate_ava_files(tmp_path / "truth.csv", tmp_path / "found.csv", class_ids=range(1, classes + 1))
        seconds.append(time.process_time() - started)
    assert min(seconds) / len(lines["found.csv"]) < 6e-6
