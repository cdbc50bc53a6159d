"""Truncated and damaged files, and files that are no videos."""

import os
import pickle

import av
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
        assert video.num_frames == promised
        np.testing.assert_array_equal(video.frames([promised - 1, 3]), np.stack([truth[-1], truth[3]]))
        ((start, end),) = video.unreadable
        assert (start, end) == (pytest.approx(len(truth) / 30, abs=2 / 30), pytest.approx(2))


def stamped(path):
    """Return the frames of a file by their time stamps, as PyAV decodes them; None for damaged ones."""
    with av.open(str(path)) as container:
        frames = {}
        for packet in container.demux(video=0):
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                continue
            for frame in decoded:
                frames[round(frame.time * 30)] = None if frame.is_corrupt else frame.to_ndarray(format="rgb24")
        return frames


def test_frames_after_a_hole_keep_their_times(sources, tmp_path):
    """Frames that do not decode are told with their seconds, and shown as the last one before them."""
    content = bytearray(sources["faststart.mp4"].read_bytes())
    with av.open(str(sources["faststart.mp4"])) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for place, size in packets[20:23]:
        content[place : place + size] = bytes(size)
    path = tmp_path / "hole.mp4"
    path.write_bytes(content)
    truth = stamped(path)
    lost = [number for number in range(60) if truth.get(number) is None]
    assert 3 <= len(lost) <= 10 and 15 < min(lost) and max(lost) < 40
    with decode.open(str(path)) as video:
        for number in [50, 59, 0]:
            np.testing.assert_array_equal(video.frames([number])[0], truth[number])
        assert video.unreadable == []  # frames elsewhere need nothing of the hole
        np.testing.assert_array_equal(video.frames(range(60))[[0, 50, 59]], [truth[0], truth[50], truth[59]])
        for number in lost:
            if number not in truth:
                before = max(other for other in truth if other < number)
                np.testing.assert_array_equal(video.frames([number]), video.frames([before]))
        spans = video.unreadable
    assert {number for number in range(60) for start, end in spans if start <= (number + 0.5) / 30 < end} == set(lost)
    with decode.open(str(path)) as video:
        assert video.unreadable == spans  # known from the reader before
        assert [f"the first at second {min(lost) / 30:.2f}" in note for note in video.notes] == [True]


@pytest.mark.parametrize("name, told", [("faststart.mp4", 2), ("clip.mkv", 2), ("clip.avi", 2), ("clip.ts", None)])
def test_a_file_that_is_cut_off_tells_from_when_on(name, told, sources, tmp_path, decode_all):
    content = sources[name].read_bytes()
    whole, cut = tmp_path / f"whole_{name}", tmp_path / f"cut_{name}"
    whole.write_bytes(content)
    cut.write_bytes(content[: int(len(content) * 0.7)])
    with decode.open(str(whole)) as video:
        assert (video.unreadable, video.notes) == ([], ())
    with decode.open(str(cut)) as video:
        spans, notes = video.unreadable, video.notes
    if told is None:  # its header tells no length
        assert spans == []
        return
    ((start, end),) = spans
    assert (start, end) == (pytest.approx(len(decode_all(cut)) / 30, abs=2 / 30), pytest.approx(told, abs=2 / 30))
    assert f"cut off at second {start:.2f} of {end:.2f}" in notes[0]


def test_a_file_that_is_cut_off_is_decoded_once_for_consecutive_frames(sources, tmp_path, decode_all):
    """Its frames are counted by decoding, so no seek can be checked; each call goes on where the one before ended."""
    content = sources["faststart.mp4"].read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(content[: int(len(content) * 0.7)])
    truth = decode_all(path)
    with decode.open(str(path)) as video:
        counted = video.frames_decoded
        for start in range(0, len(truth) - 8, 8):
            np.testing.assert_array_equal(video.frames(range(start, start + 8)), truth[start : start + 8])
        assert video.frames_decoded - counted <= len(truth)
        np.testing.assert_array_equal(video.frames([2]), truth[2:3])  # and back


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
