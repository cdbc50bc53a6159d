"""The temporary folder of a server, also of one that is killed."""

import subprocess
import sys
import tempfile

import pytest

from slowfast.apps.serve.folder import temporary_folder

HOLD = """
from slowfast.apps.serve.folder import temporary_folder
with temporary_folder() as folder:
    (folder / "upload").write_text("film")
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of temporary files, here and in processes that are started."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_what_a_killed_server_left_is_removed_and_nothing_else(place):
    for name in ("other", "slowfast-serve-locking", "slowfast-serve-without"):
        (place / name).mkdir()
        (place / name / "film").write_text("film")
    (place / "other" / "lock").write_text("locked\n")
    (place / "slowfast-serve-link").symlink_to(place / "other")
    (place / "slowfast-serve-locking" / "lock").write_text("")  # another server is about to lock it
    before = set(place.iterdir())
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        killed = place / process.stdout.readline().strip()
        assert (killed / "upload").exists()
        with temporary_folder() as ours:
            assert {killed, ours} <= set(place.iterdir())  # both live
            process.kill()
            process.wait()
            with temporary_folder() as other:
                assert set(place.iterdir()) == {*before, ours, other}
    assert set(place.iterdir()) == before
    assert all((folder / "film").exists() for folder in before)
