"""Tools on machines with an odd clock and a file system like NFS: they write what they write on a good one."""

import contextlib
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from slowfast.apps.features.files import load_features
from slowfast.checkpoint.io import find_checkpoints, load_checkpoint, save_checkpoint
from slowfast.config import cfg_to_yaml
from slowfast.models import build_model

pytestmark = pytest.mark.processes

HOSTS = {
    "flushes no folder": ("no fsync of folders", "no locks", "stale rename", "clock zero"),
    "loses answers": ("rename answer lost", "locks not supported", "clock jumps"),
}
TOOLS = ["check_data", "prepare_folder", "prepare_frames", "prepare_kinetics", "extract_features", "predict"]
# What tells of the time, and of the place of the run.
UNLIKE = ("stdout.log", ".run.lock")


@pytest.fixture
def commands(tiny_data, tiny_file, tiny_cfg, tmp_path):
    """Return tool -> arguments, which write into the folder `out`; folders have spaces and bytes that are no text."""
    base = tmp_path / os.fsdecode(b"an odd\xff [%s] name")
    for number, label in enumerate(("dark", "bright") * 3):
        os.makedirs(base / "videos" / label, exist_ok=True)
        shutil.copy(tiny_data / f"train {number}.mp4", base / "videos" / label)
    out, checkpoint = base / "out", base / "a.pyth"
    cfg = tiny_cfg()
    save_checkpoint({"model_state": build_model(cfg).state_dict(), "cfg": cfg_to_yaml(cfg)}, str(checkpoint))
    extraction = ("--output", out, "--csv", tiny_data / "test.csv", "--one-file", "TEST.ALLOW_RANDOM_WEIGHTS", True)
    return out, {
        "check_data": ("--cfg", tiny_file, "--workers", 0, "--report", out / "report.json", "--cache", out / "cache"),
        "prepare_folder": (base / "videos", "--output", out, "--val", 0.3, "--test", 0.3, "--workers", 0),
        "prepare_frames": (
            *("--format", "ssv2", "--videos", base / "videos", "--output", out / "frames"),
            *("--lists", out / "lists", "--fps", 30, "--workers", 0),
        ),
        "prepare_kinetics": ("--videos", base / "videos", "--resize", 32, "--resized", out, "--workers", 0),
        "extract_features": ("--cfg", tiny_file, *extraction),
        "predict": ("--checkpoint", checkpoint, "--source", base / "videos" / "dark", "--output", out, "--no-pictures"),
    }


def written(out):
    """Return name -> content of the files in a folder."""
    paths = [path for path in out.rglob("*") if path.is_file() and path.name not in UNLIKE]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_writes_the_same_on_an_odd_host(tool, run_tool, commands, odd_host, monkeypatch):
    out, arguments = commands
    monkeypatch.setenv("TZ", "Nowhere/Odd")
    found = []
    for faults in ((), *HOSTS.values()):
        shutil.rmtree(out, ignore_errors=True)
        with odd_host(*faults):
            status, output = run_tool(tool, *arguments[tool])
        assert status == 0, output
        found.append(written(out))
    assert found[0]
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        assert [name for name in other if other[name] != found[0][name]] == []


@pytest.mark.parametrize("tool", TOOLS)
def test_a_file_system_that_cannot_rename_is_told_in_one_line(tool, run_tool, commands, odd_host):
    out, arguments = commands
    with odd_host("rename across devices"):
        status, output = run_tool(tool, *arguments[tool])
    assert status == 2, output
    assert "Invalid cross-device link" in output.rstrip().splitlines()[-1]
    assert "Traceback" not in output
    assert list(out.rglob("*.tmp")) == []


def test_loader_workers_without_shared_memory_are_told_at_once(run_tool, commands, odd_host):
    """As in a container without /dev/shm."""
    _, arguments = commands
    with odd_host("no shared memory"):
        status, output = run_tool("extract_features", *arguments["extract_features"], "DATA_LOADER.NUM_WORKERS", 1)
    assert status == 2, output
    assert "/dev/shm" in output.rstrip().splitlines()[-1]


@pytest.fixture
def full_host(monkeypatch):
    """`with full_host(rank)`: start processes whose process `rank` finds no room for a file of over 1,000 bytes.

    So the disk is full for its report to the parent, too.
    """

    @contextlib.contextmanager
    def full(rank):
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).with_name("odd_host")), *sys.path]))
            patch.setenv("FULL_HOST", f"{rank}:1000")
            yield

    return full


@pytest.mark.slow
def test_features_with_a_full_disk_on_one_host_of_two(tool, run_tool, full_host, tiny_file, tmp_path, finish):
    """The other process ends too; what it wrote is whole, and the same command goes on where there is room."""
    out = tmp_path / "out"
    command = ("extract_features", "--cfg", tiny_file, "--output", out, "TEST.ALLOW_RANDOM_WEIGHTS", True)
    with full_host(1):
        status, output = finish(tool(*command, "--num_procs", 2))
    assert status == 2, output
    (told,) = re.findall(r"^error: .*File too large.*$", output, re.MULTILINE)
    assert re.search(r"it needs [\d,]+ bytes, and [\d,]+ bytes are free: '.*test [13]\.mp4\.npz'", told), told
    assert re.match(r"error: process 1 \(pid \d+\) ended with exit status 2", output.rstrip().splitlines()[-1])
    assert "Traceback" not in output
    files = sorted(out.rglob("*.mp4.npz"))
    assert {path.name for path in files} == {"test 0.mp4.npz", "test 2.mp4.npz"}
    assert [load_features(str(path)).num_frames for path in files] == [16, 16]
    assert list(out.rglob("*.tmp")) == []
    status, output = run_tool(*command)
    assert status == 0, output
    assert len(list(out.rglob("*.mp4.npz"))) == 4


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_training_with_a_full_disk_on_one_host_of_two(rank, tool, full_host, tiny_file, tmp_path, finish):
    """Process 0 saves, and ends the run by a line with the file; the others write nothing."""
    out = tmp_path / "out"
    settings = ("SOLVER.MAX_EPOCH", 1, "TEST.ENABLE", False, "OUTPUT_DIR", out)
    with full_host(rank):
        status, output = finish(tool("run_net", "--cfg", tiny_file, "--num_procs", 2, *settings))
    assert "Traceback" not in output, output
    if rank == 1:
        assert status == 0, output
        (file,) = find_checkpoints(str(out))
        assert file.epoch == 1 and load_checkpoint(file.path)
    else:
        assert status == 2, output
        (told,) = re.findall(r"^error: .*File too large.*$", output, re.MULTILINE)
        assert re.search(r"[\d,]+ bytes are free: '.*out/", told), told
        assert re.match(r"error: process 0 \(pid \d+\) ended with exit status 2", output.rstrip().splitlines()[-1])
        assert find_checkpoints(str(out)) == []
