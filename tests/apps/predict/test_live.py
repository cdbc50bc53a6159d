"""Frames of live sources: servers that break off, stall and come back, datagrams, RTSP, pipes, cameras, mistakes."""

from __future__ import annotations

import io
import os
import socket
import threading
import time

import av
import numpy as np
import pytest

from slowfast.apps.predict import live
from slowfast.apps.predict.live import LiveSource
from slowfast.apps.predict.live_address import is_live
from slowfast.datasets.video.limits import MediaLimits
from slowfast.datasets.video.reader import VideoError

FRAMES, RATE = 60, 25


@pytest.fixture(scope="module")
def film(tmp_path_factory, encode, pictures):
    """MPEG-TS of 60 frames, 25 a second, with a key frame every 10."""
    path = tmp_path_factory.mktemp("film") / "film.ts"
    return encode(path, pictures(FRAMES), options={"g": "10", "bf": "0"}, rate=RATE)


@pytest.fixture
def at_once(monkeypatch):
    """Sources that were lost are opened again at once."""
    monkeypatch.setattr(live, "_FIRST_WAIT_S", 0.01)


@pytest.fixture
def source():
    """`source(address, **arguments)`: a live source, closed at the end of the test."""
    opened = []

    def start(address: str, **arguments: object) -> LiveSource:
        opened.append(LiveSource(address, **arguments))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def on_stdin(monkeypatch):
    """`on_stdin(file)`: a file, or the reading end of a pipe, becomes standard input."""
    return lambda file: monkeypatch.setattr("sys.stdin", file)


