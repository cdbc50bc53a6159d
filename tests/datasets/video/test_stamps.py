"""Times and rates of frames, held against the time stamps that the files were written with."""

import logging
import struct
from fractions import Fraction

import numpy as np
import pytest

from slowfast.datasets.video import open as decode
from slowfast.datasets.video import pyav
from slowfast.datasets.video.cache import VideoCache
from slowfast.datasets.video.frame_folder import FrameFolder
from slowfast.datasets.video.in_order import frames_in_order
from slowfast.datasets.video.stamps import frame_times

THOUSANDTHS = Fraction(1, 1000)
X264 = {"g": "12", "bf": "2", "x264-params": "threads=1"}
NO_B = {"g": "12", "bf": "0", "x264-params": "threads=1"}
# A phone that goes from 30 to 10 frames a second in the dark, and a webcam.
SLOWING = [round(1000 * n / 30) for n in range(20)] + [667 + 100 * n for n in range(20)]
JITTER = [0, *(int(t) for t in np.cumsum(np.random.default_rng(0).choice([33, 50, 66, 100], 39)))]
HIDDEN = {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good"}
# File -> codec, options. All containers store times; the packets of most are not trusted for frames.
STAMPED = {
    "h264.mp4": ("libx264", X264),
    "h264.mkv": ("libx264", X264),
    "vp9.webm": ("libvpx-vp9", {"cpu-used": "8"}),
    "vp8.webm": ("libvpx", HIDDEN),
    "vp8.ivf": ("libvpx", {}),
    "h264.ts": ("libx264", X264),
    "no_b_frames.ts": ("libx264", NO_B),
    "h264.flv": ("libx264", X264),
    "no_b_frames.flv": ("libx264", NO_B),
    "wmv2.wmv": ("wmv2", {}),
    "h264.asf": ("libx264", X264),
    "h264.avi": ("libx264", X264),
    "no_b_frames.avi": ("libx264", NO_B),
    "mpeg4.avi": ("mpeg4", {}),
}


def measured(path):
    with decode.open(str(path)) as video:
        assert len(video.times) == video.num_frames
        assert video.times.dtype == np.float64
        return video.times, video.fps, video.duration, video.notes


@pytest.mark.parametrize("name", STAMPED)
@pytest.mark.parametrize("stamps", [SLOWING, JITTER], ids=["slowing", "jitter"])
def test_times_are_the_stamps(name, stamps, tmp_path, encode, pictures):
    codec, options = STAMPED[name]
    path = encode(tmp_path / name, pictures(40), codec, options, pts=stamps, time_base=THOUSANDTHS)
    truth = (np.array(stamps) - stamps[0]) / 1000
    for _ in range(2):  # the second time the file is known
        times, fps, duration, notes = measured(path)
        # AVI and ASF tell times of decoding: those of the last two frames, which B-frames may delay, are not told.
        known = slice(0, 38 if name in ("h264.avi", "h264.asf") else 40)
        np.testing.assert_allclose(times[known], truth[known], atol=1.1e-3)
        np.testing.assert_allclose(times, truth, atol=0.1)
        # The last frame lasts as long as the encoder says (33 ms) or as the frame before it.
        step = times[-1] - times[-2]
        assert times[-1] + min(0.033, step) - 0.002 < duration < times[-1] + max(0.034, step) + 0.002
        assert fps == pytest.approx(40 / duration)
        assert notes == ()
    in_order = [ordered.seconds for ordered in frames_in_order(str(path))]
    np.testing.assert_allclose(in_order, times, atol=1e-9)


@pytest.mark.parametrize(
    "name, codec, options, rate",
    [
        ("h264.mp4", "libx264", X264, Fraction(30000, 1001)),
        ("h264.ts", "libx264", X264, Fraction(30000, 1001)),
        ("h264.avi", "libx264", X264, 30),
        ("mpeg2.mpg", "mpeg2video", {"bf": "2"}, 25),
        ("mpeg4.avi", "mpeg4", {"bf": "2"}, Fraction(30000, 1001)),
        ("vp9.webm", "libvpx-vp9", {"cpu-used": "8"}, 24),
        ("wmv2.wmv", "wmv2", {}, 30),
        ("h264.h264", "libx264", X264, 30),
        ("mpeg2.m2v", "mpeg2video", {"bf": "2"}, 25),
    ],
)
def test_a_constant_rate_is_exact(name, codec, options, rate, tmp_path, encode, pictures):
    path = encode(tmp_path / name, pictures(30), codec, options, rate=rate)
    times, fps, duration, _ = measured(path)
    assert fps == pytest.approx(float(rate), rel=1e-12)
    assert duration == pytest.approx(30 / float(rate), rel=1e-12)
    np.testing.assert_allclose(times, np.arange(30) / float(rate), atol=1e-3)


@pytest.mark.parametrize("name, codec, rate", [("a.h264", "libx264", 12), ("a.mjpeg", "mjpeg", 12)])
def test_raw_streams_have_the_rate_of_their_header_and_say_so(name, codec, rate, tmp_path, encode, pictures):
    path = encode(tmp_path / name, pictures(10), codec, rate=rate)
    times, fps, _, notes = measured(path)
    assert fps == {"a.h264": 12.0, "a.mjpeg": 25.0}[name]  # raw motion JPEG has no header: FFmpeg assumes 25
    np.testing.assert_allclose(times, np.arange(10) / fps)
    assert len(notes) == 1
    assert "no usable time stamps" in notes[0]


def test_a_row_of_pictures_has_an_assumed_rate(tmp_path, encode, pictures):
    one = encode(tmp_path / "one.mjpeg", pictures(1), "mjpeg").read_bytes()
    (tmp_path / "a.mp4").write_bytes(3 * one)
    _, fps, _, notes = measured(tmp_path / "a.mp4")
    assert fps == 25
    assert "25 frames a second is assumed" in notes[0]


def test_a_senseless_header_is_not_believed(tmp_path, encode, pictures):
    path = encode(tmp_path / "a.h264", pictures(5), options=NO_B, rate=900, time_base=Fraction(1, 900))
    times, fps, _, notes = measured(path)
    assert fps == 30
    assert "900" in notes[0]


def joined(path, parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


JOINED = {
    "h264.ts": ("libx264", X264, 10),
    "no_b_frames.ts": ("libx264", NO_B, 10),
    "mpeg4.ts": ("mpeg4", {}, 10),
    "mpeg2.mpg": ("mpeg2video", {"bf": "2"}, 25),
}


@pytest.mark.parametrize("name", JOINED)
@pytest.mark.parametrize(
    "starts, jumps", [((0, 0), 1), ((0, 5000), 1), ((5000, 0), 1), ((200, 0, 0), 2), ((95443, 0), 0), ((0, 5), 0)]
)
def test_joined_files(name, starts, jumps, tmp_path, encode, pictures):
    """Parts of 20 frames that start at other seconds: a jump is closed; a wrap (95443.7 s) and 3 s or so are none."""
    codec, options, rate = JOINED[name]
    step = 1 / rate
    parts = []
    for number, start in enumerate(starts):
        pts = [start * rate + n for n in range(20)]
        source = tmp_path / f"{number}_{name}"
        parts.append(encode(source, pictures(20), codec, options, rate, pts=pts, time_base=Fraction(1, rate)))
    path = joined(tmp_path / name, parts)
    times, fps, _, notes = measured(path)
    assert len(times) == 20 * len(starts)
    steps = np.diff(times)
    assert np.sum(np.abs(steps - step) > 1e-3) < len(starts)
    if jumps:
        np.testing.assert_allclose(steps, step, atol=1e-3)
        assert fps == pytest.approx(rate, rel=1e-3)
        assert [f"jumps closed in its time stamps: {jumps}," in note for note in notes] == [True]
    elif starts == (0, 5):
        # A gap under the ten seconds of ffmpeg's threshold is a pause.
        assert max(steps) == pytest.approx(5 - 19 * step, abs=0.6)
        assert notes == ()
    with decode.open(str(path)) as video:
        truth = [float(frame.mean()) for frame in video.frames([0, 19])] * len(starts)
        ends = [number for part in range(len(starts)) for number in (20 * part, 20 * part + 19)]
        found = [float(frame.mean()) for frame in video.frames(ends)]
    np.testing.assert_allclose(found, truth, atol=1)


@pytest.mark.parametrize(
    "stamps, gap, truth, jumps",
    [
        ([5, 6, 7], 1000, [0, 1, 2], 0),
        ([5, 6, 107, 108], 10, [0, 1, 2, 3], 1),
        ([5, 6, 107, 108], 1000, [0, 1, 102, 103], 0),
        ([5, 6, 1, 2], 1000, [0, 1, 2, 3], 1),
        ([5, 7, 9, 0, 2], 10, [0, 2, 4, 6, 8], 1),
        ([None, 5, None, 7, None, None], 1000, [0, 1, 2, 3, 4, 5], 0),
        ([3, 6, None], 1000, [0, 3, 6], 0),
        ([None, None, 4], 1000, [0, 2, 4], 0),  # at the rate of 0.5 frames a second, since stamps do not tell
        ([3, 3, 5], 1000, [0, 1, 2], 0),
        ([5, 6, -(2**62), 1 - 2**62], 1000, [0, 1, 2, 3], 1),
        ([0, 1, 20, 21, 0, 1], 10, [0, 1, 2, 3, 4, 5], 2),
    ],
)
def test_frame_times(stamps, gap, truth, jumps):
    times, found = frame_times(stamps, Fraction(1), 0.5, gap)
    assert times.tolist() == truth
    assert len(found) == jumps


@pytest.mark.parametrize(
    "name, hours, steps",
    [("a.mp4", 1, [0.1, 3600, 0.1]), ("a.mkv", 1, [0.1, 3600, 0.1]), ("a.mkv", 40, [0.1, 0.1, 0.1])],
)
def test_gaps_of_other_containers(name, hours, steps, tmp_path, encode, pictures):
    """A pause of an hour is one, as in a film of stills; 40 hours are a fault, as in ffmpeg."""
    late = 100 + hours * 3_600_000
    path = encode(tmp_path / name, pictures(4), options=NO_B, pts=[0, 100, late, late + 100], time_base=THOUSANDTHS)
    np.testing.assert_allclose(np.diff(measured(path)[0]), steps, atol=1e-3)


@pytest.mark.parametrize("name, codec", [("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx")])
def test_stamps_that_are_all_but_equal_are_not_believed(name, codec, tmp_path, encode, pictures):
    path = encode(tmp_path / name, pictures(10), codec, {}, 30, pts=list(range(10)), time_base=Fraction(1, 30))
    content = path.read_bytes()
    if name == "a.avi":  # scale / rate of the stream, 1 / 30
        place = content.index(b"strh") + 8 + 20
        content = content[:place] + struct.pack("<2I", 1, 30_000_000) + content[place + 8 :]
    else:  # nanoseconds per unit of the stamps
        place = content.index(b"\x2a\xd7\xb1") + 4
        content = (
            content[:place]
            + (20).to_bytes(content[place - 1] & 0x7F, "big")
            + content[place + (content[place - 1] & 0x7F) :]
        )
    path.write_bytes(content)
    times, fps, _, notes = measured(path)
    assert 1 <= fps <= 240
    np.testing.assert_allclose(times, np.arange(10) / fps)
    assert "no usable time stamps" in notes[0]


def test_folders_of_images_are_at_a_constant_rate(tmp_path):
    assert FrameFolder([f"{n}.jpg" for n in range(5)], 4.0).times.tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_times_of_cached_videos(tmp_path, encode, pictures):
    path = str(encode(tmp_path / "a.mkv", pictures(40), options=X264, pts=JITTER, time_base=THOUSANDTHS))
    np.testing.assert_array_equal(VideoCache([path], decode.open).open(path).times, measured(path)[0])


def test_a_video_that_starts_after_its_sound(tmp_path, encode, pictures, caplog, monkeypatch):
    """Second 0 is the first frame; the reader says by how much the sound is ahead."""
    monkeypatch.setattr(pyav, "_logged", set())
    late = [2000 + 40 * n for n in range(25)]
    for name in ("a.mp4", "a.mkv", "a.ts"):
        path = encode(tmp_path / name, pictures(25), options=NO_B, pts=late, time_base=THOUSANDTHS, audio=True)
        with caplog.at_level(logging.WARNING):
            times, _, _, notes = measured(path)
        np.testing.assert_allclose(times, np.arange(25) / 25, atol=1e-3)
        assert len(notes) == 1
        assert abs(float(notes[0].split("starts ")[1].split(" s")[0]) - 2) < 0.1
    assert len(caplog.records) == 1  # a data set may have thousands
