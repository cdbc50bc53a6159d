"""Copies of videos at another size."""

import os
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from slowfast.apps.prepare.resize import ResizeOptions, resize, resize_set
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.reader import VideoError

SMALL = ResizeOptions(32)


def facts(path):
    with decode.open(str(path)) as video:
        return video.num_frames, video.fps, video.frames([0]).shape[1:3]


@pytest.mark.parametrize(
    "name, codec, rate, shape, size",
    [
        ("h264.mp4", "libx264", 25, (48, 64), (32, 42)),
        ("portrait.mkv", "libx264", 30, (96, 60), (52, 32)),
        ("mpeg4.avi", "mpeg4", 15, (24, 32), (32, 42)),
        ("vp9.webm", "libvpx-vp9", 24, (64, 64), (32, 32)),
    ],
)
def test_every_frame_is_kept_at_the_same_rate(name, codec, rate, shape, size, tmp_path, encode, pictures):
    source = encode(tmp_path / name, pictures(31, *shape), codec, rate=rate, audio=name == "h264.mp4")
    resize(str(source), str(tmp_path / "copies" / "copy.mp4"), SMALL)
    count, fps, found = facts(tmp_path / "copies" / "copy.mp4")
    assert (count, found) == (31, size)
    assert fps == pytest.approx(rate, rel=1e-3)
    with av.open(str(tmp_path / "copies" / "copy.mp4")) as copy:
        assert [stream.codec_context.name for stream in copy.streams] == ["h264"]
    with decode.open(str(source)) as before, decode.open(str(tmp_path / "copies" / "copy.mp4")) as after:
        for number in (0, 15, 30):
            means = [video.frames([number])[0].mean(axis=(0, 1)) for video in (before, after)]
            np.testing.assert_allclose(*means, atol=4)


@pytest.mark.parametrize(
    "name, codec",
    [("a.mp4", "libx264"), ("a.ts", "libx264"), ("a.avi", "libx264"), ("a.wmv", "wmv2"), ("a.webm", "libvpx")],
)
def test_a_copy_of_a_variable_rate_shows_every_frame_at_its_time(name, codec, tmp_path, encode, pictures):
    """A phone that goes from 30 to 10 frames a second in the dark: 3 s, not the 40 / 30 s of its header's rate."""
    stamps = [round(1000 * n / 30) for n in range(15)] + [500 + 100 * n for n in range(25)]
    source = encode(tmp_path / name, pictures(40), codec, pts=stamps, time_base=Fraction(1, 1000))
    resize(str(source), str(tmp_path / "copy.mp4"), SMALL)
    with decode.open(str(source)) as before, decode.open(str(tmp_path / "copy.mp4")) as after:
        assert after.num_frames == 40
        assert after.duration == pytest.approx(before.duration, abs=1e-3)
        assert after.duration == pytest.approx(3.0, abs=0.07)  # how long the last frame lasts is not always stored
        np.testing.assert_allclose(after.times, before.times, atol=1e-4)
        np.testing.assert_allclose(after.times[:38], np.array(stamps[:38]) / 1000, atol=1.1e-3)


def test_a_set_is_resized_once_and_what_changed_again(tmp_path, encode, pictures):
    root, output = tmp_path / "videos", tmp_path / "copies"
    (root / "a class").mkdir(parents=True)
    for name in ("a class/one.mp4", "two.mp4", "two.avi"):
        encode(root / name, pictures(6), "mpeg4" if name.endswith("avi") else "libx264")
    (root / "broken.mp4").write_bytes(b"nothing")
    sources = sorted(str(path) for path in root.rglob("*.*"))

    def resize_all(options=SMALL):
        done = list(resize_set(sources, str(root), str(output), options, 0))
        assert sorted(source for source, _, _ in done) == sources
        copies = {os.path.relpath(copy, output): cause for _, copy, cause in done}
        assert "InvalidData" in copies.pop("broken.mp4")
        assert copies == {"a class/one.mp4": "", "two.mp4.mp4": "", "two.avi.mp4": ""}
        return {copy: (output / copy).stat().st_mtime_ns for copy in copies}

    first = resize_all()
    assert resize_all() == first
    os.utime(root / "two.avi", ns=(1, 1))
    (output / "a class" / "one.mp4").unlink()
    second = resize_all()
    assert {copy for copy in first if first[copy] != second[copy]} == {"two.avi.mp4", "a class/one.mp4"}
    third = resize_all(ResizeOptions(16))
    assert all(third[copy] != second[copy] for copy in second)
    assert not list(output.rglob("*.tmp"))


def test_no_copy_replaces_a_source(tmp_path, encode, pictures):
    root = tmp_path / "videos"
    (root / "in" / "in").mkdir(parents=True)
    sources = [str(encode(root / name, pictures(4))) for name in ("in/a.mp4", "in/in/a.mp4")]
    before = [Path(source).read_bytes() for source in sources]
    with pytest.raises(ValueError, match="in/in/a.mp4 would replace .*in/a.mp4"):
        list(resize_set(sources, str(root / "in"), str(root), SMALL, 0))
    assert [Path(source).read_bytes() for source in sources] == before


def test_what_cannot_be_read_leaves_nothing(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError):
        resize(str(tmp_path / "text.mp4"), str(tmp_path / "copy.mp4"), SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


@pytest.mark.parametrize("wrong", [{"short_side": 255}, {"short_side": 0}, {"quality": 60}, {"key_frames": 0}])
def test_impossible_options(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        ResizeOptions(**wrong)


FOOTAGE = os.environ.get("SLOWFAST_TEST_VIDEOS", "")


@pytest.mark.slow
@pytest.mark.skipif(not FOOTAGE, reason="SLOWFAST_TEST_VIDEOS names no folder of videos")
@pytest.mark.parametrize("name", ["face_noface.mov", "portrait_vp9.mp4", "tree.avi", "cartwheel_non_utf8_metadata.avi"])
def test_real_footage_keeps_frames_and_colors(name, tmp_path):
    source, copy = os.path.join(FOOTAGE, name), str(tmp_path / "copy.mp4")
    resize(source, copy, ResizeOptions(128))
    with decode.open(source) as before, decode.open(copy) as after:
        assert after.num_frames == before.num_frames
        assert after.fps == pytest.approx(before.fps, rel=1e-3)
        middle = before.num_frames // 2
        means = [video.frames([middle])[0].mean(axis=(0, 1)) for video in (before, after)]
        np.testing.assert_allclose(*means, atol=2)


def test_a_full_disk_is_told_with_the_copy(tmp_path, encode, pictures, told_of_limit):
    source = encode(tmp_path / "a.mp4", pictures(60))
    told = told_of_limit(4096, lambda: resize(str(source), str(tmp_path / "out" / "a.mp4"), ResizeOptions(48)))
    assert re.search(r"bytes are free: '.*out/a.mp4'", told), told
    assert os.listdir(tmp_path / "out") == []
