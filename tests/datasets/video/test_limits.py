"""Media files that name others, never end or unpack to gigabytes are refused, in every place that opens media."""

import json
import os
import resource
import struct
import subprocess
import sys
import tracemalloc
import zlib

import av
import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from slowfast.apps.prepare.extract_frames import ExtractOptions, extract
from slowfast.apps.prepare.probe import probe
from slowfast.apps.prepare.resize import ResizeOptions, resize
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.find import VideoOpener
from slowfast.datasets.video.frame_folder import FrameFolder
from slowfast.datasets.video.in_order import frames_in_order
from slowfast.datasets.video.limits import FORMATS, MediaLimits
from slowfast.datasets.video.picture_size import picture_size
from slowfast.datasets.video.pyav import PyAVReader
from slowfast.datasets.video.reader import VideoError

OPENERS_OF_FILES = {
    "list.m3u8": "hls",
    "pipe.m3u8": "hls",
    "self.m3u8": "hls",
    "web.m3u8": "hls",
    "joined.mp4": "concat",
    "joined pipe.mp4": "concat",
    "session.sdp": "sdp",
    "row%03d.png": "image2",
    "notes.txt": "tty",
}
# Addresses of FFmpeg, which here are names of files.
ADDRESSES = "subfile,,start,0,end,900,,:part.mp4", "http://127.0.0.1:9/a.mp4", "data:video/mp4;base64,AAAA"
# Reads each argument as a video and as an image, and prints what came of it. A process can be stopped if it hangs.
READ_ALL = """
import json, sys
from slowfast.datasets.video import open as decode
from slowfast.datasets.video.frame_folder import FrameFolder
def memory():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
found = {}
for path in sys.argv[1:]:
    for kind, read in ("video", decode.open), ("image", lambda path: FrameFolder([path], 30).frames([0])):
        before = memory()
        try:
            read(path)
            cause = ""
        except Exception as error:
            cause = f"{type(error).__name__} {error}"
        found[f"{kind} {path}"] = cause, memory() - before
print(json.dumps(found))
"""


