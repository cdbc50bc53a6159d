"""The annotation files of Charades' authors."""

import csv

import numpy as np
import pytest

from slowfast.datasets.charades import AnnotatedVideo, read_annotations

HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
LINES = [
    '46GP8,HR43,Kitchen,6,7,Yes,"He cooks, ""eats""",food;stove,He cooks.,c092 11.90 21.20;c147 0.00 12.60,24.83\n',
    'N11GT,0KZ7,Stairs,,7,No,"Two\nlines",,,,18.33\n',
    "0IH69,5LNZ,Den,6,6,Yes,x,,,c000 0.00 3,30\n",
]


@pytest.fixture
def write(written):
    """Function: write these lines below a header, and return the path."""
    return lambda lines, header=HEADER: written(header + "".join(lines), "Charades_v1_train.csv")


def test_published_lines(write):
    videos = read_annotations(str(write(LINES)), 157)
    assert [video.name for video in videos] == ["46GP8", "N11GT", "0IH69"]
    assert [video.length for video in videos] == [24.83, 18.33, 30]
    assert videos[0].actions.tolist() == [[92, 11.9, 21.2], [147, 0, 12.6]]
    assert videos[1].actions.shape == (0, 3)
    assert videos[1].spans(np.arange(24)).shape == (0, 3)


def test_columns_in_another_order(write):
    (video,) = read_annotations(str(write(["9.5,c001 1.0 2.0,A,?\n"], "length,actions,id,more\n")), 2)
    assert (video.name, video.length, video.actions.tolist()) == ("A", 9.5, [[1, 1, 2]])


@pytest.mark.parametrize("fps", [24, 30, 29.97, 7])
def test_frames_whose_time_an_action_holds(fps):
    rng = np.random.default_rng(0)
    # Times that are whole frames as well as such that are not.
    start = np.where(rng.random(60) < 0.5, rng.integers(0, 90, 60) / fps, rng.random(60).round(2) * 3)
    end = start + np.where(rng.random(60) < 0.5, rng.integers(0, 30, 60) / fps, rng.random(60).round(2))
    video = AnnotatedVideo("v", np.stack([np.arange(60), start, end], 1), 10.0)
    spans = video.spans(np.arange(400) / fps)
    shown = {(int(c), i) for c, first, last in spans for i in range(first, last + 1)}
    assert shown == {(c, i) for c in range(60) for i in range(400) if start[c] <= i / fps <= end[c]}
    assert all(first <= last for _, first, last in spans)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("X,,,,,,,,,c157 0 1,5\n", "class 157, outside 0 to 156"),
        ("X,,,,,,,,,c1 0,5\n", "action 'c1 0'"),
        ("X,,,,,,,,,92 0 1,5\n", "action '92 0 1'"),
        ("X,,,,,,,,,c092 2.0 1.0,5\n", "ends before it starts"),
        ("X,,,,,,,,,c092 nan 1.0,5\n", "action 'c092 nan 1.0'"),
        ("X,,,,,,,,,c092 0 1,long\n", "length 'long'"),
        ("X,,,,,,,,,c092 0 1,0\n", "length '0'"),
        ("X,,,,,,,,,c092 0 1,inf\n", "length 'inf'"),
        ("X,,,,,,,,,c092 0 1,1e15\n", "length '1e15'.* up to 86400"),
        ("X,,,,,,,,,c092 0 1,1e308\n", "length '1e308'"),
        ("X,,,,,,,,,c092 0 1\n", "10 fields"),
        (",,,,,,,,,c092 0 1,5\n", "names no video"),
        ("../X,,,,,,,,,c092 0 1,5\n", "names no video"),
        ("46GP8,,,,,,,,,c092 0 1,5\n", "which an earlier line has too"),
    ],
)
def test_wrong_lines(write, line, cause):
    path = write([*LINES[:2], line, LINES[2]])  # the second of them takes two lines
    with pytest.raises(ValueError, match=cause) as caught:
        read_annotations(str(path), 157)
    row = ",".join(next(csv.reader([line])))
    assert str(caught.value).startswith(f"{path}, line 5: {row!r}")
    wrong = []
    assert len(read_annotations(str(path), 157, wrong)) == 3
    assert wrong == [str(caught.value)]


def test_a_quote_that_never_ends(write):
    path = write([LINES[0], 'X,,,,,,"no end,,,c092 0 1,5\n', LINES[2]])
    with pytest.raises(ValueError, match=r"line 3: 'X,.* does not parse"):
        read_annotations(str(path), 157)
    wrong = []
    assert [video.name for video in read_annotations(str(path), 157, wrong)] == ["46GP8"]
    assert len(wrong) == 1


def test_wrong_files(write, tmp_path):
    with pytest.raises(FileNotFoundError, match="no annotation file"):
        read_annotations(str(tmp_path / "none.csv"), 157)
    with pytest.raises(ValueError, match="line 1: 'id,actions' names no column length"):
        read_annotations(str(write([], "id,actions\n")), 157)
    with pytest.raises(ValueError, match="lists no video"):
        read_annotations(str(write([])), 157)
