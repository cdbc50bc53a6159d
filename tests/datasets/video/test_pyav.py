"""Frames by index equal those of a full decode, whatever the file is like."""

import ast
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from slowfast.datasets.video import index_file, torchcodec
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.pyav import PyAVReader

# Irregular times in thousandths of a second: a variable frame rate.
IRREGULAR = [int(t) for t in np.cumsum(np.random.default_rng(1).integers(10, 90, 70))]
THOUSANDTHS = Fraction(1, 1000)
X264 = {"preset": "veryfast", "x264-params": "threads=1"}

# name -> (frames, arguments of `encode`)
KINDS = {
    "h264_key12_b2.mp4": (70, {"options": {**X264, "g": "12", "bf": "2"}}),
    "h264_key250_b3.mp4": (90, {"options": {**X264, "g": "250", "bf": "3"}}),
    "h264_key_every_frame.mp4": (30, {"options": {**X264, "g": "1"}}),
    "h264_key2_b1.mp4": (30, {"options": {**X264, "g": "2", "bf": "1", "sc_threshold": "0"}}),
    "h264_open_gop.mp4": (
        70,
        {"options": {**X264, "g": "12", "bf": "3", "x264-params": "open-gop=1:threads=1"}},
    ),
    "h264_intra_refresh.mp4": (
        70,
        {"options": {**X264, "g": "12", "x264-params": "intra-refresh=1:threads=1"}},
    ),
    "h264_audio.mp4": (70, {"options": {**X264, "g": "12"}, "audio": True}),
    "h264_fragmented.mp4": (
        70,
        {"options": {**X264, "g": "12"}, "container": {"options": {"movflags": "frag_keyframe+empty_moov"}}},
    ),
    "h264_variable.mp4": (70, {"options": {**X264, "g": "12"}, "pts": IRREGULAR, "time_base": THOUSANDTHS}),
    "h264_variable.mkv": (70, {"options": {**X264, "g": "12"}, "pts": IRREGULAR, "time_base": THOUSANDTHS}),
    "h264_26_4_fps.mp4": (70, {"options": {**X264, "g": "12"}, "rate": Fraction(132, 5)}),
    "h264_29_97_fps.mkv": (70, {"options": {**X264, "g": "12"}, "rate": Fraction(30000, 1001)}),
    "h264.avi": (70, {"options": {**X264, "g": "12", "bf": "2"}}),
    "h264_without_times.h264": (70, {"options": {**X264, "g": "12", "bf": "2"}}),
    "h264.ts": (70, {"options": {**X264, "g": "12", "bf": "2"}}),
    "hevc.mp4": (
        40,
        {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "keyint=12:log-level=0"}},
    ),
    "vp8_hidden_frames.webm": (
        60,
        {
            "codec": "libvpx",
            "options": {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good"},
        },
    ),
    "vp9_hidden_frames.webm": (
        60,
        {
            "codec": "libvpx-vp9",
            "options": {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"},
        },
    ),
    "mpeg4.avi": (70, {"codec": "mpeg4", "options": {"g": "12"}}),
    "mpeg4_b2.avi": (70, {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}}),
    "mjpeg.avi": (20, {"codec": "mjpeg"}),
    "one_frame.mp4": (1, {"options": X264}),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory, encode, pictures, decode_all):
    """name -> (path, full decode), encoded when first asked for."""
    folder, made = tmp_path_factory.mktemp("videos"), {}

    def get(name):
        if name not in made:
            count, arguments = KINDS[name]
            path = encode(folder / name, pictures(count), **arguments)
            made[name] = str(path), decode_all(path)
        return made[name]

    return get


def index_sets(count):
    """Windows, single frames, all, and indices in no order with repeats."""
    rng = np.random.default_rng(count)
    starts = rng.integers(0, count, 4)
    windows = [np.linspace(s, min(s + 16, count - 1), 8).astype(int).tolist() for s in starts]
    return [*windows, [0], [count - 1], list(range(count)), rng.integers(0, count, 20).tolist()]


@pytest.mark.parametrize("name", KINDS)
def test_frames_equal_a_full_decode(name, videos, pictures):
    path, truth = videos(name)
    originals = pictures(KINDS[name][0])
    assert len(truth) == len(originals)
    # The truth itself is in presentation order: each frame is nearest to the picture it was made from.
    nearest = [int(np.argmin([np.abs(f.astype(int) - p).mean() for p in originals[:40]])) for f in truth[:40:5]]
    assert nearest == list(range(len(truth)))[:40:5]
    known = []
    for _ in range(2):  # the second time the file is known
        with decode.open(path) as video:
            known.append((video.num_frames, video.fps))
            for indices in index_sets(len(truth)):
                frames = video.frames(indices)
                assert frames.dtype == np.uint8
                np.testing.assert_array_equal(frames, np.stack([truth[i] for i in indices]))
    assert known[0] == known[1]
    assert known[0][0] == len(truth)


@pytest.mark.parametrize("name", ["h264_key12_b2.mp4", "h264_open_gop.mp4", "mpeg4_b2.avi"])
def test_threads_do_not_change_frames(name, videos):
    path, truth = videos(name)
    with decode.open(path, threads=3) as video:
        for indices in index_sets(len(truth)):
            np.testing.assert_array_equal(video.frames(indices), np.stack([truth[i] for i in indices]))


