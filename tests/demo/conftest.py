"""Run the demos as processes of their own, or with their parts in this process, and import their files."""

import contextlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from slowfast.apps.synthetic.__main__ import main as make_videos
from slowfast.runtime.logging import close_logging


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


@pytest.fixture(scope="session")
def parts_here(demo_module, tool_main):
    """`with parts_here() as titles:` run the parts of a demo in this process, one by one, without starting Python anew.

    Titles of the parts that ran are added to the list.
    """
    jobs = demo_module("sweep_jobs")

    @contextlib.contextmanager
    def here():
        titles = []

        def run(self, title, command, log, progress=None):
            titles.append(title)
            _, tool, *words = map(str, command)
            # `python -m slowfast.apps.synthetic ...` or `python tools/run_net.py ...`
            main, words = (make_videos, words[1:]) if tool == "-m" else (tool_main(Path(tool).stem), words)
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w") as stream, contextlib.redirect_stdout(stream):
                status = main(words)
            close_logging()
            assert not status, log.read_text()
            return jobs.Usage(1.0, 1.0, 1.0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobs.Workshop, "run", run)
            patch.setattr(jobs.Workshop, "run_all", lambda self, tasks: [task() for task in tasks])
            yield titles

    return here
