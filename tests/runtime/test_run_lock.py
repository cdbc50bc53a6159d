"""Two jobs in one output folder, each a process of its own."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slowfast.engine.test import test as run_test
from slowfast.engine.train import train
from slowfast.runtime.run_lock import (
    LOCK_NAME,
    TEST_LOCK_NAME,
    FolderInUseError,
    alone_in_output_dir,
    beside_training,
    is_alone,
    run_lock,
)

# Holds the folder and says so; a forked child outlives it.
HOLDER = """
import os, sys, time
from slowfast.runtime.run_lock import run_lock
with run_lock(sys.argv[1]):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path`, and the id of a child that it forked while it did."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    yield process, child
    process.kill()
    process.wait()
    os.kill(child, signal.SIGKILL)
    process.stdin.close()
    process.stdout.close()


@pytest.mark.slow
def test_second_job_refuses_and_a_killed_one_blocks_nobody(holder, tmp_path, tiny_cfg):
    process, child = holder
    cfg = tiny_cfg("OUTPUT_DIR", str(tmp_path), "SOLVER.MAX_EPOCH", 1)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FolderInUseError) as caught:
        train(cfg)
    started = json.loads((tmp_path / LOCK_NAME).read_text())["started"]
    for words in (str(tmp_path), f"pid {process.pid} on host {os.uname().nodename}, started {started}", "OUTPUT_DIR"):
        assert words in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before
    process.kill()
    process.wait()
    os.kill(child, 0)  # still there, with the files of its parent open
    with run_lock(str(tmp_path)):
        assert str(os.getpid()) in (tmp_path / LOCK_NAME).read_text()


@pytest.mark.slow
def test_holder_that_ends_frees_the_folder(holder, tmp_path):
    process, _ = holder
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    with run_lock(str(tmp_path)):
        pass
    assert (tmp_path / LOCK_NAME).read_text() == ""


# Holds a lock as another job does, without the seconds that an import of PyTorch takes.
JOB = """
import fcntl, json, os, sys
with open(sys.argv[1], "w") as stream:
    fcntl.lockf(stream, fcntl.LOCK_EX)
    json.dump({"pid": os.getpid(), "host": "elsewhere", "started": "today"}, stream)
    stream.flush()
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def others(tmp_path):
    """Function: hold a lock of `tmp_path` in another process until the test ends."""
    started = []

    def hold(name):
        command = [sys.executable, "-c", JOB, str(tmp_path / name)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        started[-1].stdout.readline()

    yield hold
    for process in started:
        process.communicate(timeout=60)


def test_a_test_goes_on_beside_a_training(others, tmp_path, tiny_cfg, caplog):
    """Its config.yaml stays, and a second test is refused."""
    (tmp_path / "config.yaml").write_text("of the training")
    cfg = tiny_cfg("OUTPUT_DIR", str(tmp_path), "TRAIN.ENABLE", False, "TEST.ALLOW_RANDOM_WEIGHTS", True)
    others(LOCK_NAME)
    with caplog.at_level("INFO"):
        assert run_test(cfg)["videos"] == 4
    assert caplog.text.count("testing beside the training: OUTPUT_DIR") == 1
    assert (tmp_path / "test_results.json").exists()
    assert (tmp_path / "config.yaml").read_text() == "of the training"
    others(TEST_LOCK_NAME)
    before = (tmp_path / "test_results.json").stat()
    with pytest.raises(FolderInUseError, match="is in use by the job with pid .* on host elsewhere"):
        run_test(cfg)
    assert (tmp_path / "test_results.json").stat() == before


def test_a_training_tests_even_beside_another_test(others, tmp_path, tiny_cfg, caplog):
    others(TEST_LOCK_NAME)
    done = beside_training(lambda cfg: is_alone(cfg.OUTPUT_DIR))
    with run_lock(str(tmp_path)):
        assert done(tiny_cfg("OUTPUT_DIR", str(tmp_path)))
    assert "Both tests go on" in caplog.text
    assert not is_alone(str(tmp_path))


def test_left_over_text_of_a_dead_job_blocks_nobody(tmp_path):
    (tmp_path / LOCK_NAME).write_text('{"host": "elsewhere", "pid": 1, "started": "2020-01-01"}')
    with run_lock(str(tmp_path)):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()


def test_job_within_a_job_and_after_an_error(tmp_path, tiny_cfg):
    """`run` holds the folder while `train` and `test` in it ask again; the outermost frees it."""

    @alone_in_output_dir
    def inner(cfg):
        raise RuntimeError(cfg.OUTPUT_DIR)

    @alone_in_output_dir
    def outer(cfg):
        with pytest.raises(RuntimeError):
            inner(cfg)
        return locked_for_others()

    def locked_for_others():
        ask = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        done = subprocess.run([sys.executable, "-c", ask, str(tmp_path / LOCK_NAME)], capture_output=True, text=True)
        return done.returncode == 1 and "BlockingIOError" in done.stderr

    assert outer(tiny_cfg("OUTPUT_DIR", str(tmp_path)))
    assert not locked_for_others()


def test_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with run_lock(str(tmp_path)):
        pass
    assert "cannot be locked (No locks available)" in caplog.text


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="OUTPUT_DIR cannot be written"), run_lock(str(Path(tmp_path / "file" / "out"))):
        pass


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_linked_lock_does_not_empty_its_target(tmp_path, link):
    (tmp_path / "theirs").write_text("precious")
    (tmp_path / "out").mkdir()
    link(tmp_path / "theirs", tmp_path / "out" / LOCK_NAME)
    with pytest.raises(OSError, match=f"move it away.*{LOCK_NAME}"), run_lock(str(tmp_path / "out")):
        pass
    assert (tmp_path / "theirs").read_text() == "precious"