@pytest.mark.parametrize("name", ["h264_key12_b2.mp4", "h264_open_gop.mp4", "h264_29_97_fps.mkv", "mpeg4.avi"])
def test_decodes_little_more_than_the_window(name, videos):
    path, truth = videos(name)
    with decode.open(path) as video:
        assert video.frames_decoded == 0  # opening counts frames without decoding any
        np.testing.assert_array_equal(video.frames([50, 51, 52])[0], truth[50])
        assert video.frames_decoded <= 12 + 12  # at most the GOP before, as much again with an open GOP
        before = video.frames_decoded
        video.frames([2, 60])
        assert video.frames_decoded - before <= 24  # the key frames between the two are passed over


def test_no_more_is_decoded_than_a_decoder_needs(videos):
    """Packets after the last wanted frame's are not decoded to get at it, and frames to which none refers are not."""
    path, truth = videos("h264_key250_b3.mp4")
    with decode.open(path) as video:
        video.frames([63])
        few = video.frames_decoded
        assert few <= 56  # of 64
        video.frames(range(64))
        # x264 puts at most one packet (of the group's last frame) before those shown earlier.
        assert video.frames_decoded - few <= 64 + 4


def test_a_known_file_is_not_indexed_again(videos, tmp_path, monkeypatch):
    indexed, index = [], index_file.index_packets
    monkeypatch.setattr(index_file, "index_packets", lambda *args: indexed.append(1) or index(*args))
    first, second = (videos(name) for name in ("h264_key12_b2.mp4", "h264_audio.mp4"))
    path = tmp_path / "a.mp4"
    for source, truth in (first, second):
        path.write_bytes(Path(source).read_bytes())
        for threads in (1, 1, 2):
            with decode.open(path, threads=threads) as video:
                np.testing.assert_array_equal(video.frames([5, 60]), np.stack([truth[5], truth[60]]))
    assert len(indexed) == 2  # once a content


@pytest.mark.parametrize(
    "name, fps",
    [
        ("h264_26_4_fps.mp4", 26.4),
        ("h264_29_97_fps.mkv", 29.97),
        ("h264_key12_b2.mp4", 30),
        ("h264_without_times.h264", 30),
        ("one_frame.mp4", 30),
    ],
)
def test_frame_rate_and_duration(name, fps, videos):
    path, truth = videos(name)
    with decode.open(path) as video:
        assert video.fps == pytest.approx(fps, rel=1e-3)
        assert video.duration == pytest.approx(len(truth) / fps, rel=1e-3)


@pytest.mark.parametrize("name", ["h264_variable.mp4", "h264_variable.mkv"])
def test_variable_rate_is_the_mean(name, videos):
    path, _ = videos(name)
    with decode.open(path) as video:
        seconds = (IRREGULAR[-1] - IRREGULAR[0]) / 1000
        assert video.duration == pytest.approx(seconds * 70 / 69, rel=0.02)
        assert video.fps == pytest.approx(69 / seconds, rel=0.02)


def test_file_without_duration(videos):
    path, _ = videos("h264_without_times.h264")
    with av.open(path) as container:
        assert container.streams.video[0].duration is None
    with decode.open(path) as video:
        assert video.duration == pytest.approx(70 / 30, rel=1e-3)


@pytest.mark.parametrize("indices", [[-1], [70], []])
def test_indices_outside(indices, videos):
    with decode.open(videos("h264_key12_b2.mp4")[0]) as video, pytest.raises(IndexError, match="70"):
        video.frames(indices)


def test_names_with_spaces_colons_and_letters(tmp_path, videos):
    path, truth = videos("h264_key12_b2.mp4")
    for name in ("a b.mp4", "concat:a.mp4", "ünïcode 视频.mp4", "%03d.mp4"):
        copy = tmp_path / name
        copy.write_bytes(Path(path).read_bytes())
        with decode.open(str(copy)) as video:
            np.testing.assert_array_equal(video.frames([5])[0], truth[5])


def test_another_backend(videos):
    class Gray(decode.VideoReader):
        num_frames, fps = 4, 2.0

        def frames(self, indices):
            return np.full((len(indices), 2, 2, 3), 128, np.uint8)

        def close(self):
            pass

    decode.DECODING_BACKENDS.register("gray")(lambda path, threads: Gray())
    with decode.open("anything", backend="gray") as video:
        assert video.frames([0, 1]).shape == (2, 2, 2, 3)
        assert video.duration == 2.0


def test_unknown_backend_names_the_known():
    with pytest.raises(ValueError, match="decord.*pyav"):
        decode.open("a.mp4", backend="decord")


def test_a_subclass_uses_no_private_member_of_its_base():
    # Where torchcodec is not installed, nothing else would tell that a name it takes from `PyAVReader` has changed.
    code = Path(torchcodec.__file__).read_text()
    (made,) = (node for node in ast.parse(code).body if isinstance(node, ast.ClassDef))
    names = {node.name for node in made.body if isinstance(node, ast.FunctionDef)}
    used = {
        node.attr for node in ast.walk(made) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert {name for name in used if name.startswith("_")} <= names
    assert {"by_stamp", "decode_from", "video"} <= used | names
    assert all(hasattr(PyAVReader, name) for name in names if not name.startswith("_"))
