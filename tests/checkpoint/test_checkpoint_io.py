import os
import pickle
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slowfast.checkpoint import io
from slowfast.checkpoint.io import (
    best_path,
    checkpoint_path,
    find_checkpoints,
    load_checkpoint,
    load_last_checkpoint,
    remove_superseded,
    save_checkpoint,
)

STATE = {"model_state": {"weight": torch.arange(6.0)}, "epoch": 4, "cfg": "A: 1\n", "rng_state": [None, [1, "x", 0.5]]}


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves under `epoch`, `iteration` and returns the path."""

    def save(epoch, iteration=0):
        path = checkpoint_path(str(tmp_path), epoch, iteration)
        save_checkpoint(STATE, path)
        return path

    return save


def test_round_trip(saved):
    path = saved(5)
    assert path.endswith(os.path.join("checkpoints", "checkpoint_epoch_00005.pyth"))
    state = load_checkpoint(path)
    assert torch.equal(state.pop("model_state")["weight"], STATE["model_state"]["weight"])
    assert state == {key: value for key, value in STATE.items() if key != "model_state"}


def test_order_is_by_progress(saved, tmp_path):
    later = [saved(10), saved(9, 100), saved(9, 20), saved(9), saved(100)]
    Path(later[0] + ".tmp").write_bytes(b"half")
    assert [file.path for file in find_checkpoints(str(tmp_path))] == [later[i] for i in (3, 2, 1, 0, 4)]
    assert find_checkpoints(str(tmp_path / "nowhere")) == []


def test_superseded_files_go(saved, tmp_path):
    kept = [saved(1), saved(2)]
    saved(1, 7)
    Path(kept[0] + ".tmp").write_bytes(b"half")
    newest = saved(2, 3)
    remove_superseded(str(tmp_path))
    assert sorted(str(path) for path in (tmp_path / "checkpoints").iterdir()) == sorted([*kept, newest])


def test_a_checkpoint_that_is_superseded_while_it_is_read(saved, tmp_path, monkeypatch):
    """A training that goes on writes a newer one, and removes the one that a test is about to open."""
    saved(1, 7)
    read = io._read_checkpoint

    def replaced(path):
        if "iteration" in path:
            saved(2)
            remove_superseded(str(tmp_path))
        return read(path)

    monkeypatch.setattr(io, "_read_checkpoint", replaced)
    assert load_last_checkpoint(str(tmp_path))[1] == checkpoint_path(str(tmp_path), 2)


class Payload:
    """Unpickling an instance makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("writer", [torch.save, lambda obj, path: Path(path).write_bytes(pickle.dumps(obj))])
def test_pickled_code_is_not_executed(tmp_path, writer):
    path, trace = tmp_path / "evil.pyth", tmp_path / "executed"
    writer({"model_state": {}, "extra": Payload(trace)}, path)
    with pytest.raises(ValueError, match="evil.pyth .*nothing was executed") as caught:
        load_checkpoint(str(path))
    assert not trace.exists()
    assert "weights_only" not in str(caught.value)  # PyTorch's message advises to switch the protection off


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_truncated_file(saved, keep):
    path = Path(saved(1))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(ValueError, match="checkpoint_epoch_00001.pyth"):
        load_checkpoint(str(path))


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n" + bytes(200), b"TRAIN:\n  ENABLE: True\n", b"PK\x03\x04" + bytes(99)]
)
def test_foreign_file(tmp_path, content):
    path = tmp_path / "foreign.pyth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="foreign.pyth"):
        load_checkpoint(str(path))


@pytest.mark.parametrize(
    "state", [[1, 2], {"epoch": 3}, torch.zeros(2), {}, {"model_state": [1]}, {"model_state": {"a": 1}}]
)
def test_loadable_but_no_checkpoint(tmp_path, state):
    path = tmp_path / "other.pyth"
    torch.save(state, path)
    with pytest.raises(ValueError, match="other.pyth"):
        load_checkpoint(str(path))


def test_bare_state_dict_is_taken_as_weights(tmp_path):
    path = tmp_path / "bare.pyth"
    torch.save({"weight": torch.ones(2)}, path)
    assert list(load_checkpoint(str(path))) == ["model_state"]


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.pyth"):
        load_checkpoint(str(tmp_path / "gone.pyth"))


