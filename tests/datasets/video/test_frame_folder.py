"""Videos as folders of images."""

import os
import pickle
import struct
import threading

import cv2
import numpy as np
import pytest

from slowfast.datasets.video import frame_folder
from slowfast.datasets.video.frame_folder import FrameFolder, image_threads
from slowfast.datasets.video.open import VideoError


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pictures):
    """12 frames as JPEG files, and what OpenCV reads of them, red first."""
    folder = tmp_path_factory.mktemp("frames of a video")
    paths = [folder / f"image_{number:05d}.jpg" for number in range(1, 13)]
    for path, picture in zip(paths, pictures(12), strict=True):
        cv2.imwrite(str(path), picture[..., ::-1])
    return [str(path) for path in paths], np.stack([cv2.imread(str(path))[..., ::-1] for path in paths])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("indices", [[0], [11, 3, 3, 0], list(range(12))])
def test_frames_are_those_of_the_files(folder, threads, indices, pictures):
    paths, truth = folder
    with FrameFolder(paths, 24, threads) as video:
        assert (video.num_frames, video.fps, video.duration) == (12, 24.0, 0.5)
        frames = video.frames(indices)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, truth[indices])
    # Red is first: the block that wanders is red over blue.
    assert np.abs(frames.astype(int) - pictures(12)[indices]).mean() < 8


def test_a_path_may_come_twice(folder):
    paths, truth = folder
    frames = FrameFolder([paths[4], paths[4], paths[5]], 30, 2).frames([0, 1, 2])
    np.testing.assert_array_equal(frames, truth[[4, 4, 5]])


@pytest.mark.parametrize("name", ["ünïcode 视频.jpg", b"b\xff\xfe odd.jpg", "a:b %03d.jpg"])
def test_any_name_of_a_file(folder, name, tmp_path):
    paths, truth = folder
    target = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    with open(paths[7], "rb") as source, open(target, "wb") as copy:
        copy.write(source.read())
    for path in (target, os.fsdecode(target)):
        np.testing.assert_array_equal(FrameFolder([path], 30).frames([0])[0], truth[7])


def test_a_missing_file_with_an_odd_name_can_be_printed(tmp_path):
    with pytest.raises(VideoError) as caught:
        FrameFolder([os.path.join(os.fsencode(tmp_path), b"\xff.jpg")], 30).frames([0])
    assert "\\xff.jpg: no such file" in str(caught.value).encode().decode()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_other_kinds_of_images(suffix, tmp_path):
    gray = np.arange(48, dtype=np.uint8).reshape(6, 8)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), gray, [cv2.IMWRITE_WEBP_QUALITY, 101])
    picture = FrameFolder([tmp_path / f"a{suffix}"], 30).frames([0])[0]
    np.testing.assert_array_equal(picture, np.stack([gray] * 3, axis=-1))


def test_pictures_are_turned_as_their_exif_says(tmp_path):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:20, :30] = 255
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    quarter_right = struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0MM\0*" + quarter_right
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    turned = FrameFolder([tmp_path / "a.jpg"], 30).frames([0])[0]
    assert np.abs(turned.astype(int) - np.rot90(picture, -1)).max() < 30


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    "content, cause",
    [
        (None, "no such file"),
        (b"", "0 bytes"),
        (b"This is no image.\n" * 20, "no image that OpenCV can decode"),
        ("cut", "cut off after"),
        ("small", "20x30 pixels .height x width. where image_00003.jpg has 48x64"),
    ],
)
def test_images_that_cannot_be_read(folder, threads, content, cause, tmp_path):
    paths = list(folder[0])
    bad = tmp_path / "bad.jpg"
    if content == "cut":
        with open(paths[0], "rb") as file:
            bad.write_bytes(file.read()[:-200])
    elif content == "small":
        cv2.imwrite(str(bad), np.zeros((20, 30, 3), np.uint8))
    elif content is not None:
        bad.write_bytes(content)
    paths[6], paths[9] = bad, tmp_path / "also missing.jpg"
    video = FrameFolder(paths, 30, threads)
    with pytest.raises(VideoError, match=f"bad.jpg: .*{cause}") as caught:
        video.frames([2, 6] if content == "small" else [2, 6, 9, 11])
    assert caught.value.path == os.path.dirname(paths[0])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert video.frames([0, 11]).shape == (2, 48, 64, 3)  # the others can be had


def test_mistakes():
    with pytest.raises(VideoError, match="v_17: no images"):
        FrameFolder([], 30, name="v_17")
    with pytest.raises(ValueError, match="0 frames a second"):
        FrameFolder(["a.jpg"], 0)
    for indices in ([-1], [1], []):
        with pytest.raises(IndexError, match="asked of a video of 1"):
            FrameFolder(["a.jpg"], 30).frames(indices)


def test_images_are_decoded_at_the_same_time(folder, monkeypatch):
    paths, truth = folder
    together, decode = threading.Barrier(3), cv2.imdecode

    def meet(*args):
        together.wait(timeout=10)  # passes only once three are decoding
        return decode(*args)

    monkeypatch.setattr(frame_folder.cv2, "imdecode", meet)
    np.testing.assert_array_equal(FrameFolder(paths, 30, 3).frames(range(12)), truth)


@pytest.mark.parametrize(
    "cores, workers, several, threads",
    [(8, 0, False, 4), (8, 2, False, 4), (8, 4, False, 2), (8, 8, False, 1), (2, 8, False, 1), (2, 8, True, 4)],
)
def test_threads_are_the_cores_left_over(cores, workers, several, threads, tiny_cfg, monkeypatch):
    monkeypatch.setattr(frame_folder, "available_cores", lambda: cores)
    keys = "DATA_LOADER.NUM_WORKERS", workers, "DATA_LOADER.ENABLE_MULTI_THREAD_DECODE", several
    assert image_threads(tiny_cfg(*keys)) == threads
