"""A tiny set of encoded videos in the Kinetics format, and a config small enough to train on it in seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import yaml

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
