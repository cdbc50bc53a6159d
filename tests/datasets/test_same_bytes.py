"""Every encoder of ours writes the same bytes for the same frames, whatever the memory that it is given held before."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slowfast.apps.prepare.resize import ResizeOptions, resize
from slowfast.apps.synthetic.files import encode_video

# At (32, 42) x264 2.7's code for AVX-512 gave other bytes in most calls; (32, 36) is a size of the synthetic sets.
SIZES = [(32, 36), (32, 42), (34, 60), (48, 64)]
# Fills what the allocator hands out; a value of 0 leaves it alone.
FILLS = (1, 90, 165, 255)
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from slowfast.apps.synthetic.files import encode_video
encode_video(Path(sys.argv[1]), np.load(sys.argv[2]))
"""


def litter(rng: np.random.Generator) -> None:
    """Leave blocks of many sizes, full of noise, for the allocator to hand out again."""
    blocks = [np.full(int(size), rng.integers(256), np.uint8) for size in rng.integers(64, 60_000, 80)]
    del blocks[::2]


def digests(make, path: Path, times: int) -> set[str]:
    """Digests of the file that `make(path)` writes so often."""
    rng, found = np.random.default_rng(0), set()
    for _ in range(times):
        litter(rng)
        make(path)
        found.add(hashlib.sha256(path.read_bytes()).hexdigest())
        path.unlink()
    return found


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_synthetic_videos(size, suffix, pictures, tmp_path):
    frames = pictures(20, *size)
    assert len(digests(lambda path: encode_video(path, frames), tmp_path / f"a{suffix}", 16)) == 1


@pytest.mark.parametrize("size", [(96, 126), (96, 100), (64, 86)], ids=str)
def test_resized_copies(size, encode, pictures, tmp_path):
    """Copies of 32 x 42, 32 x 34 and 32 x 44 pixels."""
    source = encode(tmp_path / "source.mp4", pictures(20, *size))
    copies = digests(lambda path: resize(str(source), str(path), ResizeOptions(32)), tmp_path / "copy.mp4", 16)
    assert len(copies) == 1


def test_processes_of_any_memory_write_the_same(pictures, tmp_path):
    """Each process has its allocator fill what it hands out with another byte (glibc's MALLOC_PERTURB_)."""
    found = set()
    for size in SIZES[:2]:
        np.save(tmp_path / "frames.npy", pictures(20, *size))
        for fill in FILLS:
            path = tmp_path / "a.mp4"
            command = [sys.executable, "-c", PROGRAM, path, tmp_path / "frames.npy"]
            subprocess.run(command, check=True, timeout=120, env={**os.environ, "MALLOC_PERTURB_": str(fill)})
            found.add((size, hashlib.sha256(path.read_bytes()).hexdigest()))
    assert len(found) == 2
