"""Rotation, portrait frames and metadata that is not text."""

import struct
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest

from slowfast.datasets.video import open as decode

# name -> (a, b, c, d) of the display matrix x' = a x + c y, y' = b x + d y, and what it does to a picture.
ORIENTATIONS = {
    "upright": ((1, 0, 0, 1), lambda p: p),
    "quarter_right": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "half": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "quarter_left": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "flipped": ((1, 0, 0, -1), lambda p: p[::-1]),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, encode, pictures):
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    return encode(path, pictures(30), options={"g": "10", "x264-params": "threads=1"})


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_frames_come_upright(name, plain, tmp_path, decode_all, with_matrix):
    matrix, turn = ORIENTATIONS[name]
    path = with_matrix(plain, tmp_path / "turned.mp4", matrix)
    truth = [turn(frame) for frame in decode_all(plain)]
    with decode.open(path) as video:
        frames = video.frames([3, 25, 14])
    np.testing.assert_array_equal(frames, np.stack([truth[i] for i in (3, 25, 14)]))


def test_frames_are_freed_when_they_are_read(plain):
    """Frames in a cycle of references would stay until Python collects its garbage, which it seldom does.

    Frames are counted in a process of its own, since other tests may hold some.
    """
    counting = f"""
import gc
import av
from slowfast.datasets.video import open as decode
gc.disable()
with decode.open({str(plain)!r}) as video:
    assert len(video.frames(range(30))) == 30
print(sum(type(item) is av.VideoFrame and item.width > 2 for item in gc.get_objects()))
"""
    ran = subprocess.run([sys.executable, "-c", counting], capture_output=True, text=True)
    assert ran.stdout == "0\n", ran.stderr


@pytest.mark.parametrize("name", ["quarter_right", "half", "quarter_left"])
def test_rotation_as_another_reader_sees_it(name, plain, tmp_path, with_matrix):
    """OpenCV turns rotated video upright by itself."""
    path = with_matrix(plain, tmp_path / "turned.mp4", ORIENTATIONS[name][0])
    capture = cv2.VideoCapture(path)
    read, theirs = capture.read()
    capture.release()
    assert read
    with decode.open(path) as video:
        ours = video.frames([0])[0]
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs[..., ::-1]).mean() < 3  # another color conversion, the same picture


def test_portrait(tmp_path, encode, pictures, decode_all):
    path = encode(tmp_path / "portrait.mp4", pictures(20, height=96, width=56))
    with decode.open(str(path)) as video:
        np.testing.assert_array_equal(video.frames([7, 12]), np.stack(decode_all(path))[[7, 12]])
        assert video.frames([0]).shape == (1, 96, 56, 3)


def test_metadata_that_is_not_utf8(tmp_path, encode, pictures, decode_all):
    source = encode(tmp_path / "titled.mkv", pictures(20))
    content = source.read_bytes()
    assert content.count(b"Lavf") > 0
    source.write_bytes(content.replace(b"Lavf", b"\xff\xfe\xe9\xc0"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(source)).close()
    with decode.open(str(source)) as video:
        np.testing.assert_array_equal(video.frames(range(20)), np.stack(decode_all(source)))


def test_change_of_size_in_mid_stream(tmp_path, encode, pictures):
    """Two raw streams of other sizes in one file: all frames come in the size of the first."""
    small = encode(tmp_path / "small.h264", pictures(10), options={"x264-params": "threads=1"})
    large = encode(tmp_path / "large.h264", pictures(10, 96, 128), options={"x264-params": "threads=1"})
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    with decode.open(str(both)) as video:
        assert video.num_frames == 20
        assert video.frames([0, 15]).shape == (2, 48, 64, 3)


def test_edit_list_that_cuts_the_start(plain, tmp_path, decode_all):
    """An edit list may hide the first frames, here in mid-GOP: frame 0 is the first one shown."""
    whole = decode_all(plain)
    content = bytearray(plain.read_bytes())
    media_time_at = content.index(b"elst") + 4 + 4 + 4 + 4
    start = struct.unpack_from(">i", content, media_time_at)[0]
    struct.pack_into(">i", content, media_time_at, start + 13 * 512)  # 13 frames of 1/30 s at 1/15360 s
    path = tmp_path / "edited.mp4"
    path.write_bytes(content)
    truth = decode_all(path)
    assert len(truth) == len(whole) - 13
    np.testing.assert_array_equal(truth[0], whole[13])
    with decode.open(str(path)) as video:
        assert video.num_frames == len(truth)
        for indices in ([0, 1], [16, 9], range(len(truth))):
            np.testing.assert_array_equal(video.frames(indices), np.stack([truth[i] for i in indices]))
