"""From annotation files and a folder of videos to lists, with an account of what is there."""

import json
import os
from dataclasses import replace

import pytest

from slowfast.apps.prepare.kinetics import KineticsOptions, prepare, resize_folder
from slowfast.apps.prepare.resize import ResizeOptions
from slowfast.datasets.annotations.kinetics import Segment, VideoFolder, chosen_classes, read_segments
from slowfast.datasets.video_dataset import read_video_list

HEADER = "label,youtube_id,time_start,time_end,split"
TRAIN = f"""{HEADER}
"passing American football (in game)",aaaaaaaaaaa,10,20,train
zumba,-b_1_2_3_4b,0,10,train
zumba,ccccccccccc,3,13,train
yoga,ddddddddddd,0,10,train
yoga,eeeeeeeeeee,0,10,train
yoga,eeeeeeeeeee,0,10,train
"""
VALIDATE = f"{HEADER},is_cc\nyoga,fffffffffff,0,10,validate,1\nzumba,ggggggggggg,0,10,val,0\n"
TEST = "youtube_id,time_start,time_end,split\nhhhhhhhhhhh,0,10,test\n"


@pytest.fixture
def written(tmp_path):
    """Function: a file with that text."""

    def write(name, text):
        path = tmp_path / name
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return str(path)

    return write


@pytest.fixture
def options(tmp_path, written, encode, pictures):
    """Annotations of ten segments, of which one is broken, one short and two are missing."""
    videos = tmp_path / "my videos"
    for folder in ("", "zumba", "train/yoga", "val"):
        (videos / folder).mkdir(parents=True, exist_ok=True)
    long, short = encode(tmp_path / "long.mp4", pictures(64)), encode(tmp_path / "short.mp4", pictures(20))
    places = {
        "aaaaaaaaaaa_000010_000020.mp4": long,
        "zumba/-b_1_2_3_4b.webm": long,
        "ccccccccccc_3_13.mkv": short,
        "train/yoga/eeeeeeeeeee_000000_000010.mp4.mkv": long,
        "val/fffffffffff_000000_000010.avi": long,
        "unknown.mp4": short,
        "ggggggggggg_000005_000015.mp4": long,  # another part of the video
    }
    for name, source in places.items():
        os.link(source, videos / name)
    (videos / "ddddddddddd_000000_000010.mp4").write_bytes(b"broken")
    lists = (written("train.csv", TRAIN), written("validate.csv", VALIDATE), written("test.csv", TEST))
    return KineticsOptions(lists, str(videos), str(tmp_path / "out"))


def test_lists_classes_and_coverage(options, tmp_path):
    report = prepare(options)
    videos, out = tmp_path / "my videos", tmp_path / "out"
    assert (out / "classes.txt").read_text() == "passing American football (in game)\nyoga\nzumba\n"
    paths, labels = read_video_list(str(out / "train.csv"), 3)
    assert [os.path.relpath(path, videos) for path in paths] == [
        "aaaaaaaaaaa_000010_000020.mp4",
        "zumba/-b_1_2_3_4b.webm",
        "ccccccccccc_3_13.mkv",
        "train/yoga/eeeeeeeeeee_000000_000010.mp4.mkv",
    ]
    assert labels == [0, 2, 2, 1]
    assert (
        (out / "test.csv").read_text()
        == (out / "val.csv").read_text()
        == f"{videos}/val/fffffffffff_000000_000010.avi 1\n"
    )
    assert report["lists"] == {"train": "train", "val": "val", "test": "val"}
    train = {"annotated": 5, "found": 5, "listed": 4, "missing": 0, "unreadable": 1, "without_label": 0}
    assert report["splits"]["train"] == train | {"annotated_again": 1, "short": 1, "untrimmed": 0}
    assert report["missing"]["val"] == ["ggggggggggg_000000_000010"]
    assert report["missing"]["test"] == ["hhhhhhhhhhh_000000_000010"]
    assert list(report["short"].values()) == [20]
    assert "InvalidData" in report["unreadable"][f"{videos}/ddddddddddd_000000_000010.mp4"]
    assert report["by_class"]["yoga"]["train"] == {"listed": 1, "missing": 0, "unreadable": 1}
    assert report["files_without_annotation"] == 2
    assert json.loads((out / "coverage.json").read_text()) == report


def test_short_counts_time_and_not_frames(options):
    assert len(prepare(replace(options, frames=32, rate=2))["short"]) == 1
    assert len(prepare(replace(options, frames=16, rate=8))["short"]) == 5
    assert prepare(replace(options, probe=False))["short"] == {}


def test_relative_paths_another_separator_and_some_classes(options, written, tmp_path):
    chosen = written("k200.txt", "Zumba\npassing_American_football_in_game\n")
    report = prepare(replace(options, classes=chosen, relative=True, separator=",", test="test"))
    lines = (tmp_path / "out" / "train.csv").read_text().splitlines()
    assert lines == ["aaaaaaaaaaa_000010_000020.mp4,0", "zumba/-b_1_2_3_4b.webm,1", "ccccccccccc_3_13.mkv,1"]
    assert report["lists"] == {"train": "train"}
    assert not (tmp_path / "out" / "test.csv").exists()