def packets(path, count):
    """The first bytes of a file of MPEG-TS, with about `count` of its frames."""
    data = path.read_bytes()
    return data[: len(data) * count // FRAMES // 188 * 188]


def assert_frames(found, wanted):
    assert len(found) == len(wanted)
    for frame, pixels in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(frame.pixels, pixels)


def test_what_a_source_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").mkdir()
    lives = ["-", "0", "/dev/video0", "rtsp://camera/stream", "http://127.0.0.1/a.ts", "FTP://host/a"]
    assert all(map(is_live, lives))
    assert not any(map(is_live, ["7", "a.mp4", "/dev/shm/a.mp4", "videos", "list.txt", "C:\\a.mp4"]))


def test_a_file_on_a_server_loses_no_frame(serve, replies, source, film, decode_all):
    """However slowly its frames are taken."""
    opened = source(serve(replies.whole(film.read_bytes())), max_waiting=3)
    assert (opened.is_live, opened.fps) == (False, RATE)
    found = []
    for frame in opened:
        assert opened.num_waiting <= 3
        found.append(frame)
    assert_frames(found, decode_all(film))
    np.testing.assert_allclose([frame.stamp_s for frame in found], np.arange(FRAMES) / RATE, atol=1e-6)
    assert (opened.received, opened.dropped, opened.losses) == (FRAMES, 0, 0)


def test_a_file_on_a_server_goes_on_where_it_broke_off(serve, replies, source, film, decode_all, at_once, caplog):
    data = film.read_bytes()
    opened = source(serve(replies.cut_off(data, len(data) // 2), replies.error(503), replies.whole(data)))
    found = list(opened)
    assert_frames(found, decode_all(film))
    np.testing.assert_allclose([frame.stamp_s for frame in found], np.arange(FRAMES) / RATE, atol=1e-6)
    assert (opened.dropped, opened.losses) == (0, 1)
    assert [" is lost after " in line for line in caplog.messages if opened.name in line] == [True, False]


def test_a_file_that_does_not_come_back_is_an_error(serve, replies, source, film, at_once):
    data = film.read_bytes()
    opened = source(serve(replies.cut_off(data, len(data) // 2), replies.error(404)))
    taken = []
    with pytest.raises(VideoError, match=r"broke off after 1\.\d\d s .*404"):
        taken.extend(opened)
    assert len(taken) > 20


def test_a_live_source_keeps_the_newest_frames(over_tcp, source, film, decode_all, wait_for):
    opened = source(over_tcp(film.read_bytes()), timeout_s=60, max_waiting=8)
    assert opened.is_live
    wait_for(lambda: opened.received == FRAMES)
    found = list(opened)
    assert_frames(found, decode_all(film)[-8:])
    assert opened.dropped == FRAMES - 8
    assert [frame.stamp_s for frame in found] == pytest.approx(np.arange(FRAMES - 8, FRAMES) / RATE)


def test_a_live_source_that_breaks_off_comes_back(serve, replies, source, film, at_once, caplog):
    """Its time goes on meanwhile."""
    again = threading.Event()
    address = serve(
        replies.live(packets(film, 30), again),
        replies.error(503),
        replies.error(503),
        replies.live(film.read_bytes(), threading.Event()),
    )
    opened = source(address, max_waiting=200)
    assert opened.is_live
    found = []
    for frame in opened:
        found.append(frame)
        again.set()
        if frame.connection and len(found) > 70:
            break
    connections = [frame.connection for frame in found]
    assert connections == sorted(connections)
    assert set(connections) == {0, 1}
    stamps, back = np.array([frame.stamp_s for frame in found]), connections.index(1)
    assert (np.diff(stamps) > 0).all()
    np.testing.assert_allclose(np.diff(stamps[back:]), 1 / RATE, atol=1e-6)
    passed = found[back].arrived_s - found[back - 1].arrived_s
    assert stamps[back] - stamps[back - 1] == pytest.approx(passed)
    assert opened.losses == 1
    told = [line for line in caplog.messages if opened.name in line]
    assert [("is lost" in line, "is back" in line) for line in told] == [(True, False), (False, True)]


def test_a_live_source_that_stalls(serve, replies, source, film, at_once):
    """A short stall is waited for; one that is longer than the limit is a loss."""
    data, resumed, never = film.read_bytes(), threading.Event(), threading.Event()
    cut = len(packets(film, 30))
    opened = source(serve(replies.live(data[:cut], resumed, data[cut:], never)), timeout_s=60, max_waiting=200)
    for frame in opened:
        resumed.set()
        if frame.stamp_s > 50 / RATE:
            break
    assert (frame.connection, opened.losses) == (0, 0)

    opened = source(serve(replies.live(data[:cut], never), replies.live(data, never)), timeout_s=2, max_waiting=200)
    for frame in opened:
        if frame.connection:
            break
    assert opened.losses >= 1


def test_a_source_closes_at_once_though_its_server_stalls(serve, replies, source, film):
    opened = source(serve(replies.live(packets(film, 30), threading.Event())), timeout_s=300)
    frames = iter(opened)
    next(frames)
    before = time.monotonic()
    opened.close()
    opened.close()
    assert time.monotonic() - before < 60
    assert list(frames) == []


@pytest.mark.parametrize("kind", ["ts", "mkv", "avi"])
def test_standard_input_loses_no_frame(on_stdin, source, in_background, encode, pictures, decode_all, tmp_path, kind):
    path = encode(tmp_path / f"film.{kind}", pictures(FRAMES), "mpeg4", rate=RATE)
    reading, writing = os.pipe()

    def write():
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(path.read_bytes())

    in_background(write)
    with os.fdopen(reading, "rb") as pipe:
        on_stdin(pipe)
        opened = source("-", max_waiting=2)
        found = list(opened)
    assert not opened.is_live
    assert_frames(found, decode_all(path))
    np.testing.assert_allclose([frame.stamp_s for frame in found], np.arange(FRAMES) / RATE, atol=1e-3)


def test_standard_input_may_be_a_file_that_needs_seeking(on_stdin, source, encode, pictures, decode_all, tmp_path):
    path = encode(tmp_path / "film.mp4", pictures(20), rate=RATE)
    with path.open("rb") as file:
        on_stdin(file)
        assert_frames(list(source("-")), decode_all(path))


def test_a_pipe_that_waits_is_closed_at_once(on_stdin, source, film):
    reading, writing = os.pipe()
    os.write(writing, packets(film, 30))
    with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb"):
        on_stdin(pipe)
        opened = source("-")
        assert next(iter(opened)).stamp_s == 0
        opened.close()
        assert not any(thread.name == "reader of standard input" for thread in threading.enumerate())


def test_a_camera_that_speaks_rtsp(rtsp_camera, source, film, decode_all, at_once):
    """Its end is a loss, and it is opened again."""
    opened = source(rtsp_camera(film.read_bytes()), timeout_s=60, max_waiting=1000)
    assert opened.is_live
    found = []
    for frame in opened:
        if frame.connection == 2:
            break
        found.append(frame)
    truth = decode_all(film)
    for connection in (0, 1):
        # The last packet of a connection may lack its end.
        of_it = [frame for frame in found if frame.connection == connection]
        assert len(of_it) >= FRAMES - 2
        assert_frames(of_it, truth[: len(of_it)])
    stamps = [frame.stamp_s for frame in found]
    assert stamps == sorted(stamps)


def test_datagrams(source, free_port, film, in_background):
    """As `ffmpeg -f mpegts udp://...` sends them, with pauses."""
    stop = threading.Event()

    def send():
        data = film.read_bytes()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not stop.is_set():
                for start in range(0, len(data), 7 * 188):
                    sender.sendto(data[start : start + 7 * 188], ("127.0.0.1", free_port))
                    stop.wait(0.002)

    in_background(send)
    try:
        opened = source(f"udp://127.0.0.1:{free_port}", timeout_s=60)
        assert opened.is_live
        frames = iter(opened)
        found = [next(frames) for _ in range(10)]
    finally:
        stop.set()
    assert found[0].pixels.shape == (48, 64, 3)
    stamps = [frame.stamp_s for frame in found]
    assert stamps == sorted(stamps)


def test_a_playlist_leads_to_the_network_alone(serve, replies, source, film, decode_all):
    """The same segments: from the server, and from the disk of who reads the playlist."""
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.4,\n{}\n#EXT-X-ENDLIST\n"
    address = serve(
        {
            "/remote.m3u8": replies.whole(head.format("film.ts").encode(), "application/vnd.apple.mpegurl"),
            "/local.m3u8": replies.whole(head.format(f"file://{film}").encode(), "application/vnd.apple.mpegurl"),
            "/film.ts": replies.whole(film.read_bytes()),
        }
    )
    opened = source(f"{address}/remote.m3u8")
    assert not opened.is_live
    assert_frames(list(opened), decode_all(film))
    with pytest.raises(VideoError):
        list(source(f"{address}/local.m3u8"))
    with av.open(f"{address}/local.m3u8", options={"protocol_whitelist": "file,http,tcp"}) as container:
        assert next(container.decode(video=0))  # it could be read


@pytest.fixture
def refusing():
    """Return a port that stays without a server for the test."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_sources_that_are_none(serve, replies, source, refusing, on_stdin):
    sound = io.BytesIO()
    with av.open(sound, "w", format="wav") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        wave = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        wave.sample_rate = 8000
        output.mux(stream.encode(wave))
    address = serve(
        {
            "/none": replies.error(404),
            "/text": replies.whole(b"no video, but words\n" * 100, "text/plain"),
            "/sound": replies.whole(sound.getvalue(), "audio/wav"),
        }
    )
    wrong = {
        f"{address}/none": "404",
        f"{address}/text": "Invalid data",
        f"{address}/sound": "no video stream",
        f"http://127.0.0.1:{refusing}/": "Connection refused",
        f"rtsp://127.0.0.1:{refusing}/": "Connection refused",
        f"udp://127.0.0.1:{refusing}": "no data for 0.3 s",
        f"http://{'x' * 64}.invalid/": "there is no host xxx",  # no name server is asked about so long a word
        "/dev/video99": "No such file",
        "99": "/dev/video99: No such file",
    }
    for name, cause in wrong.items():
        with pytest.raises(VideoError, match=cause):
            LiveSource(name, timeout_s=0.3 if name.startswith("udp") else 60)
    for name in ("file:///etc/passwd", "ftp://host/a.ts", "concat:a|b", "video.mp4", "http://[::1/a.ts"):
        with pytest.raises(ValueError, match=r"no live source|Invalid IPv6"):
            LiveSource(name)
    with open(os.devnull, "rb") as empty:
        on_stdin(empty)
        with pytest.raises(VideoError, match="standard input: "):
            LiveSource("-")


def test_a_password_is_not_shown(refusing):
    with pytest.raises(VideoError) as told:
        LiveSource(f"rtsp://me:secret@127.0.0.1:{refusing}/cam")
    assert str(told.value).startswith(f"rtsp://127.0.0.1:{refusing}/cam: ")
    with pytest.raises(ValueError, match="ftp://host") as told:
        LiveSource("ftp://me:secret@host/a")
    assert "secret" not in str(told.value)


def test_frames_that_cannot_be_converted_are_passed_over(serve, replies, source, film, decode_all, monkeypatch):
    """FFmpeg refuses some colors, which damaged headers claim."""
    opened = source(serve(replies.whole(film.read_bytes())))
    convert = opened._reformatter.reformat

    class Reformatter:
        count = -1

        def reformat(self, frame, **options):
            self.count += 1
            if self.count % 10 == 0:
                raise OSError(95, "Operation not supported")
            return convert(frame, **options)

    monkeypatch.setattr(opened, "_reformatter", Reformatter())
    assert_frames(list(opened), [frame for number, frame in enumerate(decode_all(film)) if number % 10])
    assert opened.damaged == FRAMES // 10


def test_damaged_packets_are_passed_over(serve, replies, source, film):
    data = bytearray(film.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    opened = source(serve(replies.whole(bytes(data))))
    stamps = [frame.stamp_s for frame in opened]
    assert FRAMES // 2 < len(stamps) <= FRAMES
    assert stamps == sorted(stamps)
    assert stamps[-1] == pytest.approx((FRAMES - 1) / RATE)


def test_another_size_in_the_middle(over_tcp, source, film, encode, pictures, tmp_path, decode_all):
    other = encode(tmp_path / "other.ts", pictures(10, 36, 40), options={"bf": "0"}, rate=RATE)
    opened = source(over_tcp(film.read_bytes() + other.read_bytes()), timeout_s=60, max_waiting=200)
    found = []
    with pytest.raises(VideoError, match=r"64 x 48 to 40 x 36 after 2\.36 s"):
        found.extend(opened)
    assert_frames(found, decode_all(film))


def test_frames_that_are_too_large(serve, replies, film):
    with pytest.raises(VideoError, match=r"64 x 48 .*DATA\.MAX_FRAME_PIXELS"):
        LiveSource(serve(replies.whole(film.read_bytes())), limits=MediaLimits(frame_pixels=3000))