def png(width: int, height: int, rows: int) -> bytes:
    """Return a black PNG image whose data holds the first `rows` rows."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixels = zlib.compress(bytes(rows * (1 + 3 * width)), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, encode, pictures):
    """Folder of files that name others, of pipes and devices, and of huge pictures."""
    folder = tmp_path_factory.mktemp("hostile")
    encode(folder / "part.ts", pictures(10))
    encode(folder / "part.mp4", pictures(10))
    os.mkfifo(folder / "pipe.ts")
    os.mkfifo(folder / "pipe.jpg")
    for name, part in (("list", folder / "part.ts"), ("pipe", folder / "pipe.ts"), ("web", "http://127.0.0.1:9/a.ts")):
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXTINF:0.4,", part, "#EXT-X-ENDLIST", ""]
        (folder / f"{name}.m3u8").write_text("\n".join(map(str, lines)))
    (folder / "self.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nself.m3u8\n")
    (folder / "joined.mp4").write_text("ffconcat version 1.0\nfile part.mp4\nfile part.mp4\n")
    (folder / "joined pipe.mp4").write_text("ffconcat version 1.0\nfile pipe.ts\n")
    session = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=x", "c=IN IP4 127.0.0.1", "t=0 0", "m=video 5004 RTP/AVP 96", ""]
    (folder / "session.sdp").write_text("\n".join(session))
    for name in ("row%03d.png", "row000.png", "row001.png"):
        (folder / name).write_bytes(png(8, 6, 6))
    (folder / "notes.txt").write_text("This is no video.\n" * 200)
    (folder / "endless.jpg").symlink_to("/dev/zero")
    (folder / "huge.png").write_bytes(png(30_000, 30_000, 20))
    with open(folder / "long.jpg", "wb") as file:
        file.truncate(2**40)
    with av.open(str(folder / "huge.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 8192, 8192, "yuvj420p"
        for number in range(2):
            frame = av.VideoFrame(8192, 8192, "yuvj420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return folder


@pytest.fixture(scope="module")
def outcomes(hostile, repo):
    """("video" or "image", name) -> cause, and MiB by which the process grew."""
    call = [sys.executable, "-c", READ_ALL, *sorted(os.listdir(hostile)), *ADDRESSES]
    path = os.pathsep.join([str(repo), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, cwd=hostile, env=environment)
    assert done.returncode == 0, done.stderr
    return {tuple(key.split(" ", 1)): value for key, value in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", OPENERS_OF_FILES)
def test_a_file_that_names_others_is_refused_before_they_are_opened(name, outcomes):
    cause, grown = outcomes["video", name]
    assert f"{name}: its format is {OPENERS_OF_FILES[name]}, " in cause and "DATA.MEDIA_FORMATS_EXTRA" in cause
    assert "\n" not in cause
    assert grown < 100


@pytest.mark.parametrize(
    "kind, name, cause",
    [
        ("video", "pipe.ts", "not a regular file but a pipe"),
        ("video", "endless.jpg", "not a regular file but a device"),
        ("image", "pipe.jpg", "not a regular file but a pipe"),
        ("image", "endless.jpg", "not a regular file but a device"),
        ("image", "long.jpg", "1,048,576 MiB are too much for a picture"),
        ("image", "huge.png", "30000 x 30000 has 900.0 million pixels; DATA.MAX_FRAME_PIXELS allows 36 million"),
        ("video", "huge.avi", "8192 x 8192 has 67.1 million pixels; DATA.MAX_FRAME_PIXELS allows 36 million"),
        *[("video", address, "no such file") for address in ADDRESSES],
    ],
)
def test_what_is_no_plain_file_or_too_large(kind, name, cause, outcomes):
    found, grown = outcomes[kind, name]
    assert found.startswith("VideoError") and cause in found and "\n" not in found
    assert grown < 250


def test_good_files_are_read(outcomes):
    assert outcomes["video", "part.ts"][0] == outcomes["image", "row000.png"][0] == ""


@pytest.mark.parametrize("name", ["list.m3u8", "joined.mp4"])
def test_every_place_that_opens_media_refuses(name, hostile, tiny_cfg, tmp_path):
    path, named = str(hostile / name), "DATA.MEDIA_FORMATS_EXTRA"
    cfg = tiny_cfg("DATA.MAX_FRAME_PIXELS", 10**6)  # so that limits are passed on
    for read in (decode.open, decode.video_opener(cfg), VideoOpener.from_config(cfg, 30.0)):
        with pytest.raises(VideoError, match=named):
            read(path)
    with pytest.raises(VideoError, match=named):
        next(frames_in_order(path))
    with pytest.raises(VideoError, match=named):
        resize(path, str(tmp_path / "copy.mp4"), ResizeOptions())
    assert named in extract(ExtractOptions(10.0), str(tmp_path), ("video", path)).cause
    assert named in probe(decode.open, False, path).cause


def test_a_setting_adds_formats(hostile, tiny_cfg):
    read = decode.video_opener(tiny_cfg("DATA.MEDIA_FORMATS_EXTRA", "[hls, concat]"))
    for name, count in (("list.m3u8", 10), ("joined.mp4", 20)):
        with read(str(hostile / name)) as video:
            assert video.num_frames == count
    # What such a file opens has to be a file, of the formats that are read.
    with pytest.raises(VideoError):
        read(str(hostile / "web.m3u8"))


def test_an_unknown_format_is_named(tiny_cfg):
    with pytest.raises(ValueError, match=r"DATA.MEDIA_FORMATS_EXTRA \['hsl'\]: .*'hsl'"):
        decode.video_opener(tiny_cfg("DATA.MEDIA_FORMATS_EXTRA", ["hsl"]))


@pytest.mark.parametrize(
    "name, codec, form",
    [
        *[(f"a.{suffix}", "libx264", None) for suffix in ("mp4", "mov", "mkv", "ts", "flv", "h264", "3gp", "m4v")],
        *[(f"a.{suffix}", "mpeg4", None) for suffix in ("avi", "nut", "wmv")],
        *[("a.mpg", "mpeg2video", "mpeg"), ("a.vob", "mpeg2video", "vob"), ("a.m2v", "mpeg2video", "mpeg2video")],
        *[("a.webm", "libvpx-vp9", None), ("a.ivf", "libvpx-vp9", None), ("a.mxf", "mpeg2video", None)],
        *[("a.y4m", "rawvideo", "yuv4mpegpipe"), ("a.mjpeg", "mjpeg", "mjpeg"), ("a.hevc", "libx265", "hevc")],
        *[("a.gif", "gif", None), ("a.apng", "apng", "apng")],
        ("row of.png", "png", "image2pipe"),
    ],
)
def test_containers_of_cameras_and_downloads_are_read(name, codec, form, encode, pictures, tmp_path):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    kind = {"gif": "rgb8", "apng": "rgb24", "png": "rgb24"}.get(codec, "")
    encode(tmp_path / name, pictures(6), codec, rate=25, pix_fmt=kind, container={"format": form} if form else {})
    with decode.open(str(tmp_path / name)) as video:
        assert video.frames([0, 5]).shape == (2, 48, 64, 3)


def test_no_listed_format_is_a_protocol_or_a_list():
    names = {
        "hls",
        "concat",
        "concatf",
        "dash",
        "sdp",
        "rtp",
        "rtsp",
        "sap",
        "image2",
        "lavfi",
        "imf",
        "tty",
        "webm_dash_manifest",
    }
    assert not names & set(FORMATS)


@pytest.mark.parametrize(
    "name, codec", [("a.mp4", "libx264"), ("a.ts", "libx264"), ("a.avi", "mjpeg"), ("a.gif", "gif")]
)
def test_large_frames_make_a_file_unreadable(name, codec, encode, pictures, tmp_path):
    path = encode(tmp_path / name, pictures(4), codec, pix_fmt="rgb8" if codec == "gif" else "")
    for limit in (64 * 48, 0):
        with PyAVReader(str(path), limits=MediaLimits(frame_pixels=limit)) as video:
            assert video.frames([3]).shape == (1, 48, 64, 3)
    with pytest.raises(VideoError, match="a frame of 64 x 48 has 0.0 million pixels; DATA.MAX_FRAME_PIXELS"):
        PyAVReader(str(path), limits=MediaLimits(frame_pixels=64 * 48 - 1))


def test_a_frame_that_grows_in_mid_stream_is_not_decoded(encode, pictures, tmp_path):
    small, large = encode(tmp_path / "a.h264", pictures(5)), encode(tmp_path / "b.h264", pictures(5, 96, 128))
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    for limit, count in ((0, 10), (64 * 48, 5)):
        copy = tmp_path / f"{limit}.h264"
        copy.write_bytes(both.read_bytes())
        with PyAVReader(str(copy), limits=MediaLimits(frame_pixels=limit)) as video:
            assert video.num_frames == count


def test_unreadable_ones_are_counted_and_do_not_end_the_run(hostile, tiny_cfg, tiny_data, tmp_path):
    from slowfast.datasets.build import build_loader

    lines = (tiny_data / "train.csv").read_text().splitlines()
    bad = ["list.m3u8", "joined.mp4", "huge.avi", "pipe.ts"]
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.csv").write_text("\n".join([*(f"{hostile / name} 0" for name in bad), *lines, ""]))
    cfg = tiny_cfg("DATA.PATH_TO_DATA_DIR", str(tmp_path), "DATA.MAX_UNREADABLE_FRACTION", 0.5)
    missing = [pair for batch in build_loader(cfg, "test") for pair in batch.unreadable]
    assert {os.path.basename(path) for path, _ in missing} == set(bad)
    replaced = [pair for batch in build_loader(cfg, "train") for pair in batch.unreadable]
    assert {os.path.basename(path) for path, _ in replaced} == set(bad)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tiff", "ppm", "pgm"])
@given(width=st.integers(1, 300), height=st.integers(1, 300), lossless=st.booleans())
def test_size_in_the_header_is_that_of_the_picture(suffix, width, height, lossless):
    options = {"webp": [cv2.IMWRITE_WEBP_QUALITY, 101 if lossless else 80]}
    options["jpg"] = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(lossless)]
    shape = (height, width) if suffix == "pgm" else (height, width, 3)
    data = cv2.imencode(f".{suffix}", np.zeros(shape, np.uint8), options.get(suffix, []))[1].tobytes()
    assert picture_size(data) == (width, height)


JPEG = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()


@given(data=st.binary(max_size=200), cut=st.integers(0, len(JPEG)), place=st.integers(0, len(JPEG) - 1))
def test_size_of_damaged_headers(data, cut, place):
    starts = (b"", b"\xff\xd8", b"BM", b"II*\0", b"MM\0*", b"RIFF1234WEBPVP8 ", b"\x89PNG\r\n\x1a\n", b"P6", JPEG[:cut])
    for start in starts:
        size = picture_size(start + data)
        assert size is None or len(size) == 2
    # What OpenCV decodes has the size that was read. It makes room first, for sizes above its own limit it raises.
    damaged = JPEG[:place] + data[:3] + JPEG[place + 3 :]
    assume(np.prod(picture_size(damaged) or 0) < 1_000_000)
    picture = cv2.imdecode(np.frombuffer(damaged, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert picture is None or picture_size(damaged) == (picture.shape[1], picture.shape[0])


@pytest.mark.parametrize(
    "data, size",
    [
        (b"P6 #\r99 99\n5 5\n255\n", (99, 99)),  # a comment ends with a carriage return
        (b"BM" + bytes(12) + struct.pack("<IHH", 12, 5, 6), (5, 6)),
        (b"BM" + bytes(12) + struct.pack("<Iii", 40, 5, -6), (5, 6)),
        (b"BM" + bytes(12) + struct.pack("<Iii", 12 + 256, 70_000, 6), (70_000, 6)),
        (b"RIFF1234WEBPVP8X" + bytes(8) + b"\xff\xff\x00\x09\x00\x00", (65536, 10)),
        (b"\x00\x00\x00\x0cjP  ", None),
        (png(8, 6, 6) + b"more", (8, 6)),
        # A chunk of the pixels that claims 1.8 GB, for which OpenCV would make room.
        (png(8, 6, 6)[:33] + b"\x70\x00\x00\x00" + png(8, 6, 6)[37:], None),
    ],
)
def test_sizes_of_odd_headers(data, size):
    assert picture_size(data) == size


def test_a_picture_of_very_many_empty_chunks_is_not_walked_to_its_end():
    assert picture_size(png(8, 6, 6)[:33] + bytes(12) * 300_000 + png(8, 6, 6)[33:]) is None


def test_files_that_are_no_pictures_are_not_given_to_opencv(tmp_path):
    data = cv2.imencode(".hdr", np.zeros((6, 8, 3), np.float32))[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(VideoError, match="JPEG, PNG, BMP, WebP, TIFF and PNM are read"):
        FrameFolder([tmp_path / "a.jpg"], 30).frames([0])


def test_no_more_descriptors_is_no_fault_of_the_file(hostile):
    """An OSError ends the work; a VideoError would count good files as unreadable."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    folder = FrameFolder([hostile / "row000.png"], 30)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # descriptors that are open stay so
    try:
        with pytest.raises(OSError, match="Too many open files"):
            folder.frames([0])
        with pytest.raises(OSError, match="Too many open files"):
            decode.open(str(hostile / "part.mp4"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("kind", ["by stamp", "by count", "images", "images, 4 threads"])
def test_frames_are_held_once(kind, encode, pictures, tmp_path):
    """The clip, and a few frames on their way to it; a repeated frame is decoded once."""
    if kind.startswith("images"):
        paths = [tmp_path / f"{number}.png" for number in range(40)]
        for path, picture in zip(paths, pictures(40, 240, 320), strict=True):
            cv2.imwrite(str(path), picture)
        video = FrameFolder(paths, 30, 4 if "threads" in kind else 1)
    else:
        path = encode(tmp_path / ("a.mp4" if kind == "by stamp" else "a.ts"), pictures(40, 240, 320))
        video = decode.open(str(path))
    indices = [0, 0, *range(40), 39]
    with video:
        video.frames([0])
        tracemalloc.start()
        frames = video.frames(indices)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak - frames.nbytes < (14 if "threads" in kind else 4) * frames[0].nbytes
        for row in (0, 1, 7, 42):
            np.testing.assert_array_equal(frames[row], video.frames([indices[row]])[0])
