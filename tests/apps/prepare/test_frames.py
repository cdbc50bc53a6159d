"""Frames of videos at a rate, and lists of them; real commands write them, the reader of lists reads them."""

import json
import os
import re
import shutil
from fractions import Fraction

import cv2
import numpy as np
import pytest

from slowfast.apps.prepare.extract_frames import ExtractOptions, at_rate, extract
from slowfast.apps.prepare.frames import FORMATS, prepare_frames, with_overrides
from slowfast.datasets.annotations.frame_list import read_frame_list
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.in_order import frames_in_order
from slowfast.datasets.video.pyav import PyAVReader
from slowfast.datasets.video.reader import VideoError

CHARADES = """id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length
AAAAA,S1,Kitchen,6,7,Yes,a,b,c,c001 0.20 0.61;c012 0.50 0.55,1.00
BBBBB,S1,Kitchen,6,7,Yes,a,b,c,,1.00
CCCCC,S1,Kitchen,6,7,Yes,a,b,c,c003 0.00 1.00,9.00
"""


def numbers_at(seconds, options):
    """Return the indices of the frames that the images show."""

    class Timed:
        def __init__(self, number, time):
            self.number, self.seconds = number, time

    return [frame.number for frame in at_rate([Timed(n, t) for n, t in enumerate(seconds)], options)]


@pytest.mark.parametrize("source", [12, 24, 25, Fraction(30000, 1001), 60])
@pytest.mark.parametrize("fps", [12.0, 24.0, 30.0])
@pytest.mark.parametrize("start, end", [(0.0, float("inf")), (0.5, 1.5), (0.5, 9.0)])
def test_images_show_what_is_on_screen(source, fps, start, end):
    """Image k shows the last frame that, to the nearest image, has begun; a slow, obvious search finds the same."""
    times = [Fraction(n) / source for n in range(int(2 * source))]
    found = numbers_at([float(t) for t in times], ExtractOptions(fps, start, end))
    length = len(times) / Fraction(source)
    last = min(length, Fraction(end) if end < 9 else length)
    count = int((last - Fraction(start)) * Fraction(fps) + Fraction(1, 2))
    first = Fraction(start)
    slow = [
        max((n for n, t in enumerate(times) if int((t - first) * Fraction(fps) + 1000 + Fraction(1, 2)) - 1000 <= k))
        for k in range(count)
    ]
    assert found == slow


def test_a_gap_is_filled_and_jitter_is_not():
    assert numbers_at([0.0, 0.1, 0.4, 0.5], ExtractOptions(10.0)) == [0, 1, 1, 1, 2, 3]
    assert numbers_at([0.004, 0.097, 0.203, 0.298], ExtractOptions(10.0)) == [0, 1, 2, 3]
    assert numbers_at([], ExtractOptions(10.0)) == []
    assert numbers_at([0.0, 0.1], ExtractOptions(10.0, start=5.0)) == []
    assert numbers_at([0.0, 0.1, 0.2], ExtractOptions(0.0, start=0.1)) == [1, 2]


@pytest.fixture
def videos(tmp_path, encode, pictures):
    """Charades' annotations, and a folder with two videos of three, of a second each."""
    folder = tmp_path / "videos" / "deep"
    folder.mkdir(parents=True)
    encode(folder / "AAAAA.mp4", pictures(30), rate=30)
    encode(folder / "BBBBB.mp4", pictures(25, 47, 65, seed=1), "mpeg4", rate=25)
    encode(folder / "CCCCC.mp4", pictures(24), rate=24)
    (tmp_path / "Charades_v1_train.csv").write_text(CHARADES)
    return tmp_path


def prepare(folder, fmt="charades", annotations=("Charades_v1_train.csv",), options=None, **given):
    options = options or with_overrides(fmt, **given)
    paths = [str(folder / name) for name in annotations]
    where = [str(folder / name) for name in ("videos", "frames", "lists")]
    return prepare_frames(fmt, options, paths, *where, 0)


def test_charades_has_a_list_with_the_labels_of_every_frame(videos):
    report = prepare(videos)
    assert report.images == {"AAAAA": 24, "BBBBB": 24, "CCCCC": 24}
    assert report.failed == {}
    assert list(report.odd) == ["CCCCC"]
    assert "9 s" in report.odd["CCCCC"]
    lines = (videos / "lists" / "train.csv").read_text().splitlines()
    assert lines[0] == "original_vido_id video_id frame_id path labels"
    assert lines[1 + 12] == 'AAAAA 0 12 AAAAA/AAAAA-000013.jpg "1,12"'
    frames = read_frame_list(str(videos / "lists" / "train.csv"), str(videos / "frames"), 157)
    assert frames.videos == ["AAAAA", "BBBBB", "CCCCC"]
    # Frame n is at n / 24 s: 0.20 to 0.61 s holds frames 5 to 14, 0.50 to 0.55 s frames 12 and 13.
    assert sorted(map(tuple, frames.spans(0).tolist())) == [(1, 5, 14), (12, 12, 13)]
    for video in range(3):
        assert all(os.path.isfile(path) for path in frames.paths(video))


