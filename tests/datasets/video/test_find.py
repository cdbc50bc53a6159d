"""Videos of a folder are listed once each, and found by name without a choice between two."""

import os

import pytest

from slowfast.apps.prepare.resize import copy_paths
from slowfast.datasets.video.find import VIDEO_SUFFIXES, by_name, find_videos, stem, video_files


@pytest.fixture
def tree(tmp_path):
    """`tree(*names) -> folder`: a folder of empty files."""

    def make(*names):
        for name in names:
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "root"

    return make


def listed(root, **options):
    return [os.path.relpath(path, root) for path in video_files(str(root), **options)]


def test_files_of_all_folders_in_the_order_of_a_walk(tree):
    root = tree("b.mp4", "b/c/z.MKV", "b/y.mp4", "a/x.webm", "a/.hidden.mp4", ".trash/w.mp4", "a/notes.txt", "a.mpg")
    assert listed(root) == ["a.mpg", "b.mp4", "a/x.webm", "b/y.mp4", "b/c/z.MKV"]
    assert listed(root, without=str(root / "b")) == ["a.mpg", "b.mp4", "a/x.webm"]
    with pytest.raises(FileNotFoundError):
        video_files(str(root / "none"))


def test_links_to_folders_are_followed_once(tree, tmp_path):
    root = tree("walk/001.mp4", "walk/deep/002.mp4")
    (root / "walk" / "self").symlink_to(root / "walk")
    (root / "up").symlink_to("..")
    (root / "again").symlink_to(root / "walk" / "deep")
    (root / "lost").symlink_to(root / "none")
    (tmp_path / "elsewhere" / "x").mkdir(parents=True)
    (tmp_path / "elsewhere" / "x" / "003.mp4").touch()
    (root / "walk" / "far").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    # `up` is read before `walk/far`, which lies below it: each file has one path.
    assert listed(root) == ["up/elsewhere/x/003.mp4", "walk/001.mp4", "walk/deep/002.mp4"]
    linked = tmp_path / "linked"
    linked.symlink_to(root / "walk")
    assert sorted(os.path.basename(path) for path in video_files(str(linked))) == ["001.mp4", "002.mp4", "003.mp4"]


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_every_suffix_is_found_by_name_and_in_lists(tree, suffix):
    root = tree(f"AAAAA{suffix.upper()}", f"BBBBB{suffix}")
    files = [str(root / f"AAAAA{suffix.upper()}"), str(root / f"BBBBB{suffix}")]
    assert video_files(str(root)) == files
    assert find_videos(str(root), ["AAAAA", "BBBBB"]) == files


def test_the_name_of_a_video_has_no_video_suffix():
    assert [stem(path) for path in ("/v/ID.mp4.mkv", "ID", "a.b.TS", ".mp4", "x.mp4/y.txt")] == [
        "ID", "ID", "a.b", ".mp4", "y.txt",
    ]  # fmt: skip


def test_two_files_of_one_name_are_no_choice(tree):
    root = tree("AAAAA.mp4", "AAAAA.webm", "BBBBB.avi", "CCCCC.mp4", "CCCCC.avi", "CCCCC/1.jpg")
    # A folder of frames comes before files, as before.
    assert find_videos(str(root), ["BBBBB", "CCCCC"]) == [str(root / "BBBBB.avi"), str(root / "CCCCC")]
    with pytest.raises(ValueError, match=r"AAAAA\.mp4.*AAAAA\.webm"):
        find_videos(str(root), ["BBBBB", "AAAAA"])


def test_a_link_to_a_file_is_no_second_video(tree):
    root = tree("AAAAA.mp4", "walk/AAAAA.mp4")
    (root / "run").mkdir()
    (root / "run" / "AAAAA.mp4").symlink_to(root / "AAAAA.mp4")
    groups = by_name(video_files(str(root)))
    assert groups == {"AAAAA": [str(root / "AAAAA.mp4"), str(root / "walk" / "AAAAA.mp4")]}


def test_every_copy_has_a_name_of_its_own():
    sources = ["/v/a.mp4", "/v/b.avi", "/v/b.mkv", "/v/b.avi.mp4", "/v/b.avi.mp4.mp4", "/v/walk/a.mp4", "/v/run/a.mp4"]
    copies = copy_paths(sources, "/v", "/c")
    assert len(set(copies.values())) == len(sources)
    assert all(os.path.dirname(copy) == os.path.dirname(source).replace("/v", "/c") for source, copy in copies.items())
    assert copies["/v/a.mp4"] == "/c/a.mp4"
