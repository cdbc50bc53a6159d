"""Atomic writes and file locks."""

import errno
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from slowfast.runtime.distributed import atomic_write
from slowfast.utils.files import (
    FileLockedError,
    NoRoomError,
    append_line,
    atomic_write_local,
    file_lock,
    no_room_explained,
    replacing,
)


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
with file_lock(sys.argv[1], "it", note='{"pid": 5}'):
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
        assert caught.value.note == b'{"pid": 5}'
        holder.stdin.write("\n")
        holder.stdin.flush()
        with file_lock(path, "the file"):
            pass
    assert path.read_bytes() == b""


FILLS = {
    "bytes": b"x" * 30_000,
    "text": "ä" * 15_000,
    "stream": lambda stream: [stream.write(b"x" * 10_000) for _ in range(3)],
    "npz": lambda stream: np.savez(stream, a=np.zeros(5000), b=np.ones(7)),
    "torch": lambda stream: torch.save({"a": torch.zeros(9000)}, stream),
}


@pytest.mark.parametrize("content", FILLS.values(), ids=FILLS)
def test_no_room_is_told_with_the_file_and_what_it_needs(tmp_path, told_of_limit, content):
    """Hold the number of bytes against the size of the file where there is room."""
    atomic_write_local(tmp_path / "room", content)
    size = (tmp_path / "room").stat().st_size
    atomic_write_local(tmp_path / "file", "former")
    told = told_of_limit(8192, lambda: atomic_write_local(tmp_path / "file", content))
    assert str(tmp_path / "file") in told
    assert re.search(rf"it needs {size:,} bytes, and [\d,]+ bytes are free", told), told
    assert (tmp_path / "file").read_text() == "former"
    assert sorted(os.listdir(tmp_path)) == ["file", "room"]


FIELDS = (
    *("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail"),
    *("f_files", "f_ffree", "f_favail", "f_flag", "f_namemax"),
)


def test_the_free_bytes_are_those_of_the_disk(tmp_path, monkeypatch):
    disk = os.statvfs(tmp_path)
    free = {"f_bavail": 3, "f_frsize": 4096}
    monkeypatch.setattr(os, "statvfs", lambda path: type(disk)([free.get(n, getattr(disk, n)) for n in FIELDS]))
    told = "No space left.*; 12,288 bytes are free"
    with pytest.raises(NoRoomError, match=told) as caught, no_room_explained(tmp_path / "missing" / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "missing" / "file"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_found_behind_the_errors_of_libraries(tmp_path, number):
    def fail(stream):
        try:
            raise OSError(number, os.strerror(number))
        except OSError:
            raise RuntimeError("unexpected pos 1024 vs 918") from None

    with pytest.raises(NoRoomError, match=os.strerror(number)):
        atomic_write_local(tmp_path / "file", fail)
    with pytest.raises(NoRoomError), no_room_explained(tmp_path):
        raise ValueError(f"I/O error: no room (os error {number})")
    with pytest.raises(PermissionError), no_room_explained(tmp_path):
        raise PermissionError(errno.EACCES, "denied")


def test_a_line_that_was_cut_off_is_ended_and_a_line_is_whole_or_absent(tmp_path, told_of_limit):
    path = tmp_path / "lines"
    append_line(path, "one")
    path.write_bytes(path.read_bytes() + b'{"half": ')
    append_line(path, "two ä")
    before = path.read_bytes()
    assert before.decode().split("\n") == ["one", '{"half": ', "two ä", ""]
    told = told_of_limit(len(before) + 10, lambda: append_line(path, "x" * 100))
    assert str(path) in told and "it needs 101 bytes" in told
    assert path.read_bytes() == before
    append_line(path, "three")
    assert path.read_bytes() == before + b"three\n"


# Things that are not this program's: how they are put under a name.
def _link(path):
    (path.parent / "theirs").write_text("precious")
    path.symlink_to(path.parent / "theirs")


def _dangling(path):
    path.symlink_to(path.parent / "nothing")


OTHERS = {"link": _link, "dangling": _dangling, "pipe": os.mkfifo, "folder": os.mkdir}


@pytest.mark.parametrize("put", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize(
    "work", [lambda path: append_line(path, "line"), lambda path: file_lock(path, "it").__enter__()]
)
def test_what_is_not_ours_is_neither_appended_to_nor_locked(tmp_path, put, work):
    put(tmp_path / "name")
    before = os.lstat(tmp_path / "name")
    with pytest.raises(OSError, match="move it away.*name"):
        work(tmp_path / "name")
    assert os.lstat(tmp_path / "name").st_ino == before.st_ino
    assert not (tmp_path / "nothing").exists()
    if put is _link:
        assert (tmp_path / "theirs").read_text() == "precious"


@pytest.mark.parametrize("name", ["file", "file.tmp"])
@pytest.mark.parametrize("put", [_link, _dangling, os.mkfifo], ids=["link", "dangling", "pipe"])
def test_a_write_replaces_a_link_or_pipe_and_never_goes_through_it(tmp_path, put, name):
    put(tmp_path / name)
    atomic_write_local(tmp_path / "file", "ours")
    assert not (tmp_path / "file").is_symlink() and (tmp_path / "file").read_text() == "ours"
    assert not os.path.lexists(tmp_path / "file.tmp") and not (tmp_path / "nothing").exists()
    if put is _link:
        assert (tmp_path / "theirs").read_text() == "precious"


def test_folders_may_be_links(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    atomic_write(tmp_path / "out" / "file", "ours")
    append_line(tmp_path / "out" / "lines", "line")
    with file_lock(tmp_path / "out" / "lock", "it"):
        pass
    assert sorted(os.listdir(tmp_path / "disk")) == ["file", "lines", "lock"]


def test_a_lock_file_that_is_also_another_file_keeps_its_content(tmp_path):
    """A hard link cannot be told from a file, but its content can be told from a note."""
    (tmp_path / "theirs").write_text("precious")
    os.link(tmp_path / "theirs", tmp_path / "lock")
    with pytest.raises(OSError, match="other content"), file_lock(tmp_path / "lock", "it", note='{"pid": 1}'):
        pass
    assert (tmp_path / "theirs").read_text() == "precious"
    (tmp_path / "lock").write_text('{"pid": 7, "host": "one that crashed"}')
    with file_lock(tmp_path / "lock", "it", note='{"pid": 1}'):
        assert (tmp_path / "lock").read_text() == '{"pid": 1}'


@pytest.mark.parametrize("length", [251, 252, 255])
def test_a_name_as_long_as_the_file_system_allows(tmp_path, length):
    name = "ä" * (length // 2) + "x" * (length % 2)
    atomic_write_local(tmp_path / name, "content")
    assert [(os.fsencode(found), len(os.fsencode(found))) for found in os.listdir(tmp_path)] == [
        (name.encode(), length)
    ]
