"""Files of strangers are decoded in a process that may read them alone, into the frames of our reader."""

import ctypes
import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from slowfast.apps.serve import decoder, decoder_child
from slowfast.apps.serve.decoder import DecodingLimits, VideoFacts, decode, probe
from slowfast.datasets.video import open as opening
from slowfast.datasets.video.timing import Timeline

LIMITS = DecodingLimits(wait_s=300.0)
IRREGULAR = [int(t) for t in np.cumsum(np.random.default_rng(1).integers(10, 90, 30))]
X264 = {"preset": "veryfast", "g": "12", "bf": "2"}
# name -> arguments of `encode`
KINDS = {
    "h264.mp4": {"options": X264, "audio": True},
    "mpeg4.avi": {"codec": "mpeg4"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}, "rate": Fraction(30000, 1001)},
    "variable.mkv": {"options": X264, "pts": IRREGULAR, "time_base": Fraction(1, 1000)},
    "without_times.h264": {"options": X264},
}


@pytest.fixture(scope="module")
def large(encode, pictures, tmp_path_factory) -> Path:
    """A video whose frames are more than a pipe holds."""
    return encode(tmp_path_factory.mktemp("large") / "large.mp4", pictures(30, 240, 320), options=X264)


def run_decoder(code: str, *arguments: object) -> subprocess.CompletedProcess:
    """Start a decoder's process, and run other code where it would decode."""
    program = decoder._PROGRAM.replace("main(*json.loads(sys.argv[2]))", code)
    root = str(Path(decoder.__file__).parents[3])
    command = [sys.executable, "-I", "-c", program, root, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={}, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("name", KINDS)
def test_frames_and_times_are_those_of_our_reader(name, encode, pictures, tmp_path):
    path = encode(tmp_path / name, pictures(30), **KINDS[name])
    with opening.open(str(path)) as reader:
        grid = Timeline.of(reader).grid(20.0)
        wanted = reader.frames(grid.frames(range(grid.num_frames)))
    with decode(path, LIMITS, fps=20.0) as video:
        found = list(video)
    np.testing.assert_array_equal([frame for _, frame in found], wanted)
    np.testing.assert_allclose([time for time, _ in found], np.arange(len(wanted)) / grid.fps)
    assert video.facts == probe(path, LIMITS, fps=20.0) == VideoFacts(len(wanted) / grid.fps, grid.fps, 64, 48)
    assert (grid.fps == 20.0) == (name == "variable.mkv")


def test_a_turned_video_is_upright_from_any_second(encode, pictures, with_matrix, decode_all, tmp_path):
    straight = encode(tmp_path / "straight.mp4", pictures(30), options=X264)
    turned = with_matrix(straight, tmp_path / "turned.mp4", (0, 1, -1, 0))
    with decode(turned, LIMITS, start_s=0.5) as video:
        found = list(video)
    assert (video.facts.width, video.facts.height) == (48, 64)
    assert [time for time, _ in found] == pytest.approx([number / 30 for number in range(15, 30)])
    np.testing.assert_array_equal([frame for _, frame in found], np.rot90(decode_all(straight)[15:], -1, (1, 2)))


def test_a_damaged_video_has_the_frames_that_our_reader_finds(large, tmp_path):
    content = bytearray(large.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    with opening.open(str(path)) as reader:
        wanted = reader.frames(range(reader.num_frames))
    with decode(path, LIMITS) as video:
        np.testing.assert_array_equal([frame for _, frame in video], wanted)


@pytest.fixture
def requests():
    """Paths that are asked of a web server, whose port is the list's first entry."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    asked.append(server.server_port)
    thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{address}a.ts\n#EXTINF:1,\nsecret.ts\n"),
        ("list.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nfile://{folder}/secret.ts\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile secret.ts\nfile {address}a.ts\n"),
        (
            "list.mpd",
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
            '<Representation id="1" bandwidth="1"><BaseURL>{address}a.mp4</BaseURL></Representation>'
            "</AdaptationSet></Period></MPD>",
        ),
        ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
    ],
)
def test_what_a_file_names_is_not_opened(name, text, encode, pictures, requests, tmp_path):
    encode(tmp_path / "secret.ts", pictures(5))
    path = tmp_path / name
    path.write_text(text.format(address=f"http://127.0.0.1:{requests[0]}/", folder=tmp_path))
    if name == "list.ffconcat":  # FFmpeg by itself reads what it names
        with av.open(str(path), options={"safe": "0"}) as container:
            assert next(container.decode(video=0)).width == 64
    with pytest.raises(ValueError) as caught:
        probe(path, LIMITS)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path) not in message
    assert len(requests) == 1


ATTEMPTS = """
import ctypes, resource, socket
from slowfast.apps.serve.decoder_child import confine
attempts = {
    "read": lambda: open("/etc/passwd"),
    "write": lambda: open(sys.argv[2], "w"),
    "socket": lambda: socket.socket(),
    "unix": lambda: socket.socketpair(),
    "pipe": lambda: os.pipe(),
    "execute": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    "memory": lambda: bytearray(2**29),
    "remove": lambda: os.unlink(sys.argv[3]),
}
loaded = "torch" in sys.modules
confine(2**28, 60)
told = {"torch": loaded}
for name, attempt in attempts.items():
    try:
        attempt()
        told[name] = "done"
    except BaseException as error:
        told[name] = type(error).__name__
os.write(1, json.dumps(told).encode())
os._exit(0)
"""


def has_landlock() -> bool:
    return ctypes.CDLL(None).syscall(decoder_child._CREATE_RULESET, None, 0, 1) > 0


def test_a_decoder_can_do_nothing_else(tmp_path):
    victim, new = tmp_path / "victim", tmp_path / "new"
    victim.write_text("stays")
    done = run_decoder(ATTEMPTS, new, victim)
    told = json.loads(done.stdout)
    assert not told["torch"]
    names = ["read", "write", "socket", "unix", "pipe", "execute", "limits", "memory"]
    assert [name for name in names if told[name] == "done"] == []
    assert told["memory"] == "MemoryError"
    assert not new.exists()
    if has_landlock():
        assert told["remove"] == "PermissionError"
        assert victim.read_text() == "stays"


def test_the_process_has_the_file_and_a_pipe_and_no_variables(large, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "word")
    with open(large, "rb"), decode(large, LIMITS) as video:
        process = Path(f"/proc/{video._process.pid}")
        opened = {int(entry.name): os.readlink(entry) for entry in (process / "fd").iterdir()}
        assert opened.pop(0) == str(large)
        assert opened.pop(1).startswith("pipe:")
        assert opened == {2: os.devnull}
        assert b"SECRET" not in (process / "environ").read_bytes()
        assert str(large.parent) not in (process / "cmdline").read_text()
        limits = (process / "limits").read_text()
        assert "Max open files            0                    0" in limits


def test_large_frames_are_refused(large):
    with pytest.raises(ValueError, match=r"a frame of 320 x 240 .* 0\.05 million"):
        probe(large, replace(LIMITS, frame_pixels=50_000))


def test_long_videos_are_refused(large):
    with pytest.raises(ValueError, match=r"1\.0 s, and at most 0\.5 s"):
        probe(large, replace(LIMITS, seconds=0.5))


def test_memory_is_limited(encode, tmp_path):
    path = encode(tmp_path / "large.mp4", np.zeros((2, 2048, 2048, 3), np.uint8), options={"preset": "ultrafast"})
    assert probe(path, LIMITS).width == 2048
    with pytest.raises(ValueError, match="more memory than the 8 MiB"):
        probe(path, replace(LIMITS, memory_bytes=2**23))


def test_computation_is_limited(large, monkeypatch):
    ending = "_, _, limits, *_ = json.loads(sys.argv[2])\nfrom slowfast.apps.serve.decoder_child import confine\n"
    ending += "confine(*limits[2:])\nwhile True: pass"
    monkeypatch.setattr(decoder, "_PROGRAM", decoder._PROGRAM.replace("main(*json.loads(sys.argv[2]))", ending))
    with pytest.raises(ValueError, match="more than the 1 s of computation"):
        probe(large, replace(LIMITS, cpu_s=1))


def test_the_server_waits_for_a_limited_time(large):
    with decode(large, LIMITS) as video:
        os.kill(video._process.pid, signal.SIGSTOP)
        video._limits = replace(LIMITS, wait_s=0.01)
        with pytest.raises(ValueError, match=r"nothing for 0\.01 s"):
            list(video)
        assert video._process.returncode == -signal.SIGKILL


def test_a_killed_decoder_is_an_error_of_one_line(large):
    with decode(large, LIMITS) as video:
        next(video)
        os.kill(video._process.pid, signal.SIGKILL)
        with pytest.raises(ValueError, match="signal 9"):
            list(video)
        assert list(video) == []


# What a decoder in the hands of a stranger may send: the facts of a video of 4 x 2 pixels, and then this.
LIES = {
    "no kind": "send(b'?')",
    "a larger frame": "send(b'P', 8, 2, 0.0); os.write(1, bytes(48))",
    "a time of no number": "send(b'P', 4, 2, float('nan')); os.write(1, bytes(24))",
    "a time that goes back": "[(send(b'P', 4, 2, t), os.write(1, bytes(24))) for t in (0.5, 0.4)]",
    "a time after the end": "send(b'P', 4, 2, 1.5); os.write(1, bytes(24))",
    "nothing to show again": "send(b'A', 4, 2, 0.0)",
    "an endless text": "send(b'E', 2**32 - 1); os.write(1, b'a\\n' * 2000)",
    "half a frame": "send(b'P', 4, 2, 0.0); os.write(1, bytes(5))",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_decoder_is_not_believed(lie, large, monkeypatch):
    program = "import os, struct\nsend = lambda kind, a=0, b=0, t=0.0, fps=0.0: os.write(1, struct.pack('<c3xIIdd', "
    program += f"kind, a, b, t, fps))\nsend(b'F', 4, 2, 1.0, 30.0)\n{LIES[lie]}"
    monkeypatch.setattr(decoder, "_PROGRAM", program)
    with decode(large, LIMITS) as video:
        with pytest.raises(ValueError) as caught:
            list(video)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 2100
        assert video._process.returncode is not None


def test_closing_ends_an_iteration_in_another_thread(large):
    with ThreadPoolExecutor(1) as pool, decode(large, LIMITS) as video:
        os.kill(video._process.pid, signal.SIGSTOP)
        frames = pool.submit(list, video)
        video.close()
        assert len(frames.result()) < 30


def test_a_decoder_ends_with_its_server(large, wait_for):
    code = "import sys, time\nfrom slowfast.apps.serve.decoder import decode\nvideo = decode(sys.argv[1])\n"
    code += "print(video._process.pid, flush=True)\ntime.sleep(300)"
    server = subprocess.Popen([sys.executable, "-c", code, large], stdout=subprocess.PIPE, text=True)
    pid = int(server.stdout.readline())
    server.kill()
    server.communicate()

    def is_gone():
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_for(is_gone)
    assert is_gone()


def test_nothing_is_left_of_fifty_videos(large, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")

    def read(number: int) -> int:
        if number % 5 == 0:
            with pytest.raises(ValueError, match="Invalid data"):
                probe(broken, LIMITS)
            return 0
        with decode(large, LIMITS) as video:
            next(video)
            if number % 5 == 1:
                list(video)
        return video._process.returncode

    def opened() -> set[str]:
        return set(os.listdir("/proc/self/fd"))

    before = opened()
    with ThreadPoolExecutor(4) as pool:
        statuses = set(pool.map(read, range(50)))
    assert statuses <= {0, -signal.SIGKILL}
    assert opened() == before