def test_images_are_the_frames(videos):
    prepare(videos, fps=0.0, fmt="ava", annotations=(), start=0.0)
    with decode.open(str(videos / "videos" / "deep" / "BBBBB.mp4")) as video:
        assert video.num_frames == 25
        for number in (0, 12, 24):
            image = cv2.imread(str(videos / "frames" / "BBBBB" / f"BBBBB_{number + 1:06d}.jpg"))[..., ::-1]
            truth = video.frames([number])[0]
            assert image.shape == truth.shape == (47, 65, 3) or image.shape == truth.shape
            assert np.abs(image.astype(int) - truth).mean() < 4


def test_finished_videos_are_kept_and_changed_ones_made_again(videos):
    def stamps():
        prepare(videos)
        return {p.parent.name: p.stat().st_mtime_ns for p in (videos / "frames").glob("*/*-000001.jpg")}

    first = stamps()
    assert stamps() == first
    os.utime(videos / "videos" / "deep" / "AAAAA.mp4", ns=(1, 1))
    (videos / "frames" / "CCCCC" / "CCCCC-000003.jpg").unlink()
    second = stamps()
    assert {name for name in first if first[name] != second[name]} == {"AAAAA", "CCCCC"}
    prepare(videos, short_side=24)
    assert cv2.imread(str(videos / "frames" / "AAAAA" / "AAAAA-000001.jpg")).shape[:2] == (24, 32)
    assert not list((videos / "frames").glob(".*.tmp"))


def test_folders_of_others_are_left_alone(videos):
    (videos / "frames" / "AAAAA").mkdir(parents=True)
    (videos / "frames" / "AAAAA" / "mine.jpg").touch()
    assert "was not made by this command" in prepare(videos).failed["AAAAA"]
    assert [path.name for path in (videos / "frames" / "AAAAA").iterdir()] == ["mine.jpg"]


def test_videos_that_are_missing_or_broken_have_no_frames(videos):
    deep = videos / "videos" / "deep"
    (deep / "AAAAA.mp4").unlink()
    (deep / "BBBBB.mp4").write_bytes(b"nothing")
    report = prepare(videos)
    assert list(report.images) == ["CCCCC"]
    assert "it is not in" in report.failed["AAAAA"]
    assert "InvalidData" in report.failed["BBBBB"]
    assert not (videos / "frames" / "BBBBB").exists()
    shutil.rmtree(deep)
    with pytest.raises(ValueError, match="holds no video file"):
        prepare(videos)


def test_ava_starts_in_the_middle_and_counts_key_frames(videos, encode, pictures):
    encode(videos / "videos" / "film.mp4", pictures(90), rate=30)
    (videos / "ava_val_v2.2.csv").write_text("film,0902,0.1,0.1,0.5,0.5,12,0\nfilm,0902,0.1,0.1,0.5,0.5,17,0\n")
    report = prepare(videos, "ava", ["ava_val_v2.2.csv"], start=1.0, end=2.5)
    assert report.images == {"film": 45}
    assert "last key frame is 898 s after" in report.odd["film"]
    frames = read_frame_list(str(videos / "lists" / "val.csv"), str(videos / "frames"))
    assert len(frames.paths(0)) == 45
    truth = decode.open(str(videos / "videos" / "film.mp4")).frames([30])[0]
    assert np.abs(cv2.imread(frames.paths(0)[0])[..., ::-1].astype(int) - truth).mean() < 4
    published = FORMATS["ava"].options
    assert (published.end - published.start) * published.fps == 27030


def test_ssv2_lists_have_no_labels(videos, encode, pictures):
    (videos / "something-something-v2-validation.json").write_text(json.dumps([{"id": "AAAAA"}, {"id": 5}]))
    encode(videos / "videos" / "5.webm", pictures(24), "libvpx-vp9", rate=12)
    report = prepare(videos, "ssv2", ["something-something-v2-validation.json"])
    assert report.images == {"AAAAA": 12, "5": 24}
    assert (videos / "lists" / "val.csv").read_text().splitlines()[-1] == '5 1 23 5/5_000024.jpg ""'


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"name": "a"}]', "[["])
def test_wrong_json_is_named(text, videos):
    (videos / "train.json").write_text(text)
    with pytest.raises(ValueError, match=r"train\.json(, line 1|.* is not a list of videos| names no video)"):
        prepare(videos, "ssv2", ["train.json"])


