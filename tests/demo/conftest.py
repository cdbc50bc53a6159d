"""Run the demos as processes of their own, and import their files."""

import importlib
import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def quick_demo(repo):
    """`quick_demo(name, output, *arguments)`: run `demo/NAME.py --quick` into a folder; return the finished process."""

    def start(name, output, *arguments):
        command = [sys.executable, repo / "demo" / f"{name}.py", "--quick", "--output", output, *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=output.parent)

    return start


@pytest.fixture(scope="session")
def demo_module(repo):
    """`demo_module(name)`: import a file of the demos, which import each other by their bare names."""
    sys.path.insert(0, str(repo / "demo"))
    yield importlib.import_module
    sys.path.remove(str(repo / "demo"))
