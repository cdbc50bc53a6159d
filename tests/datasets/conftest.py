"""Videos that the tests encode, and the slow, obvious way to decode them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

HEIGHT, WIDTH = 48, 64


def make_pictures(count: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """(count, height, width, 3) uint8 frames that differ: a bright block wanders over smooth noise."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(40, 120, width)[None, None, :, None] + np.linspace(0, 60, height)[None, :, None, None]
    pictures = np.repeat(np.repeat(ramp, count, axis=0), 3, axis=-1) + rng.normal(0, 3, (count, height, width, 3))
    for number in range(count):
        row, column = 8 * (number // 7 % (height // 8)), 8 * (number % (width // 8))
        pictures[number, row : row + 8, column : column + 8] = (250, 20 + number % 200, 30)
    return pictures.clip(0, 255).astype(np.uint8)


def _encode(
    path: Path,
    pictures: np.ndarray,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    rate: Fraction | int = 30,
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
    audio: bool = False,
    container: dict | None = None,
    pix_fmt: str = "",
) -> Path:
    options = dict(options or {})
    if codec == "libx264":
        # The same bytes on every processor, so that what a test cuts and damages is the same.
        options["x264-params"] = ":".join(filter(None, [options.get("x264-params"), "cpu-independent=1"]))
    with av.open(str(path), "w", **(container or {})) as output:
        stream = output.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pix_fmt or {"mjpeg": "yuvj420p", "cinepak": "rgb24"}.get(codec, "yuv420p")
        if time_base is not None:
            stream.codec_context.time_base = time_base
        sound = output.add_stream("aac", rate=16000) if audio else None
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[number], time_base
            output.mux(stream.encode(frame))
            if sound is not None:
                output.mux(sound.encode(_tone(number)))
        output.mux(stream.encode(None))
        if sound is not None:
            output.mux(sound.encode(None))
    return path


def _tone(number: int) -> av.AudioFrame:
    wave = np.sin(np.arange(512) * 0.2).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 16000, number * 512
    return frame


def _decode_all(path: Path) -> list[np.ndarray]:
    """Every frame that decodes, in the order it comes out; packets that do not decode are passed over.

    On one thread, since FFmpeg patches up damaged pictures only there.
    """
    frames: list[np.ndarray] = []
    with av.open(str(path), metadata_errors="replace") as container:
        container.streams.video[0].codec_context.thread_count = 1
        packets = container.demux(container.streams.video[0])
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return frames
            except av.FFmpegError:
                return frames
            try:
                frames += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
            except av.FFmpegError:
                continue


@pytest.fixture(scope="session")
def pictures():
    return make_pictures


@pytest.fixture(scope="session")
def encode():
    """`encode(path, pictures, codec, options, rate, pts, time_base, audio, container, pix_fmt) -> path`."""
    return _encode


@pytest.fixture(scope="session")
def decode_all():
    """`decode_all(path) -> list of (H, W, 3) uint8`: the truth that readers are held against."""
    return _decode_all