def test_annotation_files_tell_their_split(videos):
    for name in ("all.csv", "b train.csv"):
        shutil.copy(videos / "Charades_v1_train.csv", videos / name)
    with pytest.raises(ValueError, match="no train, val or test in its name"):
        prepare(videos, annotations=["all.csv"])
    with pytest.raises(ValueError, match="there is a file for train already"):
        prepare(videos, annotations=["Charades_v1_train.csv", "b train.csv"])
    with pytest.raises(ValueError, match="impossible for charades"):
        prepare(videos, fps=0.0)


@pytest.mark.parametrize("wrong", [{"fps": -1.0}, {"start": 5.0, "end": 5.0}, {"quality": 0}, {"short_side": -1}])
def test_impossible_options(wrong):
    with pytest.raises(ValueError):
        ExtractOptions(**{"fps": 1.0, **wrong})


def test_frames_in_order_are_those_of_the_reader(tmp_path, encode, pictures, decode_all):
    path = encode(tmp_path / "a.mkv", pictures(40), options={"g": "12", "bf": "2"}, rate=25)
    frames = [(ordered.frame.to_ndarray(format="rgb24"), ordered.seconds) for ordered in frames_in_order(str(path))]
    np.testing.assert_array_equal(np.stack([pixels for pixels, _ in frames]), np.stack(decode_all(path)))
    np.testing.assert_allclose([seconds for _, seconds in frames], np.arange(40) / 25, atol=1e-3)
    late = [ordered.seconds for ordered in frames_in_order(str(path), 1.0)]
    assert late[-1] == frames[-1][1]
    assert 0 < late[0] <= 1.0
    with pytest.raises(VideoError, match="no such file"):
        next(frames_in_order(str(tmp_path / "none.mkv")))


def test_a_video_that_ends_before_the_start_has_no_frames(tmp_path, encode, pictures):
    path = encode(tmp_path / "a.mp4", pictures(10))
    done = extract(ExtractOptions(30.0, 900.0), str(tmp_path / "frames"), ("a", str(path)))
    assert "no frame from second 900" in done.cause
    assert not list((tmp_path / "frames").iterdir())


def test_own_videos_without_annotations_may_be_of_any_length(videos, encode, pictures):
    encode(videos / "videos" / "own.mp4", pictures(60), rate=30)
    report = prepare(videos, "ava", [], start=0.0, end=100000.0)
    assert report.images["own"] == 60 and not report.odd


@pytest.mark.parametrize("name, codec, rate", [("a.ts", "libx264", 10), ("a.mpg", "mpeg2video", 25)])
@pytest.mark.parametrize("start", [0, 5000])
def test_joined_files_give_the_images_of_both_parts(name, codec, rate, start, tmp_path, encode, pictures):
    content = b""
    for first in (0, start):
        pts = [first * rate + n for n in range(2 * rate)]
        part = encode(tmp_path / name, pictures(2 * rate), codec, rate=rate, pts=pts, time_base=Fraction(1, rate))
        content += part.read_bytes()
    (tmp_path / name).write_bytes(content)
    assert extract(ExtractOptions(10.0), str(tmp_path / "frames"), ("a", str(tmp_path / name))).images == 40
    shown = [cv2.imread(str(path)).astype(int) for path in sorted((tmp_path / "frames" / "a").glob("*.jpg"))]
    for one, other in zip(shown[:20], shown[20:], strict=True):
        assert np.abs(one - other).mean() < 4  # both parts show the same


