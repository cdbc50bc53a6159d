"""Files of several video streams, covers of sound files, and pictures that are called videos."""

import itertools
import logging
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from slowfast.apps.prepare.extract_frames import ExtractOptions, extract
from slowfast.apps.prepare.probe import probe
from slowfast.apps.prepare.resize import ResizeOptions, resize
from slowfast.datasets.video import open as decode
from slowfast.datasets.video import pyav
from slowfast.datasets.video.in_order import frames_in_order
from slowfast.datasets.video.open import VideoError

RED, BLUE = (200, 60, 60), (60, 60, 200)
LARGE, SMALL = (96, 160), (48, 80)


def noisy(size, color, count):
    noise = np.random.default_rng(0).integers(-40, 40, (count, *size, 3))
    return (noise + color).clip(0, 255).astype(np.uint8)


def write(path, parts, sound=False):
    """Write streams of (codec, pictures, B-frames, disposition) into one file, one after another."""
    with av.open(str(path), "w") as output:
        streams = []
        for codec, pictures, b_frames, disposition in parts:
            options = {"bf": str(b_frames), "x264-params": "cpu-independent=1"} if codec == "libx264" else {}
            stream = output.add_stream(codec, rate=30, options=options)
            stream.height, stream.width = pictures.shape[1:3]
            stream.pix_fmt = {"mjpeg": "yuvj420p", "png": "rgb24"}.get(codec, "yuv420p")
            stream.disposition = disposition
            streams.append(stream)
        tone = output.add_stream("aac", rate=16000) if sound else None
        longest = max(len(pictures) for _, pictures, _, _ in parts)
        for number, (stream, (_, pictures, _, _)) in itertools.product(
            range(longest), zip(streams, parts, strict=True)
        ):
            if number < len(pictures):
                frame = av.VideoFrame.from_ndarray(pictures[number], format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 30)
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))
        if tone is not None:
            for number in range(16):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 16000, 1024 * number
                output.mux(tone.encode(frame))
            output.mux(tone.encode(None))
    return str(path)


def color_of(picture):
    red, _, blue = picture.reshape(-1, 3).mean(axis=0)
    return "red" if red > blue else "blue"


NONE, COVER, DEFAULT = Disposition(0), Disposition.attached_pic, Disposition.default


