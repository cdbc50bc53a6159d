"""Run the demos as processes of their own."""

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
