"""`tools/check_env.py` on this machine, and its findings on machines that are not here."""

import dataclasses
import re

import pytest
import torch

from slowfast.apps.doctor import self_test
from slowfast.apps.doctor.machine import Machine
from slowfast.apps.doctor.problems import find_problems
from slowfast.runtime.device import Gpu, cudnn_version

GIB = 1024**3
SOUND = Machine(
    packages={"PyTorch": "2.13.0+cu130", "CUDA of PyTorch": "13.0", "cuDNN": "9.20.0", "torchcodec": "0.13.1"},
    driver="580.1",
    driver_gpus=1,
    gpus=(Gpu("NVIDIA H200", 139.0, (9, 0)),),
    arches=("sm_75", "sm_90"),
    cpu_flags=("avx512_bf16",),
    cores=16,
    shared_memory=(32 * GIB, 64 * GIB),
    open_files=(1048576, 1048576),
    decoders={"H.264": "h264", "AV1": "libdav1d"},
    cache=("/home/me/.cache", 100 * GIB),
)


def found(workers=8, batch_bytes=GIB, packages=None, **changes):
    machine = dataclasses.replace(SOUND, packages={**SOUND.packages, **(packages or {})}, **changes)
    return find_problems(machine, workers, batch_bytes)


def test_a_sound_machine_has_no_problem():
    assert found() == []


@pytest.mark.parametrize(
    "changes, fact, fault",
    [
        ({"gpus": ()}, "PyTorch sees none: it is built for CUDA 13.0", True),
        ({"gpus": (), "packages": {"CUDA of PyTorch": ""}}, "it is a build for the CPU", True),
        ({"gpus": (Gpu("Tesla P100", 16.0, (6, 0)),)}, "Tesla P100 has compute capability 6.0", True),
        ({"gpus": (Gpu("GeForce RTX 5090", 32.0, (12, 0)),)}, "has compute capability 12.0", True),
        ({"gpus": (Gpu("Tesla T4", 16.0, (7, 5)),)}, "no fast bf16", False),
        ({"packages": {"cuDNN": "9.10.2"}}, "cuDNN 9.10.2: before 9.15", False),
        ({"packages": {"torchcodec": "0.10.0"}}, "torchcodec 0.10.0 is not made for PyTorch 2.13.0", False),
        ({"packages": {"PyTorch": "2.4.1", "torchcodec": ""}}, "older than 2.6", True),
        ({"gpus": (), "driver_gpus": 0, "cpu_flags": ("avx2", "avx512f")}, "no AVX-512 with bf16", False),
        ({"shared_memory": (64 * 1024**2, 64 * 1024**2)}, "64 of 64 MiB free", True),
        ({"open_files": (512, 4096)}, "may open 512 files", False),
        ({"workers": 32}, "32 loader workers share 16 core", False),
        ({"decoders": {"H.264": ""}}, "no decoder of H.264", True),
        ({"decoders": {"H.264": "h264", "AV1": ""}}, "no decoder of AV1", False),
        ({"cache": ("/full", 1024**2)}, "/full has 1 MiB free", False),
    ],
)
def test_each_problem_is_told_with_its_numbers_and_a_remedy(changes, fact, fault):
    (problem,) = found(**changes)
    assert fact in problem.what and problem.remedy and problem.fault is fault


@pytest.mark.parametrize(
    "capability, arch", [((8, 9), "sm_86"), ((9, 0), "sm_90a"), ((12, 1), "compute_90"), ((9, 0), "gfx90a")]
)
def test_kernels_run_on_later_chips_of_a_generation_and_compiled_ones_on_all(capability, arch):
    assert found(gpus=(Gpu("a GPU", 8.0, capability),), arches=(arch,)) == []


@pytest.mark.parametrize("number, version", [(91002, "9.10.2"), (8902, "8.9.2"), (92000, "9.20.0")])
def test_versions_of_cudnn(number, version):
    assert cudnn_version(number) == version


def test_faults_come_first():
    assert [problem.fault for problem in found(workers=32, shared_memory=(0, GIB))] == [True, False]


def test_wrong_numbers_are_seen():
    right = self_test.Numbers("cpu", "fp32", 1e-6, 1e-5)
    assert not right.wrong
    assert dataclasses.replace(right, output=1e-3).wrong and dataclasses.replace(right, gradient=float("nan")).wrong


def test_numbers_are_those_of_cudnn(monkeypatch):
    """Those of fp32 without TF32."""
    seen, cudnn = [], torch.backends.cudnn

    def compute(model, clip, weights, dtype):
        seen.append((cudnn.enabled, cudnn.allow_tf32, dtype))
        return torch.ones(1), torch.ones(1)

    monkeypatch.setattr(self_test, "_outputs", compute)
    assert [numbers.output for numbers in self_test.check_numbers([torch.device("cpu")])] == [0, 0]
    assert seen[1:] == [(True, False, None), (True, True, torch.bfloat16)]


def test_two_processes_exchange_numbers():
    exchange = self_test.measure_exchange()
    assert (exchange.backend, exchange.processes, exchange.failure) == ("gloo", 2, "") and exchange.gb_per_s > 0


@pytest.mark.slow
def test_the_tool_on_this_machine(tool, finish):
    status, output = finish(
        tool("check_env", "--self-test", "--no-compile", "--crop", 32, "DATA_LOADER.NUM_WORKERS", 1)
    )
    assert status == 0, output
    assert re.search(r"^\| PyTorch \| 2\.", output, re.M) and re.search(r"H.264 h264", output)
    errors = {row[0]: float(row[1]) for row in re.findall(r"^\| cpu \| (\w+) \| (\S+) \| \S+ \| right", output, re.M)}
    assert errors["fp32"] < 1e-4 < errors["bf16"]
    speeds = re.findall(r"^\| (\w+) \| (\S+) \| ([\d.]+) \|", output, re.M)
    assert {work for work, _, _ in speeds} == {"forward", "train"} and len(speeds) == 8
    assert "gloo, 2 processes" in output


def test_the_tool_tells_faults_by_its_status(run_tool, monkeypatch):
    monkeypatch.setattr(Machine, "here", lambda: dataclasses.replace(SOUND, decoders={"H.264": ""}))
    status, output = run_tool("check_env")
    assert status == 1 and "FAULT: FFmpeg in PyAV has no decoder of H.264" in output