def test_resized_copies_are_listed(options, tmp_path):
    copies = tmp_path / "small"
    report = prepare(replace(options, resize=ResizeOptions(32), resized=str(copies)))
    paths, labels = read_video_list(str(tmp_path / "out" / "train.csv"), 3)
    assert labels == [0, 2, 2, 1]
    assert all(path.startswith(f"{copies}/") and os.path.isfile(path) for path in paths)
    assert report["splits"]["train"]["unreadable"] == 1
    assert report["files_without_annotation"] == 2


def test_a_folder_without_annotations_is_resized(options, tmp_path):
    done = resize_folder(replace(options, annotations=(), resize=ResizeOptions(32), resized=str(tmp_path / "small")))
    assert (done["videos"], done["resized"], len(done["unreadable"])) == (8, 7, 1)


def test_copies_among_the_videos_are_no_videos(options, tmp_path):
    """A second start resizes no copy, and copies never take the place of the videos."""
    inside = replace(options, annotations=(), resize=ResizeOptions(32), resized=str(tmp_path / "my videos" / "small"))
    assert resize_folder(inside) == resize_folder(inside)
    assert len(list((tmp_path / "my videos" / "small").rglob("*.mp4"))) == 7
    assert prepare(replace(inside, annotations=options.annotations))["files_without_annotation"] == 2
    for call in (prepare, resize_folder):
        with pytest.raises(ValueError, match="folder of the videos itself"):
            call(replace(options, resize=ResizeOptions(32), resized=options.videos))


def test_labeled_test_videos_make_the_test_list(options, written, tmp_path):
    labeled = written("k400 test.csv", f"{HEADER}\nyoga,ggggggggggg,5,15,test\n")
    assert prepare(replace(options, annotations=(*options.annotations, labeled)))["lists"]["test"] == "test"
    assert "ggggggggggg_000005" in (tmp_path / "out" / "test.csv").read_text()
    assert prepare(replace(options, annotations=(*options.annotations, labeled), test="val"))["lists"]["test"] == "val"


def test_nothing_found_says_how_files_should_be_called(options, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds 0 video files.*none of the 8.*aaaaaaaaaaa_000010_000020.mp4"):
        prepare(replace(options, videos=str(tmp_path / "empty")))


def test_of_several_files_the_one_in_folders_of_class_and_split(tmp_path):
    segment = Segment("aaaaaaaaaaa", 5.0, 15.0, "val", "making tea")
    for folder in ("train/making_tea", "val/Making-Tea", "val/yoga"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "aaaaaaaaaaa.mp4").touch()
    assert VideoFolder(str(tmp_path)).find(segment) == str(tmp_path / "val/Making-Tea/aaaaaaaaaaa.mp4")
    (tmp_path / "aaaaaaaaaaa_000005_000015.mkv").touch()
    assert VideoFolder(str(tmp_path)).find(segment) == str(tmp_path / "aaaaaaaaaaa_000005_000015.mkv")


@pytest.mark.parametrize(
    "line, message",
    [
        ("yoga,aaaaaaaaaaa,10,20", "has 4 columns, where the header has 5"),
        ("yoga,,10,20,train", "has '' for a youtube_id"),
        ("yoga,../a,10,20,train", "for a youtube_id"),
        ("yoga,aaaaaaaaaaa,ten,20,train", "has 'ten' for time_start"),
        ("yoga,aaaaaaaaaaa,nan,20,train", "has 'nan' for time_start"),
        ("yoga,aaaaaaaaaaa,20,10,train", "ends at 10 s, not after its start at 20 s"),
        (",aaaaaaaaaaa,10,20,train", "has no label"),
        ("yoga,aaaaaaaaaaa,10,20,trian", "has split 'trian'"),
    ],
)
def test_wrong_lines_are_named(line, message, written):
    path = written("train.csv", f"{HEADER}\nyoga,aaaaaaaaaaa,10,20,train\n{line}\n")
    with pytest.raises(ValueError, match=message) as caught:
        read_segments(path)
    assert f"{path}, line 3: {line!r}" in str(caught.value)
    wrong = []
    assert len(read_segments(path, errors=wrong)) == 1
    assert wrong == [str(caught.value)]


@pytest.mark.parametrize("text", ["", "yoga,aaaaaaaaaaa,10,20,train\n", "label,youtube_id\n"])
def test_a_header_is_needed(text, written):
    with pytest.raises(ValueError, match="line 1: .*lacks"):
        read_segments(written("train.csv", text))


def test_the_split_comes_from_the_column_or_the_name(written):
    text = "youtube_id,time_start,time_end,label\na,0,10,yoga\n"
    assert read_segments(written("kinetics_700_validate.csv", text))[0].split == "val"
    with pytest.raises(ValueError, match="name does not tell it"):
        read_segments(written("all.csv", text))


@pytest.mark.parametrize(
    "text, message",
    [("yoga\ntango\n", "line 2: 'tango' is none"), ("yoga\nYoga\n", "line 2: .*again"), ("\n", "no class")],
)
def test_wrong_class_files(text, message, written):
    with pytest.raises(ValueError, match=message):
        chosen_classes(written("classes.txt", text), ["yoga", "zumba"])
