"""Write lists and frames, and load configs, for the tests of data sets."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from slowfast.config import load_config
from slowfast.datasets.clips.clip_maker import ClipMaker
from slowfast.datasets.clips.settings import ClipSettings
from slowfast.datasets.clips.temporal_sampling import SpanSampling

CLIPS_OF_FOUR = {
    "NUM_GPUS": 0,
    "MODEL.MODEL_NAME": "ResNet",
    "MODEL.ARCH": "slow",
    "DATA.NUM_FRAMES": 4,
    "DATA.SAMPLING_RATE": 5,
    "DATA.INPUT_CHANNEL_NUM": [3],
    "DATA_LOADER.NUM_WORKERS": 0,
}


@pytest.fixture
def written(tmp_path):
    """`written(content, name)`: write text or bytes to a file of the test's folder, and return its path."""

    def write(content: str | bytes, name: str = "list.csv") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogateescape"))
        return str(path)

    return write


@pytest.fixture(scope="session")
def dataset_cfg():
    """`dataset_cfg(settings, *overrides)`: load a config of clips of 4 frames, 5 apart, with {key: value} settings."""

    def load(settings, *overrides):
        pairs = [item for pair in (CLIPS_OF_FOUR | settings).items() for item in pair]
        return load_config(None, [*pairs, *overrides])

    return load


@pytest.fixture(scope="session")
def make_clips():
    """`make_clips(cfg, split, reader)`: build a `ClipMaker` that reads every path by this reader."""

    def build(cfg, split, reader):
        return ClipMaker(ClipSettings.from_config(cfg, split), lambda path: reader, SpanSampling())

    return build


@pytest.fixture(scope="session")
def gray_frames():
    """`gray_frames(root, lengths, shade, separator)`: write a folder of JPEG frames for each {name: length}.

    Frame n, counted from 0, is of gray `shade` times n.
    """

    def write(root: Path, lengths: dict[str, int], shade: int, separator: str) -> Path:
        for name, length in lengths.items():
            (root / name).mkdir()
            for frame in range(length):
                picture = np.full((24, 32, 3), shade * frame, np.uint8)
                cv2.imwrite(str(root / name / f"{name}{separator}{frame + 1:06d}.jpg"), picture)
        return root

    return write


@pytest.fixture(scope="session")
def gray_videos(encode):
    """`gray_videos(root, lengths, shade, rate)`: encode `NAME.mp4` for each {name: length}, as `gray_frames`."""

    def write(root: Path, lengths: dict[str, int], shade: int, rate: int) -> Path:
        for name, length in lengths.items():
            frames = np.stack([np.full((24, 32, 3), shade * frame, np.uint8) for frame in range(length)])
            encode(root / f"{name}.mp4", frames, options={"crf": "1"}, rate=rate)
        return root

    return write
