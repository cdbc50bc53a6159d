"""CSV lists of videos, good and bad."""

import pytest

from slowfast.datasets.video_dataset import read_video_list


@pytest.fixture
def listed(written):
    """Function: read a list of this content."""
    return lambda content, *args, **kwargs: read_video_list(written(content, "train.csv"), 10, *args, **kwargs)


def test_lines(listed):
    assert listed("a.mp4 3\nb/c.mp4 0\n") == (["a.mp4", "b/c.mp4"], [3, 0])


def test_paths_with_spaces(listed):
    assert listed("my videos/a b  c.mp4 7\n") == (["my videos/a b  c.mp4"], [7])


@pytest.mark.parametrize("separator", [",", "\t", ";", " ; "])
def test_separator(listed, separator):
    content = f"a, b.mp4{separator}4\n/c d.mp4{separator}5\n"
    assert listed(content, separator) == (["a, b.mp4", "/c d.mp4"], [4, 5])


def test_prefix_leaves_absolute_paths(listed):
    assert listed("a.mp4 1\n/b.mp4 2\n", prefix="/data/k400")[0] == ["/data/k400/a.mp4", "/b.mp4"]


def test_skipped_and_blank_lines_and_windows_ends(listed):
    content = "path label\r\n\r\na.mp4 1\r\n   \r\nb.mp4 2"
    assert listed(content, skip_rows=1) == (["a.mp4", "b.mp4"], [1, 2])


def test_byte_order_mark_and_other_encodings(listed):
    paths, labels = listed(b"\xef\xbb\xbfa.mp4 1\ncaf\xe9.mp4 2\n")
    assert paths == ["a.mp4", "caf\udce9.mp4"]
    assert labels == [1, 2]


@pytest.mark.parametrize(
    "line, message",
    [
        ("a.mp4", "is not 'path label'"),
        ("a.mp4,3", "is not 'path label'"),
        (" 3", "is not 'path label'"),
        ("a.mp4 three", "'three'.*whole number"),
        ("a.mp4 1.5", "'1.5'.*whole number"),
        ("a.mp4 10", "label 10, outside 0 to 9$"),
        ("a.mp4 -1", "label -1, outside 0 to 9"),
    ],
)
def test_bad_lines_are_named(listed, line, message):
    with pytest.raises(ValueError, match=message) as caught:
        listed(f"good.mp4 1\n{line}\n")
    assert "train.csv, line 2" in str(caught.value)
    assert line.strip() in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_list(listed, content):
    with pytest.raises(ValueError, match="train.csv lists no video"):
        listed(content)


def test_missing_list(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.csv.*PATH_TO_DATA_DIR"):
        read_video_list(str(tmp_path / "none.csv"), 10)
