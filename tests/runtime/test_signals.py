import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from slowfast.runtime.signals import StopRequest

pytestmark = pytest.mark.usefixtures("hears_ctrl_c")


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by a time that the test moves."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_one_ctrl_c_is_noted_however_often_it_arrives(clock, capfd):
    with StopRequest() as stop:
        assert not stop.agreed(torch.device("cpu"))
        signal.raise_signal(signal.SIGINT)
        clock[0] += 0.5
        signal.raise_signal(signal.SIGINT)
        assert stop.agreed(torch.device("cpu")) and stop.signum == signal.SIGINT
    assert capfd.readouterr().err.count("Ctrl-C again stops at once") == 1


def test_second_ctrl_c_does_not_wait(clock):
    with StopRequest():
        signal.raise_signal(signal.SIGINT)
        clock[0] += 5
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_was_ignored_stays_ignored():
    """Ignore signals as a shell does for jobs in the background."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop.requested
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested and stop.signum == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)


# A program that prints whether SIGINT is ignored in it.
ASK = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"


@pytest.mark.parametrize("fixtures, ignored", [("", "True"), ("hears_ctrl_c", "False")])
def test_children_of_tests_hear_ctrl_c_where_the_tests_run_in_the_background(fixtures, ignored, tmp_path, repo):
    """As a shell starts a job with `&` or `trap '' INT`; only what asks for the fixture is changed."""
    (tmp_path / "conftest.py").write_text((repo / "conftest.py").read_text())
    (tmp_path / "test_child.py").write_text(
        "import subprocess, sys\n"
        f"def test_child({fixtures}):\n"
        f"    done = subprocess.run([sys.executable, '-c', {ASK!r}], capture_output=True, text=True)\n"
        f"    assert done.stdout.strip() == {ignored!r}\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_child.py"]
    shell = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
    done = subprocess.run([*shell, *command], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