SEEKS = {
    "key12.mp4": ("libx264", {"g": "12", "bf": "2"}, 30),
    "open.mp4": ("libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}, 30),
    "refresh.mp4": ("libx264", {"g": "20", "x264-params": "intra-refresh=1:bframes=0"}, 30),
    "key12.mkv": ("libx264", {"g": "12", "bf": "2"}, 30),
    "key12.ts": ("libx264", {"g": "12", "bf": "2"}, 30),
    "no_b_frames.ts": ("libx264", {"g": "12", "bf": "0"}, 30),
    "refresh.ts": ("libx264", {"g": "20", "x264-params": "intra-refresh=1:bframes=0"}, 30),
    "key12.flv": ("libx264", {"g": "12", "bf": "2"}, 30),
    "key12.avi": ("libx264", {"g": "12", "bf": "2"}, 30),
    "mpeg4.avi": ("mpeg4", {"g": "12"}, 30),
    "mpeg2.mpg": ("mpeg2video", {"g": "12", "bf": "2"}, 25),
    "mpeg2.ts": ("mpeg2video", {"g": "12", "bf": "2"}, 25),
    "raw.h264": ("libx264", {"g": "12", "bf": "2"}, 30),
    "raw.m2v": ("mpeg2video", {"g": "12", "bf": "2"}, 25),
    "vp8.webm": ("libvpx", {"g": "12"}, 30),
}


@pytest.mark.parametrize("name", SEEKS)
def test_a_part_from_the_middle_shows_its_seconds(name, tmp_path, encode, pictures, decode_all):
    codec, settings, rate = SEEKS[name]
    path = encode(tmp_path / name, pictures(75), codec, settings, rate)
    options = ExtractOptions(10.0, 1.62, 2.3)
    found = list(at_rate(frames_in_order(str(path), options.start), options))
    # Image k is the last frame whose time is nearest to that of image k or earlier.
    truth = [max(n for n in range(75) if n / rate - 1.62 < (k + 0.5) / 10 - 1e-6) for k in range(7)]
    assert len(found) == 7
    assert [frame.seconds for frame in found] == pytest.approx([n / rate for n in truth], abs=1e-3)
    whole = decode_all(path)
    for frame, number in zip(found, truth, strict=True):
        np.testing.assert_array_equal(frame.frame.to_ndarray(format="rgb24"), whole[number])


def test_a_seek_saves_the_way_to_it(tmp_path, encode, pictures):
    path = encode(tmp_path / "a.mp4", pictures(75), options={"g": "12", "bf": "2"})
    with PyAVReader(str(path)) as video:
        assert next(video.in_order(2.0))[1] == 2.0
        assert video.frames_decoded <= 12


def test_two_files_of_one_name_are_an_error_that_names_both(videos):
    """Their frames would share a folder. Other videos, and a second link to a file, are extracted."""
    other = videos / "videos" / "other"
    other.mkdir()
    for link in (other / "001.mp4", videos / "videos" / "001.mp4"):
        link.symlink_to(videos / "videos" / "deep" / "AAAAA.mp4")
    shutil.copy(videos / "videos" / "deep" / "AAAAA.mp4", videos / "videos" / "BBBBB.mkv")
    for fmt, annotations in (("charades", ["Charades_v1_train.csv"]), ("ssv2", [])):
        report = prepare(videos, fmt, annotations)
        assert list(report.failed) == ["BBBBB"]
        assert str(videos / "videos" / "BBBBB.mkv") in report.failed["BBBBB"]
        assert str(videos / "videos" / "deep" / "BBBBB.mp4") in report.failed["BBBBB"]
        assert not (videos / "frames" / "BBBBB").exists()
    assert report.images.keys() == {"001", "AAAAA", "CCCCC"}
    assert read_frame_list(str(videos / "lists" / "frames.csv")).videos == ["001", "AAAAA", "CCCCC"]


def test_names_with_spaces_and_quotes_are_read_back(videos):
    folder = videos / "videos" / "deep"
    names = ["a video", 'the "best" one', "plain-é"]
    for name in names:
        shutil.copy(folder / "CCCCC.mp4", folder / f"{name}.mp4")
    (folder / "line\nbreak.mp4").touch()
    report = prepare(videos, "ssv2", [])
    assert list(report.failed) == ["line\nbreak"]
    frames = read_frame_list(str(videos / "lists" / "frames.csv"), str(videos / "frames"))
    assert set(names) < set(frames.videos) == report.images.keys()
    for video, name in enumerate(frames.videos):
        assert len(frames.paths(video)) == report.images[name] == 12
        assert all(os.path.isfile(path) for path in frames.paths(video))


@pytest.mark.parametrize("short_side", [0, 24])
def test_all_images_of_a_video_have_the_size_of_the_first(tmp_path, encode, pictures, short_side):
    parts = [encode(tmp_path / f"{n}.h264", pictures(6, *size)) for n, size in enumerate([(48, 64), (96, 96)])]
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    done = extract(ExtractOptions(0.0, short_side=short_side), str(tmp_path / "frames"), ("both", str(both)))
    assert done.images == 12
    images = [cv2.imread(str(path)) for path in sorted((tmp_path / "frames" / "both").glob("*.jpg"))]
    assert {image.shape[:2] for image in images} == {(short_side or 48, 32 if short_side else 64)}
    with decode.open(str(both)) as video:
        truth = video.frames([9])[0]
    if not short_side:
        assert np.abs(images[9][..., ::-1].astype(int) - truth).mean() < 4


def test_a_full_disk_is_told_with_the_image(tmp_path, encode, pictures, told_of_limit):
    source = encode(tmp_path / "a.mp4", pictures(3))
    whole = extract(ExtractOptions(30), str(tmp_path / "whole"), ("a", str(source)))
    sizes = [(tmp_path / "whole" / "a" / f"a_{number:06d}.jpg").stat().st_size for number in (1, 2, 3)]
    assert whole.images == 3 and min(sizes) > 100
    told = told_of_limit(100, lambda: extract(ExtractOptions(30), str(tmp_path / "out"), ("a", str(source))))
    assert re.search(rf"it needs {sizes[0]:,} bytes, and [\d,]+ bytes are free: '.*a_000001.jpg'", told), told
    assert os.listdir(tmp_path / "out") == []
