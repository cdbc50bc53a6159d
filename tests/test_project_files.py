"""The package's metadata and the Makefile's set-up."""

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Import name -> distribution, where they differ; yaml and yacs come with fvcore, whose CfgNode is made of them.
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "yaml": "fvcore", "yacs": "fvcore", "PIL": "pillow"}
# Imported where they are used, and not needed to train or test; torchvision's operator and a person detector of
# detectron2 are taken where they are there.
EXTRAS = {"matplotlib", "submitit", "onnx", "onnxruntime", "pyarrow", "torchvision", "torchcodec", "detectron2"}
EXTRAS |= {"wandb", "mlflow", "trackio", "pillow"}
EXTRAS |= {"starlette", "uvicorn", "websockets", "anyio", "mujoco"}


def dependencies() -> set[str]:
    block = re.search(r"^dependencies = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    return set(re.findall(r'"([\w-]+)', block.group(1)))


def without_make() -> dict[str, str]:
    """Return the environment without what an outer `make test` hands on to another make."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def test_core_dependencies_are_the_agreed_ones():
    agreed = "torch numpy av opencv-python-headless fvcore iopath simplejson pandas tensorboard tqdm safetensors"
    assert dependencies() == set(agreed.split())


def test_every_import_is_a_dependency():
    missing = {}
    for folder in ("slowfast", "projects/pgt/pgt", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) else []
                for name in {name.split(".")[0] for name in names} - {"slowfast", "pgt", *sys.stdlib_module_names}:
                    if DISTRIBUTIONS.get(name, name) not in dependencies() | EXTRAS:
                        missing.setdefault(name, []).append(str(path))
    assert missing == {}


def test_the_project_is_found_by_its_section():
    owners = {entry.name: entry.value for entry in entry_points(group="slowfast.projects")}
    assert owners["PGT"] == "pgt"


def fake_python(folder: Path, version: str, answer: int, venv: int) -> Path:
    """Write a stand-in for Python of some version; `-c` (the version check) and `-m venv` exit with given statuses."""
    path = folder / "python"
    path.write_text(
        f'#!/bin/sh\ncase "$1" in --version) echo Python {version};; -c) exit {answer};; *) exit {venv};; esac\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("version", "answer", "venv", "message"),
    [("3.9.2", 1, 0, "3.10 or newer is needed"), ("3.10.1", 0, 1, "apt install python3-venv")],
)
def test_install_says_what_is_missing(tmp_path, version, answer, venv, message):
    python = fake_python(tmp_path, version, answer, venv)
    done = subprocess.run(
        ["make", "install", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        env=without_make(),
    )
    assert done.returncode != 0
    assert message in done.stdout
    assert not (tmp_path / "venv").exists()


def test_make_and_ci_scripts_are_well_formed():
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci/run")], check=False).returncode == 0
    plan = subprocess.run(["make", "-n", "test", "lint", "demo"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert plan.returncode == 0
    assert "-m pytest" in plan.stdout
    assert "ruff format --check" in plan.stdout
    assert "demo/sweep.py" in plan.stdout


def commands_of_ci(folder: Path, **answers: str) -> list[str]:
    """Run `.ci/run` with stand-ins for programs, and tell how it called them. `answers`: program -> shell code."""
    log = folder / "calls"
    for name, code in {"make": "true", "ldconfig": "true", "apt-get": "false", **answers}.items():
        program = folder / name.replace("_", "-")
        program.write_text(f'#!/bin/sh\necho {program.name} "$@" >> "{log}"\n{code}\n')
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run([ROOT / ".ci/run"], capture_output=True, text=True, timeout=60, env=environment)
    calls = [line for line in log.read_text().splitlines() if line.startswith("make ")]
    return [*calls, f"status {done.returncode}"]


def test_ci_runs_what_the_readme_says_before_it_installs_any_extra(tmp_path):
    assert re.search("^make test +#", (ROOT / "README.md").read_text(), re.MULTILINE)
    plain = ["make install", "make lint", "make test", "make docs"]
    assert commands_of_ci(tmp_path) == [*plain, "status 0"]
    (tmp_path / "calls").unlink()
    there = {"ldconfig": "echo libavcodec.so.61"}
    assert commands_of_ci(tmp_path, **there) == [*plain, "make test-torchcodec", "status 0"]
    (tmp_path / "calls").unlink()
    assert commands_of_ci(tmp_path, **there, make='[ "$1" != test ]') == [*plain[:3], "status 1"]


def test_the_second_pass_installs_its_extra_and_fails_where_that_does_not_load():
    command = ["make", "--no-print-directory", "-n", "test-torchcodec"]
    plan = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, env=without_make())
    first, second, third = plan.stdout.splitlines()[-3:]
    assert first.endswith("pip install --editable '.[torchcodec]'")
    assert "TorchCodecReader.require()" in second
    assert third.endswith("pytest -m torchcodec")
