"""Encoded videos, a tiny data set and a config that trains on it in seconds, and the tools as calls or processes."""

from __future__ import annotations

import importlib.util
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import yaml

from slowfast.apps.synthetic.cater.renderer import Renderer
from slowfast.config import load_config

ROOT = Path(__file__).resolve().parents[1]


def write_video(path: Path, frames: np.ndarray, fps: int = 30) -> None:
    """Encode (T, H, W, 3) uint8 frames as H.264 in mp4."""
    with av.open(str(path), "w") as container:
        # The same bytes on every processor, so that a test that fails on one fails on all.
        stream = container.add_stream("libx264", rate=fps, options={"x264-params": "cpu-independent=1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors are fastest, and sums in one order, on one thread."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """12 training, 4 validation and 4 test videos of 16 frames in two classes: dark and bright."""
    folder = tmp_path_factory.mktemp("tiny data")
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4), ("test", 4)):
        lines = []
        for number in range(count):
            label = number % 2
            frames = generator.integers(0, 100, (16, 48, 64, 3)) + 120 * label
            path = folder / f"{split} {number}.mp4"
            write_video(path, frames.astype(np.uint8))
            lines.append(f"{path} {label}\n")
        (folder / f"{split}.csv").write_text("".join(lines))
    return folder


@pytest.fixture
def tiny_settings(tiny_data, tmp_path) -> dict:
    """Settings of a one-second training run on the CPU, as a nested dict for YAML."""
    return {
        "NUM_GPUS": 0,
        "OUTPUT_DIR": str(tmp_path / "out"),
        "LOG_PERIOD": 1,
        "TRAIN": {"BATCH_SIZE": 4, "CHECKPOINT_PERIOD": 1, "EVAL_PERIOD": 2},
        "TEST": {"BATCH_SIZE": 4, "NUM_ENSEMBLE_VIEWS": 2, "NUM_SPATIAL_CROPS": 1},
        "DATA": {
            "PATH_TO_DATA_DIR": str(tiny_data),
            "NUM_FRAMES": 4,
            "SAMPLING_RATE": 2,
            "INPUT_CHANNEL_NUM": [3],
            "TRAIN_JITTER_SCALES": [36, 40],
            "TRAIN_CROP_SIZE": 32,
            "TEST_CROP_SIZE": 32,
        },
        "DATA_LOADER": {"NUM_WORKERS": 0},
        "RESNET": {
            "DEPTH": 18,
            "TRANS_FUNC": "basic_transform",
            "WIDTH_PER_GROUP": 4,
            "NUM_BLOCK_TEMP_KERNEL": [[2], [2], [2], [2]],
        },
        "MODEL": {"ARCH": "slow", "MODEL_NAME": "ResNet", "NUM_CLASSES": 2, "DROPOUT_RATE": 0.5},
        "SOLVER": {"BASE_LR": 0.01, "MAX_EPOCH": 2, "LR_POLICY": "cosine"},
    }


@pytest.fixture
def tiny_file(tiny_settings, tmp_path) -> Path:
    """`tiny_settings` as a YAML file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_settings))
    return path


@pytest.fixture
def tiny_cfg(tiny_file):
    """Function: `tiny_settings` with `KEY, VALUE, ...` overrides, loaded."""
    return lambda *overrides: load_config(str(tiny_file), list(overrides))


@pytest.fixture
def one_overflows(tiny_cfg, tiny_data, tmp_path) -> list:
    """Overrides that test three dark videos and a bright one, `test 1.mp4`, with weights under which that overflows.

    All weights are finite. The stem sums its pixels, which are below zero in dark videos and become 0 in the ReLU.
    """
    from slowfast.checkpoint.io import save_checkpoint
    from slowfast.models import build_model

    weights = build_model(tiny_cfg()).state_dict()
    weights["s1.pathway0_stem.conv.weight"].fill_(1.0)
    weights["s1.pathway0_stem.bn.weight"].fill_(1e37)
    save_checkpoint({"model_state": weights}, str(tmp_path / "overflow.pyth"))
    (tmp_path / "lists").mkdir()
    names = ("test 0", "test 1", "test 2", "train 0")
    for split in ("train", "val", "test"):
        lines = "".join(f"{tiny_data / name}.mp4 {number % 2}\n" for number, name in enumerate(names))
        (tmp_path / "lists" / f"{split}.csv").write_text(lines)
    return [
        *("DATA.PATH_TO_DATA_DIR", str(tmp_path / "lists")),
        *("TEST.CHECKPOINT_FILE_PATH", str(tmp_path / "overflow.pyth")),
    ]


@pytest.fixture
def tool(hears_ctrl_c):
    """Function: start `tools/NAME.py ARGUMENTS` as a process of its own, with its output in pipes."""

    def start(name: str, *arguments: object, **options: object) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    return start


@pytest.fixture
def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def finish():
    """Function: wait for the end of a process; returns its exit status and its output."""

    def wait(process: subprocess.Popen) -> tuple[int, str]:
        output = process.communicate(timeout=300)[0]
        return process.returncode, output

    return wait


@pytest.fixture(scope="session")
def wait_for():
    """Function: wait until `condition()` holds, for a minute at most."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.005)

    return wait


