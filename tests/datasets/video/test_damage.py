"""Truncated and damaged files, and files that are no videos."""

import os
import pickle

import numpy as np
import pytest

from slowfast.datasets.video import open as decode
from slowfast.datasets.video.open import VideoError

X264 = {"g": "12", "bf": "2", "x264-params": "threads=1"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory, encode, pictures):
    folder = tmp_path_factory.mktemp("whole")
    fast = {"options": {"movflags": "faststart"}}
    fragments = {"options": {"movflags": "frag_keyframe+empty_moov"}}
    return {
        "faststart.mp4": encode(folder / "faststart.mp4", pictures(60), options=X264, container=fast),
        "fragments.mp4": encode(folder / "fragments.mp4", pictures(60), options=X264, container=fragments),
        "clip.mkv": encode(folder / "clip.mkv", pictures(60), options=X264),
        "clip.avi": encode(folder / "clip.avi", pictures(60), codec="mpeg4", options={"g": "12"}),
        "clip.ts": encode(folder / "clip.ts", pictures(60), options=X264),
        "clip.h264": encode(folder / "clip.h264", pictures(60), options=X264),
    }


def assert_like_full_decode(path, truth):
    """Every frame that decodes can be had; a file without any is an error that says so."""
    if not truth:
        with pytest.raises(VideoError, match=os.path.basename(path)):
            decode.open(path)
        return
    with decode.open(path) as video:
        assert video.num_frames == len(truth)
        for indices in ([len(truth) - 1], [0, len(truth) // 2], list(range(len(truth)))):
            np.testing.assert_array_equal(video.frames(indices), np.stack([truth[i] for i in indices]))


@pytest.mark.parametrize("name", ["faststart.mp4", "fragments.mp4", "clip.mkv", "clip.avi", "clip.ts", "clip.h264"])
def test_truncated(name, sources, tmp_path, decode_all):
    content = sources[name].read_bytes()
    lengths = []
    for share in (0.15, 0.35, 0.5, 0.77, 0.9, 0.999):
        path = tmp_path / f"{share}_{name}"
        path.write_bytes(content[: int(len(content) * share)])
        try:
            truth = decode_all(path)
        except Exception:
            truth = []
        lengths.append(len(truth))
        assert_like_full_decode(str(path), truth)
    assert lengths[2] < lengths[-1]  # the cuts do remove frames
    assert lengths[-1] >= 55


@pytest.mark.parametrize("name", ["faststart.mp4", "clip.mkv", "clip.avi"])
def test_damage_in_the_middle_never_crashes(name, sources, tmp_path, decode_all):
    content = bytearray(sources[name].read_bytes())
    rng = np.random.default_rng(0)
    middle = len(content) // 2
    content[middle : middle + 400] = rng.integers(0, 256, 400, dtype=np.uint8).tobytes()
    path = tmp_path / name
    path.write_bytes(content)
    with decode.open(str(path)) as video:
        count = video.num_frames
        assert abs(count - len(decode_all(path))) <= 20
        for start in range(0, count - 8, 4):
            assert video.frames(range(start, start + 8)).shape == (8, 48, 64, 3)
        assert video.frames([count - 1]).shape == (1, 48, 64, 3)


def test_frames_lost_after_opening_repeat_the_last(sources, tmp_path, decode_all):
    """Packets that promise frames which do not decode are found out when their frames are asked for."""
    content = bytearray(sources["faststart.mp4"].read_bytes())
    start = content.index(b"mdat") + 4
    tail = start + int((len(content) - start) * 0.8)
    content[tail:] = bytes(len(content) - tail)
    path = tmp_path / "zeroed_tail.mp4"
    path.write_bytes(content)
    truth = decode_all(path)
    assert 30 < len(truth) < 60
    with decode.open(str(path)) as video:
        promised = video.num_frames
        assert promised == 60
        frames = video.frames([0, promised - 1])
        np.testing.assert_array_equal(frames, np.stack([truth[0], truth[-1]]))
        assert video.num_frames == len(truth)
        np.testing.assert_array_equal(video.frames([promised - 1, 3]), np.stack([truth[-1], truth[3]]))


@pytest.mark.parametrize(
    "name, content, cause",
    [
        ("empty.mp4", b"", "InvalidDataError"),
        ("text.mp4", b"This is no video.\n" * 50, "InvalidDataError"),
        ("cut_header.mp4", b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00", "InvalidDataError"),
    ],
)
def test_no_video(name, content, cause, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(VideoError, match=cause) as caught:
        decode.open(str(path))
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    for path, cause in (tmp_path / "none.mp4", "no such file"), (tmp_path, "not a regular file but a folder"):
        with pytest.raises(VideoError, match=cause):
            decode.open(str(path))


def test_sound_only(tmp_path):
    import wave

    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    with pytest.raises(VideoError, match="no video stream"):
        decode.open(str(tmp_path / "sound.wav"))


def test_no_frame_decodes(sources, tmp_path):
    content = bytearray(sources["faststart.mp4"].read_bytes())
    start = content.index(b"mdat") + 4
    path = tmp_path / "cut.mp4"
    path.write_bytes(content[: start + 20])
    with pytest.raises(VideoError, match="no frame of it decodes"):
        decode.open(str(path))


def test_error_survives_pickling():
    error = pickle.loads(pickle.dumps(VideoError("a b.mp4", "broken")))
    assert (error.path, error.cause, str(error)) == ("a b.mp4", "broken", "a b.mp4: broken")


def test_files_are_closed(sources, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video" * 100)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        for path in sources.values():
            with decode.open(str(path)) as video:
                video.frames([video.num_frames - 1])
        with pytest.raises(VideoError):
            decode.open(str(bad))
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_unknown_codec(sources, tmp_path):
    content = sources["faststart.mp4"].read_bytes()
    assert content.count(b"avc1") >= 1
    path = tmp_path / "unknown.mp4"
    path.write_bytes(content.replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match="no decoder for its codec"):
        decode.open(str(path))
