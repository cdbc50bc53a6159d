"""Run programs on a GPU that is not there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
_IN_FLOAT32 = {
    "_log_softmax", "_softmax", "_safe_softmax", "nll_loss_forward", "binary_cross_entropy", "native_layer_norm",
}  # fmt: skip


@pytest.fixture(scope="module")
def on_fake_gpu(tmp_path_factory, repo):
    """`on_fake_gpu({name: [work, settings]})`: the results of works of `fake_gpu.py`, by name."""
    compiler, torch_folder = shutil.which("g++"), Path(torch.__file__).parent
    if compiler is None or torch.version.cuda or torch.version.hip:
        pytest.skip("takes g++ and a build of PyTorch for the CPU")
    library = tmp_path_factory.mktemp("gpu") / "device.so"
    where = [f"-I{torch_folder}/include", f"-L{torch_folder}/lib", f"-Wl,-rpath,{torch_folder}/lib"]
    command = [compiler, "-std=c++20", "-shared", "-fPIC", HERE / "device.cpp", "-o", library, *where]
    subprocess.run([*command, "-lc10", "-ltorch_cpu"], check=True)

    def run(cases):
        done = subprocess.run(
            [sys.executable, HERE / "fake_gpu.py", library],
            input=json.dumps(cases),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (repo, repo / "projects" / "pgt")))},
        )
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def check_bf16():
    """`check_bf16(dtypes, *others)`: check the dtypes of kernels' results in mixed precision; `others` in float32."""

    def check(dtypes, *others):
        assert "convolution" in dtypes or "addmm" in dtypes
        for kernel in {"convolution", "addmm"} & dtypes.keys():
            assert dtypes[kernel] == ["bfloat16"], kernel
        for kernel in _IN_FLOAT32.union(others) & dtypes.keys():
            assert dtypes[kernel] == ["float32"], kernel
        if "native_batch_norm" in dtypes:  # outputs, and statistics
            assert dtypes["native_batch_norm"] == ["bfloat16", "float32"]

    return check