@pytest.mark.parametrize(
    "suffix, large_b, small_b, small_count, large_first",
    [
        ("mp4", 0, 0, 20, False),
        ("mp4", 3, 3, 60, False),
        ("mp4", 3, 0, 20, True),
        ("mkv", 0, 3, 20, False),
        ("ts", 3, 3, 20, False),
    ],
)
def test_every_opening_and_every_tool_reads_one_stream(
    suffix, large_b, small_b, small_count, large_first, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(pyav, "_logged", set())
    large = ("libx264", noisy(LARGE, RED, 60), large_b, DEFAULT)
    small = ("libx264", noisy(SMALL, BLUE, small_count), small_b, DEFAULT)
    path = write(tmp_path / f"a.{suffix}", [large, small] if large_first else [small, large])
    seen = []
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with decode.open(path) as video:
                seen.append((color_of(video.frames([10])[0]), video.num_frames, video.fps, video.notes))
    assert len(set(seen)) == 1
    color, count, _, notes = seen[0]
    assert count == {"red": 60, "blue": small_count}[color]
    assert ["2 video streams" in note for note in notes] == [True]
    assert len(caplog.records) == 1
    assert color_of(next(frames_in_order(path)).frame.to_ndarray(format="rgb24")) == color
    resize(path, str(tmp_path / "copy.mp4"), ResizeOptions(32))
    with decode.open(str(tmp_path / "copy.mp4")) as copy:
        assert (color_of(copy.frames([10])[0]), copy.num_frames) == (color, count)
    assert probe(decode.open, False, path).notes == list(notes)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_stream_can_be_chosen(suffix, tmp_path):
    cover = ("mjpeg", noisy((64, 64), RED, 1), 0, COVER)
    parts = [("libx264", noisy(LARGE, RED, 20), 2, DEFAULT), ("libx264", noisy(SMALL, BLUE, 10), 0, NONE)]
    path = write(tmp_path / f"a.{suffix}", [cover, *parts] if suffix == "mp4" else parts)
    for _, (stream, color, count) in itertools.product(range(2), [(0, "red", 20), (1, "blue", 10)]):
        with decode.open(path, stream=stream) as video:
            assert (color_of(video.frames([5])[0]), video.num_frames) == (color, count)
            assert f"number {stream} " in video.notes[0]
        assert sum(1 for _ in frames_in_order(path, stream=stream)) == count
    for stream in (-1, 2):
        with pytest.raises(VideoError, match=f"no video stream {stream}; it has 2"):
            decode.open(path, stream=stream)


@pytest.mark.parametrize("suffix, marks", [("mp4", (COVER, NONE)), ("mp4", (DEFAULT, NONE)), ("mkv", (DEFAULT, NONE))])
def test_a_film_with_a_cover_is_the_film(suffix, marks, tmp_path):
    """Whether or not the cover is marked as one."""
    cover = ("mjpeg", noisy((320, 320), RED, 1), 0, marks[0])
    path = write(tmp_path / f"a.{suffix}", [cover, ("libx264", noisy(SMALL, BLUE, 30), 0, marks[1])], sound=True)
    for _ in range(2):
        with decode.open(path) as video:
            assert (video.num_frames, video.fps) == (30, 30)
            assert video.frames([3]).shape == (1, *SMALL, 3)
            assert len(video.notes) == (marks[0] != COVER)


def assert_refused(path, output, cause):
    """Every tool that opens videos says in one line why the file is none."""
    for _ in range(2):
        with pytest.raises(VideoError, match=cause) as caught:
            decode.open(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(VideoError, match=cause):
        next(frames_in_order(path))
    with pytest.raises(VideoError, match=cause):
        resize(path, str(output / "copy.mp4"), ResizeOptions(32))
    assert cause in probe(decode.open, False, path).cause
    assert cause in extract(ExtractOptions(10.0), str(output), ("a", path)).cause


@pytest.mark.parametrize("codec", ["mjpeg", "png"])
def test_a_cover_is_no_video(codec, tmp_path):
    path = write(tmp_path / "song.mp4", [(codec, noisy((64, 64), RED, 1), 0, COVER)], sound=True)
    assert_refused(path, tmp_path, "a cover picture alone")


def test_a_cover_that_is_not_marked_is_a_picture(tmp_path):
    path = write(tmp_path / "song.mkv", [("mjpeg", noisy((64, 64), RED, 1), 0, NONE)], sound=True)
    assert_refused(path, tmp_path, "still picture")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff", ".gif", ".avif"])
def test_a_picture_is_no_video(suffix, tmp_path):
    picture = noisy((64, 64), RED, 1)[0]
    try:
        done, data = cv2.imencode(suffix, picture)
    except cv2.error:
        done = False
    if not done:
        pytest.skip(f"this OpenCV writes no {suffix}")
    path = tmp_path / "a.mp4"
    path.write_bytes(data.tobytes())
    assert_refused(str(path), tmp_path, "still picture")


def test_several_pictures_and_a_film_of_one_frame_are_videos(tmp_path, encode, pictures):
    for name, codec, count in (("a.gif", "gif", 5), ("a.mjpeg", "mjpeg", 5), ("a.mp4", "libx264", 1)):
        pix_fmt = "rgb8" if codec == "gif" else ""
        path = encode(tmp_path / name, pictures(count), codec, rate=10, pix_fmt=pix_fmt)
        with decode.open(str(path)) as video:
            assert video.num_frames == count


def test_a_text_is_no_video(tmp_path):
    path = tmp_path / "list.txt"  # FFmpeg draws texts of such names
    path.write_text("a.mp4 1\n" * 500)
    with pytest.raises(VideoError):
        decode.open(str(path))
