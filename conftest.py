"""What the tests of the core and of the projects share: published numbers, and small configurations."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent


def _load_module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def repo():
    """The repository's folder."""
    return ROOT


@pytest.fixture(scope="session")
def parity():
    """`fill_module`, `make_clip` and `load(folder, name) -> (meta, arrays)` of the published models' numbers."""
    fill = _load_module(ROOT / "tests/fixtures/parity/fill.py")

    def load(folder, name):
        with np.load(folder / f"{name}.npz") as arrays:
            return json.loads((folder / f"{name}.json").read_text()), dict(arrays)

    return SimpleNamespace(fill_module=fill.fill_module, make_clip=fill.make_clip, load=load)


def relative_error(actual, expected):
    """Largest difference over the largest expected number."""
    actual = actual.detach().numpy() if torch.is_tensor(actual) else np.asarray(actual)
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="session", name="relative_error")
def relative_error_fixture():
    """`relative_error(actual, expected)`: largest difference over the largest expected number."""
    return relative_error


@pytest.fixture(scope="session")
def tiny_model():
    """Overrides that make the smallest ResNet: 18 layers, width 8, 32 pixels, 5 classes."""
    return [
        "MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow", "MODEL.NUM_CLASSES", 5, "MODEL.DROPOUT_RATE", 0.0,
        "RESNET.DEPTH", 18, "RESNET.WIDTH_PER_GROUP", 8, "RESNET.NUM_BLOCK_TEMP_KERNEL", [[2], [2], [2], [2]],
        "DATA.NUM_FRAMES", 8, "DATA.SAMPLING_RATE", 1, "DATA.TRAIN_CROP_SIZE", 32, "DATA.TEST_CROP_SIZE", 32,
        "DATA.TRAIN_JITTER_SCALES", [32, 40], "DATA.INPUT_CHANNEL_NUM", [3], "NUM_GPUS", 0,
    ]  # fmt: skip
