"""`tools/check_env.py` on this machine, and its findings on machines that are not here."""

import dataclasses
import re

import pytest
import torch

from slowfast.apps.doctor import self_test
from slowfast.apps.doctor.machine import Machine
from slowfast.apps.doctor.problems import Loading, find_problems
from slowfast.apps.doctor.report import describe_numbers
from slowfast.config import load_config
from slowfast.runtime import loader_workers
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


def found(workers=8, batch_bytes=GIB, packages=None, planned=True, processes=1, **changes):
    machine = dataclasses.replace(SOUND, packages={**SOUND.packages, **(packages or {})}, **changes)
    return find_problems(machine, Loading(workers, processes, batch_bytes, planned))


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
        ({"shared_memory": (64 * 1024**2, 64 * 1024**2), "planned": False}, "64 of 64 MiB free", False),
        ({"open_files": (512, 4096)}, "may open 512 files", False),
        ({"workers": 32}, "32 loader workers share 16 core", False),
        ({"workers": 4, "processes": 8}, "32 loader workers share 16 core", False),
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


@pytest.mark.parametrize(
    "settings, mib",
    [
        ([], 24),  # 2 workers, 2 batches of 4 clips ahead, 3 x 8 x 128 x 128 numbers
        (["DATA_LOADER.NORMALIZE_ON_DEVICE", True], 6),
        (["AUG.ENABLE", True, "AUG.NUM_SAMPLE", 2], 48),
        (["MODEL.MODEL_NAME", "SlowFast", "MODEL.ARCH", "slowfast"], 27),  # and a frame of the slow pathway
        (["NUM_GPUS", 2], 24),  # a process of 2 clips each
        (["DATA.NUM_FRAMES", 8000, "DATA_LOADER.IN_STEPS", True], 256),
    ],
)
def test_shared_memory_of_a_run(settings, mib):
    clips = ["TRAIN.BATCH_SIZE", 4, "DATA.NUM_FRAMES", 8, "DATA.TRAIN_CROP_SIZE", 128]
    loaders = ["DATA_LOADER.NUM_WORKERS", 2, "DATA_LOADER.PREFETCH_FACTOR", 2, "NUM_GPUS", 0]
    cfg = load_config(None, ["MODEL.MODEL_NAME", "ResNet", "MODEL.ARCH", "slow", *clips, *loaders, *settings])
    asked = Loading.from_config(cfg, gpus=8)
    assert (asked.workers, asked.batch_bytes / 1024**2) == (2, mib)


def test_descriptors_are_those_of_a_process(monkeypatch):
    """8 processes of 16 workers each, of which one alone may open 1,024 files."""
    monkeypatch.setattr(loader_workers.resource, "getrlimit", lambda _: (1024, 1024))
    assert found(workers=16, processes=8, cores=128) == []
    assert [problem.fault for problem in found(workers=128, cores=128)] == [True]


def test_wrong_numbers_are_seen():
    right = self_test.Numbers("cpu", "fp32", 1e-6, 1e-5)
    assert not right.wrong
    assert self_test.Numbers("cpu", "bf16", 1e-2, 1.0).wrong  # a gradient of zeros
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


def test_a_device_that_fails_is_a_row_of_the_report(monkeypatch):
    compute = self_test._outputs

    def fail_in_bf16(model, clip, weights, dtype):
        if dtype is torch.bfloat16:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED\nmore")
        return compute(model, clip, weights, dtype)

    monkeypatch.setattr(self_test, "_outputs", fail_in_bf16)
    numbers = list(self_test.check_numbers([torch.device("cpu")]))
    assert [each.wrong for each in numbers] == [False, True]
    told = "\n".join(describe_numbers(numbers))
    assert "FAILED: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED |" in told


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