def test_last_readable_checkpoint_is_used(saved, tmp_path, caplog):
    good, bad = saved(1), Path(saved(2))
    bad.write_bytes(bad.read_bytes()[:-40])
    state, path = load_last_checkpoint(str(tmp_path))
    assert (path, state["epoch"]) == (good, 4)
    assert "checkpoint_epoch_00002.pyth" in caplog.text
    Path(good).write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 2 checkpoints"):
        load_last_checkpoint(str(tmp_path))
    assert load_last_checkpoint(str(tmp_path / "nowhere")) is None


def test_full_disk_keeps_the_former_file(saved, tmp_path, monkeypatch):
    path = saved(1)
    content = Path(path).read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="could not be written .*No space left.*checkpoint_epoch_00001"):
        save_checkpoint({"model_state": {}}, path)
    assert Path(path).read_bytes() == content
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["checkpoint_epoch_00001.pyth"]


def _folder(path):
    path.mkdir()
    (path / "theirs").write_text("precious")


OTHERS = {"folder": _folder, "pipe": os.mkfifo, "dangling": lambda path: path.symlink_to("/nowhere/checkpoint")}


@pytest.mark.parametrize("put", OTHERS.values(), ids=OTHERS)
def test_what_is_no_file_is_skipped_and_not_opened(saved, tmp_path, caplog, put):
    """Opening a named pipe would wait for ever."""
    good = saved(1)
    put(tmp_path / "checkpoints" / "checkpoint_epoch_00002.pyth")
    put(tmp_path / "checkpoints" / "ssl_checkpoint_epoch_00007.pyth")
    assert [file.path for file in find_checkpoints(str(tmp_path))] == [good]
    assert find_checkpoints(str(tmp_path), pretraining=True) == []
    assert load_last_checkpoint(str(tmp_path))[1] == good
    assert "skipping" in caplog.text and "checkpoint_epoch_00002.pyth" in caplog.text
    newer = saved(2)
    assert load_last_checkpoint(str(tmp_path))[1] == newer and not os.path.islink(newer)
    if put is _folder:
        assert Path(f"{newer}.moved", "theirs").read_text() == "precious"


def test_pretraining_and_what_follows_it_share_a_folder(saved, tmp_path):
    folder = str(tmp_path)
    own = [saved(1), saved(2)]
    names = [checkpoint_path(folder, *place, pretraining=True) for place in ((9, 5), (10, 0), (10, 7))]
    for path in (*names, best_path(folder), best_path(folder, pretraining=True)):
        save_checkpoint(STATE, path)
    assert [os.path.basename(path) for path in (names[1], best_path(folder, pretraining=True))] == [
        "ssl_checkpoint_epoch_00010.pyth",
        "ssl_checkpoint_best.pyth",
    ]
    assert [file.path for file in find_checkpoints(folder)] == own
    remove_superseded(folder)
    assert [file.path for file in find_checkpoints(folder, pretraining=True)] == names
    remove_superseded(folder, pretraining=True)
    assert [file.path for file in find_checkpoints(folder, pretraining=True)] == names[1:]
    Path(names[2]).write_bytes(b"cut off")
    assert load_last_checkpoint(folder, pretraining=True)[1] == names[1]
    assert load_last_checkpoint(folder)[1] == own[1]


def test_checkpoints_may_be_links_to_another_disk(saved, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "checkpoints").symlink_to(tmp_path / "disk")
    path = saved(1)
    (tmp_path / "disk" / "checkpoint_epoch_00001.pyth").rename(tmp_path / "kept.pyth")
    os.symlink(tmp_path / "kept.pyth", path)
    assert load_last_checkpoint(str(tmp_path))[1] == path
    saved(2)
    assert (tmp_path / "disk" / "checkpoint_epoch_00002.pyth").is_file()


LIMITED = """
import resource, signal, sys, torch
from slowfast.checkpoint.io import save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint({"model_state": {"weight": torch.zeros(100_000)}}, sys.argv[1])
except OSError as error:
    print("refused:", error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes on this system")
def test_write_that_fails_half_way_keeps_the_former_file(saved, tmp_path):
    """Write in a process that may not write files over 100 kB, as on a full disk."""
    path = saved(1)
    content = Path(path).read_bytes()
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "refused:" in done.stdout and "could not be written" in done.stdout and path in done.stdout
    # 100,000 numbers of 4 bytes, and some hundred bytes of names.
    assert re.search(r"needs 40\d,\d{3} bytes, and [\d,]+ bytes are free", done.stdout)
    assert Path(path).read_bytes() == content
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["checkpoint_epoch_00001.pyth"]
