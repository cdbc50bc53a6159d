"""Whatever becomes of the bytes of a video or an image, reading it gives frames or a `VideoError`."""

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from slowfast.datasets.video import open as decode
from slowfast.datasets.video.frame_folder import FrameFolder
from slowfast.datasets.video.in_order import frames_in_order
from slowfast.datasets.video.reader import VideoError
from slowfast.datasets.video.torchcodec import TorchCodecReader

ALWAYS = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# The head of a file and its tail hold what describes the rest, so changes there come as often as elsewhere.
PLACES = st.floats(0, 1) | st.floats(0, 0.05) | st.floats(0.9, 1)
CHANGES = st.lists(st.tuples(PLACES, st.integers(1, 40), st.binary(min_size=1, max_size=40)), max_size=6)
CUTS = st.just(1.0) | st.floats(0, 1)


def changed(data: bytes, changes, cut: float) -> bytes:
    """The file with bytes written over, and cut off."""
    data = bytearray(data)
    for share, count, piece in changes:
        place = int(share * (len(data) - 1))
        data[place : place + count] = piece[: len(data) - place]
    return bytes(data[: int(cut * len(data))])


@pytest.fixture(scope="module")
def videos(tmp_path_factory, encode, pictures):
    """The bytes of short videos in several containers."""
    folder = tmp_path_factory.mktemp("videos")
    options = {"g": "12", "bf": "2", "x264-params": "threads=1"}
    files = {name: encode(folder / name, pictures(24), options=options) for name in ("a.mp4", "a.mkv", "a.ts")}
    files["a.avi"] = encode(folder / "a.avi", pictures(24), "mpeg4", {"g": "12"})
    files["a.webm"] = encode(folder / "a.webm", pictures(24), "libvpx-vp9", {"cpu-used": "8"})
    return {name: path.read_bytes() for name, path in files.items()}


def backends() -> list:
    """The names of backends; one whose library does not load is skipped with the reason."""
    try:
        TorchCodecReader.require()
        lacking = ""
    except ImportError as error:
        lacking = str(error).splitlines()[0]
    marks = [pytest.mark.torchcodec, pytest.mark.skipif(bool(lacking), reason=lacking or "it loads")]
    return ["pyav", pytest.param("torchcodec", marks=marks)]


def cause_of(read) -> VideoError | None:
    """The error with which reading ends, if it does."""
    try:
        read()
    except VideoError as error:
        return error
    return None


@pytest.mark.slow
@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.webm"])
def test_changed_videos_give_frames_or_a_cause(name, backend, videos, tmp_path):
    path = str(tmp_path / name)
    outcomes = {True: 0, False: 0}

    @ALWAYS
    @given(CHANGES, CUTS)
    @example([], 1.0)
    @example([], 0.0)
    def read_changed(changes, cut):
        (tmp_path / name).write_bytes(changed(videos[name], changes, cut))
        error = cause_of(read)
        assert error is None or (error.path == path and error.cause)
        outcomes[error is None] += 1

    def read():
        with decode.open(path, backend) as video:
            count = video.num_frames
            assert 1 <= count < 100_000
            assert 0 < video.fps < 1e6
            frames = video.frames([0, count // 2, count - 1])
        assert frames.dtype == np.uint8
        assert frames.shape[::3] == (3, 3)

    read_changed()
    assert min(outcomes.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.avi"])
def test_going_through_a_changed_video_ends(name, videos, tmp_path):
    @ALWAYS
    @given(CHANGES, CUTS)
    @example([], 1.0)
    @example([], 0.0)
    def read_changed(changes, cut):
        (tmp_path / name).write_bytes(changed(videos[name], changes, cut))
        error = cause_of(read)
        assert error is None or error.cause

    def read():
        assert 1 <= sum(1 for _ in frames_in_order(str(tmp_path / name))) <= 100

    read_changed()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_changed_images_give_frames_or_a_cause(suffix, tmp_path, pictures):
    whole = cv2.imencode(suffix, pictures(1)[0])[1].tobytes()
    first, second = tmp_path / f"1{suffix}", tmp_path / f"2{suffix}"
    first.write_bytes(whole)
    outcomes = {True: 0, False: 0}

    @settings(ALWAYS, max_examples=100)
    @given(CHANGES, CUTS)
    @example([], 1.0)
    @example([], 0.0)
    def read_changed(changes, cut):
        second.write_bytes(changed(whole, changes, cut))
        error = cause_of(read)
        assert error is None or (error.path == "film" and str(second) in error.cause)
        outcomes[error is None] += 1

    def read():
        assert FrameFolder([str(first), str(second)], 30.0, name="film").frames([0, 1]).shape == (2, 48, 64, 3)

    read_changed()
    assert min(outcomes.values()) > 0
