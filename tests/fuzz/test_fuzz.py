"""A short run of every fuzzing target, and the faults that the engine must find."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from slowfast.datasets.video.torchcodec import TorchCodecReader

ROOT = Path(__file__).parents[2]


def python(*arguments):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    return done.returncode, done.stdout + done.stderr


def torchcodec():
    try:
        TorchCodecReader.require()
        lacking = ""
    except ImportError as error:
        lacking = str(error).splitlines()[0]
    marks = [pytest.mark.torchcodec, pytest.mark.skipif(bool(lacking), reason=lacking or "it loads")]
    return pytest.param("torchcodec", marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize(
    "group",
    [
        "checkpoints",
        "features",
        "videos",
        "images",
        "detectors",
        "configs",
        "annotations",
        "results",
        "logs",
        "plots",
        torchcodec(),
    ],
)
def test_readers_give_a_value_or_refuse(group, tmp_path):
    status, output = python("-m", "tests.fuzz", group, "--cases", 40, "--seed", 1, "--findings", tmp_path)
    assert status == 0, output
    rows = re.findall(r"^([\w-]+) +(\d+) +(\d+) +(\d+) +(\d+)$", output, re.MULTILINE)
    assert {row[1] for row in rows} == {"40"}, output
    assert sum(int(row[2]) for row in rows) > 0, output  # some files are read, and
    assert sum(int(row[3]) for row in rows) + (group == "logs") > 0, output  # some are refused; logs are read anyway


FAULTS = """
import os, pathlib, sys, time
from tests.fuzz.engine import Target, run

def reader(fault):
    def read(path):
        content = pathlib.Path(path).read_bytes()
        if content == b"good":
            return content
        if fault == "crash":
            os.kill(os.getpid(), 11)
        if fault == "hang":
            time.sleep(600)
        if fault == "busy":
            end = time.process_time() + 1
            while time.process_time() < end:
                pass
        if fault == "memory":
            b"x" * 2**28
        if fault == "write":
            pathlib.Path(path + ".new").touch()
        if fault == "other":
            raise KeyError("what?")
        if fault == "unnamed":
            raise ValueError("what?")
        if fault == "refusal":
            raise ValueError(path)
        return content
    return read

faults = ["crash", "hang", "busy", "memory", "write", "other", "unnamed", "refusal", "exact"]
targets = [
    Target(fault, "faults", "case.txt", lambda _: [b"good"], reader(fault), exact=fault == "exact") for fault in faults
]
for tally in run(targets, pathlib.Path(sys.argv[1]), cases=2, limits=(8.0, 0.7, 128), jobs=3):
    for what in tally.findings:
        print(f"FOUND {tally.name}: {what}")
    print(f"CASES {tally.name} {tally.cases} {[path.read_bytes() != b'good' for path in tally.files.values()]}")
"""


@pytest.mark.slow
def test_the_engine_finds_each_kind_of_fault(tmp_path):
    status, output = python("-c", FAULTS, tmp_path)
    assert status == 0, output
    found = dict(re.findall(r"^FOUND (\w+): (.*)$", output, re.MULTILINE))
    assert found.keys() == {"crash", "hang", "busy", "memory", "write", "other", "unnamed", "exact"}, output
    for fault, fact in (
        ("crash", "SIGSEGV"), ("hang", "no end in 8 s"), ("busy", "0.7 s of the processor"), ("memory", "128 MiB"),
        ("write", "case.txt.new"), ("other", "KeyError"), ("unnamed", "does not name the file"),
        ("exact", "something else"),
    ):  # fmt: skip
        assert fact in found[fault], output
    assert dict(re.findall(r"^CASES (\w+) (\d)", output, re.MULTILINE)) == dict.fromkeys([*found, "refusal"], "2")
    assert output.count("[True]") == len(found) and "False" not in output, output


SEEDS = """
import dataclasses, pathlib, sys
from tests.fuzz.engine import run
from tests.fuzz.targets import TARGETS

(target,) = (each for each in TARGETS if each.name == "ssv2-labels")
folder = pathlib.Path(sys.argv[1])
for number, seed in enumerate((3, 3, 4)):
    with (folder / str(number)).open("wb") as seen:
        def keep(path):
            seen.write(pathlib.Path(path).read_bytes() + b"\\n")
            seen.flush()
        run([dataclasses.replace(target, read=keep)], folder, cases=30, seed=seed)
"""


@pytest.mark.slow
def test_a_seed_gives_the_same_cases_again(tmp_path):
    status, output = python("-c", SEEDS, tmp_path)
    assert status == 0, output
    first, again, other = ((tmp_path / str(number)).read_bytes() for number in range(3))
    assert first == again != other
    assert len(set(first.splitlines())) > 20
