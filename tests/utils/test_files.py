"""Atomic writes and file locks."""

import os
import subprocess
import sys

import pytest

from slowfast.utils.files import FileLockedError, atomic_write, atomic_write_local, file_lock, replacing


@pytest.mark.parametrize("content", ["ä\n", "ä\n".encode(), lambda stream: stream.write("ä\n".encode())])
@pytest.mark.parametrize("durable", [False, True])
def test_content(tmp_path, content, durable):
    atomic_write_local(tmp_path / "file", content, durable)
    assert (tmp_path / "file").read_bytes() == "ä\n".encode()
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_leaves_the_former_file(tmp_path):
    def fail(stream):
        stream.write(b"half")
        raise OSError("full")

    atomic_write(tmp_path / "new" / "file", "former")
    with pytest.raises(OSError, match="full"):
        atomic_write(tmp_path / "new" / "file", fail)
    assert (tmp_path / "new" / "file").read_text() == "former"
    assert os.listdir(tmp_path / "new") == ["file"]


def test_an_interrupt_removes_the_temporary_file(tmp_path):
    def interrupt():
        with replacing(tmp_path / "file") as temporary:
            open(temporary, "w").close()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert os.listdir(tmp_path) == []


HOLDER = """
import sys
from slowfast.utils.files import file_lock
with file_lock(sys.argv[1], "it", note="me"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_lock_is_refused_or_waited_for(tmp_path, caplog):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FileLockedError) as caught, file_lock(path, "it", wait=False):
            pass
        assert caught.value.note == b"me"
        holder.stdin.write("\n")
        holder.stdin.flush()
        with file_lock(path, "the file"):
            pass
    assert path.read_bytes() == b""
