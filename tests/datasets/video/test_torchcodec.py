"""The torchcodec backend gives the frames that PyAV gives."""

import os
import pickle
import re
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from slowfast.datasets.video import open as decode
from slowfast.datasets.video.torchcodec import TorchCodecReader

try:
    TorchCodecReader.require()
    LACKING = ""
except ImportError as error:
    LACKING = str(error).splitlines()[0]


def needs_torchcodec(test):
    """Mark a test that decodes by torchcodec; it is skipped with the reason where that does not load."""
    return pytest.mark.torchcodec(pytest.mark.skipif(bool(LACKING), reason=LACKING or "torchcodec loads")(test))


X264 = {"preset": "veryfast", "x264-params": "threads=1"}
THOUSANDTHS = Fraction(1, 1000)
IRREGULAR = [int(t) for t in np.cumsum(np.random.default_rng(1).integers(10, 90, 50))]
# name -> (frames, height, width, arguments of `encode`)
KINDS = {
    "h264_b3.mp4": (60, 48, 64, {"options": {**X264, "g": "250", "bf": "3"}}),
    "h264_open_gop.mp4": (50, 48, 64, {"options": {"g": "12", "bf": "3", "x264-params": "open-gop=1:threads=1"}}),
    "h264_audio.mp4": (50, 48, 64, {"options": {**X264, "g": "12"}, "audio": True}),
    "h264_variable.mkv": (50, 48, 64, {"options": X264, "pts": IRREGULAR, "time_base": THOUSANDTHS}),
    "h264_29_97.mp4": (50, 48, 64, {"options": X264, "rate": Fraction(30000, 1001)}),
    "h264_width_of_no_multiple.mp4": (20, 54, 86, {"options": X264}),
    "h264.avi": (50, 48, 64, {"options": {**X264, "g": "12", "bf": "2"}}),
    "h264_without_times.h264": (50, 48, 64, {"options": {**X264, "g": "12", "bf": "2"}}),
    "hevc.mp4": (30, 64, 64, {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "log-level=0"}}),
    "vp9_hidden_frames.webm": (
        60,
        48,
        64,
        {"codec": "libvpx-vp9", "options": {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}},
    ),
    "vp9_odd.webm": (20, 51, 67, {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}}),
    "h264_10_bits.mp4": (20, 48, 64, {"options": X264, "pix_fmt": "yuv420p10le"}),
    "mpeg4_b2.avi": (50, 48, 64, {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}}),
    "mjpeg.avi": (20, 48, 64, {"codec": "mjpeg"}),
    "one_frame.mp4": (1, 48, 64, {"options": X264}),
}


def assert_same_frames(path, sets=5):
    """Return the number of frames that PyAV decoded."""
    rng = np.random.default_rng(0)
    with decode.open(path) as one, decode.open(path, backend="torchcodec") as other:
        assert (one.num_frames, one.fps) == (other.num_frames, other.fps)
        for _ in range(sets):
            indices = rng.integers(0, one.num_frames, 12)
            np.testing.assert_array_equal(other.frames(indices), one.frames(indices))
        return other.frames_decoded


@needs_torchcodec
@pytest.mark.parametrize("name", KINDS)
def test_frames_equal_those_of_pyav(name, tmp_path, encode, pictures):
    count, height, width, arguments = KINDS[name]
    path = encode(tmp_path / name, pictures(count, height, width), **arguments)
    by_pyav = assert_same_frames(str(path))
    if name in ("h264_b3.mp4", "h264_variable.mkv"):
        assert by_pyav == 1  # the one that is looked at


@needs_torchcodec
@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1)])
def test_frames_come_upright(matrix, tmp_path, encode, pictures):
    path = encode(tmp_path / "a.mp4", pictures(12), options=X264)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    assert_same_frames(str(path))


@needs_torchcodec
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_cut_files(share, tmp_path, encode, pictures):
    path = encode(tmp_path / "a.mkv", pictures(60), options=X264)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert_same_frames(str(path))


@needs_torchcodec
def test_names_threads_and_processes(tmp_path, encode, pictures, tiny_cfg):
    path = encode(tmp_path / "concat:ü 视频.mp4", pictures(20), options=X264)
    assert assert_same_frames(str(path)) == 1
    keys = "DATA.DECODING_BACKEND", "torchcodec", "DATA_LOADER.ENABLE_MULTI_THREAD_DECODE", True
    opener = pickle.loads(pickle.dumps(decode.video_opener(tiny_cfg(*keys))))
    with opener(str(path)) as video, decode.open(str(path)) as other:
        np.testing.assert_array_equal(video.frames([3, 17]), other.frames([3, 17]))
    with pytest.raises(decode.VideoError, match="no such file"):
        opener(str(tmp_path / "none.mp4"))


REAL = os.environ.get("SLOWFAST_TEST_VIDEOS", "")
FILES = sorted(p for p in Path(REAL).glob("*") if p.suffix in (".mp4", ".avi", ".mov", ".mkv")) if REAL else []


@needs_torchcodec
@pytest.mark.slow
@pytest.mark.skipif(not FILES, reason="SLOWFAST_TEST_VIDEOS names no folder of videos")
@pytest.mark.parametrize("path", FILES or [Path("none")], ids=lambda path: path.name)
def test_real_footage(path):
    assert_same_frames(str(path), sets=1)


@pytest.mark.parametrize(
    "module, cause",
    [
        ("", "needs the package torchcodec .pip install torchcodec"),
        ("raise RuntimeError('Could not load libtorchcodec')", "shared libraries of FFmpeg 4 to 8 .libavcodec, "),
    ],
)
def test_what_is_missing_is_said(module, cause, tmp_path, tiny_file):
    """In a process of its own, where torchcodec is not there or does not load."""
    (tmp_path / "torchcodec").mkdir()
    if module:
        (tmp_path / "torchcodec/__init__.py").write_text(module)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
if not {bool(module)}:
    sys.modules["torchcodec"] = None
from slowfast.config import load_config
from slowfast.datasets.video.open import video_opener
video_opener(load_config({str(tiny_file)!r}, ["DATA.DECODING_BACKEND", "torchcodec"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "ValueError" in done.stderr
    assert re.search(cause, done.stderr)