@pytest.fixture
def told_of_limit():
    """Function: run `work()` in a child whose files may have so many bytes, as on a full disk; return its error."""

    def run(most: int, work: Callable[[], object]) -> str:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            try:
                work()
                told = "no error"
            except BaseException as error:
                told = f"{type(error).__name__} {error}"
            os.write(write, told.encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as stream:
            told = stream.read()
        os.waitpid(child, 0)
        return told

    return run


@pytest.fixture(scope="session")
def tool_main():
    """`tool_main(name)`: the main of `tools/NAME.py`."""

    def load(name: str) -> Callable[[list[str]], int]:
        spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main

    return load


@pytest.fixture
def run_tool(capsys, tool_main):
    """Function: call the main of `tools/NAME.py` in this process; returns its exit status and what it printed."""

    def call(name: str, *arguments: object) -> tuple[int, str]:
        main = tool_main(name)
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit:  # of argparse
            status = exit.code
        written = capsys.readouterr()
        return status, written.out + written.err

    return call


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


@dataclass(frozen=True)
class Extras:
    """Set what most encoded videos leave to the codec.

    pts, time_base: time stamp of each frame, in units of `time_base` seconds.
    audio: add a sound track.
    container: further arguments of `av.open`.
    """

    pts: list[int] | None = None
    time_base: Fraction | None = None
    audio: bool = False
    container: dict = field(default_factory=dict)
    pix_fmt: str = ""


def _encode(
    path: Path,
    pictures: np.ndarray,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    rate: Fraction | int = 30,
    **extras: object,
) -> Path:
    options, extra = dict(options or {}), Extras(**extras)
    if codec == "libx264":
        # The same bytes on every processor, so that what a test cuts and damages is the same.
        options["x264-params"] = ":".join(filter(None, [options.get("x264-params"), "cpu-independent=1"]))
    with av.open(str(path), "w", **extra.container) as output:
        stream = output.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = extra.pix_fmt or {"mjpeg": "yuvj420p", "cinepak": "rgb24"}.get(codec, "yuv420p")
        if extra.time_base is not None:
            stream.codec_context.time_base = extra.time_base
        sound = output.add_stream("aac", rate=16000) if extra.audio else None
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if extra.pts is not None:
                frame.pts, frame.time_base = extra.pts[number], extra.time_base
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
def can_draw_scenes():
    """Skip where MuJoCo or a library to draw with is missing."""
    pytest.importorskip("mujoco")
    try:
        Renderer(32).close()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def pictures():
    return make_pictures


@pytest.fixture(scope="session")
def encode():
    """`encode(path, pictures, codec, options, rate, **extras) -> path`: encode a video, with fields of `Extras`."""
    return _encode


@pytest.fixture(scope="session")
def with_matrix():
    """`with_matrix(source, target, (a, b, c, d)) -> path`: copy an mp4 with another display matrix in its track."""

    def copy(source: Path, target: Path, matrix: tuple[int, int, int, int]) -> str:
        content, one = bytearray(source.read_bytes()), 1 << 16
        matrix_at = content.index(b"tkhd") + 4 + 40
        identity = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
        assert content[matrix_at : matrix_at + 36] == identity
        a, b, c, d = (value * one for value in matrix)
        content[matrix_at : matrix_at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        target.write_bytes(content)
        return str(target)

    return copy


@pytest.fixture(scope="session")
def decode_all():
    """`decode_all(path) -> list of (H, W, 3) uint8`: the truth that readers are held against."""
    return _decode_all
