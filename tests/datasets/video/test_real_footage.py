"""Real footage, from a folder that the environment names (it is not part of the project)."""

import os
from pathlib import Path

import numpy as np
import pytest

from slowfast.datasets.video import open as decode

FOLDER = os.environ.get("SLOWFAST_TEST_VIDEOS", "")
FILES = sorted(p for p in Path(FOLDER).glob("*") if p.suffix in (".mp4", ".avi", ".mov", ".mkv")) if FOLDER else []

pytestmark = pytest.mark.skipif(not FILES, reason="SLOWFAST_TEST_VIDEOS names no folder of videos")


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES or [Path("none")], ids=lambda path: path.name)
def test_frames_equal_a_full_decode(path, decode_all):
    truth = decode_all(path)
    rng = np.random.default_rng(0)
    with decode.open(str(path)) as video:
        assert video.num_frames == len(truth)
        assert video.fps > 1
        span = min(64, len(truth))
        starts = [0, len(truth) - span, *rng.integers(0, len(truth) - span + 1, 2)]
        windows = [np.linspace(start, start + span - 1, 8).astype(int) for start in starts]
        for indices in [*windows, rng.integers(0, len(truth), 10)]:
            frames = video.frames(indices)
            for frame, index in zip(frames, indices, strict=True):
                np.testing.assert_array_equal(frame, truth[index])


@pytest.mark.parametrize("path", FILES[:1] or [Path("none")], ids=lambda path: path.name)
def test_memory_does_not_grow(path):
    """Containers are closed: the memory of a process stays where it is after a warm-up."""

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def read():
        with decode.open(str(path)) as video:
            video.frames([0, 5])

    for _ in range(20):
        read()
    before = resident()
    for _ in range(60):
        read()
    assert resident() - before < 20 * 2**20
